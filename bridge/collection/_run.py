"""The verbs of a collection: start one, take one over, stop one."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC
from pathlib import Path

from bridge.bundle import bundle_name
from bridge.collection._context import RunContext, Wishes, run_folder
from bridge.collection._driver import Driver
from bridge.collection._events import Event, Waiting
from bridge.collection._journal import Journal, RunRecord
from bridge.collection._outcome import Outcome, exit_code_of, outcome_of
from bridge.collection._owner import drive, is_driven
from bridge.collection._parts import default_ports
from bridge.collection._ports import Ports
from bridge.collection._request import Access, Request
from bridge.collection._settings import Settings
from bridge.collection._states import RunState
from bridge.collection._work import Control
from bridge.errors import ExitCode, InterruptedRunError, RunDrivenError, StampBusyError

_LOOK_S = 0.5


def collect(
    request: Request,
    access: Access,
    *,
    state_dir: Path,
    on_event: Callable[[Event], None] | None = None,
    control: Control | None = None,
    queue: bool = False,
    detach: bool = False,
    break_lock: bool = False,
    settings: Settings | None = None,
    ports: Ports | None = None,
) -> Outcome:
    """Collects logs from a stamp into a sealed bundle.

    Args:
        request: what is asked.
        access: the secrets for it.
        state_dir: where the journal is.
        on_event: is called for everything that happens, one event at a time, from several threads.
        control: how the caller asks it to detach or stop.
        queue: waits while the stamp is busy or cools down, instead of ending.
        detach: returns as soon as the endpoint is seen to work.
        break_lock: takes the stamp's lock from another run.

    Returns:
        The outcome; every failure after the run was written in the journal is in it, not raised.

    Raises:
        JournalError: the journal cannot be used.
        StampBusyError: a run of this journal may be working on the stamp, and ``queue`` is not set.
    """
    ports = ports or default_ports()
    settings = settings or Settings()
    control = control or Control()
    with Journal(state_dir) as journal:
        while True:
            run = _create(journal, request, ports, queue=queue, control=control, on_event=on_event, settings=settings)
            with drive(run_folder(state_dir, run.id), run.id):
                context = RunContext(
                    run,
                    access,
                    journal,
                    settings=settings,
                    ports=ports,
                    control=control,
                    on_event=on_event,
                    wishes=Wishes(queue=queue, detach=detach, break_lock=break_lock),
                )
                outcome = Driver(context).drive()
            # In the queue the lock was waited for already; here the endpoint itself said that it is busy.
            if not (queue and outcome.state is RunState.FAILED and outcome.exit_code is ExitCode.BUSY):
                return outcome
            if on_event is not None:
                on_event(Waiting(run_id=run.id, reason=str(outcome.errors[-1])))
            if control.wait(settings.busy_s):
                return outcome


def attach(
    run_id: str,
    access: Access,
    *,
    state_dir: Path,
    on_event: Callable[[Event], None] | None = None,
    control: Control | None = None,
    settings: Settings | None = None,
    ports: Ports | None = None,
) -> Outcome:
    """Takes a run over, from whatever state the journal holds, and finishes it.

    A run that has ended is only reported; one that failed while it was sealed or delivered is tried again, and one that
    was sealed without its collection being seen to end is sealed anew where more has arrived since.

    Raises:
        NoSuchRunError: there is none of that id.
        RunDrivenError: another process of this machine drives it.
        JournalError: the journal cannot be used.
    """
    return _take_over(
        run_id,
        access,
        state_dir=state_dir,
        on_event=on_event,
        control=control or Control(),
        settings=settings or Settings(),
        ports=ports or default_ports(),
        to_stop=False,
    )


def stop(
    run_id: str,
    access: Access,
    *,
    state_dir: Path,
    on_event: Callable[[Event], None] | None = None,
    control: Control | None = None,
    settings: Settings | None = None,
    ports: Ports | None = None,
    patience_s: float = 600.0,
) -> Outcome:
    """Stops a run's collection on the endpoint; what arrived is kept, sealed, and the stamp cools down.

    Where another process drives the run, that process is asked and waited for. A run whose collection has ended stops
    waiting for late output; one that delivers gives that up and keeps its sealed staging copy.

    Raises:
        NoSuchRunError: there is none of that id.
        RunDrivenError: the process that drives it has not answered within ``patience_s`` seconds.
        InterruptedRunError: ``control`` was told to leave while that process was waited for; it is still asked to stop.
        JournalError: the journal cannot be used.
    """
    control = control or Control()
    with Journal(state_dir) as journal:
        run = journal.run(run_id)
        if not run.state.is_final:
            journal.request_stop(run.id)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            outcome = _take_over(
                run.id,
                access,
                state_dir=state_dir,
                on_event=on_event,
                control=control,
                settings=settings or Settings(),
                ports=ports or default_ports(),
                to_stop=True,
            )
        except RunDrivenError:
            if time.monotonic() >= deadline:
                raise
            if control.wait(_LOOK_S):
                raise InterruptedRunError(
                    detail=f"run {run.id} is still asked to stop",
                    fix=f"See how it ends with 'pep-bridge show {run.id}'.",
                ) from None
        else:
            return replace(outcome, exit_code=ExitCode.OK) if outcome.state is RunState.STOPPED else outcome


def _take_over(
    run_id: str,
    access: Access,
    *,
    state_dir: Path,
    on_event: Callable[[Event], None] | None,
    control: Control,
    settings: Settings,
    ports: Ports,
    to_stop: bool,
) -> Outcome:
    with Journal(state_dir) as journal:
        run = journal.run(run_id)
        with drive(run_folder(state_dir, run.id), run.id):
            run = journal.run(run.id)
            if to_stop and not run.state.is_final and not run.facts.get("end"):
                journal.request_stop(run.id)  # whoever drove it may have answered the first request with a failure
            context = RunContext(
                run,
                access,
                journal,
                settings=settings,
                ports=ports,
                control=control,
                on_event=on_event,
                wishes=Wishes(take_up_what_came_later=not to_stop),
            )
            outcome = Driver(context).drive()
            if to_stop and not outcome.state.is_final:
                journal.note_end(run.id)  # answered: who attaches later does not want it stopped
            return outcome


def show(run_id: str, *, state_dir: Path) -> Outcome:
    """A run's outcome as the journal has it; nothing is done.

    Raises:
        NoSuchRunError: there is none of that id.
        JournalError: the journal cannot be used.
    """
    with Journal(state_dir) as journal:
        run = journal.run(run_id)
        return outcome_of(run, exit_code_of(run))


def is_live(run: RunRecord, *, state_dir: Path) -> bool:
    """Whether a process of this machine drives the run now."""
    return not run.state.is_final and is_driven(run_folder(state_dir, run.id))


def _create(
    journal: Journal,
    request: Request,
    ports: Ports,
    *,
    queue: bool,
    control: Control,
    on_event: Callable[[Event], None] | None,
    settings: Settings,
) -> RunRecord:
    while True:
        started = ports.now().replace(microsecond=0)
        token = secrets.token_hex(4)
        run_id = f"{started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{token}"
        try:
            return journal.create(run_id, request, bundle_name(request.stamp.name, started, token), at=started)
        except StampBusyError as error:
            if not queue:
                raise
            if on_event is not None:
                on_event(Waiting(run_id=run_id, reason=str(error)))
            if control.wait(settings.lock.poll_s):
                raise InterruptedRunError(
                    detail=f"nothing was begun, {error}", fix="Run the same command again, or see 'pep-bridge status'."
                ) from error
