"""One blob read front to back: in one long answer beside others, else in ranges that are asked ahead."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from bridge.errors import StoreClosedError, StoreCorruptError, StoreError
from bridge.store._blob_reads import BUFFER_BYTES, BUFFERS, BlobReads, BlobStream, Wanted
from bridge.store._wire import WireError

_STREAM_READERS = 4  # so many blobs at once keep a line full, each with one long answer: no wait between its parts
_STREAM_BYTES = 32 << 20  # after so much it is looked at anew how many readers there are
_MOST_FAILED = 3
_FIRST_RANGE = 1 << 20
_SMALLEST_RANGE = 256 << 10
_QUICK_S, _SLOW_S = 2.0, 8.0  # a range that comes quicker than this makes the next one larger, a slower one smaller
_SURE_BYTES = 512 << 10  # who has read that much from front to back will read on

OpenStream = Callable[[Wanted, int], BlobStream | None]
"""Opens a stream, or has none to give: then the part is fetched, with all the care that takes."""

Fetch = Callable[[Wanted], StoreError | None]
"""Fills a range; an error is returned, not raised: it may come from another thread."""


class BlobReader:
    """Reads one blob front to back. After an error it goes on at the byte that it had reached. For one thread."""

    goes_on = True

    def __init__(
        self,
        reads: BlobReads,
        fetch: Fetch,
        first: Wanted,
        size_bytes: int,
        *,
        location: str,
        whole: bool,
        open_stream: OpenStream = lambda wanted, size_bytes: None,
    ) -> None:
        """Begins after the bytes of ``first`` that are there already.

        Args:
            location: the container's, for errors.
            whole: all of it will be read: ranges are asked ahead from the start.
            open_stream: for a blob that is read beside enough others to keep the line full.
        """
        self._whole = whole
        self._open_stream = open_stream
        self._stream: BlobStream | None = None
        self._streams_failed = 0
        self._location = location
        self.size_bytes = size_bytes
        self._reads = reads
        self._fetch = fetch
        self._name, self._path, self._etag = first.name, first.path, first.etag
        self._begun = first.buffer[: first.filled]
        self._offset = first.offset  # of the next byte to hand out
        self._delivered = _SURE_BYTES if whole else 0
        self._ahead: deque[Wanted] = deque()
        self._range_bytes = BUFFER_BYTES if whole else _FIRST_RANGE
        self._depth = 2
        self._moved = threading.Condition()

    def readinto(self, buffer: memoryview, /) -> int:
        target = buffer.cast("B")
        if self._begun or not target or self._offset >= self.size_bytes:
            read = min(len(target), len(self._begun))
            target[:read] = self._begun[:read]
            self._begun = self._begun[read:]
        else:
            read = self._from_stream(target)
            if not read:
                self._ask_ahead(len(target))
                read = self._from_ahead(target) if self._ahead else self._at_once(target)
        self._offset += read
        self._delivered += read
        return read

    def close(self) -> None:
        self._end_stream()
        for wanted in self._ahead:
            self._let_go(wanted)
        self._ahead.clear()

    def _at_once(self, target: memoryview) -> int:
        """Asks for exactly what the caller wants, straight into the caller's buffer."""
        size = min(len(target), self.size_bytes - self._offset)
        wanted = self._wanted(self._offset, target[: self._reads.limiter.ask_bytes(size)])
        error = self._fetch(wanted)
        if not wanted.filled:
            raise error or self._ends_early()
        return wanted.filled  # an error after some bytes comes again with the next ones, or has passed by then

    # -- as it comes ---------------------------------------------------------------------------------------------------

    def _from_stream(self, target: memoryview) -> int:
        """What a stream brings; nothing where there is none, or where it was cut."""
        if self._reads.limiter.limited:  # what is asked for at once then is little, and paid for before
            self._end_stream()
            return 0
        try:
            if self._stream is None and self._may_stream(len(target)):
                size = min(_STREAM_BYTES, self.size_bytes - self._offset)
                self._stream = self._open_stream(self._wanted(self._offset, memoryview(b"")), size)
                self._streams_failed += self._stream is None
            if self._stream is None:
                return 0
            read = self._stream.readinto(target)
            if not self._stream.left:
                self._end_stream()
            return read
        except WireError:
            self._streams_failed += 1
            self._end_stream()
            return 0

    def _may_stream(self, wanted_now: int) -> bool:
        enough_others = self._reads.share <= BUFFERS // _STREAM_READERS
        more = self.size_bytes - self._offset > wanted_now
        return self._whole and more and enough_others and not self._ahead and self._streams_failed < _MOST_FAILED

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _ends_early(self) -> StoreError:
        return StoreCorruptError(store=self._location, detail=f"{self._path}: it ends before its size")

    def _wanted(self, offset: int, buffer: memoryview) -> Wanted:
        return Wanted(self._name, self._path, self._etag, offset, buffer)

    # -- ahead --------------------------------------------------------------------------------------------------------

    def _ask_ahead(self, wanted_now: int) -> None:
        if self._delivered < _SURE_BYTES:
            return
        following = self._ahead[-1].offset + len(self._ahead[-1].buffer) if self._ahead else self._offset
        if not self._ahead and self.size_bytes - following <= wanted_now:
            return  # the caller's buffer takes all that is left
        while following < self.size_bytes and len(self._ahead) < min(self._depth, self._reads.share):
            whole_buffer = self._reads.lend()
            if whole_buffer is None:
                return
            most = min(self._range_bytes, BUFFER_BYTES, self.size_bytes - following)
            wanted = self._wanted(following, whole_buffer[: self._reads.limiter.ask_bytes(most)])
            wanted.on_filled = self._tell
            following += len(wanted.buffer)
            self._ahead.append(wanted)
            self._reads.start(partial(self._work, wanted, whole_buffer))

    def _work(self, wanted: Wanted, whole_buffer: memoryview) -> None:
        """One range, on a thread of its own. Whoever lets go of it last gives the buffer back."""
        started = time.monotonic()
        try:
            wanted.error = self._fetch(wanted)
        finally:
            with self._moved:
                wanted.done = True
                wanted.took_s = time.monotonic() - started
                wanted.give_back = partial(self._reads.take_back, whole_buffer)
                if wanted.abandoned:
                    wanted.give_back()
                self._moved.notify()

    def _tell(self) -> None:
        with self._moved:
            self._moved.notify()

    def _from_ahead(self, target: memoryview) -> int:
        wanted = self._ahead[0]
        start = self._offset - wanted.offset
        with self._moved:
            while wanted.filled <= start and not wanted.done and not self._reads.is_closed:
                self._moved.wait(1.0)
        size = min(len(target), wanted.filled - start)
        if size <= 0:  # it failed: whoever asks again begins anew from here
            self.close()
            if self._reads.is_closed:  # what waited for a thread is never done
                raise StoreClosedError(store=self._location)
            raise wanted.error or self._ends_early()
        target[:size] = wanted.buffer[start : start + size]
        if start + size == len(wanted.buffer):
            self._ahead.popleft()
            self._let_go(wanted)
            self._learn(wanted)
        return size

    def _let_go(self, wanted: Wanted) -> None:
        with self._moved:
            if wanted.done:
                wanted.give_back()
            else:
                wanted.abandon()

    def _learn(self, wanted: Wanted) -> None:
        """Asks for more at once while that comes quickly, for less on a slow line."""
        self._depth = min(2 * self._depth, BUFFERS)
        if wanted.took_s < _QUICK_S and len(wanted.buffer) >= self._range_bytes:
            self._range_bytes = min(2 * self._range_bytes, BUFFER_BYTES)
        elif wanted.took_s > _SLOW_S:
            self._range_bytes = max(self._range_bytes // 2, _SMALLEST_RANGE)
