"""A watch at work: its consent, its loop or one look, its log, and what keeps its rolling offload short."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bridge.errors import BridgeError, ConsentMissingError, ExitCode
from cli._console import Console, Globals, Report
from cli._transfer import LineUse

if TYPE_CHECKING:
    from bridge.collection import Access, Consent, Request
    from bridge.retention import Limits
    from bridge.watch import Memory, Policy, Told

LOOK_EVERY = timedelta(minutes=5)
_WITHOUT_ARM = "the ARM endpoint is not asked: 'arm', 'region' and a service principal or token are needed for it"


def keep_watch(
    console: Console,
    options: Globals,
    request: Request,
    policy: Policy,
    limits: Limits | None,
    *,
    line: LineUse,
    every: timedelta | None,
    once: bool,
    agree: bool,
    who: tuple[str | None, str | None, bool],
) -> Report:
    """Looks at the stamp's health and collects when it is time: once, or until it is told to leave."""
    from bridge.collection import read_settings
    from bridge.watch import Health, Memory, RunCollector, Watcher, find_sources
    from cli._run import find_access
    from cli._signals import until_told_to_leave, wait

    settings = options.load().settings
    patience = read_settings(settings.collection, line.settings())
    memory = Memory(options.state(), request.stamp.name)
    with memory.running():
        consent = find_consent(console, memory, request, agree=agree)
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
            settings=patience,
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
                watcher.run(lambda seconds: wait(leaving, seconds), every or LOOK_EVERY)
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


def find_consent(console: Console, memory: Memory, request: Request, *, agree: bool) -> Consent:
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
