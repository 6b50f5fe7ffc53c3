"""Drives one run from the state that the journal holds to its end: the same code starts it and takes it over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from bridge.collection._bundling import Bundling
from bridge.collection._connection import Connection
from bridge.collection._context import RunContext
from bridge.collection._ending import Ending
from bridge.collection._following import Following
from bridge.collection._locks import StampLocks
from bridge.collection._outcome import Outcome
from bridge.collection._preparing import Preparing
from bridge.collection._reopening import has_failed_bundle, may_have_grown, reopen
from bridge.collection._states import RunState
from bridge.errors import BridgeError, InterruptedRunError, JournalError


class Driver:
    """One run, driven by this process. What is done in a state may be done again after a crash in its middle."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._locks = StampLocks(
            context.run.stamp,
            context.run.id,
            lambda: [context.open(place, secret) for place, secret in context.places()],
            settings=context.settings.lock,
            now=context.ports.now,
            wait=context.wait,
            warn=context.warn,
            is_over=context.is_over,
            ahead=context.stamp_time.ahead,
        )
        self._connection = Connection(context)
        preparing = Preparing(context, self._locks, self._connection)
        ending = Ending(context, self._locks, self._connection)
        following = Following(context, self._locks, self._connection, ending)
        bundling = Bundling(context)
        self._steps: Mapping[RunState, Callable[[], None]] = {
            RunState.PLANNED: preparing.preflight,
            RunState.PREFLIGHTED: preparing.lock,
            RunState.LOCKED: preparing.start,
            RunState.RUNNING: following.follow,
            RunState.DETACHED: following.come_back,
            RunState.SEALING: bundling.seal,
            RunState.DELIVERING: bundling.deliver,
        }

    def drive(self) -> Outcome:
        """Goes on until the run has ended, is left to the endpoint, or cannot go on."""
        context = self._context
        try:
            self._try_a_failed_bundle_again()
            if context.wishes.take_up_what_came_later and may_have_grown(context.run):
                reopen(context)
            while not context.run.state.is_final and context.pause is None:
                self._steps[context.run.state]()
        except BridgeError as error:
            self._give_up(error)
        finally:
            self._give_back_what_was_left()
            self._locks.leave()
            self._connection.leave()
            context.close_stores()
        return context.outcome()

    def _try_a_failed_bundle_again(self) -> None:
        run = self._context.run
        if has_failed_bundle(run) and run.failed_in is not None:
            self._context.move(run.failed_in, "tried again")

    def _give_back_what_was_left(self) -> None:
        """The locks of a run that has ended, where a process was killed that could not give them back: its place was
        away. Does nothing where this process has taken them itself."""
        run = self._context.run
        if run.state.is_final and run.facts.get("command_sent") and not run.facts.get("on_stamp_until"):
            with suppress(JournalError):
                until = self._context.journal.cool_down_until(run.stamp)
                self._locks.release(cool_down_until=until, whoever_took_them=True)

    def _give_up(self, error: BridgeError) -> None:
        """Ends the run as failed, unless the endpoint may be working for it, or it was only interrupted."""
        context = self._context
        context.errors.append(error)
        interrupted = isinstance(error, (JournalError, InterruptedRunError))
        if interrupted or context.may_be_on_the_stamp() or context.run.state.is_final:
            context.pause = error.exit_code
            return
        with suppress(JournalError):
            self._locks.release(cool_down_until=None, whoever_took_them=context.may_have_locks())
            context.fail(error)
