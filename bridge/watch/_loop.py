"""The loop around the core: look, decide, write down, act; it outlives failures, restarts and SIGTERM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from bridge.errors import AuthenticationFailedError, BridgeError
from bridge.watch._core import (
    Begun,
    Collect,
    Decision,
    Ended,
    Policy,
    Resume,
    Wait,
    WatchState,
    begin,
    decide,
    finish,
    observe,
    observe_nothing,
)
from bridge.watch._health import Health
from bridge.watch._memory import Memory

_SOURCES = {"arm": "administrator's ARM endpoint", "endpoint": "privileged endpoint"}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a collection that the watch began."""

    ended: Ended
    run_id: str | None = None
    bundle: str | None = None
    errors: tuple[BridgeError, ...] = ()


class Collector(Protocol):
    """Collects; no failure of a collection is raised, it is in the result."""

    def collect(self, wanted: Collect) -> Result: ...

    def resume(self, begun: Begun) -> Result:
        """Finds out what became of a collection that an earlier process, or an earlier step, has begun."""
        ...

    def tidy(self) -> tuple[str, ...]:
        """Applies the retention of the rolling offload; says what was removed."""
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """Something that happened, for the log. ``failed``: it is what ``errors`` say that went wrong, in the end."""

    at: datetime
    text: str
    errors: tuple[BridgeError, ...] = ()
    failed: bool = False


class Watcher:
    """One stamp's watch.

    Args:
        tell: hears of whatever changes; a look that finds nothing new is not told.
        now: the clock.
    """

    def __init__(
        self,
        policy: Policy,
        health: Health,
        collector: Collector,
        memory: Memory,
        *,
        tell: Callable[[Told], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._policy = policy
        self._health = health
        self._collector = collector
        self._memory = memory
        self._tell = tell
        self._now = now
        self._last_told: dict[str, str] = {}

    def run(self, wait: Callable[[float], bool], every: timedelta) -> None:
        """Looks every so often until ``wait`` (seconds) says that it is time to leave.

        Raises:
            AuthenticationFailedError: the endpoint refused the password; each further try could lock the account.
        """
        while True:
            try:
                decision = self.step()
            except AuthenticationFailedError:
                raise
            except BridgeError as error:  # a full disk here, say: the next look may fare better
                self._say(f"this look came to nothing: {error}", error, failed=True)
                decision = None
            if wait(self._pause_s(decision, every)):
                return

    def step(self) -> Decision:
        """One look, and the collection that it leads to; returns what is decided after it.

        Raises:
            AuthenticationFailedError: as above.
            JournalError: what was decided could not be written down, so it was not done.
        """
        state = self._memory.load()
        state = self._finish_what_was_begun(state)
        if state.begun is None:
            state = self._look(state)
            decision = decide(state, self._policy, self._now())
            if isinstance(decision, Collect):
                state = self._collect(state, decision)
        decision = decide(state, self._policy, self._now())
        self._tell_waiting(decision)
        return decision

    def _finish_what_was_begun(self, state: WatchState) -> WatchState:
        if state.begun is None:
            return state
        self._say(f"looking after the collection that was begun at {state.begun.at:%Y-%m-%d %H:%M:%SZ}")
        return self._ended(state, self._collector.resume(state.begun))

    def _look(self, state: WatchState) -> WatchState:
        seen = self._health.look(self._now, state.source, state.observed)
        if seen.observation is not None:
            source = seen.observation.source
            self._say(f"health is read from the {_SOURCES.get(source, source)}", *seen.failures, topic="health")
            before = {each.key for each in state.tracked}
            state = observe(state, self._policy, seen.observation)
            for each in state.tracked:
                if each.key not in before:
                    self._say(f"alert: {each.words}, since {each.since.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}")
            for key in before - {each.key for each in state.tracked}:
                self._say(f"gone: alert {key}")
        elif seen.nobody_answers:
            state = observe_nothing(state, self._now())
            self._say("the stamp's health is not known: nobody answers", *seen.failures, topic="health", failed=True)
        self._memory.save(state)
        return state

    def _collect(self, state: WatchState, wanted: Collect) -> WatchState:
        state = begin(state, wanted, self._now())
        self._memory.save(state)  # before it is done: a restart must not collect a second time
        self._say(f"collecting ({wanted.kind}): {wanted.reason}")
        return self._ended(state, self._collector.collect(wanted))

    def _ended(self, state: WatchState, result: Result) -> WatchState:
        begun = state.begun
        state = finish(state, self._policy, result.ended, self._now())
        self._memory.save(state)
        details = [f"run {result.run_id}"] if result.run_id else []
        details += [f"bundle {result.bundle}"] if result.bundle else []
        self._say("; ".join([f"collection: {result.ended}", *details]), *result.errors, failed=bool(result.errors))
        for error in result.errors:
            if isinstance(error, AuthenticationFailedError):
                raise error
        if begun is not None and result.ended is Ended.COLLECTED:
            for line in self._collector.tidy():
                self._say(line)
        return state

    def _pause_s(self, decision: Decision | None, every: timedelta) -> float:
        """Until the next look, or sooner where something is due before it."""
        pause_s = every.total_seconds()
        if isinstance(decision, Wait) and decision.until is not None:
            due_s = (decision.until - self._now()).total_seconds()
            if 0 < due_s < pause_s:
                return due_s
        return pause_s

    def _tell_waiting(self, decision: Decision) -> None:
        if isinstance(decision, Wait):
            until = f" (until {decision.until.astimezone(UTC):%Y-%m-%d %H:%M:%SZ})" if decision.until else ""
            self._say(f"waiting: {decision.reason}{until}", topic="waiting")
        elif isinstance(decision, Resume):
            self._say("the collection goes on at the endpoint; the next look sees to it", topic="waiting")

    def _say(self, text: str, *errors: BridgeError, topic: str | None = None, failed: bool = False) -> None:
        """Tells; what stays the same of one topic is told once: it would hide the line that matters."""
        if topic is not None:
            whole = " ".join([text, *map(str, errors)])
            if self._last_told.get(topic) == whole:
                return
            self._last_told[topic] = whole
        self._tell(Told(self._now(), text, errors, failed))
