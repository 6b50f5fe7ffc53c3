"""SHA-256 of every file of a store, each byte read once, on as many threads as help."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

from bridge.errors import StoreCorruptError, StoreError
from bridge.store._buffers import aligned_buffer
from bridge.store._protocol import Abortable, Entry, LendingReader, ListedReads, Reader, Store

_BUFFER_BYTES = 1 << 20  # read and hashed while it is still in the second-level cache
_LET_END_S = 0.2  # who is at work sees within one buffer that nobody wants more
_AHEAD = 512  # results that may wait for an earlier, longer file


@dataclass(frozen=True, slots=True)
class FileHash:
    """A file and the SHA-256 (hex) of its content."""

    path: str
    size_bytes: int
    sha256: str


def hash_files(
    store: Store,
    files: str | Iterable[Entry] = "",
    *,
    workers: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
    on_error: Callable[[str, StoreError], None] | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[FileHash]:
    """Hashes the files at or below a folder, or those of a listing, and yields them in the order of the listing.

    Args:
        workers: threads; by default two to four, as the machine has processors.
        on_bytes: told of bytes as they are hashed, from the threads that hash.
        on_error: told of a file that cannot be read, which is then left out; without it the error is raised.
        cancel: ends the iteration early when set.

    Raises:
        StoreError: a file could not be read.
    """
    entries = store.list(files) if isinstance(files, str) else files
    count = workers or max(2, min(4, os.cpu_count() or 2))
    work = _Hashing(store, count, on_bytes or (lambda size: None), cancel or threading.Event())
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


class _Hashing:
    def __init__(self, store: Store, workers: int, on_bytes: Callable[[int], None], cancel: threading.Event) -> None:
        self._store = store
        self._listed = store if isinstance(store, ListedReads) else None
        self._on_bytes = on_bytes
        self._cancel = cancel
        self._ended = threading.Event()
        self._queue: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"hash-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def run(self, entries: Iterable[Entry], on_error: Callable[[str, StoreError], None] | None) -> Iterator[FileHash]:
        waiting: deque[_Slot] = deque()
        for entry in entries:
            slot = _Slot(entry)
            waiting.append(slot)
            self._queue.put(slot)
            while waiting and (len(waiting) >= _AHEAD or waiting[0].done.is_set()):
                yield from self._outcome(waiting.popleft(), on_error)
        while waiting:
            yield from self._outcome(waiting.popleft(), on_error)

    def _outcome(self, slot: _Slot, on_error: Callable[[str, StoreError], None] | None) -> Iterator[FileHash]:
        while not slot.done.wait(0.2):
            if self._cancel.is_set():
                return
        outcome = slot.outcome
        if isinstance(outcome, FileHash):
            yield outcome
        elif isinstance(outcome, StoreError) and on_error is not None:
            on_error(slot.entry.path, outcome)
        elif isinstance(outcome, BaseException):
            raise outcome

    def end(self) -> None:
        self._ended.set()
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
            except BaseException as error:  # handed to the thread that asks
                slot.outcome = error
            slot.done.set()

    def _stop(self) -> bool:
        return self._ended.is_set() or self._cancel.is_set()

    def _opened(self, entry: Entry) -> AbstractContextManager[Reader]:
        if self._listed is not None and entry.etag is not None:
            return self._listed.open_listed(entry)
        return self._store.open_read(entry.path)

    def _hash(self, entry: Entry, buffer: memoryview) -> FileHash | None:
        digest = hashlib.sha256()
        size = 0
        with self._opened(entry) as reader:
            for part in _parts(reader, buffer):
                digest.update(part)
                size += len(part)
                self._on_bytes(len(part))
                if self._stop():
                    return None
        if size != reader.size_bytes:
            raise StoreCorruptError(
                store=self._store.location, detail=f"{entry.path}: {size} bytes were read of {reader.size_bytes}"
            )
        return FileHash(entry.path, size, digest.hexdigest())


def _parts(reader: Reader, buffer: memoryview) -> Iterator[memoryview]:
    """All that is read, each part until the next one is asked for."""
    if hasattr(reader, "lend"):
        yield from iter(cast(LendingReader, reader).lend, b"")
        return
    while read := reader.readinto(buffer):
        yield buffer[:read]
