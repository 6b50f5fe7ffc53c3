"""``collect``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._options import (
    RUNNING,
    ApiVersionOption,
    CaseOption,
    ConnectionsOption,
    DirectOption,
    DumpOption,
    LimitRateOption,
    LogTypeOption,
    NodeOption,
    PasswordStdinOption,
    ProviderOption,
    QuietHoursOption,
    RecoverOption,
    RemoveStagingOption,
    RoleOption,
    SendUnknownRolesOption,
    ShareUsernameOption,
    SinceOption,
    StagingOption,
    StampArgument,
    TimeoutOption,
    ToOption,
    UntilOption,
    UsernameOption,
)
from cli._request import build_request, check_roles, split
from cli._transfer import LineWishes


def collect(
    ctx: typer.Context,
    stamp: StampArgument,
    since: SinceOption = None,
    until: UntilOption = None,
    role: RoleOption = None,
    send_unknown_roles: SendUnknownRolesOption = False,
    node: NodeOption = None,
    log_type: LogTypeOption = None,
    resource_provider: ProviderOption = None,
    include_dump_file: DumpOption = False,
    recover_vm_logs: RecoverOption = False,
    timeout_minutes: TimeoutOption = None,
    to: ToOption = None,
    staging: StagingOption = None,
    direct: DirectOption = False,
    remove_staging: RemoveStagingOption = False,
    api_version: ApiVersionOption = None,
    limit_rate: LimitRateOption = None,
    quiet_hours: QuietHoursOption = None,
    connections: ConnectionsOption = None,
    case_number: CaseOption = None,
    username: UsernameOption = None,
    share_username: ShareUsernameOption = None,
    password_stdin: PasswordStdinOption = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once the endpoint is working.", rich_help_panel=RUNNING)
    ] = False,
    queue: Annotated[
        bool, typer.Option("--queue", help="Wait while the stamp is busy.", rich_help_panel=RUNNING)
    ] = False,
    break_lock: Annotated[
        bool,
        typer.Option(
            "--break-lock", help="Take over the lock of a run that is known to be dead.", rich_help_panel=RUNNING
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="With --to auto: collect although the portal works, or the stamp could send its logs itself.",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Run exactly what 'plan --output FILE' wrote.",
            show_default=False,
            rich_help_panel=RUNNING,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Collect the logs of a stamp into a bundle.

    The endpoint writes into the bundle, the bridge watches, hashes once, and seals it.

    [bold]Examples[/bold]

    pep-bridge collect east --since 4h --role Storage,ACS --to '\\\\nas\\drop'

    pep-bridge collect east --since 2026-11-23T02:00+01:00 --until 2026-11-23T04:00+01:00 --to nas

    pep-bridge collect east --to https://account.blob.core.windows.net/logs --staging nas

    pep-bridge collect east --to auto

    [bold]Secrets[/bold] come from PEP_BRIDGE_PASSWORD, PEP_BRIDGE_SHARE_PASSWORD, PEP_BRIDGE_SAS, a file of mode 0600
    named in the configuration, the keyring, or a prompt.

    [bold]Exit codes[/bold]: 0 all collected, 8 partial (the bundle says what is missing), 3 unreachable, 4 wrong
    password, 5 refused by the endpoint, 6 preflight, 7 busy, 10 no space, 11 delivery, 130 interrupted (goes on).
    """

    def work(console: Console) -> Report:
        return run_collection(
            console,
            ctx.obj,
            stamp,
            since=since,
            until=until,
            roles=split(role),
            send_unknown_roles=send_unknown_roles,
            nodes=split(node),
            log_types=split(log_type),
            resource_providers=split(resource_provider),
            dump_files=include_dump_file,
            recover_vm_logs=recover_vm_logs,
            timeout_minutes=timeout_minutes,
            to=to,
            staging=staging,
            direct=direct,
            remove_staging=remove_staging,
            api_version=api_version,
            case_number=case_number,
            username=username,
            share_username=share_username,
            password_stdin=password_stdin,
            detach=detach,
            queue=queue,
            break_lock=break_lock,
            force=force,
            plan=plan,
            line=LineWishes(limit_rate, quiet_hours, connections),
        )

    run_verb(ctx, "collect", as_json, work)


def run_collection(
    console: Console,
    options: Globals,
    stamp: str,
    *,
    username: str | None = None,
    share_username: str | None = None,
    password_stdin: bool = False,
    detach: bool = False,
    queue: bool = False,
    break_lock: bool = False,
    force: bool = False,
    plan: Path | None = None,
    send_unknown_roles: bool = False,
    line: LineWishes = LineWishes(),
    **wanted: Any,
) -> Report:
    """Collects; ``wanted`` are the options of ``build_request``.

    Args:
        force: with the destination ``auto``: collects although another route is recommended.
        plan: a file that says what is wanted instead.
        send_unknown_roles: a role that looks misspelt is meant.
        line: how politely what is uploaded uses the line.
    """
    from bridge.collection import collect as collect_run
    from bridge.collection import read_settings
    from cli._run import drive, find_access
    from cli._transfer import LineUse
    from cli.doctor import AUTO, find_goal, find_subject, take_route
    from cli.plan import read_planned

    settings = options.load().settings
    use = LineUse(options, line, say=console.say)
    patience = read_settings(settings.collection, use.settings())
    if plan is not None:
        wanted, share_username = read_planned(options, stamp, plan, wanted, share_username)
    is_auto = (wanted.get("to") or settings.collection.to) == AUTO
    wanted["to"] = find_goal(settings, wanted.get("to"))
    request = build_request(settings, stamp, **wanted)
    check_roles(console, request.roles, send_unknown=send_unknown_roles)
    if is_auto:
        subject = find_subject(
            console,
            options,
            settings,
            stamp,
            request,
            username=username,
            share_username=share_username,
            password_stdin=password_stdin,
        )
        taken = take_route(console, subject, force=force, waits=queue or break_lock)
        if isinstance(taken, Report):
            return taken
        access = taken
    else:
        access = find_access(
            request, settings, console, username=username, share_username=share_username, password_stdin=password_stdin
        )
    return drive(
        console,
        f"collect {stamp}",
        use,
        lambda control, on_event: collect_run(
            request,
            access,
            state_dir=options.state(),
            on_event=on_event,
            control=control,
            queue=queue,
            detach=detach,
            break_lock=break_lock,
            settings=patience,
        ),
        state_dir=options.state(),
    )
