"""``watch``: collects when a health alert persists, in a loop or once for a scheduler; and what goes with it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from bridge.errors import BridgeError, ConsentMissingError, ExitCode, UsageError
from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._run import PasswordStdinOption, ShareUsernameOption, UsernameOption

if TYPE_CHECKING:
    from bridge.collection import Consent, Place, Request
    from bridge.secrets import Credential
    from bridge.settings import Settings
    from bridge.watch import AlertSource, Memory, Policy, Told

_TOKEN_VARIABLE = "PEP_BRIDGE_ARM_TOKEN"  # noqa: S105 - the name of a variable
_START = "start"
_LOOK_EVERY = timedelta(minutes=5)


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
            settings,
            persist=persist,
            cool_down=cool_down,
            budget=budget,
            since=since,
            offload=offload,
            warnings=warnings,
        )
        limits = _limits(settings, older_than, keep, max_size) if policy.offload else None
        return _watch(
            console,
            ctx.obj,
            request,
            policy,
            limits,
            every=_every(settings, every),
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
        from bridge.watch import Memory

        settings = ctx.obj.load().settings
        settings.stamp_settings(stamp)
        return _show_status(console, Memory(ctx.obj.state(), stamp), read_policy(settings))

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


def read_policy(
    settings: Settings,
    *,
    persist: str | None = None,
    cool_down: str | None = None,
    budget: int | None = None,
    since: str | None = None,
    offload: str | None = None,
    warnings: bool = False,
) -> Policy:
    """What options and configuration decide together; an option goes over the configuration."""
    from bridge.watch import AlertSelection, Policy
    from cli._spans import parse_span

    wanted = settings.watch
    period = offload or wanted.offload
    return Policy(
        selection=AlertSelection(wanted.more_alerts, wanted.fewer_alerts, warnings or wanted.warnings),
        persist=parse_span(persist or wanted.persist),
        cool_down=parse_span(cool_down or wanted.cool_down),
        daily_budget=wanted.daily_budget if budget is None else budget,
        window=parse_span(since or wanted.since),
        offload=parse_span(period) if period else None,
    )


def _every(settings: Settings, every: str | None) -> timedelta | None:
    from cli._spans import parse_span

    given = every or settings.watch.every
    return parse_span(given) if given else None


def _limits(settings: Settings, older_than: str | None, keep: int | None, max_size: str | None) -> Any:
    from cli.prune import read_limits

    found = settings.retention
    if not (older_than or keep or max_size or found.older_than or found.keep or found.max_size):
        return None
    return read_limits(settings, older_than, keep, max_size)


def _watch(
    console: Console,
    options: Globals,
    request: Request,
    policy: Policy,
    limits: Any,
    *,
    every: timedelta | None,
    once: bool,
    agree: bool,
    who: tuple[str | None, str | None, bool],
) -> Report:
    from bridge.collection import Settings as Patience
    from bridge.watch import Health, Memory, RunCollector, Watcher
    from cli._run import find_access
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
            tidy=lambda: _tidy(console, options, request, access.destination, limits),
        )
        health = Health(_sources(console, settings, request, access.endpoint, memory, every))
        watcher = Watcher(policy, health, collector, memory, tell=log.told)
        with _until_told_to_leave(collector.leave) as leaving:
            if once:
                watcher.step()
            else:
                watcher.run(lambda seconds: _wait(leaving, seconds), every or _LOOK_EVERY)
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


def _sources(
    console: Console,
    settings: Settings,
    request: Request,
    credential: Credential,
    memory: Memory,
    every: timedelta | None,
) -> tuple[AlertSource, ...]:
    """The ARM endpoint first, where it and a token for it are configured; the privileged endpoint always."""
    from bridge.watch import ArmAlerts, EndpointAlerts

    known = settings.stamp_settings(request.stamp.name)
    found: list[AlertSource] = []
    token = _token(settings, request.stamp.name)
    if token is not None and known.arm and known.region:
        options: dict[str, Any] = {} if every is None else {"every": every}
        arm = ArmAlerts(
            request.stamp.name,
            known.arm,
            known.region,
            token,
            subscription=known.subscription,
            ca_file=known.ca_file,
            **options,
        )
        found.append(arm)
    else:
        console.say("the ARM endpoint is not asked: 'arm', 'region' and a service principal or token are needed for it")
    options = {} if every is None else {"every": every}
    return (*found, EndpointAlerts(request.stamp, credential, records=memory.records, **options))


def _token(settings: Settings, stamp: str) -> Any:
    from bridge.credentials import read_secret_file
    from bridge.secrets import Secret
    from bridge.watch import IdentityToken, static_token

    known = settings.stamp_settings(stamp)
    if value := os.environ.get(_TOKEN_VARIABLE):
        return static_token(Secret(value))
    if (file := known.arm_token_file) is not None:
        return lambda: read_secret_file(file)  # whoever renews it writes the file anew
    if known.arm and os.environ.get("AZURE_CLIENT_ID"):
        return IdentityToken(stamp, known.arm, ca_file=known.ca_file)
    return None


def _tidy(console: Console, options: Globals, request: Request, access: Any, limits: Any) -> tuple[str, ...]:
    """The retention of the rolling offload: only what this watch collected by itself, at regular times, goes."""
    if limits is None:
        return ()
    from bridge.collection import Journal, default_ports
    from bridge.retention import Elsewhere, prune
    from cli._words import size

    with Journal(options.state()) as journal:
        rolling = {
            run.bundle_name
            for run in journal.runs(stamp=request.stamp.name)
            if run.request.trigger == "offload" and run.request.destination.location == request.destination.location
        }
    try:
        store = default_ports().open_store(request.destination, access)
        try:
            done = prune(
                store,
                limits,
                now=datetime.now(UTC),
                elsewhere=Elsewhere(lambda _name: (), lambda _place: store),
                only=lambda held: held.name in rolling,
                force=True,
                act=True,
            )
        finally:
            store.close()
    except BridgeError as error:
        return (f"the rolling offload could not be tidied: {error}",)
    lines = [f"removed {each.held.name} ({size(each.held.size_bytes)}): {each.over}" for each in done.going]
    return (*lines, *(f"could not be removed: {error}" for error in done.errors))


def _agreed(console: Console, memory: Memory, request: Request, *, agree: bool) -> Consent:
    """The consent on record, or a new one: asked once, and again where the logs are to go elsewhere."""
    from bridge.collection import Consent
    from bridge.watch import consent_text, whoever_this_is

    stamp, destination = request.stamp.name, _names_of(request)
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


def _names_of(request: Request) -> str:
    def location(place: Place) -> str:
        return place.location

    staged = f", by way of {location(request.staging)}" if request.staging else ""
    return location(request.destination) + staged


def _show_consent(console: Console, request: Request) -> Report:
    from bridge.watch import consent_text

    text = consent_text(request.stamp.name, _names_of(request))
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
    from bridge.watch import Memory, Service, scheduled_task, systemd_units, whoever_this_is

    kind = kind or ("windows" if os.name == "nt" else "systemd")
    if kind not in {"systemd", "windows"}:
        raise UsageError(detail=f"'{kind}' is no scheduler that is known here.", fix="Give --for systemd or windows.")
    options: Globals = ctx.obj
    given = _parse_start(ctx, [stamp, *ctx.args])
    settings = options.load().settings
    settings.stamp_settings(stamp)
    left_out = {"--once", "--agree", "--json"}
    arguments = [stamp, *(argument for argument in ctx.args if argument not in left_out)]
    command = [*_program(), *_before(options), "watch", *arguments, "--once"]
    user = f"{os.environ.get('USERDOMAIN', '.')}\\{whoever_this_is()}"
    service = Service(stamp, command, _every(settings, given["every"]) or _LOOK_EVERY, user)
    files = systemd_units(service) if kind == "systemd" else {f"{service.name}.xml": scheduled_task(service)}
    if show:
        for name, content in files.items():
            console.show(f"# {name}\n{content}")
        return Report({"files": files})
    from cli.collect import build_request

    named = {name: given[name] for name in ("to", "staging", "api_version", "direct")}
    _agreed(console, Memory(options.state(), stamp), build_request(settings, stamp, **named), agree=given["agree"])
    where = folder or (_systemd_folder() if kind == "systemd" else Path.cwd())
    written = [
        _write(where / name, content, "utf-8" if kind == "systemd" else "utf-16") for name, content in files.items()
    ]
    for path in written:
        console.show(str(path))
    console.say("nothing is enabled yet; next:")
    for line in _enabling(kind, service.name, written[0]):
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


def _systemd_folder() -> Path:
    root = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(root) / "systemd" / "user"


def _write(path: Path, content: str, encoding: str) -> Path:
    if encoding == "utf-16":
        content = content.replace('encoding="UTF-8"', 'encoding="UTF-16"', 1)
    beside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(content, encoding=encoding)
        beside.replace(path)
    except OSError as error:
        raise UsageError(
            detail=f"{path} cannot be written: {error.strerror}.", fix="Give another folder with --dir."
        ) from error
    return path


def _enabling(kind: str, name: str, first: Path) -> tuple[str, ...]:
    if kind == "windows":
        return (
            f'schtasks /Create /TN {name} /XML "{first}"',
            f"schtasks /Change /TN {name} /ENABLE",
        )
    return (
        "systemctl --user daemon-reload",
        f"systemctl --user enable --now {name}.timer",
        "loginctl enable-linger    # so that it runs while nobody is logged on",
    )


@contextmanager
def _until_told_to_leave(leave: Callable[[], None]) -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM, a closed terminal and (on Windows) Ctrl-Break set."""
    leaving = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        leaving.set()
        leave()

    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield leaving
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(leaving: threading.Event, seconds: float) -> bool:
    """In small pieces: Windows delivers Ctrl-C only between them."""
    left_s = seconds
    while left_s > 0 and not leaving.wait(min(left_s, 0.5)):
        left_s -= 0.5
    return leaving.is_set()
