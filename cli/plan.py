"""``plan``: what exactly a collection would run, and what it would bring."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.errors import BridgeError, UsageError
from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._options import (
    ApiVersionOption,
    CaseOption,
    DirectOption,
    DumpOption,
    LogTypeOption,
    NodeOption,
    ProviderOption,
    RecoverOption,
    RemoveStagingOption,
    RoleOption,
    ShareUsernameOption,
    SinceOption,
    StagingOption,
    StampArgument,
    TimeoutOption,
    ToOption,
    UntilOption,
)
from cli._request import build_request, split, suggest_roles
from cli._words import duration, size

if TYPE_CHECKING:
    from bridge.collection import Place, Request, RunRecord
    from bridge.doctor import Planned, PlannedOptions, Spread
    from bridge.settings import Settings


def plan(
    ctx: typer.Context,
    stamp: StampArgument,
    since: SinceOption = None,
    until: UntilOption = None,
    role: RoleOption = None,
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
    case_number: CaseOption = None,
    share_username: ShareUsernameOption = None,
    limit_rate: Annotated[
        str | None,
        typer.Option(help="The line's rate (20Mbit), for the time on it.", show_default="'limit_rate' of [transfer]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the plan to this file; 'collect --plan FILE' runs exactly it.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what exactly 'collect' would run with the same options, and what to expect; the endpoint is not asked.

    Size and time come from this stamp's own history where there is any, else from the vendor's figures.

    [bold]Examples[/bold]

    pep-bridge plan east --since 4h --role Storage,ACS --to nas

    pep-bridge plan east --since 12h --to nas --output plan.json

    pep-bridge collect east --plan plan.json
    """

    def work(console: Console) -> Report:
        wanted = {
            "since": since,
            "until": until,
            "roles": split(role),
            "nodes": split(node),
            "log_types": split(log_type),
            "resource_providers": split(resource_provider),
            "dump_files": include_dump_file,
            "recover_vm_logs": recover_vm_logs,
            "timeout_minutes": timeout_minutes,
            "staging": staging,
            "direct": direct,
            "remove_staging": remove_staging,
            "api_version": api_version,
            "case_number": case_number,
        }
        return _plan(console, ctx.obj, stamp, wanted, to, share_username, limit_rate, output)

    run_verb(ctx, "plan", as_json, work)


def _plan(
    console: Console,
    options: Globals,
    stamp: str,
    wanted: Mapping[str, Any],
    to: str | None,
    share_username: str | None,
    limit_rate: str | None,
    output: Path | None,
) -> Report:
    from bridge.doctor import make_plan, plan_document, write_plan
    from bridge.store.transfer import parse_rate
    from cli.doctor import find_goal

    settings = options.load().settings
    goal = find_goal(settings, to)
    request = build_request(settings, stamp, to=goal, **wanted)
    suggest_roles(console, request.roles)
    rate = limit_rate or settings.transfer.limit_rate
    free, unknown = _free_bytes(console, settings, request, share_username)
    now = datetime.now(UTC)
    planned = make_plan(
        request,
        _history(options, stamp),
        share_username=_writer(settings, request.destination, share_username),
        staging_username=_writer(settings, request.staging, share_username),
        rate_bits_per_s=parse_rate(rate) if rate else None,
        free_bytes=free,
        now=now,
    )
    _show(console, planned)
    for text in (*planned.warnings, *unknown):
        console.warn(text)
    data = planned.to_json()
    data["warnings"] += unknown
    if output is not None:
        write_plan(output, plan_document(planned, _options(settings, request, goal or "", wanted, share_username), now))
        console.say(f"next: pep-bridge collect {stamp} --plan {output}")
        data["file"] = str(output)
    else:
        console.say(
            "next: 'pep-bridge collect' with the same options; with --output FILE exactly this can be run later"
        )
    return Report(data)


def read_planned(
    options: Globals, stamp: str, file: Path, given: Mapping[str, Any], share_username: str | None
) -> tuple[dict[str, Any], str | None]:
    """For ``collect --plan``: the options that a plan stands for, and who writes to its share.

    Raises:
        PlanRefusedError: it is no plan, or not one for this stamp and this configuration.
        UsageError: options that the plan has already were given beside it.
    """
    from bridge.doctor import check_plan, make_plan, read_plan

    if double := [name for name, value in given.items() if value]:
        raise UsageError(
            detail=f"A plan says already: {', '.join(name.replace('_', ' ') for name in double)}.",
            fix="Leave these options out, or make another plan.",
        )
    settings = options.load().settings
    document = read_plan(file)
    wanted = document.options.wanted()
    username = share_username or document.options.share_username
    request = build_request(settings, stamp, **wanted)

    def commands() -> list[dict[str, Any]]:
        return make_plan(
            request,
            (),
            share_username=_writer(settings, request.destination, document.options.share_username),
            staging_username=_writer(settings, request.staging, document.options.share_username),
            now=datetime.now(UTC),
        ).commands

    check_plan(file, document, request, commands)
    return wanted, username


def _options(
    settings: Settings, request: Request, goal: str, wanted: Mapping[str, Any], share_username: str | None
) -> PlannedOptions:
    """The options with every place as its name where it has one, so that its account is found again."""
    from bridge.doctor import PlannedOptions

    named = settings.destinations.get(request.destination.name or "")
    stage, staging = wanted["staging"] or (named.staging if named else None), request.staging

    return PlannedOptions(
        since=request.window.since,
        until=request.window.until,
        to=goal if request.destination.name else request.destination.text,
        destination=request.destination.location,
        staging=(stage if staging.name else staging.text) if staging else None,
        staging_location=staging.location if staging else None,
        roles=request.roles,
        nodes=request.nodes,
        log_types=request.log_types,
        resource_providers=request.resource_providers,
        dump_files=request.dump_files,
        recover_vm_logs=request.recover_vm_logs,
        timeout_minutes=request.timeout_minutes,
        direct=request.direct,
        remove_staging=request.remove_staging,
        api_version=wanted["api_version"],
        case_number=request.case_number,
        share_username=share_username,
    )


def _writer(settings: Settings, place: Place | None, username: str | None) -> str | None:
    known = settings.destinations.get(place.name or "") if place else None
    return username or (known.username if known else None)


def _history(options: Globals, stamp: str) -> list[RunRecord]:
    from bridge.collection import Journal

    with Journal(options.state()) as journal:
        return journal.runs(stamp=stamp)


def _free_bytes(
    console: Console, settings: Settings, request: Request, share_username: str | None
) -> tuple[dict[str, int | None], list[str]]:
    """Space left in each place, where it can be learnt without asking a person for a password; else why not."""
    import os

    from bridge.collection import default_ports
    from bridge.credentials import Sources
    from cli._places import open_place_secret

    silent = Sources(environment=os.environ, ask=None)
    found: dict[str, int | None] = {}
    unknown: list[str] = []
    for place in filter(None, (request.destination, request.staging)):
        if place.kind == "container":
            found[place.location] = None
            continue
        try:
            secret = open_place_secret(place, settings, silent, console, username=share_username)
            store = default_ports().open_store(place, secret)
            try:
                found[place.location] = store.free_bytes()
            finally:
                store.close()
        except BridgeError as error:
            found[place.location] = None
            unknown.append(f"the space left at {place.location} is not known: {error}")
    return found, unknown


def _show(console: Console, planned: Planned) -> None:
    from bridge.endpoint.script import format_commands

    request = planned.request
    data = planned.to_json()
    for clock, ends in (("stamp time", "stamp"), ("local time", "local"), ("UTC", "utc")):
        window = data["window"][ends]
        shown = f"{window['since']} to {window['until']}" if window else "not known"
        console.show(f"{clock:<12} {shown}")
    console.show(f"{'hours':<12} {data['window']['hours']:g}")
    console.show(f"{'roles':<12} {', '.join(request.roles) or 'all'}")
    console.show(f"{'way':<12} {planned.plan.way}: {_places(request)}")
    console.show(f"{'script':<12} {planned.plan.script}.ps1")
    console.show(f"{'runs':<12} {format_commands(planned.plan.commands)}")
    forecast = planned.forecast
    console.show(f"{'size':<12} {_spread(forecast.size, lambda value: size(round(value)))}")
    console.show(f"{'duration':<12} {_spread(forecast.duration, duration)}")
    console.show(f"{'from':<12} {forecast.basis}")
    if planned.rate_bits_per_s:
        line = _spread(forecast.line_time(planned.rate_bits_per_s), duration)
        console.show(f"{'on the line':<12} {line} at {planned.rate_bits_per_s / 1e6:g} Mbit/s")
    for location, count in planned.free_bytes.items():
        free = "not known" if count is None else f"{size(count)} free"
        console.show(f"{'space':<12} {location}: {free}")


def _places(request: Request) -> str:
    goal = request.destination.location
    return f"{request.staging.location}, then {goal}" if request.staging else goal


def _spread(spread: Spread, words: Any) -> str:
    high = words(spread.high)
    if spread.typical is None:
        return f"not known, at most {high}"
    low = f"{words(spread.low)} to " if spread.low is not None else "up to "
    return f"about {words(spread.typical)} ({low}{high})"
