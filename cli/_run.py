"""What the verbs that drive a run share: its options, its secrets, its view, and what is said at its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bridge.errors import ExitCode, UsageError
from cli._console import Console, Globals, Report
from cli._words import local_time, named, quoted, size

if TYPE_CHECKING:
    from bridge.collection import Access, Control, Event, Outcome, Request, RunRecord
    from bridge.settings import Settings
    from cli._transfer import LineUse, LineWishes

Result = TypeVar("Result")
Drive = Callable[["Control", Callable[["Event"], None]], Result]


def drive(
    console: Console,
    title: str,
    line: LineUse,
    work: Drive[Outcome],
    *,
    leaving: str | None = None,
    run: RunRecord | None = None,
    to_stop: bool = False,
    state_dir: Path,
) -> Report:
    """Runs something that has an outcome, with its view, its keys and its Ctrl-C, and tells the outcome."""
    outcome = show_live(console, title, line, work, leaving=leaving, run=run, to_stop=to_stop)
    return report_of(console, outcome, state_dir)


def report_of(console: Console, outcome: Outcome, state_dir: Path) -> Report:
    """Tells an outcome; returns how the verb ends with it."""
    from bridge.collection import Journal, RunState

    if outcome.state is RunState.STOPPED:
        console.say(f"run {outcome.run_id} was stopped; what arrived is kept")
    tell(console, outcome)
    if outcome.state is RunState.STOPPED:
        with Journal(state_dir) as journal:
            rests = journal.cool_down_until(journal.run(outcome.run_id).stamp)
        if rests is not None and rests > datetime.now(UTC):
            console.say(f"the stamp rests until {local_time(rests, seconds=True)}; before that no collection starts")
    return Report(outcome.to_json(), outcome.exit_code, list(outcome.errors))


def show_live(
    console: Console,
    title: str,
    line: LineUse,
    work: Drive[Result],
    *,
    leaving: str | None = None,
    run: RunRecord | None = None,
    to_stop: bool = False,
) -> Result:
    """Does something while its events are shown; keys and signals change what it may use of the line.

    Args:
        leaving: what Ctrl-C does, where it is not to leave a collection running and then to stop it.
        run: the run that is taken over: its clock and its pace count from its own beginning.
        to_stop: it is taken over to be stopped.
    """
    from bridge.collection import Control, RunState, StateChanged
    from cli._keys import keys
    from cli._live import KEYS, live_view
    from cli._signals import (
        LEAVING,
        LEAVING_EARLY,
        LEAVING_THE_BUNDLE,
        STOPPING,
        STOPPING_THE_DELIVERY,
        STOPPING_THE_SEALING,
        interrupts,
    )

    control = Control()
    states: list[RunState] = []

    def what_leaving_does() -> str:
        if leaving or not states:
            return leaving or LEAVING_EARLY
        if states[-1].is_on_the_stamp:
            return LEAVING
        return LEAVING_THE_BUNDLE if states[-1] in {RunState.SEALING, RunState.DELIVERING} else LEAVING_EARLY

    def what_stopping_does() -> str:
        if leaving or not states:
            return leaving or LEAVING_EARLY
        if states[-1].is_on_the_stamp:
            return STOPPING
        bundle = {RunState.SEALING: STOPPING_THE_SEALING, RunState.DELIVERING: STOPPING_THE_DELIVERY}
        return bundle.get(states[-1], LEAVING_EARLY)

    own = console.is_terminal and not console.as_json
    ctrl_c = f"Ctrl-C: {leaving}" if leaving else KEYS
    with (
        keys(line.keys) if own else nullcontext(False) as line.has_keys,
        live_view(
            console,
            title,
            keys=ctrl_c,
            line=line,
            started=run.created if run else None,
            sent=_sent(run) if run else None,
            stopping=lambda: to_stop or control.stop_asked,
        ) as view,
        interrupts(
            control,
            console.say,
            leaving=what_leaving_does,
            stopping=what_stopping_does,
            read_again=line.read_again,
        ),
    ):

        def on_event(event: Event) -> None:
            if isinstance(event, StateChanged):
                states.append(event.state)
            line.on_event(event)
            view.on_event(event)

        return work(control, on_event)


def _sent(run: RunRecord) -> datetime | None:
    sent = run.facts.get("command_sent")
    return datetime.fromisoformat(sent) if sent else None


def find_run(options: Globals, run: str | None) -> RunRecord:
    """The run that an id or the start of one names; without one the run that is not finished, else the latest.

    Raises:
        UsageError: there is no such run, or several.
    """
    from bridge.collection import Journal

    with Journal(options.state()) as journal:
        if run is not None:
            return journal.run(run)
        runs = journal.runs()
    unfinished = [each for each in runs if not each.state.is_final]
    if len(unfinished) > 1:
        known = ", ".join(f"{each.id} ({each.stamp}, {each.state})" for each in unfinished)
        raise UsageError(detail=f"Several runs are not finished: {known}.", fix="Say which one: give its id.")
    if not runs:
        raise UsageError(detail="No run is known here.", fix="Start one: pep-bridge collect STAMP --to DEST")
    return (unfinished or runs)[0]


def take_over(
    console: Console,
    options: Globals,
    run: RunRecord,
    verb: str,
    work: Callable[..., Outcome],
    wishes: LineWishes,
    *,
    username: str | None,
    share_username: str | None,
    password_stdin: bool,
    leaving: str | None = None,
) -> Report:
    """Does with a run that is there what ``work`` does, the library's ``attach`` or ``stop``, and tells the outcome."""
    from bridge.collection import read_settings
    from cli._transfer import LineUse

    settings = options.load().settings
    line = LineUse(options, wishes, say=console.say)
    patience = read_settings(settings.collection, line.settings())
    access = find_access(
        run.request,
        settings,
        console,
        username=username,
        share_username=share_username,
        password_stdin=password_stdin,
    )
    return drive(
        console,
        f"{verb} {run.id}",
        line,
        lambda control, on_event: work(
            run.id,
            access,
            state_dir=options.state(),
            on_event=on_event,
            control=control,
            settings=patience,
        ),
        leaving=leaving,
        run=run,
        to_stop=verb == "stop",
        state_dir=options.state(),
    )


def report_ended(console: Console, options: Globals, run: RunRecord, nothing: str) -> Report:
    """A run that has ended already, as the journal has it; ``nothing`` is what was not done."""
    from bridge.collection import show

    why = f": {run.reason}" if run.reason else ""
    console.say(f"run {run.id} has ended already ({run.state}{why}; {local_time(run.ended)}); {nothing}")
    return report_of(console, show(run.id, state_dir=options.state()), options.state())


def find_access(
    request: Request,
    settings: Settings,
    console: Console,
    *,
    username: str | None = None,
    share_username: str | None = None,
    password_stdin: bool = False,
) -> Access:
    """The secrets that a request needs, found where this machine keeps them."""
    from bridge.collection import Access
    from bridge.credentials import stamp_credential
    from bridge.secrets import Credential
    from cli._places import open_place_secret

    sources = console.sources(password_stdin=password_stdin)
    known = settings.stamps.get(request.stamp.name)
    endpoint = stamp_credential(
        request.stamp.name, username or request.stamp.username, known.password_file if known else None, sources
    )
    console.known_secrets.append(endpoint.password)
    destination = open_place_secret(request.destination, settings, sources, console, username=share_username)
    staging = None
    if request.staging is not None:
        found = open_place_secret(request.staging, settings, sources, console, username=share_username)
        staging = found if isinstance(found, Credential) else None
    return Access(endpoint, destination, staging)


def tell(console: Console, outcome: Outcome) -> None:
    """The end of a run for people: the coverage table, where the bundle is, its id, and the next useful command."""
    from cli._coverage import coverage_table

    if outcome.coverage is not None:
        console.show_table(coverage_table(outcome.coverage))
    for text in outcome.warnings:
        console.warn_once(text)
    if outcome.unchecked:
        console.warn(f"no checksum proves {named(outcome.unchecked)}")
    if outcome.bundle_id:
        console.show(f"bundle     {outcome.bundle}")
        console.show(f"bundle id  {outcome.bundle_id}")
        console.show(f"size       {outcome.file_count} files, {size(outcome.size_bytes or 0)}")
        if outcome.staging and not any(outcome.staging in text for text in outcome.warnings):  # else that says more
            console.say(
                f"the staged copy is kept, sealed as well: {outcome.staging} (--remove-staging would remove it)"
            )
        if outcome.staging_removed:
            console.say(f"the staged copy is removed: {outcome.staging_removed}")
        console.say("the endpoint keeps its transcript: 'pep-bridge run Close-PepSession --help' tells how to fetch it")
        if outcome.exit_code is ExitCode.PARTIAL:
            console.say(_what_is_missing(outcome))
        console.say(f"next: pep-bridge verify {quoted(outcome.bundle or '')}")
    elif outcome.state.is_on_the_stamp:
        if any(f"pep-bridge attach {outcome.run_id}" in error.advice for error in outcome.errors):
            return  # that is said with the error, below
        sure = outcome.exit_code in {ExitCode.OK, ExitCode.INTERRUPTED}
        console.say(f"run {outcome.run_id} {'goes on' if sure else 'may still be going on'} at the endpoint")
        console.say(f"next: pep-bridge attach {outcome.run_id}")
    elif not outcome.state.is_final:
        console.say(f"run {outcome.run_id}: nothing runs at the endpoint, but its bundle is not finished")
        console.say(f"next: pep-bridge attach {outcome.run_id}")
    else:
        console.say(f"run {outcome.run_id}: pep-bridge show {outcome.run_id}")


def _what_is_missing(outcome: Outcome) -> str:
    """For a bundle that holds less than was asked: how to ask for the rest."""
    roles = (outcome.coverage or {}).get("roles", ())
    missing = [role["name"] for role in roles if role["state"] != "collected"]
    told = f"; for these again: the same command with --role {','.join(missing)}" if missing else ""
    return f"partial: the bundle holds less than was asked, and says what is missing{told}"
