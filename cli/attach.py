"""``attach``: takes a running collection over, shows it live, and finishes it."""

from __future__ import annotations

import typer

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


def attach(
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
    """Show a running collection live and finish it, from this or another shell.

    [bold]Examples[/bold]

    pep-bridge attach

    pep-bridge attach 20261123T1355

    pep-bridge attach --limit-rate 20Mbit
    """

    def work(console: Console) -> Report:
        from bridge.collection import attach as attach_run
        from bridge.collection import has_something_to_do
        from cli._run import find_run, report_ended, take_over

        found = find_run(ctx.obj, run)
        if not has_something_to_do(found):
            return report_ended(console, ctx.obj, found, "there is nothing to attach to")
        return take_over(
            console,
            ctx.obj,
            found,
            "attach",
            attach_run,
            LineWishes(limit_rate, quiet_hours, connections),
            username=username,
            share_username=share_username,
            password_stdin=password_stdin,
        )

    run_verb(ctx, "attach", as_json, work)
