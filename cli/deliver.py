"""``deliver``: copies a finished bundle to another store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli._completion import complete_destination
from cli._console import Console, JsonOption, Report, run_verb
from cli._options import BundleArgument, ConnectionsOption, LimitRateOption, QuietHoursOption, ShareUsernameOption
from cli._transfer import LineWishes
from cli._words import named, quoted, size

if TYPE_CHECKING:
    from bridge.collection import Delivered


def deliver(
    ctx: typer.Context,
    bundle: BundleArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="DEST",
            help="The folder, share, container or configured name to copy it into.",
            show_default=False,
            autocompletion=complete_destination,
        ),
    ],
    limit_rate: LimitRateOption = None,
    quiet_hours: QuietHoursOption = None,
    connections: ConnectionsOption = None,
    api_version: Annotated[
        str | None, typer.Option(help="Blob service version, for an old service (2019-02-02).", show_default=False)
    ] = None,
    share_username: ShareUsernameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a finished bundle to another store; resumes where it stopped.

    What has arrived is not sent again: after a cut, a reboot or Ctrl-C, run the same command.

    [bold]Examples[/bold]

    pep-bridge deliver ./bundles/east-20261123T135500Z-1a2b3c4d --to https://account.blob.core.windows.net/logs

    pep-bridge deliver nas/east-20261123T135500Z-1a2b3c4d --to support --limit-rate 20Mbit --quiet-hours 08:00-18:00
    """

    def work(console: Console) -> Report:
        from bridge.collection import Settings
        from bridge.collection import deliver as deliver_bundle
        from cli._places import open_place
        from cli._run import show_live
        from cli._transfer import LineUse

        settings = ctx.obj.load().settings
        line = LineUse(ctx.obj, LineWishes(limit_rate, quiet_hours, connections), say=console.say)
        sources = console.sources()
        source = open_place(bundle, settings, sources, console, username=share_username, is_bundle=True)
        target = open_place(to, settings, sources, console, username=share_username, api_version=api_version)
        console.say(f"delivering {source.place.location} to {target.place.location}")
        delivered = show_live(
            console,
            "deliver",
            line,
            lambda control, on_event: deliver_bundle(
                source.place,
                target.place,
                source_access=source.access,
                target_access=target.access,
                state_dir=ctx.obj.state(),
                on_event=on_event,
                control=control,
                settings=Settings(transfer=line.settings()),
            ),
            leaving="the delivery stops; what has arrived is kept, and the same command goes on",
        )
        console.show(f"bundle     {delivered.bundle}")
        console.show(f"bundle id  {delivered.bundle_id}")
        console.show(f"size       {delivered.files} files, {size(delivered.size_bytes)}")
        console.show(f"sent       {_sent(delivered)}")
        if delivered.left_out:
            console.warn(f"not delivered, because it is no part of the bundle: {named(delivered.left_out)}")
        if delivered.unchecked:
            arrived = "every file was confirmed as it arrived"
            console.warn(f"{arrived}; the copy could not be looked at again: {delivered.unchecked}")
        needs = ", with an access that may read and list there (a SAS: Read and List)" if delivered.unchecked else ""
        console.say(f"next{needs}: pep-bridge verify {quoted(delivered.bundle)}")
        return Report(delivered.to_json())

    run_verb(ctx, "deliver", as_json, work)


def _sent(delivered: Delivered) -> str:
    """What went over the line, and what an earlier delivery had left."""
    sent, missing = size(delivered.bytes_sent), delivered.size_bytes - delivered.bytes_there
    if delivered.bytes_sent > missing and sent != size(missing):
        sent += ", the requests and what was sent again included"
    if not delivered.bytes_there:
        return sent
    whole = delivered.files_skipped
    files = f"{whole} whole file{'s' if whole != 1 else ''} among it" if whole else "of files that were not whole"
    return f"{sent}; {size(delivered.bytes_there)} was there already, {files}"
