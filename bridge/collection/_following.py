"""While the endpoint works: records and output are followed, over lost lines and lost sessions, until it has ended."""

from __future__ import annotations

import time

from bridge.collection._connection import Connection
from bridge.collection._context import RunContext
from bridge.collection._ending import Ending, landed
from bridge.collection._events import LineChanged, RecordArrived
from bridge.collection._locks import StampLocks
from bridge.collection._ports import CommandEnd
from bridge.collection._session_log import SessionLog, scrubbed
from bridge.collection._states import RunState
from bridge.collection._watch import Snapshot, Waited, Watcher, wait_for_output
from bridge.collection._work import Leave, Lost, follow
from bridge.endpoint import Record
from bridge.errors import (
    EndpointError,
    EndpointUnreachableError,
    ExitCode,
    InterruptedRunError,
    SessionGoneError,
    SessionLostError,
)


class Following:
    """The states running and detached."""

    def __init__(self, context: RunContext, locks: StampLocks, connection: Connection, ending: Ending) -> None:
        self._context = context
        self._locks = locks
        self._connection = connection
        self._ending = ending
        self._working_since: float | None = None
        self._told_of_the_others = False
        self._landed = False

    def come_back(self) -> None:
        """A run that was left to the endpoint is followed again."""
        self._context.move(RunState.RUNNING)

    def follow(self) -> None:
        context, connection = self._context, self._connection
        if context.run.facts.get("end"):
            self._ending.settle_and_free()
            return
        self._locks.take_back()
        if connection.command is None:
            self._take_session_back()
        self._working_since = time.monotonic()
        connection.down_since = None
        with self._watcher() as watcher:
            ended = self._follow_command(watcher)
        match ended:
            case Lost(error=error):
                self._without_session(error, max(watcher.changed_at, connection.down_since or time.monotonic()))
            case CommandEnd(state="disconnected"):
                self._detached()
            case CommandEnd():
                self._ending.command_ended(ended)

    # -- with a session -----------------------------------------------------------------------------------------------

    def _take_session_back(self) -> None:
        context = self._context
        try:
            with context.journal.step(context.run.id, "attach"):
                self._connection.take_back()
        except (SessionLostError, EndpointUnreachableError) as error:
            self._connection.note_lost(error)
            context.warn(f"the session could not be taken back: {error}")

    def _follow_command(self, watcher: Watcher) -> CommandEnd | Lost:
        context, command = self._context, self._connection.command
        if command is None:
            return Lost(SessionLostError(host=context.run.facts.get("endpoint"), detail="it is not to be had"))
        with SessionLog(context.run_dir / "session.jsonl", context.scrubber) as log:
            ended = follow(
                command,
                on_record=lambda record: self._record_arrived(log, record),
                leave=lambda: self._wanted(watcher),
            )
            if log.lost:
                context.warn(f"{log.lost} records could not be written to {log.path}: is the disk full?")
                context.note(records_not_written=context.run.facts.get("records_not_written", 0) + log.lost)
        return ended

    def _wanted(self, watcher: Watcher) -> Leave:
        context = self._context
        if context.stop_asked():
            return Leave.STOP
        if context.control.detach_asked:
            return Leave.DETACH
        if context.wishes.detach and self._is_working():
            return Leave.DETACH
        if context.ports.now() > context.latest_end(context.command_sent()):
            return Leave.OVERDUE
        if self._connection.is_long_down():
            self._tell_of_the_other_machines()
            if watcher.has_ended:
                return Leave.ABANDON
        return Leave.STAY

    def _is_working(self) -> bool:
        if self._landed:
            return True
        return self._working_since is not None and time.monotonic() - self._working_since > (
            self._context.settings.started_s
        )

    def _tell_of_the_other_machines(self) -> None:
        if not self._told_of_the_others:
            self._told_of_the_others = True
            endpoint = self._context.run.facts.get("endpoint")
            self._context.warn(f"{endpoint} does not answer; {self._connection.who_answers()}; the output is watched")

    def _detached(self) -> None:
        context = self._context
        context.move(RunState.DETACHED)
        if context.wishes.detach and not context.control.detach_asked:
            context.pause = ExitCode.OK
            return
        run_id = context.run.id
        context.errors.append(
            InterruptedRunError(
                detail=f"the endpoint goes on with run {run_id}",
                fix=f"Go on with 'pep-bridge attach {run_id}', or end it with 'pep-bridge stop {run_id}'.",
            )
        )
        context.pause = ExitCode.INTERRUPTED

    # -- without one --------------------------------------------------------------------------------------------------

    def _without_session(self, error: SessionLostError, still_since: float) -> None:
        """The collection may go on without us: its output folder tells until when. Nobody has seen a change there
        since ``still_since``."""
        context, connection = self._context, self._connection
        connection.command = None
        context.tell(LineChanged(run_id=context.run.id, state="lost", detail=str(error)))
        connection.note_lost(error)
        context.warn(f"the session is lost ({error}); {connection.who_answers()}; the output folder is watched instead")
        gone = isinstance(error, SessionGoneError)
        tried_at = time.monotonic()

        def interrupted(seconds: float) -> bool:
            nonlocal gone, tried_at
            if context.stop_asked() or context.control.wait(seconds):
                return True
            if not gone and time.monotonic() - tried_at >= context.settings.reattach_s:
                try:
                    connection.try_again()
                except SessionGoneError:
                    gone = True
                except EndpointError as failure:
                    context.tell(LineChanged(run_id=context.run.id, state="lost", detail=str(failure)))
                tried_at = time.monotonic()
            return connection.command is not None

        left_s = (context.latest_end(context.command_sent()) - context.ports.now()).total_seconds()
        waited = wait_for_output(
            context.output_store(),
            context.output_folder,
            poll_s=context.settings.watch_s,
            still_s=context.settings.stall_s,
            deadline_s=max(0.0, left_s),
            interrupted=interrupted,
            on_change=self._output_changed,
            still_since=still_since,
        )
        if connection.command is not None:
            context.tell(LineChanged(run_id=context.run.id, state="up", detail="the session was taken back"))
        elif waited is Waited.INTERRUPTED and not context.stop_asked():
            self._detached()
        else:
            self._ending.output_ended(waited, error)

    # -- what lands ---------------------------------------------------------------------------------------------------

    def _watcher(self) -> Watcher:
        return Watcher(
            self._context.output_store(),
            self._context.output_folder,
            poll_s=self._context.settings.watch_s,
            on_change=self._output_changed,
            on_trouble=self._context.warn,
            look_for_end=self._connection.is_long_down,
        )

    def _output_changed(self, snapshot: Snapshot) -> None:
        self._landed = self._landed or snapshot.files > 0
        self._context.tell(landed(self._context.run.id, snapshot))

    def _record_arrived(self, log: SessionLog, record: Record) -> None:
        log.append(record)
        self._landed = True
        self._context.tell(RecordArrived(run_id=self._context.run.id, record=scrubbed(record, self._context.scrubber)))
