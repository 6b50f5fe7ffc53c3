"""A bounded queue of PSRP fragments between a command's thread and whoever delivers them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable


class Outbox:
    """Fragments in order, with back-pressure on the thread that writes them.

    ``put(..., wait=True)`` blocks while ``limit_bytes`` are waiting to be taken, as the buffer mode Block of a real
    host does (MS-WSMV 2.2.4.4): a command that nobody listens to stalls. With ``limit(..., drop=True)`` it goes on, and
    the oldest fragments go, as with the mode Drop.
    """

    def __init__(self, limit_bytes: int, on_change: Callable[[], None] | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._on_change = on_change
        self._fragments: deque[bytes] = deque()
        self._size_bytes = 0
        self._drops = False
        self._released = False
        self._finished = False
        self._failure: Exception | None = None
        self._condition = threading.Condition()

    @property
    def size_bytes(self) -> int:
        """How much waits to be taken."""
        with self._condition:
            return self._size_bytes

    @property
    def finished(self) -> bool:
        """True once nothing more will come and everything has been taken."""
        with self._condition:
            return self._finished and not self._fragments

    def listen(self, on_change: Callable[[], None] | None) -> None:
        """Calls ``on_change`` (from any thread) whenever something was put or the box was finished."""
        with self._condition:
            self._on_change = on_change

    def limit(self, limit_bytes: int, *, drop: bool = False) -> None:
        """Changes how much may wait, and whether what is too much stops its writer or pushes out what is oldest."""
        with self._condition:
            self._limit_bytes, self._drops = limit_bytes, drop
            self._drop_oldest()
            self._condition.notify_all()

    def put(self, fragments: Iterable[bytes], *, wait: bool) -> None:
        """Adds fragments of one message; with ``wait`` blocks first while the box is full."""
        with self._condition:
            while wait and self._size_bytes >= self._limit_bytes and not (self._released or self._drops):
                self._condition.wait()
            for fragment in fragments:
                self._fragments.append(fragment)
                self._size_bytes += len(fragment)
            self._drop_oldest()
            on_change = self._on_change
        if on_change is not None:
            on_change()

    def _drop_oldest(self) -> None:
        # GUESS: "dropped in FIFO manner" (the SDK's OutputBufferingMode) does not say in what units.
        while self._drops and self._size_bytes > self._limit_bytes and len(self._fragments) > 1:
            self._size_bytes -= len(self._fragments.popleft())

    def take(self, budget_bytes: int) -> list[bytes]:
        """As many whole fragments as fit the budget, at least one if there is any.

        Raises:
            Exception: What ``fail`` was given, once everything has been taken.
        """
        taken: list[bytes] = []
        with self._condition:
            while self._fragments and (not taken or budget_bytes >= len(self._fragments[0])):
                fragment = self._fragments.popleft()
                budget_bytes -= len(fragment)
                self._size_bytes -= len(fragment)
                taken.append(fragment)
            self._condition.notify_all()
            if not taken and self._failure is not None and not self._finished:
                raise self._failure
        return taken

    def give_back(self, fragments: list[bytes]) -> None:
        """Puts fragments that could not be delivered in front again."""
        with self._condition:
            self._fragments.extendleft(reversed(fragments))
            self._size_bytes += sum(map(len, fragments))
            on_change = self._on_change
        if on_change is not None:
            on_change()

    def release(self) -> None:
        """Lets a blocked writer through: its pipeline is being stopped."""
        with self._condition:
            self._released = True
            self._condition.notify_all()

    def fail(self, failure: Exception) -> None:
        """Says that nothing more can come, and why; a finished box stays finished."""
        with self._condition:
            self._failure = failure
            self._released = True
            self._condition.notify_all()
            on_change = self._on_change
        if on_change is not None:
            on_change()

    def finish(self) -> None:
        """Says that nothing more will be put."""
        with self._condition:
            self._finished = True
            on_change = self._on_change
        if on_change is not None:
            on_change()
