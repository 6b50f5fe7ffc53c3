"""``stop``: ends a running collection and keeps what arrived."""

from __future__ import annotations

from dataclasses import replace

import typer

from bridge.errors import ExitCode
from cli._console import Console, JsonOption, Report, run_verb
from cli._options import (
    ConnectionsOption,
    LimitRateOption,
    PasswordStdinOption,
    QuietHoursOption,
    RunArgument,
    ShareUsernameOption,
    UsernameOption,
)
from cli._transfer import LineWishes


def stop(
    ctx: typer.Context,
    run: RunArgument = None,
    limit_rate: LimitRateOption = None,
    quiet_hours: QuietHoursOption = None,
    connections: ConnectionsOption = None,
    username: UsernameOption = None,
    share_username: ShareUsernameOption = None,
    password_stdin: PasswordStdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stop a running collection on the endpoint; what arrived is sealed and kept.

    What arrived in a staging share is delivered, too. The stamp must then rest for five minutes before the next
    collection (the vendor's rule).

    [bold]Example[/bold]

    pep-bridge stop 20261123T1355
    """

    def work(console: Console) -> Report:
        from bridge.collection import RunState
        from bridge.collection import stop as stop_run
        from cli._run import find_run, report_ended, take_over

        found = find_run(ctx.obj, run)
        if found.state.is_final:
            ended = report_ended(console, ctx.obj, found, "nothing was stopped")
            return replace(ended, exit_code=ExitCode.OK) if found.state is RunState.STOPPED else ended
        return take_over(
            console,
            ctx.obj,
            found,
            "stop",
            stop_run,
            LineWishes(limit_rate, quiet_hours, connections),
            username=username,
            share_username=share_username,
            password_stdin=password_stdin,
            leaving="leaving; the run is still asked to stop, and what arrived is kept",
        )

    run_verb(ctx, "stop", as_json, work)
