"""``collect``: the main job."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.errors import UsageError
from cli._completion import complete_destination, complete_role, complete_stamp
from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._run import PasswordStdinOption, ShareUsernameOption, UsernameOption

if TYPE_CHECKING:
    from bridge.collection import Request
    from bridge.settings import Settings

WINDOW = "The window"
FILTERS = "What to collect"
PLACES = "Where it goes"
RUNNING = "How it runs"

StampArgument = Annotated[
    str,
    typer.Argument(
        metavar="STAMP",
        help="The stamp's name in the configuration.",
        show_default=False,
        autocompletion=complete_stamp,
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        help="Start of the window: 4h, 90m, 2d ago, or ISO 8601 (2026-11-23T08:00+01:00).",
        show_default="4h",
        rich_help_panel=WINDOW,
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option(help="End of the window, in the same forms.", show_default="now", rich_help_panel=WINDOW),
]
RoleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        help="A role (Storage, ACS, ...); repeat it, or give a list A,B.",
        show_default="all",
        autocompletion=complete_role,
        rich_help_panel=FILTERS,
    ),
]
NodeOption = Annotated[
    list[str] | None, typer.Option("--node", help="A computer (azs-xrp01); repeatable.", rich_help_panel=FILTERS)
]
LogTypeOption = Annotated[
    list[str] | None,
    typer.Option("--log-type", help="File, Share or WindowsEvent; repeatable.", rich_help_panel=FILTERS),
]
ProviderOption = Annotated[
    list[str] | None,
    typer.Option("--resource-provider", help="A value-add resource provider; repeatable.", rich_help_panel=FILTERS),
]
DumpOption = Annotated[bool, typer.Option("--include-dump-file", help="Dump files too.", rich_help_panel=FILTERS)]
TimeoutOption = Annotated[
    int | None,
    typer.Option(
        "--timeout-minutes",
        min=1,
        max=1440,
        help="The endpoint's own time limit.",
        show_default="240",
        rich_help_panel=RUNNING,
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="DEST",
        help="A folder, \\\\server\\share\\folder, smb://server/share/folder, https://account.../container, a"
        " configured name, or 'auto': the route that the doctor recommends, with the configured destination.",
        show_default=False,
        autocompletion=complete_destination,
        rich_help_panel=PLACES,
    ),
]
StagingOption = Annotated[
    str | None,
    typer.Option(
        metavar="DEST",
        help="For a container: the share (or folder) that the endpoint writes to and the bridge uploads from.",
        show_default=False,
        autocompletion=complete_destination,
        rich_help_panel=PLACES,
    ),
]
DirectOption = Annotated[
    bool,
    typer.Option("--direct", help="For a container: the endpoint writes there itself, by SAS.", rich_help_panel=PLACES),
]
ApiVersionOption = Annotated[
    str | None,
    typer.Option(help="Blob service version, for an old service (2019-02-02).", rich_help_panel=PLACES),
]


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
    remove_staging: Annotated[
        bool,
        typer.Option(
            "--remove-staging", help="Remove the staged copy once the delivery is verified.", rich_help_panel=PLACES
        ),
    ] = False,
    api_version: ApiVersionOption = None,
    case_number: Annotated[
        str | None, typer.Option("--case", help="Support case number, for the bundle.", show_default=False)
    ] = None,
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
    **wanted: Any,
) -> Report:
    """Collects; ``wanted`` are the options of ``build_request``.

    Args:
        force: with the destination ``auto``: collects although another route is recommended.
        plan: a file that says what is wanted instead.
    """
    from bridge.collection import Settings as Patience
    from bridge.collection import collect as collect_run
    from cli._run import drive, find_access
    from cli._transfer import transfer_settings
    from cli.doctor import AUTO, find_goal, find_subject, take_route
    from cli.plan import read_planned

    settings = options.load().settings
    if plan is not None:
        wanted, share_username = read_planned(options, stamp, plan, wanted, share_username)
    is_auto = (wanted.get("to") or settings.collection.to) == AUTO
    wanted["to"] = find_goal(settings, wanted.get("to"))
    request = build_request(settings, stamp, **wanted)
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
    patience = Patience(transfer=transfer_settings(options, warn=console.warn))
    return drive(
        console,
        f"collect {stamp}",
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


def split(values: list[str] | None) -> tuple[str, ...]:
    """``["A,B", "C"]`` as ``("A", "B", "C")``: the vendor's articles write lists with commas."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part))
