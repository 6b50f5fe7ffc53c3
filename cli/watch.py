"""``watch``: collects when a health alert persists, in a loop or once for a scheduler; and what goes with it."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from bridge.errors import BridgeError, ConsentMissingError, ExitCode, UsageError
from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._run import PasswordStdinOption, ShareUsernameOption, UsernameOption

if TYPE_CHECKING:
    from bridge.collection import Access, Consent, Request
    from bridge.retention import Limits
    from bridge.watch import Memory, Policy, Told

_START = "start"
_LOOK_EVERY = timedelta(minutes=5)
_WITHOUT_ARM = "the ARM endpoint is not asked: 'arm', 'region' and a service principal or token are needed for it"


class _StartByDefault(TyperGroup):
    """``watch STAMP`` starts the watch: no one need type ``watch start STAMP``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_START, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_StartByDefault,
    no_args_is_help=True,
    help="""Collect when a health alert on the vendor's lists persists; keep a rolling offload.

    [bold]Examples[/bold]

    pep-bridge watch east --to nas

    pep-bridge watch east --to nas --offload 8h --older-than 30d

    pep-bridge watch install east --to nas --print
    """,
)

StampArgument = Annotated[
    str, typer.Argument(metavar="STAMP", help="The stamp's name in the configuration.", show_default=False)
]


@app.command(_START)
def start(
    ctx: typer.Context,
    stamp: StampArgument,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DEST", help="Where bundles go, as for 'collect'.", show_default=False),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(help="The pause between two looks.", show_default="5m, of the endpoint 15m"),
    ] = None,
    persist: Annotated[str | None, typer.Option(help="How long an alert must be there.", show_default="30m")] = None,
    cool_down: Annotated[
        str | None, typer.Option("--cool-down", help="The pause after a collection for an alert.", show_default="4h")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=0, max=24, help="The most collections for alerts in a day.", show_default="3")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="How much of the past is collected for an alert.", show_default="4h")
    ] = None,
    offload: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Also collect all the time, this much at once: 8h.", show_default=False),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(help="Remove what the rolling offload collected when it is older: 30d.", show_default=False),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Keep this many of the rolling offload.", show_default=False)
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(help="Keep this much of the rolling offload: 500GB.", show_default=False)
    ] = None,
    warnings: Annotated[
        bool, typer.Option("--warnings", help="Listed alerts count although they are mere warnings.")
    ] = False,
    role: Annotated[list[str] | None, typer.Option("--role", help="As for 'collect'.", show_default="all")] = None,
    staging: Annotated[str | None, typer.Option(metavar="DEST", help="As for 'collect'.", show_default=False)] = None,
    direct: Annotated[bool, typer.Option("--direct", help="As for 'collect'.")] = False,
    api_version: Annotated[str | None, typer.Option(help="As for 'collect'.", show_default=False)] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Look once, collect if it is time, and leave: for a scheduler.")
    ] = False,
    agree: Annotated[
        bool, typer.Option("--agree", help="Agree to collections that nobody asks for one by one (--show-consent).")
    ] = False,
    show_consent: Annotated[bool, typer.Option("--show-consent", help="Show what is agreed to, and leave.")] = False,
    username: UsernameOption = None,
    share_username: ShareUsernameOption = None,
    password_stdin: PasswordStdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Watch a stamp: collect when an alert on the vendor's lists persists for about 30 minutes.

    Health is read from the administrator's ARM endpoint where it answers, else through the privileged endpoint. A mere
    warning leads to no collection. What is remembered survives a restart; SIGTERM leaves a collection working at the
    endpoint, and the next start finishes it.

    [bold]Examples[/bold]

    pep-bridge watch east --to nas

    pep-bridge watch east --to nas --offload 8h --older-than 30d --max-size 500GB

    pep-bridge watch east --to nas --once
    """

    def work(console: Console) -> Report:
        from bridge.watch import read_offload_limits, read_pause, read_policy
        from cli.collect import build_request, split

        settings = ctx.obj.load().settings
        request = build_request(
            settings,
            stamp,
            to=to,
            staging=staging,
            api_version=api_version,
            roles=split(role),
            direct=direct,
        )
        if show_consent:
            return _show_consent(console, request)
        policy = read_policy(
            settings.watch,
            persist=persist,
            cool_down=cool_down,
            budget=budget,
            since=since,
            offload=offload,
            warnings=warnings,
        )
        limits = None
        if policy.offload:
            limits = read_offload_limits(settings.retention, older_than=older_than, keep=keep, max_size=max_size)
        return _watch(
            console,
            ctx.obj,
            request,
            policy,
            limits,
            every=read_pause(settings.watch, every),
            once=once,
            agree=agree,
            who=(username, share_username, password_stdin),
        )

    run_verb(ctx, "watch", as_json, work)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def install(
    ctx: typer.Context,
    stamp: StampArgument,
    show: Annotated[bool, typer.Option("--print", help="Print the files; write nothing.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="Where the files go.", show_default="the user's systemd folder; here on Windows"),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--for", help="systemd or windows.", show_default="this machine's")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what makes this machine's scheduler watch: a systemd service and timer, or a Windows task.

    Nothing is enabled; the commands for that are shown. Every other option is one of 'watch' itself and goes into the
    files. Secrets must be in files that the configuration names, or in a keyring that works without a logon.

    [bold]Examples[/bold]

    pep-bridge watch install east --to nas --offload 8h --print

    pep-bridge watch install east --to nas --agree
    """

    def work(console: Console) -> Report:
        return _install(console, ctx, stamp, show=show, folder=folder, kind=kind)

    run_verb(ctx, "watch install", as_json, work)


@app.command()
def status(ctx: typer.Context, stamp: StampArgument, as_json: JsonOption = False) -> None:
    """Show what a watch knows: alerts, what it waits for, the last collections, the consent.

    [bold]Example[/bold]

    pep-bridge watch status east
    """

    def work(console: Console) -> Report:
        from bridge.watch import Memory, read_policy

        settings = ctx.obj.load().settings
        settings.stamp_settings(stamp)
        return _show_status(console, Memory(ctx.obj.state(), stamp), read_policy(settings.watch))

    run_verb(ctx, "watch status", as_json, work)


@app.command()
def revoke(ctx: typer.Context, stamp: StampArgument, as_json: JsonOption = False) -> None:
    """Take the consent back: the watch of this stamp does not start again until somebody agrees anew.

    What was collected until now stays; 'pep-bridge prune' removes bundles.

    [bold]Example[/bold]

    pep-bridge watch revoke east
    """

    def work(console: Console) -> Report:
        from bridge.watch import Memory

        revoked = Memory(ctx.obj.state(), stamp).revoke(datetime.now(UTC))
        console.show(f"the consent for {stamp} is taken back" if revoked else f"there was no consent for {stamp}")
        return Report({"stamp": stamp, "revoked": revoked})

    run_verb(ctx, "watch revoke", as_json, work)


@app.command()
def alerts(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show the vendor's lists: the alerts that lead to a collection, and which list has them.

    [bold]Example[/bold]

    pep-bridge watch alerts
    """

    def work(console: Console) -> Report:
        from bridge.watch import LISTED_ALERTS

        rows = [
            {"fault_type_id": row.fault_type_id, "title": row.title, "lists": sorted(map(str, row.lists))}
            for row in LISTED_ALERTS
        ]
        for row in rows:
            console.show(f"{row['fault_type_id']}\n    {row['title']} ({', '.join(row['lists'])})")
        return Report({"alerts": rows})

    run_verb(ctx, "watch alerts", as_json, work)


def _watch(
    console: Console,
    options: Globals,
    request: Request,
    policy: Policy,
    limits: Limits | None,
    *,
    every: timedelta | None,
    once: bool,
    agree: bool,
    who: tuple[str | None, str | None, bool],
) -> Report:
    from bridge.collection import Settings as Patience
    from bridge.watch import Health, Memory, RunCollector, Watcher, find_sources
    from cli._run import find_access
    from cli._signals import until_told_to_leave, wait
    from cli._transfer import transfer_settings

    settings = options.load().settings
    memory = Memory(options.state(), request.stamp.name)
    with memory.running():
        consent = _agreed(console, memory, request, agree=agree)
        username, share_username, password_stdin = who
        access = find_access(
            request, settings, console, username=username, share_username=share_username, password_stdin=password_stdin
        )
        log = _Log(console)
        collector = RunCollector(
            request,
            access,
            consent,
            state_dir=options.state(),
            settings=Patience(transfer=transfer_settings(options, warn=console.warn)),
            on_event=log.event,
            tidy=lambda: _tidy(request, access, limits, options.state()),
        )
        sources = find_sources(
            request.stamp,
            settings.stamp_settings(request.stamp.name),
            access.endpoint,
            records=memory.records,
            environment=os.environ,
            every=every,
        )
        if len(sources) == 1:
            console.say(_WITHOUT_ARM)
        health = Health(sources)
        watcher = Watcher(policy, health, collector, memory, tell=log.told)
        with until_told_to_leave(collector.leave) as leaving:
            if once:
                watcher.step()
            else:
                watcher.run(lambda seconds: wait(leaving, seconds), every or _LOOK_EVERY)
        state = memory.load()
    if state.begun is not None:
        console.say("the collection goes on at the endpoint; the next start of this watch finishes it")
    code = ExitCode.OK
    if state.begun is not None:
        code = ExitCode.INTERRUPTED
    elif once and log.failures:
        code = log.failures[-1].exit_code
    return Report({"stamp": request.stamp.name, "state": state.to_json()}, code, log.failures if once else [])


class _Log:
    """One line for whatever happens, with its time: it is read in a service's journal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.failures: list[BridgeError] = []

    def told(self, told: Told) -> None:
        self._say(told.at, told.text)
        for error in told.errors:
            self._console.say(f"  {error}")
            if error.advice:
                self._console.say(f"  fix: {error.advice}")
        if told.failed:
            self.failures.extend(told.errors)

    def event(self, event: Any) -> None:
        from bridge.collection import StateChanged, Warned, plain_line

        if isinstance(event, StateChanged | Warned):
            line = plain_line(event)
            if line:
                self._say(event.at, line)

    def _say(self, at: datetime, text: str) -> None:
        self._console.say(f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}  {text}")


def _tidy(request: Request, access: Access, limits: Limits | None, state_dir: Path) -> tuple[str, ...]:
    """What the retention of the rolling offload did, in words; that it could not be done ends no watch."""
    if limits is None:
        return ()
    from bridge.collection import default_ports
    from bridge.watch import tidy_offload
    from cli._words import size

    try:
        done = tidy_offload(
            request,
            limits,
            state_dir=state_dir,
            open_store=lambda: default_ports().open_store(request.destination, access.destination),
            now=datetime.now(UTC),
        )
    except BridgeError as error:
        return (f"the rolling offload could not be tidied: {error}",)
    lines = [f"removed {each.held.name} ({size(each.held.size_bytes)}): {each.over}" for each in done.going]
    return (*lines, *(f"could not be removed: {error}" for error in done.errors))


def _agreed(console: Console, memory: Memory, request: Request, *, agree: bool) -> Consent:
    """The consent on record, or a new one: asked once, and again where the logs are to go elsewhere."""
    from bridge.collection import Consent
    from bridge.watch import consent_text, places_of, whoever_this_is

    stamp, destination = request.stamp.name, places_of(request)
    found = memory.agreement()
    if found is not None and found.destination == destination:
        return found.consent
    text = consent_text(stamp, destination)
    if not agree:
        if console.as_json or not sys.stdin.isatty():
            raise ConsentMissingError(stamp=stamp, destination=destination)
        console.say(text)
        if not typer.confirm("Do you agree?", err=True):
            raise ConsentMissingError(stamp=stamp, destination=destination)
    consent = Consent(text, datetime.now(UTC).replace(microsecond=0), whoever_this_is())
    memory.agree(consent, destination)
    console.say(f"consent recorded: {consent.given_by}, {consent.given_at:%Y-%m-%d %H:%M:%SZ}")
    return consent


def _show_consent(console: Console, request: Request) -> Report:
    from bridge.watch import consent_text, places_of

    text = consent_text(request.stamp.name, places_of(request))
    console.show(text)
    return Report({"consent": text})


def _show_status(console: Console, memory: Memory, policy: Policy) -> Report:
    from bridge.watch import Wait, decide
    from cli._words import local_time

    state, agreement = memory.load(), memory.agreement()
    decision = decide(state, policy, datetime.now(UTC))
    known = local_time(state.observed) if state.observed else "never"
    console.show(f"health     last known {known}" + (f" from {state.source}" if state.source else ""))
    for each in state.tracked:
        done = "; logs were collected" if each.handled else ""
        console.show(f"alert      {each.words}, since {local_time(each.since)}{done}")
    if state.begun is not None:
        console.show(f"under way  {state.begun.kind}, begun {local_time(state.begun.at)}: {state.begun.reason}")
    elif isinstance(decision, Wait):
        until = f" (until {local_time(decision.until)})" if decision.until else ""
        console.show(f"waiting    {decision.reason}{until}")
    console.show(f"collected  {len(state.starts)} for alerts in the last 24 hours")
    agreed = f"{agreement.consent.given_by}, {local_time(agreement.consent.given_at)}" if agreement else "none"
    console.show(f"consent    {agreed}")
    consent = agreement.consent.to_json() | {"destination": agreement.destination} if agreement else None
    return Report({"stamp": memory.stamp, "state": state.to_json(), "consent": consent})


def _install(
    console: Console, ctx: typer.Context, stamp: str, *, show: bool, folder: Path | None, kind: str | None
) -> Report:
    from bridge.watch import Memory, Scheduler, Service, read_pause, whoever_this_is

    kind = kind or ("windows" if os.name == "nt" else "systemd")
    if kind not in set(Scheduler):
        raise UsageError(detail=f"'{kind}' is no scheduler that is known here.", fix="Give --for systemd or windows.")
    scheduler = Scheduler(kind)
    options: Globals = ctx.obj
    given = _parse_start(ctx, [stamp, *ctx.args])
    settings = options.load().settings
    settings.stamp_settings(stamp)
    left_out = {"--once", "--agree", "--json"}
    arguments = [stamp, *(argument for argument in ctx.args if argument not in left_out)]
    command = [*_program(), *_before(options), "watch", *arguments, "--once"]
    user = f"{os.environ.get('USERDOMAIN', '.')}\\{whoever_this_is()}"
    service = Service(stamp, command, read_pause(settings.watch, given["every"]) or _LOOK_EVERY, user)
    if show:
        files = scheduler.files(service)
        for name, content in files.items():
            console.show(f"# {name}\n{content}")
        return Report({"files": files})
    from cli.collect import build_request

    named = {name: given[name] for name in ("to", "staging", "api_version", "direct")}
    _agreed(console, Memory(options.state(), stamp), build_request(settings, stamp, **named), agree=given["agree"])
    written = scheduler.write(service, folder or scheduler.default_folder(os.environ))
    for path in written:
        console.show(str(path))
    console.say("nothing is enabled yet; next:")
    for line in scheduler.enabling(service, written):
        console.say(f"  {line}")
    return Report({"written": [str(path) for path in written]})


def _parse_start(ctx: typer.Context, arguments: list[str]) -> dict[str, Any]:
    """Reads the options as the watch will read them, so that a wrong one is told now, not by a service at night."""
    group: Any = ctx.parent.command if ctx.parent else None
    try:
        parsed: dict[str, Any] = group.commands[_START].make_context("watch", list(arguments), parent=ctx.parent).params
    except TyperException as error:
        raise UsageError(detail=error.format_message(), fix="See 'pep-bridge watch start --help'.") from None
    if parsed["password_stdin"]:
        raise UsageError(
            detail="A service has nobody at its standard input.",
            fix="Name a file of mode 0600 with 'password_file' of the stamp.",
        )
    return parsed


def _program() -> list[str]:
    found = shutil.which("pep-bridge", path=str(Path(sys.executable).parent)) or shutil.which("pep-bridge")
    return [str(Path(found).absolute())] if found else [sys.executable, "-m", "cli.main"]


def _before(options: Globals) -> list[str]:
    config = ["--config", str(options.config.absolute())] if options.config else []
    state = ["--state-dir", str(options.state_dir.absolute())] if options.state_dir else []
    return [*config, *state]
