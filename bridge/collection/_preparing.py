"""Before the command: the plan and the places are checked, the stamp is locked, and the command is sent."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import partial

from bridge.collection._connection import Connection
from bridge.collection._context import RunContext
from bridge.collection._events import Waiting
from bridge.collection._lock import COOL_DOWN
from bridge.collection._locks import StampLocks
from bridge.collection._plan import Plan, Way, plan_run
from bridge.collection._preflight import check_place, make_output_folder
from bridge.collection._states import RunState
from bridge.errors import EndpointError, EndpointUnreachableError, SessionGoneError, SessionLostError, StampBusyError


class Preparing:
    """The states planned, preflighted and locked."""

    def __init__(self, context: RunContext, locks: StampLocks, connection: Connection) -> None:
        self._context = context
        self._locks = locks
        self._connection = connection
        self._checked: tuple[float, datetime] | None = None

    def preflight(self) -> None:
        if self._stopped_before_anything_ran():
            return
        context = self._context
        plan = self._plan()
        for warning in plan.warnings:
            context.warn(warning)
        with context.journal.step(context.run.id, "preflight"):
            self._check_places()
        context.move(
            RunState.PREFLIGHTED,
            way=str(plan.way),
            script=plan.script,
            commands=context.scrubber.value([command.to_json() for command in plan.commands]),
        )

    def lock(self) -> None:
        if self._stopped_before_anything_ran():
            return
        context = self._context
        try:
            with context.journal.step(context.run.id, "lock"):
                self._take_the_locks()
        except StampBusyError as error:
            self._locks.release(cool_down_until=None)
            if self._stopped_before_anything_ran():
                return
            if not context.wishes.queue:
                raise
            self._queue(error)

    def _queue(self, busy: StampBusyError) -> None:
        """Looks again and again until the stamp is free; one step of the journal, however long that takes."""
        context = self._context
        with context.journal.step(context.run.id, "wait in the queue"):
            while not self._wait_in_queue(busy):
                try:
                    self._take_the_locks()
                except StampBusyError as error:
                    self._locks.release(cool_down_until=None)
                    busy = error
                else:
                    return
        self._stopped_before_anything_ran()

    def _take_the_locks(self) -> None:
        context = self._context
        self._refuse_while_cooling_down()
        self._refuse_beside_a_lost_run()
        self._locks.acquire(break_lock=context.wishes.break_lock)
        context.move(RunState.LOCKED)

    def start(self) -> None:
        """Sends the command, unless a process that was killed has done so already."""
        context, connection = self._context, self._connection
        connection.end_what_was_opened(within_s=context.settings.leftovers_s)
        if context.run.facts.get("session"):
            self._locks.take_back()
            if not self._never_ran():
                context.move(RunState.RUNNING)
                return
            connection.forget()
        if self._stopped_before_anything_ran():
            return
        self._locks.require()
        if self._is_check_old():
            with context.journal.step(context.run.id, "check the places again"):
                self._check_places()
        plan = self._plan()
        store = context.output_store()
        if plan.way is not Way.DIRECT:
            make_output_folder(store, context.output_folder)
        self._locks.expect_work_until(context.latest_end(context.ports.now()))
        try:
            connection.send(plan)
        except EndpointError:
            context.remove_empty_bundle()
            raise
        context.move(RunState.RUNNING)

    def _never_ran(self) -> bool:
        """Whether the command whose ids were journalled never ran: no session, and no output even after a while. Any
        doubt counts as running."""
        context = self._context
        try:
            self._connection.take_back()
        except SessionGoneError:
            pass
        except (SessionLostError, EndpointUnreachableError) as error:
            self._connection.note_lost(error)
            return False
        else:
            return False
        wait_s = max(context.settings.settle_s, context.settings.late_s)
        until = time.monotonic() + wait_s
        reason = "whether the command that a killed process was sending leaves output; if not, it is sent"
        context.tell(
            Waiting(run_id=context.run.id, reason=reason, until=context.ports.now() + timedelta(seconds=wait_s))
        )
        while time.monotonic() < until:
            if context.wait(min(context.settings.watch_s, wait_s)):
                return False
            context.output.look()
            if context.output.snapshot.files:
                return False
        return True

    def _check_places(self) -> None:
        """That the places can be written to, have room, and that a SAS outlives a collection that begins now."""
        context = self._context
        now = context.ports.now()
        for place, secret in context.places():
            check_place(
                partial(context.open, place, secret),
                place,
                secret,
                free_bytes=context.settings.free_bytes,
                now=now,
                valid_until=now
                + timedelta(minutes=context.run.request.timeout_minutes, seconds=context.settings.sas_margin_s),
                warn=context.warn_once,
            )
        self._checked = (time.monotonic(), now)

    def _is_check_old(self) -> bool:
        """Whether the places were checked long ago, or by another process: a queue may have been waited in since, or
        the machine have slept, which a monotonic clock need not count."""
        if self._checked is None:
            return True
        monotonic, moment = self._checked
        slept_s = (self._context.ports.now() - moment).total_seconds()
        return max(time.monotonic() - monotonic, slept_s) > self._context.settings.check_again_s

    def _plan(self) -> Plan:
        context = self._context
        return plan_run(
            context.run.request,
            context.access,
            context.run.bundle_name,
            bind=context.ports.bind,
            now=context.ports.now(),
        )

    def _is_to_end(self) -> bool:
        return self._context.stop_asked() or self._context.control.detach_asked

    def _stopped_before_anything_ran(self) -> bool:
        context = self._context
        if not self._is_to_end():
            return False
        self._locks.release(cool_down_until=None, whoever_took_them=context.may_have_locks())
        context.move(RunState.STOPPED, "stopped before the collection began")
        return True

    def _refuse_while_cooling_down(self) -> None:
        context = self._context
        until = context.journal.cool_down_until(context.run.stamp)
        now = context.ports.now()
        if until is not None and until > now + COOL_DOWN:  # the clock was set back since, or was wrong then
            until = now + COOL_DOWN
            context.journal.cool_down(context.run.stamp, until)
        left = self._rest_by_the_stamp()
        if left is not None:
            until = max(until or now, now + left)
        if until is not None and now < until:
            raise StampBusyError(
                stamp=context.run.stamp,
                detail=f"a run was stopped; it cools down until {until.astimezone(UTC):%H:%M:%SZ}",
                fix="Wait until then, or use --queue, which waits.",
                until=until,
            )

    def _rest_by_the_stamp(self) -> timedelta | None:
        """How much of a cool-down is left by the stamp's clock, which nobody sets on this machine; ``None`` where no
        run of this journal was stopped a moment ago, or the stamp does not tell the time."""
        context = self._context
        stopped = [run.facts.get("stopped_by_the_stamp") for run in context.journal.runs(stamp=context.run.stamp)]
        latest = max((datetime.fromisoformat(text) for text in stopped if text), default=None)
        now = context.stamp_time.now() if latest is not None else None
        if latest is None or now is None:
            return None
        left = latest + COOL_DOWN - now
        return left if timedelta(0) < left <= COOL_DOWN else None

    def _refuse_beside_a_lost_run(self) -> None:
        """A run of this journal that has ended without its collection being seen to end, wherever its bundle is."""
        context = self._context
        if context.wishes.break_lock:
            return
        for run in context.journal.runs(stamp=context.run.stamp):
            text = run.facts.get("on_stamp_until")
            until = datetime.fromisoformat(text) if text and run.id != context.run.id else None
            if until is not None and until > context.ports.now():
                raise StampBusyError(
                    stamp=context.run.stamp,
                    detail=f"the collection of run {run.id} was lost and not seen to end; it may go on until"
                    f" {until.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}",
                    fix=f"What it left is told by 'pep-bridge show {run.id}'. Wait until then (--queue waits), or give"
                    " --break-lock when you know that nothing runs on the stamp.",
                    until=until,
                    run_id=run.id,
                )

    def _wait_in_queue(self, error: StampBusyError) -> bool:
        """True as soon as the run is to end."""
        context = self._context
        if self._is_to_end():
            return True
        context.tell(Waiting(run_id=context.run.id, reason=str(error), until=error.fields.get("until")))
        return context.wait(context.settings.lock.poll_s)
