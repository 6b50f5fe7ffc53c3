"""``verify``: checks a bundle, in any store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bridge.errors import VerificationFailedError
from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._options import BundleArgument, FormerShareUsernameOption, ShareUsernameOption
from cli._words import quoted

if TYPE_CHECKING:
    from bridge.bundle import VerificationReport

_SHOWN = 50


def verify(
    ctx: typer.Context,
    bundle: BundleArgument,
    fast: Annotated[bool, typer.Option("--fast", help="Compare sizes and counts only; read no payload.")] = False,
    share_username: ShareUsernameOption = None,
    username: FormerShareUsernameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a bundle, in any store: every file is read and compared with the manifest.

    [bold]Examples[/bold]

    pep-bridge verify ./bundles/east-20261123T135500Z-1a2b3c4d

    PEP_BRIDGE_SAS=... pep-bridge verify https://account.blob.core.windows.net/logs/east-20261123T135500Z-1a2b3c4d
    """

    owner = share_username or username
    run_verb(ctx, "verify", as_json, lambda console: check(console, ctx.obj, bundle, fast=fast, username=owner))


def check(
    console: Console, options: Globals, bundle: str, *, fast: bool = False, username: str | None = None
) -> Report:
    """Verifies a bundle, wherever it is, and shows what was found."""
    from bridge.bundle import FindingKind, not_sealed
    from bridge.bundle import verify as verify_bundle
    from bridge.collection import default_ports
    from cli._places import open_place
    from cli._progress import bytes_bar

    found = open_place(bundle, options.load().settings, console.sources(), console, username=username, is_bundle=True)
    store = default_ports().open_store(found.place, found.access)
    try:
        with bytes_bar(console, "reading") as bar:
            report = verify_bundle(store, fast=fast, on_progress=lambda p: bar.update(p.bytes_done, p.bytes_total))
        if any(finding.kind is FindingKind.NOT_SEALED for finding in report.findings):
            error = not_sealed(store)
            return Report(report.to_json() | {"bundle": store.location}, error.exit_code, [error])
    finally:
        store.close()
    _show(console, store.location, report)
    data = report.to_json() | {"bundle": store.location}
    if report.ok:
        console.say(f"next: pep-bridge deliver {quoted(store.location)} --to DEST")
        return Report(data)
    failure = VerificationFailedError(
        where=store.location,
        detail=_count(report),
        fix="Deliver it again from a copy that verifies, or collect again; the findings name each file.",
    )
    return Report(data, failure.exit_code, [failure])


def _count(report: VerificationReport) -> str:
    kinds: dict[str, int] = {}
    for finding in report.findings:
        kinds[finding.kind] = kinds.get(finding.kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or str(report.verdict)


def _show(console: Console, where: str, report: VerificationReport) -> None:
    for finding in report.findings[:_SHOWN]:
        console.show(f"{finding.kind}: {finding.path}: {finding.detail}")
    if len(report.findings) > _SHOWN:
        console.show(f"... and {len(report.findings) - _SHOWN} more (all of them with --json)")
    if report.ok:
        how = "sizes and counts agree (no payload was read)" if report.fast else "every byte agrees with the manifest"
        console.show(f"{where}: verified: {how}; {report.payload_files} files, {report.payload_bytes:,} bytes")
        console.show(f"bundle id {report.bundle_id}")
