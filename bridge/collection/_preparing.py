"""Before the command: the plan and the places are checked, the stamp is locked, and the command is sent."""

from __future__ import annotations

from datetime import UTC, timedelta

from bridge.collection._connection import Connection
from bridge.collection._context import RunContext
from bridge.collection._events import Waiting
from bridge.collection._locks import StampLocks
from bridge.collection._plan import Plan, Way, plan_run
from bridge.collection._preflight import check_place, make_output_folder
from bridge.collection._states import RunState
from bridge.collection._watch import look
from bridge.errors import EndpointUnreachableError, SessionGoneError, SessionLostError, StampBusyError


class Preparing:
    """The states planned, preflighted and locked."""

    def __init__(self, context: RunContext, locks: StampLocks, connection: Connection) -> None:
        self._context = context
        self._locks = locks
        self._connection = connection

    def preflight(self) -> None:
        if self._stopped_before_anything_ran():
            return
        context = self._context
        plan = self._plan()
        for warning in plan.warnings:
            context.warn(warning)
        valid_until = context.ports.now() + timedelta(
            minutes=context.run.request.timeout_minutes, seconds=context.settings.sas_margin_s
        )
        with context.journal.step(context.run.id, "preflight"):
            for place, secret in context.places():
                check_place(
                    context.open(place, secret),
                    place,
                    secret,
                    free_bytes=context.settings.free_bytes,
                    valid_until=valid_until,
                    warn=context.warn,
                )
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
        while True:
            try:
                with context.journal.step(context.run.id, "lock"):
                    self._refuse_while_cooling_down()
                    self._locks.acquire(break_lock=context.wishes.break_lock)
                    context.move(RunState.LOCKED)
            except StampBusyError as error:
                self._locks.release(cool_down_until=None)
                if not context.wishes.queue:
                    raise
                self._wait_in_queue(error)
                if self._stopped_before_anything_ran():
                    return
            else:
                return

    def start(self) -> None:
        """Sends the command, unless a process that was killed has done so already."""
        context, connection = self._context, self._connection
        connection.end_what_was_opened()
        if context.run.facts.get("session"):
            self._locks.take_back()
            if not self._never_ran():
                context.move(RunState.RUNNING)
                return
            connection.forget()
        if self._stopped_before_anything_ran():
            return
        self._locks.require()
        plan = self._plan()
        store = context.output_store()
        if plan.way is not Way.DIRECT:
            make_output_folder(store, context.output_folder)
        self._locks.expect_work_until(context.latest_end(context.ports.now()))
        connection.send(plan)
        context.move(RunState.RUNNING)

    def _never_ran(self) -> bool:
        """Whether the command whose ids were journalled never ran: no session, and no output even after a while."""
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
        if context.control.wait(context.settings.settle_s):
            return False
        return look(context.output_store(), context.output_folder).files == 0

    def _plan(self) -> Plan:
        context = self._context
        return plan_run(
            context.run.request,
            context.access,
            context.run.bundle_name,
            bind=context.ports.bind,
            now=context.ports.now(),
        )

    def _stopped_before_anything_ran(self) -> bool:
        context = self._context
        if not (context.stop_asked() or context.control.detach_asked):
            return False
        self._locks.release(cool_down_until=None)
        context.move(RunState.STOPPED, "stopped before the collection began")
        return True

    def _refuse_while_cooling_down(self) -> None:
        context = self._context
        until = context.journal.cool_down_until(context.run.stamp)
        if until is not None and until > context.ports.now():
            raise StampBusyError(
                stamp=context.run.stamp,
                detail=f"a run was stopped; it cools down until {until.astimezone(UTC):%H:%M:%SZ}",
                fix="Wait until then, or use --queue, which waits.",
                until=until,
            )

    def _wait_in_queue(self, error: StampBusyError) -> None:
        context = self._context
        context.tell(Waiting(run_id=context.run.id, reason=str(error), until=error.fields.get("until")))
        context.control.wait(context.settings.lock.poll_s)
