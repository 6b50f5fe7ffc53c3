"""``stop``: ends a running collection and keeps what arrived."""

from __future__ import annotations

import typer

from cli._console import Console, JsonOption, Report, run_verb
from cli._run import PasswordStdinOption, ShareUsernameOption, UsernameOption
from cli.attach import RunArgument, find_run


def stop(
    ctx: typer.Context,
    run: RunArgument = None,
    username: UsernameOption = None,
    share_username: ShareUsernameOption = None,
    password_stdin: PasswordStdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stop a running collection on the endpoint; what arrived is sealed and kept.

    The stamp must then rest for five minutes before the next collection (the vendor's rule).

    [bold]Example[/bold]

    pep-bridge stop 20261123T1355
    """

    def work(console: Console) -> Report:
        from bridge.collection import stop as stop_run
        from cli._run import drive, find_access

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
            f"stop {found.id}",
            lambda _control, on_event: stop_run(found.id, access, state_dir=ctx.obj.state(), on_event=on_event),
        )

    run_verb(ctx, "stop", as_json, work)
