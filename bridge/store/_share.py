"""The store that is an SMB share, spoken to directly (not through the operating system)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TypeVar

from bridge.errors import (
    BeingWrittenError,
    StoreClosedError,
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
from bridge.store._protocol import Entry, Reader, UnsafeNameHandler, Writer
from bridge.store._rate import RateLimiter
from bridge.store._settings import StoreSettings
from bridge.store._share_channels import Channels
from bridge.store._share_streams import FIRST_READ_BYTES, ShareReader, ShareWriter, etag, translated
from bridge.store._smb_channel import Channel, ChannelLostError, ChannelOptions, Reply
from bridge.store._smb_errors import DELETE_PENDING, NAME_NOT_FOUND, PATH_NOT_FOUND, SHARING_VIOLATION
from bridge.store._sorted_names import Listed, SortedNames

T = TypeVar("T")

_MOST_NAMES = 1_000_000  # in one folder; a server that goes on for ever must not fill our memory
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
        self._channels = Channels(options)
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
                    yield Entry(path, found.size_bytes, etag=etag(found.written_at, found.size_bytes))

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
        return Entry(path, status.size_bytes, etag=etag(status.written_at, status.size_bytes))

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
            status, first = smb.open_and_read(channel, full, offset, FIRST_READ_BYTES)
            return channel, status, first, time.monotonic() - asked_at

        channel, status, first, took_s = self._first_with_channel(path, open_it, writing=False)
        with self._held(channel):
            yield ShareReader(
                channel,
                status,
                first,
                location=self.location,
                path=path,
                offset=offset,
                round_trip_s=took_s,
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
            writer = ShareWriter(
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
            writer = ShareWriter(
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
        return translated(self.location, path, writing, do)


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
