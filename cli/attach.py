"""``attach``: takes a running collection over, shows it live, and finishes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli._completion import complete_run
from cli._console import Console, JsonOption, Report, run_verb
from cli._run import PasswordStdinOption, ShareUsernameOption, UsernameOption

if TYPE_CHECKING:
    from bridge.collection import RunRecord
    from cli._console import Globals

RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="The run's id, or its first characters; the latest one if left out.",
        autocompletion=complete_run,
    ),
]


def attach(
    ctx: typer.Context,
    run: RunArgument = None,
    username: UsernameOption = None,
    share_username: ShareUsernameOption = None,
    password_stdin: PasswordStdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show a running collection live and finish it, from this or another shell.

    [bold]Examples[/bold]

    pep-bridge attach

    pep-bridge attach 20261123T1355
    """

    def work(console: Console) -> Report:
        from bridge.collection import Settings
        from bridge.collection import attach as attach_run
        from cli._run import drive, find_access
        from cli._transfer import transfer_settings

        found = find_run(ctx.obj, run)
        access = find_access(
            found.request,
            ctx.obj.load().settings,
            console,
            username=username,
            share_username=share_username,
            password_stdin=password_stdin,
        )
        return drive(
            console,
            f"attach {found.id}",
            lambda control, on_event: attach_run(
                found.id,
                access,
                state_dir=ctx.obj.state(),
                on_event=on_event,
                control=control,
                settings=Settings(transfer=transfer_settings(ctx.obj, warn=console.warn)),
            ),
        )

    run_verb(ctx, "attach", as_json, work)


def find_run(options: Globals, run: str | None) -> RunRecord:
    """The run that an id, the start of one, or nothing (the latest) names.

    Raises:
        UsageError: there is no such run, or several.
    """
    from bridge.collection import Journal
    from bridge.errors import UsageError

    with Journal(options.state()) as journal:
        if run is not None:
            return journal.run(run)
        latest = journal.latest()
        if latest is None:
            raise UsageError(detail="No run is known here.", fix="Start one: pep-bridge collect STAMP --to DEST")
        return journal.run(latest.id)
