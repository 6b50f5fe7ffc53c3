"""The store that is an SMB share, spoken to directly (not through the operating system)."""

from __future__ import annotations

import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TypeVar

from bridge.errors import (
    BeingWrittenError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreNotFoundError,
    StoreUnreachableError,
    UnsafePathError,
)
from bridge.secrets import Credential
from bridge.store import _smb_files as smb
from bridge.store._destination import SMB_PORT
from bridge.store._names import is_hidden, partial_name, temporary_name
from bridge.store._paths import check_path
from bridge.store._protocol import Buffer, Entry, Reader, UnsafeNameHandler, Writer
from bridge.store._rate import RateLimiter
from bridge.store._settings import StoreSettings
from bridge.store._smb_channel import Channel, ChannelLostError, ChannelOptions, Reply
from bridge.store._smb_errors import (
    DELETE_PENDING,
    END_OF_FILE,
    NAME_NOT_FOUND,
    PATH_NOT_FOUND,
    SHARING_VIOLATION,
    SUCCESS,
    status_error,
)
from bridge.store._sorted_names import Listed, SortedNames

T = TypeVar("T")

# What is asked for ahead lies in the kernel's buffers until it is read. From a server nearby 4 MiB keep the line busy
# and still fit the processor's cache (8 cost a tenth of the speed); one far away needs more on its way.
_READS_IN_FLIGHT_NEAR = 4
_READS_IN_FLIGHT_FAR = 8
_FAR_S = 0.005  # 4 MiB a round trip of this length are 800 MB/s
_READS_AT_A_RATE = 2
_WRITES_IN_FLIGHT = 4
_FIRST_READ_BYTES = 65536  # comes along with the opening: a small file costs one round trip
_MOST_NAMES = 1_000_000  # in one folder; a server that goes on for ever must not fill our memory
_IDLE_CHANNELS = 8
_TRUSTED_IDLE_S = 60.0  # a firewall may have forgotten what was silent for longer, and tells nobody
_IN_USE = {SHARING_VIOLATION, DELETE_PENDING}
_IN_USE_S = 2.0  # another machine's open, rename or delete is over by then; what is held for longer is told
_NOTHING_THERE = {NAME_NOT_FOUND, PATH_NOT_FOUND, 0xC000000F}


class ShareStore:
    """Files below one folder of a share. Each open file, and each thread, has a connection to itself."""

    def __init__(
        self,
        host: str,
        share: str,
        credential: Credential,
        *,
        port: int | None = None,
        root: str = "",
        settings: StoreSettings | None = None,
    ) -> None:
        """Nothing is sent yet."""
        settings = settings or StoreSettings()
        self._root = root.strip("/")
        self._base = f"\\\\{host}\\{share}" if port in {None, SMB_PORT} else f"smb://{host}:{port}/{share}"
        options = ChannelOptions(
            host=host,
            port=port or SMB_PORT,
            share=share,
            credential=credential,
            location=self._base,
            signing=settings.share_signing,
            encryption=settings.share_encryption,
            connect_timeout_s=settings.connect_timeout_s,
            io_timeout_s=settings.io_timeout_s,
        )
        self._channels = _Channels(options)
        self._is_view = False

    @property
    def location(self) -> str:
        if not self._root:
            return self._base
        separator = "/" if self._base.startswith("smb:") else "\\"
        return separator.join([self._base, *self._root.split("/")])

    # -- looking ------------------------------------------------------------------------------------------------------

    def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
        self._check_open()
        prefix = prefix.rstrip("/")
        if prefix:
            check_path(prefix, self.location)
        return self._walk(prefix, on_unsafe)

    def _walk(self, folder: str, on_unsafe: UnsafeNameHandler | None) -> Iterator[Entry]:
        with SortedNames() as names:
            self._with_channel(folder, lambda channel: self._scan(channel, folder, names))
            for found in names:
                path = f"{folder}/{found.name}" if folder else found.name
                try:
                    check_path(path, self.location)
                    if found.is_link:
                        raise UnsafePathError(store=self.location, path=ascii(path), detail="it is a link, not a file")
                except UnsafePathError as error:
                    if on_unsafe is None:
                        raise
                    on_unsafe(error)
                    continue
                if found.is_folder:
                    yield from self._walk(path, on_unsafe)
                elif not is_hidden(found.name):
                    yield Entry(path, found.size_bytes, etag=_etag(found.written_at, found.size_bytes))

    def _scan(self, channel: Channel, folder: str, names: SortedNames) -> None:
        try:
            opened = smb.open_file(
                channel, self._full(folder), access=smb.LIST, disposition=smb.OPEN, options=smb.FOLDER_ONLY
            )
        except smb.StatusError as error:
            if error.status in _NOTHING_THERE or error.status == 0xC0000103:  # STATUS_NOT_A_DIRECTORY
                return
            raise
        names.read(self._no_more_than_most(folder, smb.list_folder(channel, opened.file_id)))
        smb.close_file(channel, opened.file_id)

    def _no_more_than_most(self, folder: str, found: Iterator[Listed]) -> Iterator[Listed]:
        yield from islice(found, _MOST_NAMES)
        if next(found, None) is not None:
            raise StoreError(
                store=self.location, detail=f"{folder or '.'}: more than {_MOST_NAMES} names in one folder"
            )

    def stat(self, path: str) -> Entry:
        full = self._checked(path)
        status = self._with_channel(path, lambda channel: smb.look(channel, full, options=smb.FILE_ONLY))
        return Entry(path, status.size_bytes, etag=_etag(status.written_at, status.size_bytes))

    def free_bytes(self) -> int | None:
        def ask(channel: Channel) -> int:
            opened = smb.open_file(
                channel, "", access=smb.READ_ATTRIBUTES, disposition=smb.OPEN, options=smb.FOLDER_ONLY
            )
            free = smb.free_bytes(channel, opened.file_id)
            smb.close_file(channel, opened.file_id)
            return free

        return self._with_channel("", ask)

    # -- reading ------------------------------------------------------------------------------------------------------

    @contextmanager
    def open_read(self, path: str, offset: int = 0) -> Iterator[Reader]:
        with self._open_reader(self._checked(path), path, offset) as reader:
            yield reader

    @contextmanager
    def open_read_partial(self, path: str) -> Iterator[Reader]:
        with self._open_reader(partial_name(self._checked(path)), path, 0) as reader:
            yield reader

    @contextmanager
    def _open_reader(self, full: str, path: str, offset: int) -> Iterator[Reader]:
        def open_it(channel: Channel) -> tuple[Channel, smb.FileStatus, Reply, float]:
            asked_at = time.monotonic()
            status, first = smb.open_and_read(channel, full, offset, _FIRST_READ_BYTES)
            return channel, status, first, time.monotonic() - asked_at

        channel, status, first, took_s = self._first_with_channel(path, open_it, writing=False)
        with self._held(channel):
            yield _ShareReader(
                channel,
                status,
                first,
                location=self.location,
                path=path,
                offset=offset,
                reads_in_flight=_READS_IN_FLIGHT_FAR if took_s > _FAR_S else _READS_IN_FLIGHT_NEAR,
                limiter=self._channels.limiter,
            )
            with suppress(ChannelLostError):  # all that was wanted has been read
                channel.drain()
                smb.close_and_forget(channel, status.file_id)

    @contextmanager
    def paced(self, limiter: RateLimiter) -> Iterator[None]:
        """As long as the context lasts, no more is asked for than the limiter lets pass."""
        usual, self._channels.limiter = self._channels.limiter, limiter
        try:
            yield
        finally:
            self._channels.limiter = usual

    # -- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def open_write(self, path: str, size_bytes: int | None = None, *, replace: bool = True) -> Iterator[Writer]:
        full = self._checked(path)
        with self._opened(
            path,
            temporary_name(full),
            access=smb.WRITE_DATA,
            disposition=smb.CREATE,
            sharing=smb.SHARE_READ_DELETE,
        ) as (channel, status):
            writer = _ShareWriter(
                channel,
                status.file_id,
                location=self.location,
                path=path,
                full=full,
                size_bytes=size_bytes,
                replace=replace,
            )
            try:
                yield writer
            finally:
                writer.abandon()

    @contextmanager
    def open_resume(self, path: str, offset: int, size_bytes: int | None = None) -> Iterator[Writer]:
        full = self._checked(path)
        with self._opened(
            path,
            partial_name(full),
            access=smb.WRITE_DATA,
            disposition=smb.OPEN_IF,
            sharing=smb.SHARE_READ,
        ) as (channel, status):
            if offset > status.size_bytes:
                raise StoreError(
                    store=self.location, detail=f"{path}: only {status.size_bytes} bytes are there, not {offset}"
                )
            if offset < status.size_bytes:
                self._translated(path, True, lambda: smb.cut_off(channel, status.file_id, offset))
            writer = _ShareWriter(
                channel,
                status.file_id,
                location=self.location,
                path=path,
                full=full,
                size_bytes=size_bytes,
                replace=True,
            )
            writer.go_on_at(offset)
            try:
                yield writer
            finally:
                writer.keep()

    def partial_bytes(self, path: str) -> int:
        full = partial_name(self._checked(path))
        try:
            return self._with_channel(path, lambda channel: smb.look(channel, full, options=smb.FILE_ONLY)).size_bytes
        except StoreNotFoundError:
            return 0

    def remove_partial(self, path: str) -> None:
        self._remove_unwritten(path, partial_name(self._checked(path)))

    def remove(self, path: str) -> None:
        self._remove(path, self._checked(path))

    def clear_folder(self, path: str) -> None:
        self._checked(path)
        with SortedNames() as names:
            self._with_channel(path, lambda channel: self._scan(channel, path, names))
            for found in names:
                if found.is_link:
                    continue
                below = check_path(f"{path}/{found.name}", self.location)
                if found.is_folder:
                    self.clear_folder(below)
                elif is_hidden(found.name):
                    with suppress(BeingWrittenError):
                        self._remove_unwritten(below, self._full(below))
        self._with_channel(path, lambda channel: self._remove_if_empty(channel, path), writing=True)

    def _remove_if_empty(self, channel: Channel, path: str) -> None:
        try:
            opened = smb.open_file(
                channel, self._full(path), access=smb.DELETE, disposition=smb.OPEN, options=smb.FOLDER_ONLY
            )
        except smb.StatusError as error:
            if error.status in _NOTHING_THERE:
                return
            raise
        try:
            smb.delete(channel, opened.file_id)
        except smb.StatusError as error:
            if error.status != 0xC0000101:  # STATUS_DIRECTORY_NOT_EMPTY (MS-ERREF 2.3.1)
                raise
        finally:
            smb.close_file(channel, opened.file_id)

    def _remove_unwritten(self, path: str, full: str) -> None:
        """Removes a half-written file unless somebody writes it: where somebody does, not to share it is refused."""
        with self._told_as_being_written(path):
            self._remove(path, full, sharing=smb.SHARE_READ_DELETE)

    def _remove(self, path: str, full: str, *, sharing: int = smb.SHARE_ALL) -> None:
        def delete(channel: Channel) -> None:
            try:
                opened = smb.open_file(
                    channel, full, access=smb.DELETE, disposition=smb.OPEN, options=smb.FILE_ONLY, sharing=sharing
                )
            except smb.StatusError as error:
                if error.status in _NOTHING_THERE:
                    return
                raise
            try:
                smb.delete(channel, opened.file_id)
            finally:
                smb.close_file(channel, opened.file_id)

        self._with_channel(path, delete, writing=True)

    # -- places -------------------------------------------------------------------------------------------------------

    def at(self, path: str) -> ShareStore:
        full = self._checked(path)
        deeper = object.__new__(ShareStore)
        deeper.__dict__.update(self.__dict__)
        deeper._root = full
        deeper._is_view = True
        return deeper

    def abort(self) -> None:
        self._channels.interrupt()

    def close(self) -> None:
        if not self._is_view:
            self._channels.close()

    def _check_open(self) -> None:
        if self._channels.is_closed:
            raise StoreClosedError(store=self.location)

    def _checked(self, path: str) -> str:
        self._check_open()
        return self._full(check_path(path, self.location))

    def _full(self, path: str) -> str:
        return "/".join(filter(None, [self._root, path]))

    @contextmanager
    def _opened(
        self, path: str, full: str, *, access: int, disposition: int, sharing: int
    ) -> Iterator[tuple[Channel, smb.FileStatus]]:
        """A file to write, on a connection of its own; folders on the way are made."""

        def open_it(channel: Channel) -> tuple[Channel, smb.FileStatus]:
            def again() -> smb.FileStatus:
                return smb.open_file(
                    channel, full, access=access, disposition=disposition, options=smb.FILE_ONLY, sharing=sharing
                )

            try:
                return channel, again()
            except smb.StatusError as error:
                if error.status != PATH_NOT_FOUND:
                    raise
            folder = full.rpartition("/")[0].split("/")
            for depth in range(len(folder)):
                smb.make_folder(channel, "/".join(folder[: depth + 1]))
            return channel, again()

        with self._told_as_being_written(path):
            channel, status = self._first_with_channel(path, open_it, writing=True)
        with self._held(channel):
            yield channel, status

    @contextmanager
    def _told_as_being_written(self, path: str) -> Iterator[None]:
        """Names who it is that has a half-written file open."""
        try:
            yield
        except StoreError as error:
            if error.fields.get("status") != SHARING_VIOLATION:
                raise
            raise BeingWrittenError(store=self.location, path=path) from error

    @contextmanager
    def _held(self, channel: Channel) -> Iterator[None]:
        try:
            yield
        except BaseException:
            channel.abort()  # the server closes what is open on it
            raise
        self._channels.give_back(channel)

    def _with_channel(self, path: str, use: Callable[[Channel], T], *, writing: bool = False) -> T:
        def use_and_return(channel: Channel) -> T:
            result = use(channel)
            self._channels.give_back(channel)
            return result

        return self._first_with_channel(path, use_and_return, writing=writing)

    def _first_with_channel(self, path: str, use: Callable[[Channel], T], *, writing: bool) -> T:
        """Uses a connection; one that was idle and turns out to be dead is replaced by a new one."""
        self._check_open()
        interrupts = self._channels.interrupts
        while (channel := self._channels.idle()) is not None:
            try:
                return self._use(channel, path, use, writing=writing)
            except StoreUnreachableError:
                if not channel.is_lost or self._channels.interrupts != interrupts:
                    raise
                self._channels.forget_idle()  # the others are as old: each would cost the time-out once more
        return self._use(self._channels.new(), path, use, writing=writing)

    def _use(self, channel: Channel, path: str, use: Callable[[Channel], T], *, writing: bool) -> T:
        try:
            return self._translated(path, writing, lambda: _when_free(lambda: use(channel)))
        except StoreError:
            self._channels.give_back(channel)
            raise

    def _translated(self, path: str, writing: bool, do: Callable[[], T]) -> T:
        return _translated(self.location, path, writing, do)


class _Channels:
    """The connections of one store: those that nobody uses just now are kept."""

    def __init__(self, options: ChannelOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._idle: list[tuple[Channel, float]] = []  # and since when, by the monotonic clock
        self._busy: weakref.WeakSet[Channel] = weakref.WeakSet()
        self.is_closed = False
        self.interrupts = 0
        self.limiter = RateLimiter(threading.Event())
        """What paces the asking; without a rate it lets everything pass."""

    def idle(self) -> Channel | None:
        with self._lock:
            if not self._idle:
                return None
            channel, since = self._idle.pop()
            self._busy.add(channel)
        if time.monotonic() - since <= _TRUSTED_IDLE_S:
            return channel
        channel.abort()
        self.forget_idle()  # it was the one used last
        return None

    def forget_idle(self) -> None:
        """Cuts the connections that nobody uses, without a word to a server that may not hear it."""
        with self._lock:
            idle, self._idle = self._idle, []
        for channel, _ in idle:
            channel.abort()

    def new(self) -> Channel:
        channel = Channel(self._options)
        with self._lock:
            self._busy.add(channel)  # before it is connected: a server may fall silent in the middle of that
        channel.establish()
        return channel

    def interrupt(self) -> None:
        """Wakes every thread that waits for the server, and fails what it waits for."""
        with self._lock:
            self.interrupts += 1
            busy = list(self._busy)
        for channel in busy:
            channel.interrupt()
        self.forget_idle()  # whoever closes the store would wait for the server's good-bye

    def give_back(self, channel: Channel) -> None:
        with self._lock:
            self._busy.discard(channel)
        if channel.is_lost:
            return
        if channel.asked:
            channel.abort()  # somebody left in the middle; what is still to come is nobody's
            return
        with self._lock:
            if not self.is_closed and len(self._idle) < _IDLE_CHANNELS:
                self._idle.append((channel, time.monotonic()))
                return
        channel.log_off()

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
            idle, self._idle = self._idle, []
        for channel, since in idle:
            if time.monotonic() - since <= _TRUSTED_IDLE_S:
                channel.log_off()
            else:
                channel.abort()


class _ShareReader:
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
        reads_in_flight: int,
        limiter: RateLimiter,
    ) -> None:
        self._limiter = limiter
        self._reads_in_flight = reads_in_flight
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
            self._data = smb.data_of_read(first.message)[:_FIRST_READ_BYTES][: max(0, self.size_bytes - offset)]
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
        return _translated(self._location, self._path, False, self._receive)

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


class _ShareWriter:
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
        _translated(self._location, self._path, True, lambda: self._write(memoryview(data).cast("B")))

    def commit(self) -> Entry:
        return _translated(self._location, self._path, True, self._commit)

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
        return Entry(self._path, total, etag=_etag(written_at, total))


def _etag(written_at: int, size_bytes: int) -> str:
    return f"{written_at:x}-{size_bytes:x}"


def _when_free(do: Callable[[], T]) -> T:
    """Does it once more, for a moment, where somebody else has the file open."""
    until = time.monotonic() + _IN_USE_S
    while True:
        try:
            return do()
        except smb.StatusError as error:
            if error.status not in _IN_USE or time.monotonic() >= until:
                raise
        time.sleep(0.05)


def _translated(location: str, path: str, writing: bool, do: Callable[[], T]) -> T:
    try:
        return do()
    except smb.StatusError as error:
        raise status_error(location, error.status, path, writing=writing) from error
    except ChannelLostError as error:
        raise StoreUnreachableError(store=location, detail=f"{path}: {error}" if path else str(error)) from error
    except (struct.error, UnicodeDecodeError) as error:
        raise StoreUnreachableError(store=location, detail=f"{path}: the server's answer cannot be read") from error
