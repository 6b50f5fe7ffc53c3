"""SHA-256 of every file of a store, each byte read once, on as many threads as help."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import cast

from bridge.errors import StoreCorruptError, StoreError, StoreReplacedError, StoreUnreachableError
from bridge.store._buffers import aligned_buffer
from bridge.store._protocol import Abortable, Entry, LendingReader, ListedReads, PacedReads, Reader, Store
from bridge.store.transfer._events import EventHandler, Retrying
from bridge.store.transfer._line import Line, Stopped
from bridge.store.transfer._settings import TransferSettings

_BUFFER_BYTES = 1 << 20  # read and hashed while it is still in the second-level cache
_LEAD_EVERY_S = 0.2
_LET_END_S = 0.2  # who is at work sees within one buffer that nobody wants more
_AHEAD = 512  # results that may wait for an earlier, longer file


@dataclass(frozen=True, slots=True)
class FileHash:
    """A file and the SHA-256 (hex) of its content."""

    path: str
    size_bytes: int
    sha256: str


def comes_over_a_line(store: Store) -> bool:
    """Whether reading the store takes something of a line: a share or a container, also by Windows' own client."""
    return isinstance(store, PacedReads) or store.location.startswith("\\\\")


def hash_files(
    store: Store,
    files: str | Iterable[Entry] = "",
    *,
    workers: int | None = None,
    settings: TransferSettings | None = None,
    on_bytes: Callable[[int], None] | None = None,
    on_event: EventHandler | None = None,
    on_error: Callable[[str, StoreError], None] | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[FileHash]:
    """Hashes the files at or below a folder, or those of a listing, and yields them in the order of the listing.

    Args:
        workers: threads; by default two to four, as the machine has processors.
        settings: what the line may be used for, where the store comes over one; by default all of it.
        on_bytes: told of bytes as they are hashed, from the threads that hash; and of none, from the calling one, about
            five times a second while a file is waited for.
        on_event: told of ``Paused``, ``Unpaused`` and ``Retrying``, in the calling thread. Where the store comes over a
            line, a file whose reading was cut goes on where it was, once the line is back.
        on_error: told of a file that cannot be read, which is then left out; without it the error is raised.
        cancel: ends the iteration early when set, also while it is paused.

    Raises:
        StoreError: a file could not be read.
    """
    entries = store.list(files) if isinstance(files, str) else files
    count = workers or max(2, min(4, os.cpu_count() or 2))
    tell = on_event or (lambda event: None)
    line = Line(settings, tell) if settings is not None and comes_over_a_line(store) else None
    paced = store.paced(line.arriving) if line is not None and isinstance(store, PacedReads) else nullcontext()
    with paced:
        work = _Hashing(
            store,
            workers=count,
            line=line,
            on_bytes=on_bytes or (lambda size: None),
            on_event=tell,
            cancel=cancel or threading.Event(),
        )
        try:
            yield from work.run(entries, on_error)
        finally:
            work.end()


class _Slot:
    """The place of one file's outcome in the order of the listing."""

    __slots__ = ("done", "entry", "outcome")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.outcome: FileHash | StoreError | BaseException | None = None
        self.done = threading.Event()


@dataclass(slots=True)
class _SoFar:
    """How far the reading of one file has come."""

    mark: str | None
    """How to know that it is still the same file; none where the caller knows what the digest must be."""
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    reached: int = 0
    is_whole: bool = False
    failures: int = 0
    """Since something came."""


class _Hashing:
    def __init__(
        self,
        store: Store,
        *,
        workers: int,
        line: Line | None,
        on_bytes: Callable[[int], None],
        on_event: EventHandler,
        cancel: threading.Event,
    ) -> None:
        self._store = store
        self._line = line
        self._paces_itself = isinstance(store, PacedReads)
        self._listed = store if isinstance(store, ListedReads) else None
        self._on_bytes = on_bytes
        self._on_event = on_event
        self._cancel = cancel
        self._failures: queue.SimpleQueue[Retrying] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._queue: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"hash-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def run(self, entries: Iterable[Entry], on_error: Callable[[str, StoreError], None] | None) -> Iterator[FileHash]:
        waiting: deque[_Slot] = deque()
        for entry in entries:
            if self._cancel.is_set():
                return
            self._lead()
            slot = _Slot(entry)
            waiting.append(slot)
            self._queue.put(slot)
            while waiting and (len(waiting) >= _AHEAD or waiting[0].done.is_set()):
                yield from self._outcome(waiting.popleft(), on_error)
        while waiting:
            self._lead()
            yield from self._outcome(waiting.popleft(), on_error)

    def _lead(self) -> None:
        """What the calling thread does while the others work: read the policy, tell what they have met."""
        if self._line is not None:
            self._line.refresh()
        while not self._failures.empty():
            self._on_event(self._failures.get())

    def _outcome(self, slot: _Slot, on_error: Callable[[str, StoreError], None] | None) -> Iterator[FileHash]:
        while not slot.done.wait(_LEAD_EVERY_S):
            if self._cancel.is_set():
                return
            self._lead()
            self._on_bytes(0)
        outcome = slot.outcome
        if isinstance(outcome, FileHash):
            yield outcome
        elif isinstance(outcome, StoreError) and on_error is not None:
            on_error(slot.entry.path, outcome)
        elif isinstance(outcome, BaseException):
            raise outcome

    def end(self) -> None:
        self._ended.set()
        if self._line is not None:
            self._line.stopping.set()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(_LET_END_S)
            while thread.is_alive():  # it waits for a store that fell silent, and may try again when it is woken
                self._wake()
                thread.join(_LET_END_S)

    def _wake(self) -> None:
        if self._listed is not None:
            self._listed.abort_reads()
        if isinstance(self._store, Abortable):
            self._store.abort()

    def _work(self) -> None:
        buffer = aligned_buffer(_BUFFER_BYTES)
        while (slot := self._queue.get()) is not None:
            if self._stop():
                slot.done.set()
                continue
            try:
                slot.outcome = self._hash(slot.entry, buffer)
            except Stopped:
                pass
            except BaseException as error:  # handed to the thread that asks
                slot.outcome = error
            slot.done.set()

    def _stop(self) -> bool:
        return self._ended.is_set() or self._cancel.is_set()

    def _hash(self, entry: Entry, buffer: memoryview) -> FileHash:
        so_far = _SoFar(entry.etag)
        while not so_far.is_whole:
            with self._line.turn() if self._line is not None else nullcontext():
                try:
                    self._hash_on(entry, buffer, so_far)
                except StoreUnreachableError as error:
                    if self._line is None or self._stop():
                        raise
                    self._wait_for_the_line(self._line, entry, error, so_far)
        return FileHash(entry.path, so_far.reached, so_far.digest.hexdigest())

    def _hash_on(self, entry: Entry, buffer: memoryview, so_far: _SoFar) -> None:
        """Hashes a file to its end, or until the line is to rest."""
        if so_far.reached and so_far.mark is not None and self._mark(entry) != so_far.mark:
            raise StoreReplacedError(
                store=self._store.location, detail=f"{entry.path}: it was written to while its reading rested"
            )
        with self._opened(entry, so_far.reached) as reader:
            is_end = self._read_on(reader, buffer, so_far)
        if not is_end:
            so_far.mark = self._mark(entry)
        elif so_far.reached != reader.size_bytes:
            raise StoreCorruptError(
                store=self._store.location,
                detail=f"{entry.path}: {so_far.reached} bytes were read of {reader.size_bytes}",
            )
        so_far.is_whole = is_end

    def _wait_for_the_line(self, line: Line, entry: Entry, error: StoreUnreachableError, so_far: _SoFar) -> None:
        """
        Raises:
            StoreUnreachableError: nothing has come for too long.
            Stopped: nobody wants more.
        """
        so_far.failures += 1
        wait_s = line.failed(error, so_far.failures, error.fields.get("retry_after_s"))
        self._failures.put(Retrying(entry.path, str(error), so_far.failures, wait_s))
        line.wait(wait_s)

    def _opened(self, entry: Entry, offset: int) -> AbstractContextManager[Reader]:
        if self._listed is not None and entry.etag is not None:
            return self._listed.open_listed(entry, offset)
        return self._store.open_read(entry.path, offset)

    def _mark(self, entry: Entry) -> str | None:
        return self._store.stat(entry.path).etag

    def _read_on(self, reader: Reader, buffer: memoryview, so_far: _SoFar) -> bool:
        """Hashes up to the end, or until the line is to rest: for hours a server would not keep the file open.
        Returns whether it is the end.

        Raises:
            Stopped: nobody wants more.
        """
        for part in self._parts(reader, buffer):
            so_far.digest.update(part)
            so_far.reached += len(part)
            so_far.failures = 0
            self._on_bytes(len(part))
            if self._stop():
                raise Stopped
            if self._line is not None:
                self._line.confirmed()
                if self._line.paused and so_far.reached < reader.size_bytes:
                    return False
        return True

    def _parts(self, reader: Reader, buffer: memoryview) -> Iterator[memoryview]:
        """All that is read, each part until the next one is asked for."""
        if hasattr(reader, "lend"):
            yield from iter(cast(LendingReader, reader).lend, b"")
            return
        while read := reader.readinto(self._part(buffer)):
            yield buffer[:read]

    def _part(self, buffer: memoryview) -> memoryview:
        """As much as is to be read at once: at a rate, what comes in a moment. Its time on the line is waited for where
        the store does not do that."""
        if self._line is None:
            return buffer
        part = buffer[: self._line.arriving.ask_bytes(len(buffer))]
        if not self._paces_itself:
            self._line.arriving.spend(len(part))
        return part
