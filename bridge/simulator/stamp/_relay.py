"""Contexts for work that outlives its command: one that nobody hears, one that is heard while the command lasts."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from bridge.simulator._command import CommandContext
from bridge.simulator.stamp._state import StampState

_HELD_CALLS = 16
_LOOK_EVERY_S = 0.1


class _Elsewhere:
    """A context for a thread that is not the command's: it stops when the stamp is closed, not the pipeline."""

    def __init__(self, ctx: CommandContext, state: StampState) -> None:
        self._state = state
        self.stopping = state.closing
        self.session_id = ctx.session_id
        self.username = ctx.username
        self.machine = ctx.machine

    def _say(self, method: str, *args: Any, **options: Any) -> None:
        raise NotImplementedError

    def write_output(self, value: Any) -> None:
        self._say("write_output", value)

    def write_error(self, error: Any) -> None:
        self._say("write_error", error)

    def write_warning(self, message: str) -> None:
        self._say("write_warning", message)

    def write_verbose(self, message: str) -> None:
        self._say("write_verbose", message)

    def write_debug(self, message: str) -> None:
        self._say("write_debug", message)

    def write_information(self, message: str, **options: Any) -> None:
        self._say("write_information", message, **options)

    def write_progress(self, activity: str, status: str, **options: Any) -> None:
        self._say("write_progress", activity, status, **options)


class Silent(_Elsewhere):
    """The command has ended; nobody hears what its work says."""

    def _say(self, method: str, *args: Any, **options: Any) -> None:
        """Nobody listens."""


class Relay(_Elsewhere):
    """Work on a thread of the stamp; the command's thread passes on what it says until the pipeline is stopped.

    This is how a collection can go on when its session, or the machine's WinRM service, is lost.
    """

    def __init__(self, ctx: CommandContext, state: StampState) -> None:
        super().__init__(ctx, state)
        self._ctx = ctx
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(_HELD_CALLS)
        self._heard = True
        self._failure: Exception | None = None

    def wait_for(self, work: Callable[[], None]) -> None:
        """Starts the work and returns when it has ended, or the pipeline is to stop; raises what the work raised."""

        def run() -> None:
            try:
                work()
            except Exception as failure:
                self._failure = failure
            self._put(None)

        self._state.run_later(0.0, run)
        try:
            while (call := self._next()) is not None:
                call()
        finally:
            self._heard = False
        if self._failure is not None and not self._ctx.stopping.is_set():
            raise self._failure

    def _next(self) -> Callable[[], None] | None:
        while not self._ctx.stopping.is_set():
            try:
                return self._calls.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                continue
        return None

    def _say(self, method: str, *args: Any, **options: Any) -> None:
        self._put(lambda: getattr(self._ctx, method)(*args, **options))

    def _put(self, call: Callable[[], None] | None) -> None:
        while self._heard and not self.stopping.is_set():
            try:
                return self._calls.put(call, timeout=_LOOK_EVERY_S)
            except queue.Full:
                continue
        return None
