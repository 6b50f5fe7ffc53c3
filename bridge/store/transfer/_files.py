"""Copies to a folder or a share: several files at a time, each continued where a checked partial file ends."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from typing import cast

from bridge.errors import (
    BeingWrittenError,
    NameCollisionError,
    StoreCorruptError,
    StoreError,
    StoreUnreachableError,
    UnsafePathError,
)
from bridge.store._buffers import aligned_buffer
from bridge.store._protocol import CommitsTogether, PacedReads, PartialStore, Reader, Writer
from bridge.store.transfer._arrived import Arrived, Fact
from bridge.store.transfer._delivery import Delivery, Finished, SourceChanged
from bridge.store.transfer._events import FileStatus, TransferItem
from bridge.store.transfer._line import Stopped
from bridge.store.transfer._presence import Presence
from bridge.store.transfer._twins import Twins, takes_for_one

_BUFFER_BYTES = 1 << 20
_MOST_REPAIRS = 3
_SMALL_BYTES = 256 << 10
_MOST_TOGETHER = 32  # each holds a file open
_LONGEST_TOGETHER_S = 0.5  # what has arrived is not left unconfirmed for longer than that


@dataclass(slots=True)
class _Written:
    """A file whose content is written and checked, and that is still to be committed."""

    item: TransferItem
    sha256: str
    resumed: bool
    writer: Writer
    writing: ExitStack
    status: FileStatus = "copied"
    attempts: int = 1


class _Lot:
    """Small files that one thread has written and that are flushed, named and journalled together."""

    def __init__(self) -> None:
        self.files: list[_Written] = []
        self.names: set[str] = set()
        self.size_bytes = 0
        self.begun_at = 0.0

    def add(self, written: _Written) -> None:
        if not self.files:
            self.begun_at = time.monotonic()
        self.files.append(written)
        self.names.add(written.item.path.casefold())
        self.size_bytes += written.item.size_bytes

    def take(self) -> list[_Written]:
        files, self.files, self.size_bytes = self.files, [], 0
        self.names.clear()
        return files


class FileCopy:
    """The work of one copy; ``work`` runs on several threads, each with a buffer of its own."""

    def __init__(self, delivery: Delivery, names: Iterable[str] | None) -> None:
        """``names`` are those of all files that are to come, where they are known."""
        self._delivery = delivery
        self._partials = cast(PartialStore, delivery.target) if hasattr(delivery.target, "open_resume") else None
        self._together = delivery.target if isinstance(delivery.target, CommitsTogether) else None
        self._lock = threading.Lock()
        self._items: Iterator[TransferItem] = iter(())
        self._arrived: Arrived | None = None
        self._presence: Presence | None = None
        self._twins = Twins()
        self._twins_asked = 0
        self._names = iter(names) if names is not None else None
        # A source that is paced itself is the line: its bytes must not be counted twice.
        self._paces_writes = not isinstance(delivery.source, PacedReads)

    def begin(self, items: Iterator[TransferItem]) -> None:
        for path in self._names or ():  # the first time: then there are none left
            self._twins.add(path)
        self._items = items

    def work(self) -> None:
        """Copies until nothing is left.

        Raises:
            StoreError: something that ends the transfer.
            Stopped: the transfer is ending.
        """
        buffer = aligned_buffer(_BUFFER_BYTES)
        # The lock before the turn: whoever holds it gives its turn back while it waits for a lost line.
        with self._lock:
            if self._presence is None:
                with self._delivery.line.turn():
                    self._refuse_twins()
                    self._look_at_target()
        lot = _Lot()
        try:
            while (item := self._next()) is not None:
                if self._ends(lot, item):
                    self._commit_lot(lot, buffer)
                with self._delivery.line.turn():
                    self._copy(item, buffer, lot)
            self._commit_lot(lot, buffer)
        except (Stopped, StoreError):
            with suppress(Stopped):
                self._commit_lot(lot, buffer)  # what has arrived whole is kept
            raise
        finally:
            for written in lot.files:  # left early: what is there of them is gone on from
                written.writing.close()
                self._delivery.tally.unconfirmed(written.item.size_bytes)

    def _next(self) -> TransferItem | None:
        with self._lock:
            item = None if self._delivery.line.stopping.is_set() else next(self._items, None)
            if item is not None and self._names is None:
                self._twins.add(item.path)
                if self._twins_asked < len(self._twins.pairs):
                    with self._delivery.line.turn():
                        self._refuse_twins()
            return item

    def abort(self) -> None:
        """Nothing to wake: stores time out by themselves."""

    def close(self) -> None:
        self._twins.close()
        if self._arrived is not None:
            self._arrived.close()

    # -- small files together ------------------------------------------------------------------------------------------

    def _ends(self, lot: _Lot, item: TransferItem) -> bool:
        """Whether the files of a lot are committed before another one is begun."""
        line = self._delivery.line
        return bool(lot.files) and (
            len(lot.files) >= _MOST_TOGETHER
            or lot.size_bytes + item.size_bytes > line.piece_bytes()
            or time.monotonic() - lot.begun_at >= _LONGEST_TOGETHER_S
            or item.path.casefold() in lot.names
            or line.paused
        )

    def _commit_lot(self, lot: _Lot, buffer: memoryview) -> None:
        """Commits what was written together, then journals and tells it; what could not be is copied once more."""
        if not lot.files:
            return
        assert self._together is not None  # noqa: S101 - a lot is only gathered where there is
        outcomes = self._together.commit_together([written.writer for written in lot.files])
        files = lot.take()
        finished: list[Finished] = []
        failed: list[TransferItem] = []
        for written, outcome in zip(files, outcomes, strict=True):
            written.writing.close()
            if isinstance(outcome, StoreError):
                self._delivery.tally.unconfirmed(written.item.size_bytes)
                failed.append(written.item)
            else:
                finished.append(Finished(written.item, written.sha256, written.status, written.attempts, outcome.etag))
        if finished:
            self._delivery.line.confirmed()
            self._delivery.finish(finished)
        for item in failed:
            with self._delivery.line.turn():
                self._copy(item, buffer)  # alone, so that what is in the way is met as it always is

    # -- one file -----------------------------------------------------------------------------------------------------

    def _copy(self, item: TransferItem, buffer: memoryview, lot: _Lot | None = None) -> None:
        """Copies a file until it is committed, or into a lot that will be."""
        attempt = repairs = 0
        status: FileStatus = "copied"
        while True:
            try:
                if self._skipped(item, buffer):
                    return
                written = self._copy_once(item, buffer)
                if written.resumed and status == "copied":
                    status = "resumed"
                if lot is not None and self._together is not None and item.size_bytes <= _SMALL_BYTES:
                    written.status, written.attempts = status, attempt + repairs + 1
                    lot.add(written)
                    return
                mark = self._commit(written)
                break
            except SourceChanged as error:
                self._delivery.mismatch(item.path, error)
                if self._partials is not None:
                    with suppress(BeingWrittenError):  # what is there by now is its writer's; ours is told
                        self._partials.remove_partial(item.path)
                return
            except StoreCorruptError as error:
                repairs += 1
                if repairs > _MOST_REPAIRS:
                    raise
                status = "repaired"
                self._delivery.repair(item.path, error)
                if self._partials is not None:
                    self._partials.remove_partial(item.path)
            except StoreUnreachableError as error:
                attempt += 1
                self._delivery.retry(item.path, error, attempt)
        self._delivery.line.confirmed()
        self._delivery.finish([Finished(item, written.sha256, status, attempt + repairs + 1, mark)])

    def _copy_once(self, item: TransferItem, buffer: memoryview) -> _Written:
        """Copies a file or what is missing of it; all that is left to do is to commit it."""
        digest = hashlib.sha256()
        counted = 0
        try:
            with ExitStack() as opened:
                start, reader = self._take_up(item, buffer, digest, opened)
                done = start
                self._delivery.tally.confirmed(start, moved=False)
                counted = start
                with ExitStack() as writing:
                    writer = writing.enter_context(self._writer(item, start))
                    while done < item.size_bytes:
                        part = buffer[: min(item.size_bytes - done, len(buffer))]
                        self._delivery.fill(item, reader, part, digest)
                        begun = time.monotonic()
                        self._write(writer, part)
                        done += len(part)
                        self._delivery.tally.confirmed(len(part))
                        self._delivery.line.confirmed(time.monotonic() - begun)
                        counted = done
                        self._delivery.line.pause_if_quiet()
                    self._expect_digest(item, digest.hexdigest(), taken_up=start > 0)
                    return _Written(item, digest.hexdigest(), start > 0, writer, writing.pop_all())
        except BaseException:
            self._delivery.tally.unconfirmed(counted)
            raise

    def _commit(self, written: _Written) -> str | None:
        """The target's mark of the file."""
        item = written.item
        try:
            with written.writing:
                written.writer.commit()
            entry = self._delivery.target.stat(item.path)
            if entry.size_bytes != item.size_bytes:
                raise StoreCorruptError(
                    store=self._delivery.target.location,
                    detail=f"{item.path}: {entry.size_bytes} bytes arrived, {item.size_bytes} were sent",
                )
        except BaseException:
            self._delivery.tally.unconfirmed(item.size_bytes)
            raise
        return entry.etag

    def _writer(self, item: TransferItem, start: int) -> AbstractContextManager[Writer]:
        if self._partials is not None:
            return self._partials.open_resume(item.path, start, item.size_bytes)
        return self._delivery.target.open_write(item.path, item.size_bytes)

    def _write(self, writer: Writer, data: memoryview) -> None:
        limiter = self._delivery.line.limiter
        while data:
            paced = self._paces_writes and limiter.limited
            part = data[: limiter.slice_bytes()] if paced else data
            if paced:
                limiter.spend(len(part))
            writer.write(part)
            self._delivery.tally.sent(len(part))
            data = data[len(part) :]

    def _take_up(
        self, item: TransferItem, buffer: memoryview, digest: hashlib._Hash, opened: ExitStack
    ) -> tuple[int, Reader]:
        """Where a half-written file can be continued, with all before that in the digest (which cannot be kept), and
        the source from there on. What is there already is not fetched again where what the whole must be is known."""
        there = 0 if self._partials is None else min(self._partials.partial_bytes(item.path), item.size_bytes)
        if not there or self._partials is None:
            return 0, opened.enter_context(self._delivery.open_source(item))
        with self._partials.open_read_partial(item.path) as partial:
            if item.sha256 is not None:
                try:
                    self._hash(item, partial, there, buffer, digest)
                except SourceChanged as error:
                    raise BeingWrittenError(store=self._delivery.target.location, path=item.path) from error
                return there, opened.enter_context(self._delivery.open_source(item, there))
            reader = opened.enter_context(self._delivery.open_source(item))
            good = self._compare(item, reader, partial, end=there, buffer=buffer, digest=digest)
        if good < there:
            reader = opened.enter_context(self._delivery.open_source(item, good))
        return good, reader

    def _hash(
        self, item: TransferItem, reader: Reader, size_bytes: int, buffer: memoryview, digest: hashlib._Hash
    ) -> None:
        done = 0
        while done < size_bytes:
            part = buffer[: min(size_bytes - done, len(buffer))]
            self._delivery.fill(item, reader, part, digest)
            done += len(part)
            if self._delivery.line.stopping.is_set():
                raise Stopped

    def _expect_digest(self, item: TransferItem, sha256: str, *, taken_up: bool) -> None:
        try:
            self._delivery.expect_digest(item, sha256)
        except SourceChanged as error:
            if not taken_up:
                raise
            # The part that was taken up may have been wrong: the whole is read again.
            raise StoreCorruptError(store=self._delivery.target.location, detail=f"{item.path}: {error}") from error

    def _compare(
        self,
        item: TransferItem,
        source: Reader,
        partial: Reader,
        *,
        end: int,
        buffer: memoryview,
        digest: hashlib._Hash,
    ) -> int:
        """How much of a half-written file is what the source has; what follows is written anew."""
        good = 0
        half = len(buffer) // 2
        while good < end:
            size = min(half, end - good)
            mine, theirs = buffer[:size], buffer[half : half + size]
            self._delivery.fill(item, source, mine, hashlib.sha256())
            read = 0
            while read < size and (more := partial.readinto(theirs[read:])):
                read += more
            if read < size or mine != theirs:
                return good
            digest.update(mine)
            good += size
            if self._delivery.line.stopping.is_set():
                raise Stopped
        return good

    # -- what the target has ------------------------------------------------------------------------------------------

    def _refuse_twins(self) -> None:
        """Asks the target of every two names that differ only in case, before the second is sent.

        Raises:
            NameCollisionError: it takes them for one.
            StoreError: it cannot be asked.
        """
        attempt = 0
        while self._partials is not None and self._twins_asked < len(self._twins.pairs):
            first, second = self._twins.pairs[self._twins_asked]
            try:
                if takes_for_one(self._partials, first, second):
                    raise NameCollisionError(
                        store=self._delivery.target.location, path=ascii(second), other=ascii(first)
                    )
                self._twins_asked += 1
            except StoreUnreachableError as error:
                attempt += 1
                self._delivery.retry(self._delivery.target.location, error, attempt)

    def _look_at_target(self) -> None:
        attempt = 0
        while self._presence is None:
            try:
                listing = self._delivery.target.list(on_unsafe=_not_ours)
                self._arrived = Arrived(Fact(entry.path, entry.size_bytes, entry.md5, entry.etag) for entry in listing)
                self._presence = Presence(self._delivery, self._arrived, listed=True)
            except StoreUnreachableError as error:
                attempt += 1
                self._delivery.retry(self._delivery.target.location, error, attempt)
        self._delivery.line.answered()

    def _skipped(self, item: TransferItem, buffer: memoryview) -> bool:
        assert self._presence is not None  # noqa: S101 - set before the first item is taken
        fact = self._presence.candidate(item)
        sha256 = self._presence.sha256_there(item, buffer)
        if sha256 is None and fact is not None and fact.md5 is None and fact.sha256 is None:
            sha256 = self._same_content(item, buffer)
        if sha256 is None:
            return False
        self._delivery.tally.confirmed(item.size_bytes, moved=False)
        self._delivery.finish([Finished(item, sha256, "skipped", 0, fact.etag if fact is not None else None)])
        return True

    def _same_content(self, item: TransferItem, buffer: memoryview) -> str | None:
        """The SHA-256 of a file of the same size that nothing is known of, if its content is the source's."""
        digest = hashlib.sha256()
        with self._delivery.target.open_read(item.path) as reader:
            left = reader.size_bytes
            while left:
                part = buffer[: min(left, len(buffer))]
                try:
                    self._delivery.fill(item, reader, part, digest)
                except SourceChanged:
                    return None  # it changes under our eyes: it is written anew
                left -= len(part)
        sha256 = item.sha256.lower() if item.sha256 else self._delivery.hash_source(item, buffer)[0]
        return sha256 if sha256 == digest.hexdigest() else None


def _not_ours(error: UnsafePathError) -> None:
    """A name that no store would write is nothing that has been delivered."""
