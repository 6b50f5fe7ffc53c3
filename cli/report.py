"""``report``: the report of a bundle, rebuilt from what the bundle says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.errors import UsageError
from cli._console import Console, JsonOption, Report, run_verb
from cli._options import BundleArgument, ShareUsernameOption


def report(
    ctx: typer.Context,
    bundle: BundleArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page to write.", show_default="NAME-report.html here")
    ] = None,
    share_username: ShareUsernameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the report of a bundle: one page to read in any browser, without network.

    The bundle itself is not changed; a bundle sealed by this version has its report.html already.

    [bold]Example[/bold]

    pep-bridge report nas/east-20261123T135500Z-1a2b3c4d --output east.html
    """

    def work(console: Console) -> Report:
        from bridge.bundle import read_bundle, render_report
        from bridge.collection import default_ports
        from cli._places import open_place

        found = open_place(
            bundle, ctx.obj.load().settings, console.sources(), console, username=share_username, is_bundle=True
        )
        store = default_ports().open_store(found.place, found.access)
        try:
            read = read_bundle(store)
            page = render_report(
                collection=read.document("collection.json"),
                coverage=read.document("coverage.json"),
                digests=read.files(),
                bundle_id=read.bundle_id,
            )
        finally:
            store.close()
        name = store.location.replace("\\", "/").rstrip("/").rpartition("/")[2]
        file = output or Path(f"{name}-report.html")
        try:
            file.touch(mode=0o600)
            file.write_bytes(page)
        except OSError as error:
            raise UsageError(
                detail=f"{file} cannot be written: {error.strerror}.", fix="Give --output FILE in a folder of yours."
            ) from error
        console.show(str(file.resolve()))
        console.say("next: open it in a browser; it loads nothing from a network")
        return Report({"report": str(file.resolve()), "bundle": store.location, "bundle_id": read.bundle_id})

    run_verb(ctx, "report", as_json, work)
