"""After the command: its end is journalled, late output waited for, the stamp freed, and the run sent to its bundle."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from bridge.collection._connection import Connection
from bridge.collection._context import RunContext, written
from bridge.collection._events import Waiting
from bridge.collection._lock import COOL_DOWN
from bridge.collection._locks import StampLocks
from bridge.collection._plan import Way, choose_way
from bridge.collection._ports import CommandEnd
from bridge.collection._states import RunState
from bridge.collection._watch import Waited, wait_for_output
from bridge.errors import (
    BridgeError,
    EndpointError,
    InterruptedRunError,
    OutputRefusedError,
    SessionLostError,
    StampBusyError,
    StoreError,
    StoreFullError,
    TimeLimitError,
)

_CLOCK_MOVED = timedelta(minutes=1)
_COLLECTION_IN_PROGRESS = "LogCollectionInProgress"
# INVENTED by the simulated stamp: what two collections at once do on a real one is not public.
_DISK_FULL = "There is not enough space on the disk"  # .NET's words for ERROR_DISK_FULL; the endpoint speaks en-US
_CANNOT_WRITE = frozenset(
    {"System.UnauthorizedAccessException", "System.IO.DirectoryNotFoundException", "System.IO.IOException"}
)
_REFUSALS = frozenset({"PermissionDenied", "AuthenticationError", "SecurityError"})  # ErrorCategory
_HOW_IT_WAS_LOST = {
    Waited.ENDED: "the output log says that the collection has ended",
    Waited.STILL: "nothing has changed in the output folder for a while: it has stalled, or ended",
    Waited.OVERDUE: "the time limit has passed",
    Waited.INTERRUPTED: "it was to be stopped; whether it still runs on the endpoint is not known",
}
_STOPPED_ALL_THE_SAME = "ended on the endpoint, as it was to be stopped"


class Ending:
    """The end of the state running. Every method may be called again after a crash in its middle."""

    def __init__(self, context: RunContext, locks: StampLocks, connection: Connection) -> None:
        self._context = context
        self._locks = locks
        self._connection = connection

    def command_ended(self, end: CommandEnd, *, overdue: bool) -> None:
        """The endpoint itself told how the command ended. ``overdue``: it was stopped because its time was over."""
        context = self._context
        overdue = overdue and end.state == "stopped"
        if end.state == "stopped" and not overdue and not context.stop_asked():
            context.warn("the collection was stopped on the endpoint, and not by this tool: what had arrived is kept")
        document: dict[str, Any] = {"state": "overdue" if overdue else end.state}
        if end.error is not None:
            document["error"] = {"id": end.error.error_id, "category": end.error.category, "message": end.error.message}
        if overdue:
            context.errors.append(self._time_limit("what had arrived is kept"))
        elif end.failure is not None and end.state == "failed":
            failure = _as_busy(end, context.run.stamp) or self._as_refused_output(end) or end.failure
            document["failure"] = failure.to_json()
            context.errors.append(failure)
        context.note_end(end=context.scrubber.value(document), command_ended=written(context.ports.now()))
        self.settle_and_free()

    def output_ended(self, waited: Waited, error: SessionLostError, *, was_stopped: bool = False) -> None:
        """The session was lost; only the output folder could tell. ``was_stopped``: the endpoint has ended it since, as
        it was asked to, and the collection with it."""
        context = self._context
        context.warn(f"the session was lost and {_STOPPED_ALL_THE_SAME if was_stopped else _HOW_IT_WAS_LOST[waited]}")
        state = "stopped" if waited is Waited.INTERRUPTED else "lost"
        how = Waited.ENDED if was_stopped else waited
        context.note_end(
            end={"state": state, "how": str(how), "detail": str(error)},
            command_ended=written(context.ports.now()),
        )
        self.settle_and_free()

    def settle_and_free(self) -> None:
        """The stamp is free again; what landed is looked at, and the run goes on to its bundle."""
        context = self._context
        state = context.run.facts["end"]["state"]
        self._settle(state)
        if not context.run.facts.get("stamp_freed"):
            self._free_the_stamp(stopped=state in {"stopped", "overdue"})
        self._connection.end()
        if context.output.snapshot.files == 0 and state != "completed":
            self._nothing_arrived(state)
            return
        staged = choose_way(context.run.request) is Way.STAGED
        context.move(RunState.DELIVERING if staged else RunState.SEALING, sealed=written(context.ports.now()))

    def _settle(self, state: str) -> None:
        """Waits until nothing lands any more. Output may come after its command has ended, or was stopped.

        Raises:
            InterruptedRunError: the operator leaves meanwhile. Who asks to stop waits no longer: it goes on.
            StoreError: the output cannot be seen, so nobody knows what has arrived.
        """
        context = self._context
        stopped = state in {"stopped", "overdue"}
        waited = wait_for_output(
            context.output,
            poll_s=min(context.settings.watch_s, max(0.05, context.settings.settle_s / 4)),
            still_s=self._still_s(state, stopped=stopped),
            deadline_s=context.settings.late_s + context.settings.stall_s,
            interrupted=context.wait,
            from_now=True,
            log_tells=stopped,
        )
        if waited is Waited.INTERRUPTED:
            if not context.stop_asked():
                raise InterruptedRunError(
                    detail="the collection has ended, its bundle is not sealed yet",
                    fix=f"Go on with 'pep-bridge attach {context.run.id}'.",
                )
            context.note_end()
            context.output.look()
        elif stopped and waited is Waited.OVERDUE:
            context.warn("the collection was stopped, and goes on all the same: what has arrived until now is sealed")
            context.note(end={**context.run.facts["end"], "how": str(waited)})

    def _still_s(self, state: str, *, stopped: bool) -> float:
        """For how long nothing must change, which is told where it is longer than a moment."""
        context = self._context
        if stopped:
            still_s = context.settings.after_stop_s
            reason = f"whether more arrives after the stop, until nothing has changed for {still_s:g} s"
            context.tell(Waiting(run_id=context.run.id, reason=reason))
            return still_s
        context.output.try_look()
        none_yet = state == "completed" and context.output.trouble is None and context.output.snapshot.files == 0
        if none_yet:
            reason = f"output may come late: none has arrived yet, it is waited for {context.settings.late_s:g} s"
            context.tell(Waiting(run_id=context.run.id, reason=reason))
        return context.settings.late_s if none_yet else context.settings.settle_s

    def _free_the_stamp(self, *, stopped: bool) -> None:
        """Gives the lock back. Where the session was lost and the collection was not seen to end, it may still run: the
        lock is left as it is, and holds until the collection must have ended."""
        context = self._context
        self._locks.take_back()
        with context.journal.step(context.run.id, "free the stamp"):
            cool_down_until = context.ports.now() + COOL_DOWN if stopped else None
            if cool_down_until is not None:
                context.journal.cool_down(context.run.stamp, cool_down_until)
                on_stamp = context.stamp_time.now()
                context.note(stopped_by_the_stamp=written(on_stamp) if on_stamp is not None else None)
            if context.run.facts["end"].get("how", "ended") == "ended":
                self._locks.release(cool_down_until=cool_down_until)
            else:
                until = self._locked_until()
                self._locks.leave()
                context.note(on_stamp_until=written(until))  # for whoever collects to another place, without our lock
                context.warn(f"the collection may still run: the stamp stays locked until {until:%Y-%m-%d %H:%M:%SZ}")
        context.note(stamp_freed=True)

    def _locked_until(self) -> datetime:
        """Until when the lock holds; written anew where the clock was set forward since the command was sent."""
        context = self._context
        latest = context.latest_end(context.command_sent())
        until = max(latest, context.ports.now() + timedelta(seconds=self._connection.left_s()))
        if until > latest + _CLOCK_MOVED:
            try:
                self._locks.expect_work_until(until)
            except (StampBusyError, StoreError) as error:
                context.warn(f"the lock of this stamp could not be renewed: {error}")
        return until

    def _nothing_arrived(self, state: str) -> None:
        context = self._context
        if context.run.facts["end"].get("how", "ended") == "ended":
            context.remove_empty_bundle()
        if state == "stopped":
            context.move(RunState.STOPPED, "stopped before anything arrived")
            return
        if state == "overdue":
            context.errors.append(self._time_limit("nothing had arrived"))
        elif not context.errors:
            context.errors.append(self._why_nothing_arrived(state))
        context.fail(context.errors[-1])

    def _why_nothing_arrived(self, state: str) -> BridgeError:
        facts = self._context.run.facts
        if state == "lost":
            return SessionLostError(host=facts.get("endpoint"), detail="the collection left no output")
        failure = facts["end"].get("failure") or {}
        return EndpointError(detail=failure.get("message") or "the collection left no output")

    def _as_refused_output(self, end: CommandEnd) -> BridgeError | None:
        """An error that is about the place that the endpoint was to write to: it names the run's own folder there."""
        error, context = end.error, self._context
        if error is None or context.run.bundle_name not in f"{error.message} {error.target}":
            return None
        if _DISK_FULL in error.message:
            return StoreFullError(store=context.output_store().location, detail=f"the endpoint says: {error.message}")
        if error.exception_type in _CANNOT_WRITE or error.category in _REFUSALS:
            return OutputRefusedError(where=context.output_store().location, detail=error.message)
        return None

    def _time_limit(self, detail: str) -> TimeLimitError:
        minutes = self._context.run.request.timeout_minutes
        return TimeLimitError(
            limit=f"{minutes} minutes", detail=detail, fix="Ask for fewer roles or a shorter window, or more time."
        )


def _as_busy(end: CommandEnd, stamp: str) -> StampBusyError | None:
    if end.error is None or not end.error.error_id.startswith(_COLLECTION_IN_PROGRESS):
        return None
    return StampBusyError(
        stamp=stamp,
        detail=f"the endpoint says: {end.error.message}",
        fix="Wait until that collection has ended, or use --queue, which waits.",
        until=None,
    )
