"""What all threads of one transfer share: the stores, the line, the counts, and the first error that ends it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from bridge.errors import StoreCorruptError, StoreNotFoundError, StoreReplacedError, StoreUnreachableError
from bridge.store._protocol import Entry, ListedReads, Reader, Store
from bridge.store.transfer._events import FileResult, FileStatus, Repairing, Retrying, TransferItem
from bridge.store.transfer._journal import Delivered, TransferJournal
from bridge.store.transfer._line import Line, Stopped
from bridge.store.transfer._settings import TransferSettings
from bridge.store.transfer._tally import Tally

_MISMATCHES_NAMED = 20
_HASH_SLICE = 1 << 20  # hashed while it is still in the processor's cache
_READ_AT_ONCE = 1 << 20  # a file that is no larger is read in one go, and from its beginning again after a cut


class SourceChanged(Exception):  # noqa: N818 - never leaves the engine: it becomes a line of SourceMismatchError
    """The source does not have what was announced under this name."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A file that the target has confirmed, with the target's mark (ETag) of it."""

    item: TransferItem
    sha256: str
    status: FileStatus
    attempts: int
    target_mark: str | None


@dataclass(slots=True)
class Delivery:
    source: Store
    target: Store
    settings: TransferSettings
    journal: TransferJournal | None
    line: Line
    tally: Tally
    failure: BaseException | None = None
    mismatches: list[str] = field(default_factory=list)
    mismatch_count: int = 0
    listed: ListedReads | None = field(init=False)
    """The source, where it need not be asked again for what its listing has told."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _marks: dict[str, str | None] = field(default_factory=dict)
    """Of files under way that no digest tells apart: the source's mark (ETag) before they were opened first."""

    def __post_init__(self) -> None:
        self.listed = self.source if isinstance(self.source, ListedReads) else None

    def fail(self, error: BaseException) -> None:
        """The first error counts; every thread is asked to end."""
        with self._lock:
            if self.failure is None:
                self.failure = error
        self.line.stopping.set()

    def mismatch(self, path: str, error: Exception) -> None:
        """The source does not have what it should have under this name; other files go on."""
        self._marks.pop(path, None)
        with self._lock:
            self.mismatch_count += 1
            if len(self.mismatches) < _MISMATCHES_NAMED:
                self.mismatches.append(f"{path} ({error})")

    def retry(self, path: str, error: StoreUnreachableError, attempt: int) -> None:
        """Waits as long as the failure asks for (its field ``retry_after_s``), and longer the more often it comes.

        Raises:
            StoreUnreachableError: nothing has got through for too long.
            Stopped: the transfer is ending.
        """
        if self.line.stopping.is_set():
            raise Stopped
        wait_s = self.line.failed(error, attempt, error.fields.get("retry_after_s"))
        self.tally.tell(Retrying(path, str(error), attempt, wait_s))
        self.line.wait(wait_s)

    def repair(self, path: str, error: Exception) -> None:
        self.tally.tell(Repairing(path, str(error)))

    def finish(self, files: list[Finished]) -> None:
        """Journals files that the target has confirmed, then tells of them."""
        if not files:
            return
        for done in files:
            self._marks.pop(done.item.path, None)
        if self.journal is not None:
            self.journal.record(
                Delivered(done.item.path, done.item.size_bytes, done.sha256, done.item.etag, done.target_mark)
                for done in files
            )
        self.tally.finished(
            [
                FileResult(done.item.path, done.item.size_bytes, done.sha256, done.status, done.attempts)
                for done in files
            ]
        )

    # -- the source ---------------------------------------------------------------------------------------------------

    def fill(self, item: TransferItem, reader: Reader, into: memoryview, digest: hashlib._Hash) -> None:
        """Reads exactly as many bytes as the buffer has and hashes them on the way.

        Raises:
            SourceChanged: the file ends earlier, was replaced or removed.
            StoreError: the source cannot be read.
            Stopped: the transfer is ending.
        """
        position = attempt = 0
        while position < len(into):
            try:
                read = reader.readinto(into[position : position + _HASH_SLICE])
            except StoreReplacedError as error:
                raise SourceChanged("it was replaced or removed after it was listed") from error
            except StoreNotFoundError as error:
                raise SourceChanged("it is no longer there") from error
            except StoreCorruptError as error:  # it ended before the size that it had when it was opened
                raise SourceChanged(str(error.fields["detail"])) from error
            except StoreUnreachableError as error:
                if not getattr(reader, "goes_on", False):
                    raise
                attempt += 1
                self.retry(item.path, error, attempt)
                continue
            if not read:
                raise SourceChanged("it became shorter while it was read")
            digest.update(into[position : position + read])
            position += read
            if attempt:
                attempt = 0
                self.line.confirmed()

    @contextmanager
    def open_source(self, item: TransferItem, offset: int = 0) -> Iterator[Reader]:
        """A file of the source, once it is as large as announced.

        Raises:
            SourceChanged: it is not there, has another size, or is no longer the file that was opened before a cut.
            StoreError: the source cannot be read.
        """
        with ExitStack() as stack:
            try:
                self._expect_same_version(item)
                reader = stack.enter_context(self._opened(item, offset))
            except StoreNotFoundError as error:
                raise SourceChanged("it is no longer there") from error
            if reader.size_bytes != item.size_bytes:
                raise SourceChanged(f"it has {reader.size_bytes} bytes, not {item.size_bytes}")
            yield reader

    def _opened(self, item: TransferItem, offset: int) -> AbstractContextManager[Reader]:
        if self.listed is not None and item.etag is not None:
            return self.listed.open_listed(Entry(item.path, item.size_bytes, etag=item.etag), offset)
        return self.source.open_read(item.path, offset)

    def expect_digest(self, item: TransferItem, sha256: str) -> None:
        """To be asked once all of a file has been read and before it counts: is it one version of what was announced?

        Raises:
            SourceChanged: it has another digest; or, where none is known, it was written to while it was read.
            StoreError: the source cannot be asked.
        """
        if item.sha256 is not None and item.sha256.lower() != sha256:
            raise SourceChanged(f"its SHA-256 is {sha256}, not {item.sha256.lower()}")
        try:
            self._expect_same_version(item)
        except StoreNotFoundError as error:
            raise SourceChanged("it is no longer there") from error

    def _expect_same_version(self, item: TransferItem) -> None:
        """What follows a cut, or comes later, must be of the file whose beginning was read.

        The mark is compared with that of the first opening, not with the listing's: a Windows server's folder learns
        of the last write later than the file itself. A container's readers watch over it by themselves.
        """
        watched_by_reader = self.listed is not None and item.etag is not None
        if item.sha256 is not None or watched_by_reader or item.size_bytes <= _READ_AT_ONCE:
            return
        mark = self.source.stat(item.path).etag
        if self._marks.setdefault(item.path, mark) != mark:
            raise SourceChanged("it was replaced or written to while it was read")

    def hash_source(self, item: TransferItem, buffer: memoryview) -> tuple[str, bytes]:
        """SHA-256 (hex) and MD5 of the source's file."""
        digest, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        left = item.size_bytes
        with self.open_source(item) as reader:
            while left:
                part = buffer[: min(left, _HASH_SLICE)]
                self.fill(item, reader, part, digest)
                md5.update(part)
                left -= len(part)
                if self.line.stopping.is_set():
                    raise Stopped
        self.expect_digest(item, digest.hexdigest())
        return digest.hexdigest(), md5.digest()
