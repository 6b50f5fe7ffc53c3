"""Stays with the command on the endpoint until it has ended, was left, or was lost."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from bridge.collection._ports import CommandEnd, RunningCommand
from bridge.endpoint import Record
from bridge.errors import SessionGoneError, SessionLostError

_TICK_S = 0.25
_NO_STATE = "PipelineEndedWithoutState"
_QUEUED_RECORDS = 1000


class Control:
    """How a caller asks a run, from any thread or a signal handler, to detach or to stop."""

    def __init__(self) -> None:
        # Plain values: a signal handler must not wait for a lock that the thread it interrupted may hold.
        self._detach = False
        self._stop = False
        self._may_break = False

    def detach(self) -> None:
        """Leave the endpoint working; the run can be attached to."""
        self._detach = True

    def stop(self) -> None:
        """Stop the collection; what arrived is kept and sealed."""
        self._stop = True

    @contextmanager
    def breakable(self) -> Iterator[None]:
        """Within it nothing is left half by a ``KeyboardInterrupt``, and nobody looks at what is asked: a store that
        does not answer may be waited for. A signal handler of the thread that is in here may raise one."""
        self._may_break = True
        try:
            yield
        finally:
            self._may_break = False

    @property
    def may_break(self) -> bool:
        return self._may_break

    def stop_is_answered(self) -> None:
        """The collection has ended: what was asked of it does not count for its bundle; the next request does."""
        if self._stop:
            self._detach = self._stop = False

    @property
    def detach_asked(self) -> bool:
        return self._detach

    @property
    def stop_asked(self) -> bool:
        return self._stop

    @property
    def asked(self) -> bool:
        """Whether anything was asked that is not answered yet."""
        return self._detach or self._stop

    def wait(self, seconds: float) -> bool:
        """Pauses; true as soon as somebody asked for anything."""
        return _wait(seconds, lambda: self.asked)

    def wait_for_stop(self, seconds: float) -> bool:
        """Pauses; true as soon as somebody asked to stop."""
        return _wait(seconds, lambda: self.stop_asked)


def _wait(seconds: float, asked: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not asked():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(left_s, _TICK_S))
    return True


@contextmanager
def cancelling(asked: Callable[[], bool]) -> Iterator[threading.Event]:
    """An event for work that is cancelled by one: set as soon as something was asked."""
    cancel, ended = threading.Event(), threading.Event()

    def look() -> None:
        while not ended.is_set():
            if asked():
                cancel.set()
                return
            ended.wait(_TICK_S)

    looking = threading.Thread(target=look, name="cancelling", daemon=True)
    looking.start()
    try:
        yield cancel
    finally:
        ended.set()
        looking.join()


class Leave(StrEnum):
    """Why a run should leave its command."""

    STAY = "stay"
    STOP = "stop"
    DETACH = "detach"
    OVERDUE = "overdue"
    ABANDON = "abandon"


@dataclass(frozen=True, slots=True)
class Lost:
    """The session could not be had back; the collection may go on."""

    error: SessionLostError


class _Pump:
    """Reads records on a thread of its own, so that the run can act while none comes. Where nobody takes its items any
    more, it ends with the next record, or when its session does."""

    def __init__(self, command: RunningCommand) -> None:
        self.items: queue.Queue[Record | Exception | None] = queue.Queue(_QUEUED_RECORDS)
        self._command = command
        self._unwanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._unwanted.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            for record in self._command.records():
                if not self._put(record):
                    return
        except Exception as error:  # raised again by the thread that waits
            self._put(error)
        else:
            self._put(None)

    def _put(self, item: Record | Exception | None) -> bool:
        """Whether there was room for it before it was unwanted."""
        while not self._unwanted.is_set():
            try:
                self.items.put(item, timeout=_TICK_S)
            except queue.Full:
                continue
            return True
        return False


def follow(
    command: RunningCommand,
    *,
    on_record: Callable[[Record], None],
    leave: Callable[[], Leave],
    insist: Callable[[], None],
    stop_s: float,
) -> CommandEnd | Lost:
    """Hands on every record until the command ends.

    ``leave`` is asked about four times a second. Asked to stop (or overdue), the pipeline is stopped and its last
    records are waited for; ``insist`` is called where the endpoint has not heeded that after ``stop_s``. Asked to
    detach, it is left running. Asked to abandon it, its line is waited for no longer.

    Raises:
        BridgeError: the endpoint's session failed in a way that waiting does not mend.
    """
    left = Leave.STAY
    insist_at = math.inf
    with _Pump(command) as pump:
        while True:
            try:
                item = pump.items.get(timeout=_TICK_S)
            except queue.Empty:
                pass
            else:
                if not isinstance(item, Record):
                    pump.join()
                    return _end(command, item)
                on_record(item)
            wanted = leave()
            if wanted is not Leave.STAY and left is Leave.STAY:
                left = wanted
                if wanted in {Leave.STOP, Leave.OVERDUE}:
                    insist_at = time.monotonic() + stop_s
                _ask(command, wanted)
            elif time.monotonic() >= insist_at:
                insist_at = math.inf
                insist()


def _ask(command: RunningCommand, wanted: Leave) -> None:
    try:
        match wanted:
            case Leave.DETACH:
                command.disconnect()
            case Leave.ABANDON:
                command.abandon()
            case _:
                command.stop()
    except SessionLostError:  # the endpoint cannot be told: what the session's own line says of it comes as its end
        command.abandon()


def _end(command: RunningCommand, failure: Exception | None) -> CommandEnd | Lost:
    if isinstance(failure, SessionLostError):  # also where its process died: what it had begun may go on without it
        return Lost(failure)
    if isinstance(failure, Exception):
        raise failure
    end = command.end()
    if end is None:
        return Lost(SessionLostError(host=command.endpoint, detail="the records ended before the command did"))
    if end.error is not None and end.error.error_id == _NO_STATE:
        # Another process took the last message and was killed: only the output can tell how the command ended.
        return Lost(SessionGoneError(host=command.endpoint, detail=end.error.message))
    return end
