"""Drives one run from the state that the journal holds to its end: the same code starts it and takes it over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.collection._events import Event, Landed, LineChanged, RecordArrived, StateChanged, Waiting, Warned
from bridge.collection._finish import Finished, Finisher
from bridge.collection._journal import Journal, RunRecord
from bridge.collection._lock import COOL_DOWN
from bridge.collection._locks import StampLocks
from bridge.collection._outcome import Outcome, exit_code_of, facts_of, outcome_of
from bridge.collection._plan import PAYLOAD, Way, choose_way, plan_run, written_place, written_secret
from bridge.collection._ports import CommandEnd, LineNews, Ports, RunningCommand, SessionIdsJson
from bridge.collection._preflight import check_place, make_output_folder
from bridge.collection._request import Access, Place
from bridge.collection._session_log import SessionLog, scrubbed
from bridge.collection._settings import Settings
from bridge.collection._states import RunState
from bridge.collection._watch import Snapshot, Waited, Watcher, has_ended, look, wait_for_output
from bridge.collection._work import Control, Leave, Lost, follow
from bridge.endpoint import Record
from bridge.errors import (
    BridgeError,
    CommandUncertainError,
    DeliveryFailedError,
    EndpointError,
    EndpointUnreachableError,
    ExitCode,
    InterruptedRunError,
    JournalError,
    SessionGoneError,
    SessionLostError,
    SourceMismatchError,
    StampBusyError,
    StoreError,
    TimeLimitError,
    UnsafePathError,
)
from bridge.secrets import Credential, Secret
from bridge.store import FolderTree, Store

_STOP_LOOK_S = 1.0
_MOST_WARNINGS = 200
_COLLECTION_IN_PROGRESS = "LogCollectionInProgress"
# INVENTED by the simulated stamp: what two collections at once do on a real one is not public.


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller of ``collect`` asked for beside the request."""

    queue: bool = False
    detach: bool = False
    break_lock: bool = False


class Driver:
    """One run, driven by this process. Every method of a state may be called again after a crash in its middle."""

    def __init__(
        self,
        run: RunRecord,
        access: Access,
        journal: Journal,
        *,
        settings: Settings,
        ports: Ports,
        control: Control,
        on_event: Callable[[Event], None] | None,
        wishes: Wishes,
    ) -> None:
        self._run = run
        self._access = access
        self._journal = journal
        self._settings = settings
        self._ports = ports
        self._control = control
        self._on_event = on_event
        self._wishes = wishes
        self._scrubber = access.scrubber()
        self._telling = threading.Lock()
        self._stores: dict[str, Store] = {}
        self._locks = StampLocks(
            run.stamp,
            run.id,
            lambda: [self._open(place, secret) for place, secret in self._places()],
            settings=settings.lock,
            now=ports.now,
            wait=control.wait,
            warn=self._warn,
        )
        self._command: RunningCommand | None = None
        self._errors: list[BridgeError] = []
        self._warnings: list[str] = list(run.facts.get("warnings", []))
        self._pause: ExitCode | None = None
        self._finished: Finished | None = None
        self._stop_seen_at = 0.0
        self._stop_seen = False
        self._working_since: float | None = None
        self._line_down_since: float | None = None
        self._told_of_the_others = False
        self._landed = False
        self._told_once = set(self._warnings)

    # -- the machine --------------------------------------------------------------------------------------------------

    def drive(self) -> Outcome:
        """Goes on until the run has ended, is left to the endpoint, or cannot go on."""
        handlers: Mapping[RunState, Callable[[], None]] = {
            RunState.PLANNED: self._preflight,
            RunState.PREFLIGHTED: self._lock,
            RunState.LOCKED: self._start,
            RunState.RUNNING: self._follow,
            RunState.DETACHED: self._return,
            RunState.SEALING: self._seal,
            RunState.DELIVERING: self._deliver,
        }
        try:
            self._resume()
            while not self._run.state.is_final and self._pause is None:
                handlers[self._run.state]()
        except BridgeError as error:
            self._give_up(error)
        finally:
            self._leave()
        return self._outcome()

    def _resume(self) -> None:
        if self._run.state is RunState.FAILED and self._run.failed_in in {RunState.SEALING, RunState.DELIVERING}:
            self._move(self._run.failed_in, "tried again")

    def _give_up(self, error: BridgeError) -> None:
        """Ends the run as failed, unless the endpoint may be working for it, or it was only interrupted."""
        self._errors.append(error)
        state = self._run.state
        keeps = isinstance(error, (JournalError, InterruptedRunError)) or state in {RunState.RUNNING, RunState.DETACHED}
        if keeps or state.is_final:
            self._pause = error.exit_code
            return
        with suppress(JournalError):
            self._locks.release(cool_down_until=None)
            self._move(RunState.FAILED, str(error), error=self._scrubber.value(error.to_json()))

    def _leave(self) -> None:
        self._locks.leave()
        if self._command is not None and self._run.state not in {RunState.RUNNING, RunState.DETACHED}:
            with suppress(EndpointError):
                self._command.close()
        for store in self._stores.values():
            with suppress(StoreError):
                store.close()

    # -- before the command -------------------------------------------------------------------------------------------

    def _preflight(self) -> None:
        if self._stopped_before_anything_ran():
            return
        request = self._run.request
        plan = plan_run(request, self._access, self._run.bundle_name, bind=self._ports.bind, now=self._ports.now())
        for warning in plan.warnings:
            self._warn(warning)
        valid_until = self._ports.now() + timedelta(
            minutes=request.timeout_minutes, seconds=self._settings.sas_margin_s
        )
        with self._journal.step(self._run.id, "preflight"):
            for place, secret in self._places():
                check_place(
                    self._open(place, secret),
                    place,
                    secret,
                    free_bytes=self._settings.free_bytes,
                    valid_until=valid_until,
                    warn=self._warn,
                )
        self._move(
            RunState.PREFLIGHTED,
            way=str(plan.way),
            script=plan.script,
            commands=self._scrubber.value([command.to_json() for command in plan.commands]),
        )

    def _lock(self) -> None:
        if self._stopped_before_anything_ran():
            return
        while True:
            try:
                with self._journal.step(self._run.id, "lock"):
                    self._refuse_while_cooling_down()
                    self._locks.acquire(break_lock=self._wishes.break_lock)
                    self._move(RunState.LOCKED)
            except StampBusyError as error:
                self._locks.release(cool_down_until=None)
                if not self._wishes.queue:
                    raise
                self._wait_in_queue(error)
                if self._stopped_before_anything_ran():
                    return
            else:
                return

    def _start(self) -> None:
        self._end_what_was_opened()
        if self._run.facts.get("session"):
            self._locks.take_back()
            if self._is_really_gone():
                with suppress(EndpointError):
                    self._ports.endpoint.end(self._run.request.stamp, self._access.endpoint, self._run.facts["session"])
                self._note(session=None, command_sent=None)
            else:
                self._move(RunState.RUNNING)
                return
        if self._stopped_before_anything_ran():
            return
        self._locks.require()
        request = self._run.request
        plan = plan_run(request, self._access, self._run.bundle_name, bind=self._ports.bind, now=self._ports.now())
        store = self._output_store()
        if plan.way is not Way.DIRECT:
            make_output_folder(store, self._output_folder)
        self._locks.expect_work_until(self._latest_end(self._ports.now()))
        try:
            with self._journal.step(self._run.id, "send the command"):
                self._command = self._ports.endpoint.start(
                    request.stamp,
                    self._access.endpoint,
                    plan.commands,
                    line_deadline_s=self._settings.line_deadline_s,
                    idle_timeout_s=request.timeout_minutes * 60 + 2 * 3600,
                    before_open=self._remember_opening,
                    before_send=self._remember_session,
                    on_line=self._line_changed,
                )
        except CommandUncertainError as error:
            self._note(lost=self._lost_facts(error))
        self._move(RunState.RUNNING)

    def _remember_opening(self, ids: SessionIdsJson) -> None:
        self._note(opening=[*self._run.facts.get("opening", ()), dict(ids)])

    def _end_what_was_opened(self) -> None:
        """A process that was killed, or lost its line, between opening a session and sending its command left it idle:
        such sessions count against the five that Windows allows an account. One try each; in the end they time out."""
        for run in self._journal.runs(stamp=self._run.stamp):
            if run.facts.get("opening") and (run.id == self._run.id or run.state.is_final):
                for ids in run.facts["opening"]:
                    with suppress(EndpointError):
                        self._ports.endpoint.end(self._run.request.stamp, self._access.endpoint, ids)
                self._journal.note(run.id, opening=None)
        self._run = self._journal.run(self._run.id)

    def _remember_session(self, ids: SessionIdsJson, endpoint: str) -> None:
        others = [other for other in self._run.facts.get("opening", ()) if other["shell_id"] != ids["shell_id"]]
        self._note(session=dict(ids), endpoint=endpoint, command_sent=_text(self._ports.now()), opening=others or None)

    def _is_really_gone(self) -> bool:
        """Whether the command whose ids were journalled never ran: no session, and no output even after a while."""
        try:
            self._command = self._attach_patiently()
        except SessionGoneError:
            pass
        except (SessionLostError, EndpointUnreachableError) as error:
            self._note(lost=self._lost_facts(error))
            return False
        else:
            return False
        if self._control.wait(self._settings.settle_s):
            return False
        return look(self._output_store(), self._output_folder).files == 0

    # -- while the endpoint works -------------------------------------------------------------------------------------

    def _return(self) -> None:
        self._move(RunState.RUNNING)

    def _follow(self) -> None:
        if self._run.facts.get("end"):
            self._after_the_command()
            return
        self._locks.take_back()
        if self._command is None:
            self._take_command_back()
        self._working_since = time.monotonic()
        self._line_down_since = None
        ended: CommandEnd | Lost
        with self._watcher() as watcher:
            if self._command is None:
                ended = Lost(SessionLostError(host=self._run.facts.get("endpoint"), detail="it is not to be had"))
            else:
                with SessionLog(self._run_dir / "session.jsonl", self._scrubber) as log:
                    ended = follow(
                        self._command,
                        on_record=lambda record: self._record_arrived(log, record),
                        leave=lambda: self._wanted(watcher),
                    )
                    if log.lost:
                        self._warn(f"{log.lost} records could not be written to {log.path}: is the disk full?")
                        self._note(records_not_written=self._run.facts.get("records_not_written", 0) + log.lost)
        match ended:
            case Lost(error=error):
                now = time.monotonic()
                self._without_session(error, max(watcher.changed_at, self._line_down_since or now))
            case CommandEnd(state="disconnected"):
                self._detached()
            case CommandEnd():
                self._command_ended(ended)

    def _take_command_back(self) -> None:
        try:
            with self._journal.step(self._run.id, "attach"):
                self._command = self._attach_patiently()
        except (SessionLostError, EndpointUnreachableError) as error:
            self._note(lost=self._lost_facts(error))
            self._warn(f"the session could not be taken back: {error}")

    def _attach_patiently(self) -> RunningCommand:
        """Asks for the session until the deadline, or until the output log shows that there is nothing to wait for."""
        deadline = time.monotonic() + self._settings.attach_deadline_s
        seen = Snapshot()
        while True:
            try:
                return self._attach()
            except SessionGoneError:
                raise
            except (SessionLostError, EndpointUnreachableError):
                before, seen = seen, self._look_once()
                ended = seen.sizes == before.sizes and has_ended(self._output_store(), seen)
                if ended or time.monotonic() >= deadline or self._stop_asked() or self._control.detach_asked:
                    raise

    def _look_once(self) -> Snapshot:
        try:
            return look(self._output_store(), self._output_folder)
        except StoreError:
            return Snapshot()

    def _attach(self) -> RunningCommand:
        return self._ports.endpoint.attach(
            self._run.request.stamp,
            self._access.endpoint,
            self._run.facts["session"],
            deadline_s=min(self._settings.line_patience_s, self._settings.attach_deadline_s),
            line_deadline_s=self._settings.line_deadline_s,
            on_line=self._line_changed,
        )

    def _wanted(self, watcher: Watcher) -> Leave:
        if self._stop_asked():
            return Leave.STOP
        if self._control.detach_asked:
            return Leave.DETACH
        if self._wishes.detach and self._is_working():
            return Leave.DETACH
        if self._ports.now() > self._latest_end(self._command_sent()):
            return Leave.OVERDUE
        if self._is_line_long_down():
            self._tell_of_the_other_machines()
            if watcher.has_ended:
                return Leave.ABANDON
        return Leave.STAY

    def _is_line_long_down(self) -> bool:
        since = self._line_down_since
        return since is not None and time.monotonic() - since >= self._settings.line_patience_s

    def _tell_of_the_other_machines(self) -> None:
        if not self._told_of_the_others:
            self._told_of_the_others = True
            self._warn(
                f"{self._run.facts.get('endpoint')} does not answer; {self._who_answers()}; the output is watched"
            )

    def _who_answers(self) -> str:
        answering = self._ports.endpoint.answering(self._run.request.stamp)
        return f"{', '.join(answering)} answer" if answering else "no machine of the endpoint answers"

    def _is_working(self) -> bool:
        if self._landed:
            return True
        return self._working_since is not None and time.monotonic() - self._working_since > self._settings.started_s

    def _detached(self) -> None:
        self._move(RunState.DETACHED)
        if self._wishes.detach and not self._control.detach_asked:
            self._pause = ExitCode.OK
            return
        self._errors.append(
            InterruptedRunError(
                detail=f"the endpoint goes on with run {self._run.id}",
                fix=f"Go on with 'pep-bridge attach {self._run.id}', or end it with 'pep-bridge stop {self._run.id}'.",
            )
        )
        self._pause = ExitCode.INTERRUPTED

    def _without_session(self, error: SessionLostError, still_since: float) -> None:
        """The collection may go on without us: its output folder tells until when. Nobody has seen a change there
        since ``still_since``."""
        self._command = None
        self._tell(LineChanged(run_id=self._run.id, state="lost", detail=str(error)))
        self._note(lost=self._lost_facts(error))
        self._warn(f"the session is lost ({error}); {self._who_answers()}; the output folder is watched instead")
        gone = isinstance(error, SessionGoneError)
        tried_at = time.monotonic()

        def interrupted(seconds: float) -> bool:
            nonlocal gone, tried_at
            if self._stop_asked() or self._control.wait(seconds):
                return True
            if not gone and time.monotonic() - tried_at >= self._settings.reattach_s:
                try:
                    self._command = self._attach()
                except SessionGoneError:
                    gone = True
                except EndpointError as failure:
                    self._tell(LineChanged(run_id=self._run.id, state="lost", detail=str(failure)))
                tried_at = time.monotonic()
            return self._command is not None

        left_s = (self._latest_end(self._command_sent()) - self._ports.now()).total_seconds()
        waited = wait_for_output(
            self._output_store(),
            self._output_folder,
            poll_s=self._settings.watch_s,
            still_s=self._settings.stall_s,
            deadline_s=max(0.0, left_s),
            interrupted=interrupted,
            on_change=self._output_changed,
            still_since=still_since,
        )
        self._after_the_watch(waited, error)

    def _after_the_watch(self, waited: Waited, error: SessionLostError) -> None:
        if self._command is not None:
            self._tell(LineChanged(run_id=self._run.id, state="up", detail="the session was taken back"))
            return
        if waited is Waited.INTERRUPTED and not self._stop_asked():
            self._detached()
            return
        how = {
            Waited.ENDED: "the output log says that the collection has ended",
            Waited.STILL: "nothing has changed in the output folder for a while: it has stalled, or ended",
            Waited.OVERDUE: "the time limit has passed",
            Waited.INTERRUPTED: "it was to be stopped; whether it still runs on the endpoint is not known",
        }[waited]
        self._warn(f"the session was lost and {how}")
        state = "stopped" if waited is Waited.INTERRUPTED else "lost"
        self._note(
            end={"state": state, "how": str(waited), "detail": str(error)}, command_ended=_text(self._ports.now())
        )
        self._after_the_command()

    def _command_ended(self, end: CommandEnd) -> None:
        overdue = end.state == "stopped" and not self._stop_asked()
        document: dict[str, Any] = {"state": "overdue" if overdue else end.state}
        if end.error is not None:
            document["error"] = {"id": end.error.error_id, "category": end.error.category, "message": end.error.message}
        if overdue:
            self._errors.append(self._time_limit("what had arrived is kept"))
        elif end.failure is not None and end.state == "failed":
            document["failure"] = end.failure.to_json()
            self._errors.append(_as_busy(end, self._run.stamp) or end.failure)
        self._note(end=self._scrubber.value(document), command_ended=_text(self._ports.now()))
        self._after_the_command()

    def _after_the_command(self) -> None:
        """The stamp is free again; what landed is looked at, and the run goes on to its bundle."""
        state = self._run.facts["end"]["state"]
        snapshot = self._settle(state)
        if not self._run.facts.get("stamp_freed"):
            self._free_the_stamp(stopped=state in {"stopped", "overdue"})
        self._end_session()
        if snapshot.files == 0 and state != "completed":
            self._nothing_arrived(state)
            return
        way = choose_way(self._run.request)
        self._move(RunState.DELIVERING if way is Way.STAGED else RunState.SEALING, sealed=_text(self._ports.now()))

    def _end_session(self) -> None:
        """Leaves no session behind. One that was lost while its collection may still run is left alone."""
        end = self._run.facts["end"]
        with suppress(EndpointError):
            if self._command is not None:
                self._command.close()
            elif self._run.facts.get("session") and end.get("how") not in {Waited.STILL, Waited.OVERDUE}:
                self._ports.endpoint.end(self._run.request.stamp, self._access.endpoint, self._run.facts["session"])
        self._command = None
        self._end_what_was_opened()

    def _free_the_stamp(self, *, stopped: bool) -> None:
        """Gives the lock back. Where the session was lost and the collection was not seen to end, it may still run: the
        lock is left as it is, and holds until the collection must have ended."""
        end = self._run.facts["end"]
        self._locks.take_back()
        with self._journal.step(self._run.id, "free the stamp"):
            cool_down_until = self._ports.now() + COOL_DOWN if stopped else None
            if cool_down_until is not None:
                self._journal.cool_down(self._run.stamp, cool_down_until)
            if end.get("how", "ended") == "ended":
                self._locks.release(cool_down_until=cool_down_until)
            else:
                self._locks.leave()
                until = self._latest_end(self._command_sent())
                self._warn(f"the collection may still run: the stamp stays locked until {until:%Y-%m-%d %H:%M:%SZ}")
        self._note(stamp_freed=True)

    def _settle(self, state: str) -> Snapshot:
        """Waits until nothing lands any more. Output may come after its command has ended, or was stopped."""
        last = Snapshot()
        stopped = state in {"stopped", "overdue"}

        def note(snapshot: Snapshot) -> None:
            nonlocal last
            last = snapshot
            self._output_changed(snapshot)

        try:
            none_yet = state == "completed" and look(self._output_store(), self._output_folder).files == 0
        except StoreError:
            none_yet = False
        still_s = self._settings.late_s if none_yet else self._settings.settle_s
        if stopped:
            still_s = self._settings.after_stop_s
            reason = f"whether more arrives after the stop, until nothing has changed for {still_s:g} s"
            self._tell(Waiting(run_id=self._run.id, reason=reason))
        waited = wait_for_output(
            self._output_store(),
            self._output_folder,
            poll_s=min(self._settings.watch_s, max(0.05, self._settings.settle_s / 4)),
            still_s=still_s,
            deadline_s=self._settings.late_s + self._settings.stall_s,
            interrupted=_pause,
            on_change=note,
        )
        if stopped and waited is Waited.OVERDUE:
            self._warn("the collection was stopped, and goes on all the same: what has arrived until now is sealed")
            self._note(end={**self._run.facts["end"], "how": str(waited)})
        return last

    def _nothing_arrived(self, state: str) -> None:
        if state == "stopped":
            self._move(RunState.STOPPED, "stopped before anything arrived")
            return
        if state == "overdue":
            error: BridgeError = self._time_limit("nothing had arrived")
            self._errors.append(error)
        elif self._errors:
            error = self._errors[-1]
        elif state == "lost":
            error = SessionLostError(host=self._run.facts.get("endpoint"), detail="the collection left no output")
            self._errors.append(error)
        else:
            failure = self._run.facts["end"].get("failure") or {}
            error = EndpointError(detail=failure.get("message") or "the collection left no output")
            self._errors.append(error)
        self._move(RunState.FAILED, str(error), error=self._scrubber.value(error.to_json()))

    def _time_limit(self, detail: str) -> TimeLimitError:
        minutes = self._run.request.timeout_minutes
        return TimeLimitError(
            limit=f"{minutes} minutes", detail=detail, fix="Ask for fewer roles or a shorter window, or more time."
        )

    # -- the bundle ---------------------------------------------------------------------------------------------------

    def _seal(self) -> None:
        bundle = self._output_store().at(self._run.bundle_name)
        with self._journal.step(self._run.id, "seal"):
            finished = self._finisher().seal_in_place(
                bundle, may_be_unreadable=choose_way(self._run.request) is Way.DIRECT
            )
        self._end_with(finished, bundle.location)

    def _deliver(self) -> None:
        request = self._run.request
        staging = self._output_store().at(self._run.bundle_name)
        target = self._open(request.destination, self._access.destination).at(self._run.bundle_name)
        self._journal.note_delivery(self._run.bundle_name, target.location, "begun", run_id=self._run.id)
        try:
            with self._journal.step(self._run.id, "deliver"):
                finished = self._finisher().deliver_and_seal(staging, target, self._journal.state_dir)
        except (DeliveryFailedError, SourceMismatchError, StoreError) as error:
            self._journal.note_delivery(self._run.bundle_name, target.location, "failed", error=str(error))
            self._secure_staging(staging)
            raise DeliveryFailedError(
                store=target.location,
                source=staging.location,
                detail=str(error),
                fix=f"When it is mended: 'pep-bridge attach {self._run.id}'. {error.advice}",
            ) from error
        self._journal.note_delivery(self._run.bundle_name, target.location, "done")
        if request.remove_staging:
            self._remove_staging(staging, target)
        else:
            self._note(staging=staging.location)
        self._end_with(finished, target.location)

    def _remove_staging(self, staging: Store, target: Store) -> None:
        """Removes the staging copy with its folders. The bundle is delivered: what stands in the way of this is said,
        and does not fail the run. What was left out of the delivery has no other copy: then all stays."""
        place, location = self._output_store(), staging.location
        unsafe: list[UnsafePathError] = []
        try:
            with self._journal.step(self._run.id, "remove the staging copy"):
                delivered = {entry.path for entry in target.list()}
                entries = list(staging.list(on_unsafe=unsafe.append))
                left = [error.fields["path"] for error in unsafe]
                left += [entry.path for entry in entries if entry.path not in delivered]
                if not left:
                    for entry in entries:
                        staging.remove(entry.path)
                    if isinstance(place, FolderTree):
                        place.clear_folder(self._run.bundle_name)
        except StoreError as error:
            self._warn(f"the staging copy is delivered, but could not be removed from {location}: {error}")
            self._note(staging=location)
            return
        if left:
            self._warn(
                f"the staging copy is kept ({location}): {len(left)} of its files were not delivered, "
                f"such as {left[0]}; look at them there and remove it by hand"
            )
            self._note(staging=location)
        else:
            self._note(staging_removed=location)

    def _secure_staging(self, staging: Store) -> None:
        """A delivery that cannot be finished leaves a bundle all the same: the staging copy is sealed."""
        try:
            with self._journal.step(self._run.id, "seal the staging copy"):
                finished = self._finisher().seal_in_place(staging)
        except BridgeError as error:
            self._warn(f"the staging copy could not be sealed: {error}")
            return
        self._finished = finished
        self._note(bundle=staging.location, **facts_of(finished))

    def _end_with(self, finished: Finished, location: str) -> None:
        self._finished = finished
        end = self._run.facts.get("end", {}).get("state")
        if end == "stopped":
            state = RunState.STOPPED
        elif finished.complete and end in {"completed", "lost"} and not finished.unchecked_files:
            state = RunState.DONE
        else:
            state = RunState.PARTIAL
        self._move(state, bundle=location, **facts_of(finished))

    def _finisher(self) -> Finisher:
        return Finisher(
            run=self._journal.run(self._run.id),
            run_dir=self._run_dir,
            settings=self._settings,
            scrubber=self._scrubber,
            assess=self._ports.assess,
            emit=self._tell,
            warn=self._warn,
            warn_once=self._warn_once,
            cancel=self._control.interrupt_from_now(),
        )

    # -- locks --------------------------------------------------------------------------------------------------------

    def _refuse_while_cooling_down(self) -> None:
        until = self._journal.cool_down_until(self._run.stamp)
        if until is not None and until > self._ports.now():
            raise StampBusyError(
                stamp=self._run.stamp,
                detail=f"a run was stopped; it cools down until {until.astimezone(UTC):%H:%M:%SZ}",
                fix="Wait until then, or use --queue, which waits.",
                until=until,
            )

    def _wait_in_queue(self, error: StampBusyError) -> None:
        until = error.fields.get("until")
        self._tell(Waiting(run_id=self._run.id, reason=str(error), until=until))
        self._control.wait(self._settings.lock.poll_s)

    # -- small things -------------------------------------------------------------------------------------------------

    @property
    def _run_dir(self) -> Path:
        return run_folder(self._journal.state_dir, self._run.id)

    @property
    def _output_folder(self) -> str:
        return f"{self._run.bundle_name}/{PAYLOAD}"

    def _output_store(self) -> Store:
        return self._open(written_place(self._run.request), written_secret(self._run.request, self._access))

    def _places(self) -> list[tuple[Place, Credential | Secret | None]]:
        request = self._run.request
        places: list[tuple[Place, Credential | Secret | None]] = [(request.destination, self._access.destination)]
        if request.staging is not None:
            places.append((request.staging, self._access.staging))
        return places

    def _open(self, place: Place, secret: Credential | Secret | None) -> Store:
        if place.text not in self._stores:
            self._stores[place.text] = self._ports.open_store(place, secret)
        return self._stores[place.text]

    def _watcher(self) -> Watcher:
        return Watcher(
            self._output_store(),
            self._output_folder,
            poll_s=self._settings.watch_s,
            on_change=self._output_changed,
            on_trouble=self._warn,
            look_for_end=self._is_line_long_down,
        )

    def _output_changed(self, snapshot: Snapshot) -> None:
        self._landed = self._landed or snapshot.files > 0
        self._tell(
            Landed(
                run_id=self._run.id, files=snapshot.files, size_bytes=snapshot.size_bytes, roles=dict(snapshot.roles)
            )
        )

    def _record_arrived(self, log: SessionLog, record: Record) -> None:
        log.append(record)
        self._landed = True
        self._tell(RecordArrived(run_id=self._run.id, record=scrubbed(record, self._scrubber)))

    def _line_changed(self, news: LineNews) -> None:
        if news.state == "up":
            self._line_down_since = None
        elif self._line_down_since is None:
            self._line_down_since = time.monotonic()
        self._tell(
            LineChanged(
                run_id=self._run.id,
                state=news.state,
                detail=self._scrubber.text(news.detail),
                attempt=news.attempt,
                retry_in_s=news.retry_in_s,
            )
        )

    def _command_sent(self) -> datetime:
        sent = self._run.facts.get("command_sent")
        return datetime.fromisoformat(sent) if sent else self._run.created

    def _latest_end(self, sent: datetime) -> datetime:
        return sent + timedelta(minutes=self._run.request.timeout_minutes, seconds=self._settings.over_time_s)

    def _lost_facts(self, error: BridgeError) -> dict[str, str]:
        return {"at": _text(self._ports.now()), "error": self._scrubber.text(str(error))}

    def _stop_asked(self) -> bool:
        if self._control.stop_asked or self._stop_seen:
            return True
        if time.monotonic() - self._stop_seen_at >= _STOP_LOOK_S:
            self._stop_seen_at = time.monotonic()
            _, self._stop_seen = self._journal.state(self._run.id)
        return self._stop_seen

    def _stopped_before_anything_ran(self) -> bool:
        if not (self._stop_asked() or self._control.detach_asked):
            return False
        self._locks.release(cool_down_until=None)
        self._move(RunState.STOPPED, "stopped before the collection began")
        return True

    def _move(self, new: RunState, reason: str | None = None, **facts: Any) -> None:
        text = self._scrubber.text(reason) if reason else None
        self._run = self._journal.move(self._run.id, new, text, **facts)
        self._tell(StateChanged(run_id=self._run.id, state=new, reason=text))

    def _note(self, **facts: Any) -> None:
        self._journal.note(self._run.id, **facts)
        self._run = self._journal.run(self._run.id)

    def _warn(self, text: str) -> None:
        text = self._scrubber.text(text)
        if text not in self._warnings and len(self._warnings) < _MOST_WARNINGS:
            self._warnings.append(text)
            with suppress(JournalError):  # it is told all the same; whatever must be written says so by itself
                self._journal.note(self._run.id, warnings=self._warnings)
        self._tell(Warned(run_id=self._run.id, text=text))

    def _warn_once(self, text: str) -> None:
        """For what is found again whenever it is looked for."""
        if (said := self._scrubber.text(text)) not in self._told_once:
            self._told_once.add(said)
            self._warn(said)

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            with self._telling:
                self._on_event(event)

    def _outcome(self) -> Outcome:
        run = self._run
        code = self._pause if self._pause is not None else exit_code_of(run)
        return outcome_of(run, code, errors=tuple(self._errors), finished=self._finished)


def run_folder(state_dir: Path, run_id: str) -> Path:
    """Where a run keeps its session log and its documents until they are in the bundle."""
    return state_dir / "runs" / run_id


def _as_busy(end: CommandEnd, stamp: str) -> StampBusyError | None:
    if end.error is None or not end.error.error_id.startswith(_COLLECTION_IN_PROGRESS):
        return None
    return StampBusyError(
        stamp=stamp,
        detail=f"the endpoint says: {end.error.message}",
        fix="Wait until that collection has ended, or use --queue, which waits.",
        until=None,
    )


def _pause(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
