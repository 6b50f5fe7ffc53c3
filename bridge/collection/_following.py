"""While the endpoint works: records and output are followed, over lost lines and lost sessions, until it has ended."""

from __future__ import annotations

import time

from bridge.collection._connection import Connection
from bridge.collection._context import RunContext
from bridge.collection._ending import Ending
from bridge.collection._events import LineChanged, RecordArrived
from bridge.collection._locks import StampLocks
from bridge.collection._ports import CommandEnd
from bridge.collection._session_log import SessionLog, scrubbed
from bridge.collection._states import RunState
from bridge.collection._watch import Waited, Watcher, wait_for_output
from bridge.collection._work import Leave, Lost, follow
from bridge.endpoint import Record
from bridge.errors import (
    EndpointError,
    EndpointUnreachableError,
    ExitCode,
    HostProcessDiedError,
    InterruptedRunError,
    SessionLostError,
    StopUnconfirmedError,
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
        self._heard_a_record = False
        self._was_overdue = False

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
        watcher = Watcher(context.output, poll_s=context.settings.watch_s, look_for_end=connection.is_long_down)
        with watcher:
            ended = self._follow_command(watcher)
        match ended:
            case Lost(error=error):
                self._without_session(error)
            case CommandEnd(state="disconnected"):
                connection.note_how_far()
                self._detached()
            case CommandEnd():
                self._ending.command_ended(ended, overdue=self._was_overdue)

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
                insist=self._insist_on_the_stop,
                stop_s=context.settings.stop_s,
            )
            if log.lost:
                context.warn(f"{log.lost} records could not be written to {log.path}: {log.why_lost}")
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
        if self._connection.is_overdue():
            self._was_overdue = True
            return Leave.OVERDUE
        if self._connection.is_long_down():
            self._tell_of_the_other_machines()
            if watcher.has_ended or context.output.silent_s() >= context.settings.stall_s:
                return Leave.ABANDON
        return Leave.STAY

    def _is_working(self) -> bool:
        if self._heard_a_record or self._context.output.snapshot.files:
            return True
        return self._working_since is not None and time.monotonic() - self._working_since > (
            self._context.settings.started_s
        )

    def _insist_on_the_stop(self) -> None:
        """The endpoint has taken the stop and not heeded it: its session is ended, and what runs in it with it."""
        context = self._context
        context.warn("the endpoint has not confirmed the stop; its session is ended")
        try:
            self._connection.end_on_the_endpoint()
        except EndpointError as error:
            context.warn(f"the session could not be ended: {error}")

    def _tell_of_the_other_machines(self) -> None:
        if not self._told_of_the_others:
            self._told_of_the_others = True
            endpoint = self._context.run.facts.get("endpoint")
            self._context.warn(f"{endpoint} does not answer; {self._connection.who_answers()}; the output is watched")

    def _detached(self) -> None:
        context = self._context
        context.move(RunState.DETACHED)
        self._warn_of_a_short_idle_time()
        if context.wishes.detach and not context.control.detach_asked:
            context.pause = ExitCode.OK
            return
        if context.control.wait_for_stop(context.settings.second_thoughts_s):
            self._connection.release()  # the stop goes over a session that is taken back
            return
        run_id = context.run.id
        context.errors.append(
            InterruptedRunError(
                detail=f"the endpoint goes on with run {run_id}",
                fix=f"Go on with 'pep-bridge attach {run_id}', or end it with 'pep-bridge stop {run_id}'.",
            )
        )
        context.pause = ExitCode.INTERRUPTED

    def _warn_of_a_short_idle_time(self) -> None:
        """Windows ends a session that nobody attended for its idle time-out, and what runs in it."""
        context = self._context
        idle_s = (context.run.facts.get("session") or {}).get("idle_timeout_s")
        if isinstance(idle_s, int) and idle_s < self._connection.left_s():
            hours = f"{idle_s / 3600:.1f}".removesuffix(".0")
            context.warn(f"the endpoint keeps a session for {hours} hours without anybody: attach before that")

    # -- without one --------------------------------------------------------------------------------------------------

    def _without_session(self, error: SessionLostError) -> None:
        """The collection may go on without us: its output folder tells until when."""
        context, connection = self._context, self._connection
        connection.lose(error)
        context.tell(LineChanged(run_id=context.run.id, state="lost", detail=str(error)))
        context.warn(f"the session is lost ({error}); {connection.who_answers()}; the output folder is watched instead")
        waited = wait_for_output(
            context.output,
            poll_s=context.settings.watch_s,
            still_s=self._stalled_s(error),
            deadline_s=connection.watchable_s(),
            interrupted=lambda seconds: self._may_be_left() or context.wait(seconds) or connection.ask_again(),
            from_now=False,
        )
        if connection.command is not None:
            return
        if waited is not Waited.INTERRUPTED:
            self._ending.output_ended(waited, error)
        elif not context.stop_asked():
            self._detached()
        elif self._was_seen_to_end():
            self._ending.output_ended(Waited.ENDED, error)
        else:
            self._stop_without_session(error)

    def _stalled_s(self, error: SessionLostError) -> float:
        """A command whose process died has most likely ended with it: then a pause in its output says more than where
        only the line to it is lost. Its stamp stays locked all the same, as what it had begun elsewhere may go on."""
        settings = self._context.settings
        return settings.after_stop_s if isinstance(error, HostProcessDiedError) else settings.stall_s

    def _may_be_left(self) -> bool:
        """Who wanted to detach does not wait for a session that is lost: the collection is seen to work, or has begun a
        while ago."""
        return self._context.wishes.detach and self._is_working()

    def _was_seen_to_end(self) -> bool:
        """Nothing is to be stopped where the output log has its end, and nothing has changed since the look before."""
        output = self._context.output
        return not output.try_look() and output.trouble is None and output.log_has_ended()

    def _stop_without_session(self, error: SessionLostError) -> None:
        """Only the endpoint can stop a collection: where it cannot be told, the run goes on.

        Raises:
            StopUnconfirmedError: it could not be told.
        """
        context, connection = self._context, self._connection
        is_known = not connection.gone
        if is_known:
            try:
                connection.end_on_the_endpoint()
            except EndpointError as failure:
                context.journal.note_end(context.run.id)  # the request is answered: attach is to go on with the run
                raise StopUnconfirmedError(
                    run=context.run.id, host=context.run.facts.get("endpoint"), detail=str(failure)
                ) from failure
        self._ending.output_ended(Waited.INTERRUPTED, error, was_stopped=is_known)

    # -- what arrives -------------------------------------------------------------------------------------------------

    def _record_arrived(self, log: SessionLog, record: Record) -> None:
        log.append(record)
        self._heard_a_record = True
        self._context.output.heard()
        self._context.tell(RecordArrived(run_id=self._context.run.id, record=scrubbed(record, self._context.scrubber)))
