"""Deals out the work of an upload: small files together, large files block by block, few of them open at once."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from bridge.store._protocol import Reader
from bridge.store.transfer._block_ids import BlockKey
from bridge.store.transfer._events import FileStatus, TransferItem
from bridge.store.transfer._line import Line


@dataclass(slots=True, eq=False)
class Sending:
    """A large file whose blocks are under way.

    Its blocks are read and hashed in order, by whichever thread has its turn; several send at the same time.
    ``Pieces`` guards ``reading``, ``outstanding`` and ``dropped``; the rest belongs to the thread whose turn it is.
    """

    item: TransferItem
    attempt: int = 1
    status: FileStatus = "copied"
    reading: bool = False
    read_all: bool = False
    dropped: bool = False
    outstanding: int = 0
    opened: bool = False
    cleared: bool = False
    reader: Reader | None = None
    resources: ExitStack = field(default_factory=ExitStack)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    offset: int = 0
    pieces: int = 0
    """How many blocks what lies before ``offset`` makes."""
    ids: dict[int, str] = field(default_factory=dict)
    staged: dict[int, list[BlockKey]] = field(default_factory=dict)
    staged_offsets: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def close_reader(self) -> None:
        self.reader = None
        self.resources.close()


Task = Sending | list[TransferItem]


class Pieces:
    """For several threads. A ``Sending`` from ``next_task`` is that thread's to read from until ``release``."""

    def __init__(self, line: Line, *, most_open: int, most_together: int) -> None:
        self._line = line
        self._most_open = most_open
        self.most_together = most_together
        self._changed = threading.Condition()
        self._feed: Iterator[TransferItem] = iter(())
        self._next: TransferItem | None = None
        self._open: deque[Sending] = deque()
        self._again: deque[Sending] = deque()
        self._unfinished: set[int] = set()

    def begin(self, items: Iterator[TransferItem]) -> None:
        self._feed = items
        self._next = next(items, None)

    def next_task(self) -> Task | None:
        """The next thing to do; waits while others may still bring some. ``None`` when all is done or ending."""
        with self._changed:
            while not self._line.stopping.is_set():
                if (task := self._choose()) is not None:
                    return task
                if self._next is None and not self._again and not self._unfinished:
                    return None
                self._changed.wait(0.5)
        return None

    def _choose(self) -> Task | None:
        if len(self._open) < self._most_open:
            if self._again:
                return self._start(self._again.popleft())
            if self._next is not None:
                if self._next.size_bytes > self._line.piece_bytes():
                    return self._start(Sending(self._take()))
                return self._gather()
        for _ in range(len(self._open)):
            self._open.rotate(-1)
            if not self._open[0].reading:
                self._open[0].reading = True
                return self._open[0]
        return None

    def _start(self, sending: Sending) -> Sending:
        sending.reading = True
        self._open.append(sending)
        self._unfinished.add(id(sending))
        return sending

    def _gather(self) -> list[TransferItem]:
        most_bytes = self._line.piece_bytes()
        batch: list[TransferItem] = []
        while self._next is not None and len(batch) < self.most_together:
            if batch and self._next.size_bytes > most_bytes:
                break
            most_bytes -= self._next.size_bytes
            batch.append(self._take())
        return batch

    def _take(self) -> TransferItem:
        taken = self._next
        assert taken is not None  # noqa: S101 - for the type checker
        self._next = next(self._feed, None)
        return taken

    def release(self, sending: Sending, *, sends: bool) -> bool:
        """The thread has read its piece and ``sends`` it (or there was none). Tells whether all is there to commit."""
        with self._changed:
            sending.reading = False
            if sends:
                sending.outstanding += 1
            if (sending.read_all or sending.dropped) and sending in self._open:
                self._open.remove(sending)
            self._changed.notify_all()
            return sending.read_all and sending.outstanding == 0 and not sending.dropped

    def sent(self, sending: Sending) -> bool:
        """A piece has been confirmed. Tells whether all is there to commit: true for one thread only."""
        with self._changed:
            sending.outstanding -= 1
            return sending.read_all and not sending.reading and sending.outstanding == 0 and not sending.dropped

    def drop(self, sending: Sending, again: Sending | None = None) -> None:
        """The file is finished, given up, or begun again as ``again``."""
        with self._changed:
            sending.dropped = True
            sending.reading = False
            if sending in self._open:
                self._open.remove(sending)
            self._unfinished.discard(id(sending))
            if again is not None:
                self._again.append(again)
            self._changed.notify_all()
        sending.close_reader()

    def add(self, item: TransferItem) -> None:
        """A file from a small files' task that is to go in blocks after all."""
        with self._changed:
            self._again.append(Sending(item))
            self._changed.notify_all()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        for sending in self._open:
            sending.close_reader()
