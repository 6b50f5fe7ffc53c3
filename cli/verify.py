"""``verify``: checks a bundle, in any store."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.errors import VerificationFailedError
from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._options import (
    BundleArgument,
    FormerShareUsernameOption,
    LimitRateOption,
    QuietHoursOption,
    ShareUsernameOption,
)
from cli._transfer import LineWishes
from cli._words import quoted

if TYPE_CHECKING:
    from bridge.bundle import VerificationReport, VerifyProgress
    from bridge.store import Store
    from bridge.store.transfer import TransferEvent
    from cli._progress import Bar
    from cli._transfer import LineUse

_SHOWN = 50
_LEAVING = "leaving; of what was not read nothing is known, and the next check begins anew"


def verify(
    ctx: typer.Context,
    bundle: BundleArgument,
    fast: Annotated[bool, typer.Option("--fast", help="Compare sizes and counts only; read no payload.")] = False,
    limit_rate: LimitRateOption = None,
    quiet_hours: QuietHoursOption = None,
    share_username: ShareUsernameOption = None,
    username: FormerShareUsernameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a bundle, in any store: every file is read and compared with the manifest.

    From a share or a container that takes as much of the line as fetching the bundle would.

    [bold]Examples[/bold]

    pep-bridge verify ./bundles/east-20261123T135500Z-1a2b3c4d

    pep-bridge verify nas/east-20261123T135500Z-1a2b3c4d --limit-rate 20Mbit --quiet-hours 08:00-18:00

    PEP_BRIDGE_SAS=... pep-bridge verify https://account.blob.core.windows.net/logs/east-20261123T135500Z-1a2b3c4d
    """

    owner = share_username or username
    wishes = LineWishes(limit_rate, quiet_hours)
    run_verb(
        ctx,
        "verify",
        as_json,
        lambda console: check(console, ctx.obj, bundle, wishes, fast=fast, username=owner),
    )


def check(
    console: Console,
    options: Globals,
    bundle: str,
    wishes: LineWishes = LineWishes(),
    *,
    fast: bool = False,
    username: str | None = None,
) -> Report:
    """Verifies a bundle, wherever it is, and shows what was found."""
    from bridge.bundle import FindingKind, not_sealed
    from bridge.bundle import verify as verify_bundle
    from bridge.collection import default_ports
    from cli._places import open_place
    from cli._transfer import LineUse

    line = LineUse(options, wishes, say=console.say)
    found = open_place(bundle, options.load().settings, console.sources(), console, username=username, is_bundle=True)
    store = default_ports().open_store(found.place, found.access)
    try:
        report = verify_bundle(store, fast=True) if fast else _read(console, store, line)
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
        fix=_fix(report),
    )
    return Report(data, failure.exit_code, [failure])


def _read(console: Console, store: Store, line: LineUse) -> VerificationReport:
    """Reads all of it, as the line may be used for that at each moment; keys and signals change it."""
    from bridge.bundle import verify as verify_bundle
    from bridge.collection import Control
    from bridge.store.transfer import comes_over_a_line, hash_files
    from cli._keys import keys
    from cli._progress import bytes_bar
    from cli._signals import interrupts

    has_line = comes_over_a_line(store)
    own = has_line and console.is_terminal and not console.as_json
    control = Control()
    with (
        keys(line.keys) if own else nullcontext(False) as line.has_keys,
        bytes_bar(console, "reading") as bar,
        interrupts(control, console.say, leaving=lambda: _LEAVING, read_again=line.read_again),
        control.breakable(),
    ):
        reading = _Reading(console, bar, line, has_line=has_line)
        hasher = partial(hash_files, settings=line.settings(), on_event=reading.on_event)
        return verify_bundle(store, hasher=hasher, on_progress=reading.on_progress)


class _Reading:
    """Shows how far the reading is, or why it rests, and tells those at the keys what they do."""

    def __init__(self, console: Console, bar: Bar, line: LineUse, *, has_line: bool) -> None:
        self._console, self._bar, self._line, self._has_line = console, bar, line, has_line
        self._rest = ""
        self._keys_are_told = False

    def on_event(self, event: TransferEvent) -> None:
        from bridge.store.transfer import Paused, Retrying

        if isinstance(event, Retrying):
            self._console.say(f"{event.path}: {event.reason}; tried again in {event.wait_s:.0f} s")
            return
        self._rest = (self._line.rest or "paused") if isinstance(event, Paused) else ""

    def on_progress(self, progress: VerifyProgress) -> None:
        if self._has_line:
            self._line.reads(progress.bytes_done, progress.bytes_total)
            if self._line.words and not self._keys_are_told:
                self._keys_are_told = True
                self._console.say(self._line.words)
        self._bar.update(progress.bytes_done, progress.bytes_total, self._rest)


def _fix(report: VerificationReport) -> str:
    from bridge.bundle import FindingKind

    kinds = set(report.counts) - {FindingKind.UNHASHED}
    if not kinds:
        return "No fault was found; what was never hashed cannot be proven. Collect again where proof is needed."
    if FindingKind.UNEXPECTED in kinds and kinds <= {FindingKind.UNEXPECTED, FindingKind.OXUM_MISMATCH}:
        return "Move away what is there and not listed (the findings name it), then verify again."
    return "Deliver it again from a copy that verifies, or collect again; the findings name each file."


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
