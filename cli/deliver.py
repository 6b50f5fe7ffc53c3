"""``deliver``: copies a finished bundle to another store."""

from __future__ import annotations

from typing import Annotated

import typer

from cli._completion import complete_destination
from cli._console import Console, JsonOption, Report, run_verb
from cli._options import BundleArgument, ConnectionsOption, LimitRateOption, QuietHoursOption, ShareUsernameOption
from cli._transfer import LineWishes
from cli._words import named, quoted, size


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
        sent, whole, skipped = size(delivered.bytes_sent), size(delivered.size_bytes), delivered.files_skipped
        more = delivered.bytes_sent > delivered.size_bytes and sent != whole
        console.show(f"size       {delivered.files} files, {whole}")
        console.show(
            f"sent       {sent}"
            + (", the requests and what was sent again included" if more else "")
            + (f"; {skipped} files were there already" if skipped else "")
        )
        if delivered.left_out:
            console.warn(f"not delivered, because it is no part of the bundle: {named(delivered.left_out)}")
        if delivered.unchecked:
            arrived = "every file was confirmed as it arrived"
            console.warn(f"{arrived}; the copy could not be looked at again: {delivered.unchecked}")
        needs = ", with an access that may read and list there (a SAS: Read and List)" if delivered.unchecked else ""
        console.say(f"next{needs}: pep-bridge verify {quoted(delivered.bundle)}")
        return Report(delivered.to_json())

    run_verb(ctx, "deliver", as_json, work)
