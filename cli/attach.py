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
        from bridge.collection import RunState, Settings
        from bridge.collection import attach as attach_run
        from cli._run import drive, find_access, find_run, report_ended
        from cli._transfer import LineUse

        found = find_run(ctx.obj, run)
        has_failed_bundle = found.state is RunState.FAILED and found.failed_in in {
            RunState.SEALING,
            RunState.DELIVERING,
        }
        if found.state.is_final and not has_failed_bundle:  # such a bundle is tried again
            return report_ended(console, ctx.obj, found, "there is nothing to attach to")
        line = LineUse(ctx.obj, LineWishes(limit_rate, quiet_hours, connections), say=console.say)
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
            line,
            lambda control, on_event: attach_run(
                found.id,
                access,
                state_dir=ctx.obj.state(),
                on_event=on_event,
                control=control,
                settings=Settings(transfer=line.settings()),
            ),
            run=found,
            state_dir=ctx.obj.state(),
        )

    run_verb(ctx, "attach", as_json, work)
