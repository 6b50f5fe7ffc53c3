"""A file of a share as it is read and as it is written: several requests on their way at a time."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from bridge.errors import StoreCorruptError, StoreUnreachableError
from bridge.store import _smb_files as smb
from bridge.store._protocol import Buffer, Entry
from bridge.store._rate import RateLimiter
from bridge.store._smb_channel import Channel, ChannelLostError, Reply
from bridge.store._smb_errors import END_OF_FILE, SUCCESS, status_error

T = TypeVar("T")

# What is asked for ahead lies in the kernel's buffers until it is read. From a server nearby 4 MiB keep the line busy
# and still fit the processor's cache (8 cost a tenth of the speed); one far away needs more on its way.
_READS_IN_FLIGHT_NEAR = 4
_READS_IN_FLIGHT_FAR = 8
_FAR_S = 0.005  # 4 MiB a round trip of this length are 800 MB/s
_READS_AT_A_RATE = 2
_WRITES_IN_FLIGHT = 4
FIRST_READ_BYTES = 65536  # comes along with the opening: a small file costs one round trip


class ShareReader:
    """Reads ahead: several READs are in flight, and their answers wait in the socket until they are wanted."""

    def __init__(
        self,
        channel: Channel,
        status: smb.FileStatus,
        first: Reply,
        *,
        location: str,
        path: str,
        offset: int,
        round_trip_s: float,
        limiter: RateLimiter,
    ) -> None:
        self._limiter = limiter
        self._reads_in_flight = _READS_IN_FLIGHT_FAR if round_trip_s > _FAR_S else _READS_IN_FLIGHT_NEAR
        self.size_bytes = status.size_bytes
        self._channel = channel
        self._file_id = status.file_id
        self._location = location
        self._path = path
        self._chunk = channel.chunk_bytes
        self._next = offset
        self._asked: deque[tuple[int, int, int]] = deque()
        self._reply: Reply | None = None
        self._data = memoryview(b"")
        if first.status == SUCCESS:  # else it is asked again, and its refusal told to whoever reads
            self._data = smb.data_of_read(first.message)[:FIRST_READ_BYTES][: max(0, self.size_bytes - offset)]
            self._next = offset + len(self._data)
            limiter.spend(len(self._data))

    def readinto(self, buffer: memoryview, /) -> int:
        target, filled = buffer.cast("B"), 0
        while filled < len(target):
            if not self._data and not self._advance():
                break
            taken = min(len(target) - filled, len(self._data))
            target[filled : filled + taken] = self._data[:taken]
            self._data = self._data[taken:]
            filled += taken
        if not self._data:
            self._let_go()
        return filled

    def lend(self) -> memoryview:
        if not self._data and not self._advance():
            return memoryview(b"")
        data, self._data = self._data, memoryview(b"")
        return data

    def _advance(self) -> bool:
        self._let_go()
        return translated(self._location, self._path, False, self._receive)

    def _receive(self) -> bool:
        most = _READS_AT_A_RATE if self._limiter.limited else self._reads_in_flight
        while len(self._asked) < most and self._next < self.size_bytes:
            length = self._limiter.ask_bytes(min(self._chunk, self.size_bytes - self._next))
            self._limiter.spend(length)
            self._asked.append((smb.ask_read(self._channel, self._file_id, self._next, length), self._next, length))
            self._next += length
        if not self._asked:
            return False
        message_id, offset, length = self._asked.popleft()
        reply = self._channel.take(message_id)
        if reply.status == END_OF_FILE:
            raise StoreCorruptError(
                store=self._location, detail=f"{self._path}: it ended at {offset} of {self.size_bytes} bytes"
            )
        if reply.status != SUCCESS:
            raise smb.StatusError(reply.status)
        data = smb.data_of_read(reply.message)
        if not 0 < len(data) <= length:
            raise ChannelLostError(f"the server sent {len(data)} bytes where {length} were asked")
        if len(data) < length:
            rest_at, rest = offset + len(data), length - len(data)
            self._asked.appendleft((smb.ask_read(self._channel, self._file_id, rest_at, rest), rest_at, rest))
        self._reply, self._data = reply, data
        return True

    def _let_go(self) -> None:
        if self._reply is not None:
            self._data = memoryview(b"")
            self._channel.give_back(self._reply)
            self._reply = None


class ShareWriter:
    """Writes ahead: several WRITEs are in flight; ``commit`` waits for all, flushes and renames."""

    def __init__(
        self,
        channel: Channel,
        file_id: bytes,
        *,
        location: str,
        path: str,
        full: str,
        size_bytes: int | None,
        replace: bool,
    ) -> None:
        self._channel = channel
        self._file_id = file_id
        self._location = location
        self._path = path
        self._full = full
        self._size_bytes = size_bytes
        self._replace = replace
        self._chunk = channel.chunk_bytes
        self._gathered = bytearray()
        self._sent = 0
        self._asked: deque[tuple[int, int]] = deque()
        self._is_open = True

    def go_on_at(self, offset: int) -> None:
        self._sent = offset

    def write(self, data: Buffer, /) -> None:
        translated(self._location, self._path, True, lambda: self._write(memoryview(data).cast("B")))

    def commit(self) -> Entry:
        return translated(self._location, self._path, True, self._commit)

    def abandon(self) -> None:
        """Leaves nothing behind, unless it was committed or the connection is gone."""
        if self._is_open and not self._channel.is_lost:
            with suppress(ChannelLostError, smb.StatusError):
                self._channel.drain()
                smb.delete(self._channel, self._file_id)
        self._close()

    def keep(self) -> None:
        """Closes what was written so far, so that it can be continued."""
        if self._is_open and not self._channel.is_lost:
            with suppress(ChannelLostError, smb.StatusError):
                self._send_gathered()
        self._close()

    def _close(self) -> None:
        if self._is_open and not self._channel.is_lost:
            with suppress(ChannelLostError, smb.StatusError):
                self._channel.drain()
                smb.close_file(self._channel, self._file_id)
        self._is_open = False

    def _write(self, data: memoryview) -> None:
        if self._gathered or len(data) < self._chunk:
            room = self._chunk - len(self._gathered)
            self._gathered += data[:room]
            data = data[room:]
            if len(self._gathered) == self._chunk:
                self._send_gathered()
        while len(data) >= self._chunk:
            self._send(data[: self._chunk])
            data = data[self._chunk :]
        self._gathered += data

    def _send_gathered(self) -> None:
        if self._gathered:
            with memoryview(self._gathered) as view:
                self._send(view)
            self._gathered.clear()

    def _send(self, data: memoryview) -> None:
        while len(self._asked) >= _WRITES_IN_FLIGHT:
            self._confirm()
        self._asked.append((smb.ask_write(self._channel, self._file_id, self._sent, data), len(data)))
        self._sent += len(data)

    def _confirm(self) -> None:
        message_id, length = self._asked.popleft()
        reply = self._channel.take(message_id)
        if reply.status != SUCCESS:
            raise smb.StatusError(reply.status)
        if smb.written(reply.body) != length:
            raise ChannelLostError("the server wrote less than it was given")

    def _take_the_name(self) -> None:
        """Samba looks and then renames: of two renames that may not replace, both can succeed. Making a file that may
        not be there yet is one step on every server, so the name is taken that way first."""
        taken = smb.open_file(
            self._channel, self._full, access=smb.WRITE_DATA, disposition=smb.CREATE, options=smb.FILE_ONLY, sharing=0
        )
        smb.close_file(self._channel, taken.file_id)

    def _commit(self) -> Entry:
        total = self._sent + len(self._gathered)
        if self._size_bytes is not None and total != self._size_bytes:
            raise StoreCorruptError(
                store=self._location,
                detail=f"{self._path}: {total} bytes were written, {self._size_bytes} were announced",
            )
        self._send_gathered()
        while self._asked:
            self._confirm()
        smb.flush(self._channel, self._file_id)
        if not self._replace:
            self._take_the_name()
        smb.rename(self._channel, self._file_id, self._full)
        size_bytes, written_at = smb.close_file(self._channel, self._file_id)
        self._is_open = False
        if size_bytes != total:
            raise StoreCorruptError(
                store=self._location, detail=f"{self._path}: the server has {size_bytes} bytes of {total}"
            )
        return Entry(self._path, total, etag=etag(written_at, total))


def etag(written_at: int, size_bytes: int) -> str:
    return f"{written_at:x}-{size_bytes:x}"


def translated(location: str, path: str, writing: bool, do: Callable[[], T]) -> T:
    try:
        return do()
    except smb.StatusError as error:
        raise status_error(location, error.status, path, writing=writing) from error
    except ChannelLostError as error:
        raise StoreUnreachableError(store=location, detail=f"{path}: {error}" if path else str(error)) from error
    except (struct.error, UnicodeDecodeError) as error:
        raise StoreUnreachableError(store=location, detail=f"{path}: the server's answer cannot be read") from error
