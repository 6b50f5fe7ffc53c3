"""``deliver``: copies a finished bundle to another store."""

from __future__ import annotations

from typing import Annotated

import typer

from cli._completion import complete_bundle, complete_destination
from cli._console import Console, JsonOption, Report, run_verb
from cli._run import ShareUsernameOption
from cli._words import quoted, size


def deliver(
    ctx: typer.Context,
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE", help="Where the bundle is.", show_default=False, autocompletion=complete_bundle
        ),
    ],
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
    limit_rate: Annotated[
        str | None,
        typer.Option(
            help="Use at most this much of the line, in bits per second: 20Mbit, 512kbit.", show_default=False
        ),
    ] = None,
    quiet_hours: Annotated[
        str | None, typer.Option(help="Pause between these times of day: 08:00-18:00.", show_default=False)
    ] = None,
    connections: Annotated[
        int | None, typer.Option(min=1, max=32, help="Connections at once.", show_default="by what the line bears")
    ] = None,
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
        from bridge.collection import Control, Settings
        from bridge.collection import deliver as deliver_bundle
        from cli._live import live_view
        from cli._places import open_place
        from cli._signals import interrupts
        from cli._transfer import transfer_settings

        settings = ctx.obj.load().settings
        sources = console.sources()
        source = open_place(bundle, settings, sources, console, username=share_username, is_bundle=True)
        target = open_place(to, settings, sources, console, username=share_username, api_version=api_version)
        transfer = transfer_settings(ctx.obj, limit_rate, quiet_hours, connections, warn=console.warn)
        control = Control()
        leaving = "stopping the delivery; what has arrived is kept, and the same command goes on"
        keys = "Ctrl-C: stop; what has arrived is kept, and the same command goes on"
        with (
            live_view(console, "deliver", keys=keys) as view,
            interrupts(control, console.say, leaving=leaving, stopping=leaving),
        ):
            delivered = deliver_bundle(
                source.place,
                target.place,
                source_access=source.access,
                target_access=target.access,
                state_dir=ctx.obj.state(),
                on_event=view.on_event,
                control=control,
                settings=Settings(transfer=transfer),
            )
        console.show(f"bundle     {delivered.bundle}")
        console.show(f"bundle id  {delivered.bundle_id}")
        sent, skipped = size(delivered.bytes_sent), delivered.files_skipped
        console.show(f"size       {delivered.files} files, {size(delivered.size_bytes)}")
        console.show(f"sent       {sent}" + (f"; {skipped} files were there already" if skipped else ""))
        if delivered.unchecked:
            console.warn(delivered.unchecked)
        console.say(f"next: pep-bridge verify {quoted(delivered.bundle)}")
        return Report(delivered.to_json())

    run_verb(ctx, "deliver", as_json, work)
