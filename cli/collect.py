"""``collect``: the main job."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.errors import UsageError
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
    RemoveStagingOption,
    RoleOption,
    ShareUsernameOption,
    SinceOption,
    StagingOption,
    StampArgument,
    TimeoutOption,
    ToOption,
    UntilOption,
    UsernameOption,
)
from cli._transfer import LineWishes

if TYPE_CHECKING:
    from bridge.collection import Request
    from bridge.settings import Settings

LOG_TYPES = ("File", "Share", "WindowsEvent")


def collect(
    ctx: typer.Context,
    stamp: StampArgument,
    since: SinceOption = None,
    until: UntilOption = None,
    role: RoleOption = None,
    node: NodeOption = None,
    log_type: LogTypeOption = None,
    resource_provider: ProviderOption = None,
    include_dump_file: DumpOption = False,
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
            nodes=split(node),
            log_types=split(log_type),
            resource_providers=split(resource_provider),
            dump_files=include_dump_file,
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
    line: LineWishes = LineWishes(),
    **wanted: Any,
) -> Report:
    """Collects; ``wanted`` are the options of ``build_request``.

    Args:
        force: with the destination ``auto``: collects although another route is recommended.
        plan: a file that says what is wanted instead.
        line: how politely what is uploaded uses the line.
    """
    from bridge.collection import Settings as Patience
    from bridge.collection import collect as collect_run
    from cli._run import drive, find_access
    from cli._transfer import LineUse
    from cli.doctor import AUTO, find_goal, find_subject, take_route
    from cli.plan import read_planned

    settings = options.load().settings
    use = LineUse(options, line, say=console.say)
    if plan is not None:
        wanted, share_username = read_planned(options, stamp, plan, wanted, share_username)
    is_auto = (wanted.get("to") or settings.collection.to) == AUTO
    wanted["to"] = find_goal(settings, wanted.get("to"))
    request = build_request(settings, stamp, **wanted)
    suggest_roles(console, request.roles)
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
            settings=Patience(transfer=use.settings()),
        ),
    )


def build_request(
    settings: Settings,
    stamp: str,
    *,
    since: str | None = None,
    until: str | None = None,
    to: str | None = None,
    staging: str | None = None,
    api_version: str | None = None,
    timeout_minutes: int | None = None,
    roles: tuple[str, ...] = (),
    direct: bool = False,
    **rest: Any,
) -> Request:
    """The request that options and configuration make together; an option goes over the configuration.

    ``rest`` are fields of ``Request`` that need no translation.
    """
    from tzlocal import get_localzone

    from bridge.collection import Request, parse_window
    from cli._places import find_place

    known = settings.stamp_settings(stamp)
    wanted = settings.collection
    rest["log_types"] = _known_log_types(rest.get("log_types", ()))
    goal = to or wanted.to
    if goal is None:
        raise UsageError(
            detail="There is no destination.",
            fix="Give --to DEST, or set 'to' of [collection] in the configuration.",
        )
    named = settings.destinations.get(goal.partition("/")[0])
    stage = staging or (named.staging if named and not direct else None)
    return Request(
        stamp=settings.stamp(stamp),
        window=parse_window(since or wanted.since, until, tz=get_localzone(), now=datetime.now(UTC)),
        destination=find_place(goal, settings, api_version=api_version),
        roles=roles or wanted.roles,
        timeout_minutes=timeout_minutes or wanted.timeout_minutes,
        staging=find_place(stage, settings) if stage else None,
        direct=direct,
        shared_disk=known.shared_disk,
        **rest,
    )


def suggest_roles(console: Console, roles: Iterable[str]) -> None:
    """A role that is not on the vendor's list is sent all the same, as the list differs by version; but whoever merely
    mistyped it should know before a long collection."""
    from bridge.collection import DOCUMENTED_ROLES, unknown_roles

    for role in unknown_roles(roles):
        if meant := _closest(role, DOCUMENTED_ROLES):
            console.warn(f"the vendor's list has no role '{role}'; did you mean {meant}?")


def _known_log_types(given: Iterable[str]) -> tuple[str, ...]:
    """The kinds of log that there are (Get-AzureStackLog, -FilterByLogType), as the vendor writes them."""
    kinds = {kind.casefold(): kind for kind in LOG_TYPES}
    for each in given:
        if each.casefold() not in kinds:
            meant = _closest(each, LOG_TYPES)
            raise UsageError(
                detail=f"There is no log type '{each}'" + (f"; did you mean {meant}?" if meant else "."),
                fix=f"Give {', '.join(LOG_TYPES[:-1])} or {LOG_TYPES[-1]}, or leave --log-type out for all.",
            )
    return tuple(kinds[each.casefold()] for each in given)


def _closest(word: str, known: Iterable[str]) -> str | None:
    folded = {each.casefold(): each for each in known}
    found = get_close_matches(word.casefold(), folded, n=1)
    return folded[found[0]] if found else None


def split(values: list[str] | None) -> tuple[str, ...]:
    """``["A,B", "C"]`` as ``("A", "B", "C")``: the vendor's articles write lists with commas."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part))
