"""The store that is a folder of this machine (or a UNC path that Windows itself opens)."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from bridge.errors import (
    BeingWrittenError,
    StoreClosedError,
    StoreError,
    StoreNotFoundError,
    UnsafePathError,
)
from bridge.store._beneath import opener_beneath
from bridge.store._folder_streams import FolderReader, FolderWriter, entry_of
from bridge.store._names import is_hidden, partial_name, temporary_name
from bridge.store._os_errors import store_error, store_errors
from bridge.store._os_files import (
    FILE_MODE,
    SHARING_VIOLATION,
    is_link,
    is_still,
    lock,
    make_folders,
    once_let_go,
    os_path,
    remove_if_empty,
    sync_folder,
)
from bridge.store._paths import check_path
from bridge.store._protocol import Entry, Outcomes, Reader, UnsafeNameHandler, Writer
from bridge.store._sorted_names import Listed, SortedNames

T = TypeVar("T")

_READ = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe under a file's name must not stop us
    | getattr(os, "O_NOCTTY", 0)
)
_WRITE = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class FolderStore:
    """Files below one folder; symbolic links and junctions below it are never followed.

    Files are made for their owner alone (0600 in folders of 0700; on Windows they inherit the folder's list). A file
    is written beside its place, flushed to the disk and then renamed.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        location: str | None = None,
        on_close: Callable[[], None] = lambda: None,
        view_of: FolderStore | None = None,
    ) -> None:
        self._root = os_path(root)
        self._location = location or str(root)
        self._on_close = on_close
        self._view_of = view_of
        self._closed: threading.Event = view_of._closed if view_of else threading.Event()

    @property
    def location(self) -> str:
        return self._location

    @property
    def root(self) -> Path:
        """The folder itself, as a path that other programs understand."""
        return Path(self._location)

    # -- looking ------------------------------------------------------------------------------------------------------

    def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
        self._check_open()
        prefix = prefix.rstrip("/")
        if prefix:
            self._checked(prefix)
        return self._walk(prefix, on_unsafe)

    def _walk(self, folder: str, on_unsafe: UnsafeNameHandler | None) -> Iterator[Entry]:
        beside = os.path.join(self._full(folder), "")  # noqa: PTH118 - with the separator, which a drive has already
        with SortedNames() as names:
            self._scan(folder, beside, names)
            for found in names:
                path = f"{folder}/{found.name}" if folder else found.name
                try:
                    check_path(path, self.location)
                    status = self._status_in_listing(path, beside + found.name)
                except UnsafePathError as error:
                    if on_unsafe is None:
                        raise
                    on_unsafe(error)
                    continue
                if status is None or is_hidden(found.name):
                    continue
                if stat.S_ISDIR(status.st_mode):
                    yield from self._walk(path, on_unsafe)
                else:
                    yield entry_of(path, status)

    def _scan(self, folder: str, full: str, names: SortedNames) -> None:
        try:
            with os.scandir(full) as entries:
                names.read(Listed(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise store_error(self.location, error, folder, writing=False) from error

    def _status_in_listing(self, path: str, full: str) -> os.stat_result | None:
        # Asked for each when it is its turn: an entry of the folder would keep it, for a million files at once, and on
        # Windows knows the size of an open file only later.
        try:
            status = os.lstat(full)
        except FileNotFoundError:
            return None  # the stamp is still at work there
        except OSError as error:
            raise store_error(self.location, error, path, writing=False) from error
        if is_link(status) or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise UnsafePathError(store=self.location, path=ascii(path), detail="it is a link or a device, not a file")
        return status

    def stat(self, path: str) -> Entry:
        full = self._checked(path)
        with store_errors(self.location, path, writing=False):
            status = os.lstat(full)
        if not stat.S_ISREG(status.st_mode):
            raise StoreNotFoundError(store=self.location, detail=f"{path}: it is a folder, not a file", path=path)
        return entry_of(path, status)

    def free_bytes(self) -> int | None:
        import shutil  # eight milliseconds that most runs need not spend

        self._check_open()
        folder = Path(self._root)
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        with store_errors(self.location, "", writing=False):
            return shutil.disk_usage(folder).free

    # -- reading ------------------------------------------------------------------------------------------------------

    def open_read(self, path: str, offset: int = 0) -> AbstractContextManager[Reader]:
        return _Opening(self, path, path, offset)

    def open_read_partial(self, path: str) -> AbstractContextManager[Reader]:
        return _Opening(self, path, partial_name(path), 0)

    def _open_file(self, path: str) -> tuple[io.FileIO, int]:
        """A plain file and its size; no part of its path is a link, and a pipe or device does not stop us."""
        self._check_open()
        check_path(path, self.location)
        opened = _opener()
        if opened is None:
            descriptor = self._open_looked_at(path)
        else:
            try:
                descriptor = opened(self._root, path)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise self._is_a_link(path) from error
                if error.errno == errno.ENXIO:
                    raise self._is_no_file(path) from error
                raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self._is_no_file(path)
            return io.FileIO(descriptor), status.st_size
        except BaseException:
            os.close(descriptor)
            raise

    def _open_looked_at(self, path: str) -> int:
        """The same in two steps, for Windows and old kernels."""
        full = self._checked(path)
        # Looked at before it is opened: a pipe would wait, a folder be refused in a way that differs by system.
        if not stat.S_ISREG(os.lstat(full).st_mode):
            raise self._is_no_file(path)
        return os.open(full, _READ)

    def _is_a_link(self, path: str) -> UnsafePathError:
        return UnsafePathError(store=self.location, path=ascii(path), detail="a part of it is a link")

    def _is_no_file(self, path: str) -> StoreNotFoundError:
        return StoreNotFoundError(store=self.location, detail=f"{path}: it is not a file", path=path)

    # -- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def open_write(self, path: str, size_bytes: int | None = None, *, replace: bool = True) -> Iterator[Writer]:
        full = self._checked(path)
        temporary = self._full(temporary_name(path))
        writer = self._open_writer(path, full, temporary, size_bytes, flags=os.O_CREAT | os.O_EXCL, replace=replace)
        try:
            yield writer
        finally:
            if not writer.close():
                with store_errors(self.location, path, writing=True), suppress(FileNotFoundError):
                    once_let_go(Path(temporary).unlink)

    @contextmanager
    def open_resume(self, path: str, offset: int, size_bytes: int | None = None) -> Iterator[Writer]:
        full = self._checked(path)
        temporary = self._full(partial_name(path))
        writer = self._open_writer(path, full, temporary, size_bytes, flags=os.O_CREAT)
        try:
            writer.go_on_at(offset)
            yield writer
        finally:
            writer.close()

    def commit_together(self, writers: Sequence[Writer]) -> Outcomes:
        """Commits several writes of this store.

        The system is told of all of them before it is asked for the first, so that it writes them as one; each folder
        is flushed once. Nothing is said to be there whose content and name are not on the disk.
        """
        ours = [writer for writer in writers if isinstance(writer, FolderWriter)]
        if len(ours) != len(writers):
            raise TypeError("these are not writers of a folder")
        for writer in ours:
            writer.begin_flush()
        flushed = [_outcome(writer.flush) for writer in ours]
        named = [
            outcome if isinstance(outcome, StoreError) else _outcome(writer.rename)
            for writer, outcome in zip(ours, flushed, strict=True)
        ]
        unsure = {folder: _outcome(partial(self._sync_folder, folder)) for folder in {one.folder for one in ours}}
        lost = {folder: outcome for folder, outcome in unsure.items() if isinstance(outcome, StoreError)}
        return [lost.get(writer.folder, outcome) for writer, outcome in zip(ours, named, strict=True)]

    def _sync_folder(self, folder: str) -> None:
        with store_errors(self.location, "", writing=True):
            sync_folder(folder)

    def _open_writer(
        self, path: str, full: str, temporary: str, size_bytes: int | None, *, flags: int, replace: bool = True
    ) -> FolderWriter:
        with store_errors(self.location, path, writing=True):
            make_folders(Path(full).parent)
            if Path(full).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            file = io.FileIO(self._open_alone(path, temporary, _WRITE | flags), "r+")
        return FolderWriter(
            file,
            location=self.location,
            path=path,
            full=full,
            temporary=temporary,
            size_bytes=size_bytes,
            replace=replace,
        )

    def _open_alone(self, path: str, temporary: str, flags: int) -> int:
        """A file that no other process writes: two that continue the same one would leave holes in it."""
        while True:
            descriptor = os.open(temporary, flags, FILE_MODE)
            try:
                if not lock(descriptor):
                    raise BeingWrittenError(store=self.location, path=path)
                if is_still(descriptor, temporary):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its writer has just finished it: the name is free again

    def partial_bytes(self, path: str) -> int:
        self._checked(path)
        with store_errors(self.location, path, writing=False):
            try:
                return os.lstat(self._full(partial_name(path))).st_size
            except FileNotFoundError:
                return 0

    def remove_partial(self, path: str) -> None:
        self._checked(path)
        self._remove_unwritten(self._full(partial_name(path)), path)

    def _remove_unwritten(self, temporary: str, path: str) -> None:
        """Removes a half-written file unless somebody writes it: a lock says so, and Windows, which then refuses."""
        with store_errors(self.location, path, writing=True), suppress(FileNotFoundError, NotADirectoryError):
            locks = os.name != "nt" and stat.S_ISREG(os.lstat(temporary).st_mode)
            descriptor = self._open_alone(path, temporary, _WRITE) if locks else None
            try:
                once_let_go(Path(temporary).unlink)
            except OSError as error:
                if getattr(error, "winerror", None) == SHARING_VIOLATION:
                    raise BeingWrittenError(store=self.location, path=path) from error
                raise
            finally:
                if descriptor is not None:
                    os.close(descriptor)

    def remove(self, path: str) -> None:
        full = self._checked(path)
        with store_errors(self.location, path, writing=True), suppress(FileNotFoundError, NotADirectoryError):
            once_let_go(Path(full).unlink)

    def clear_folder(self, path: str) -> None:
        full = self._checked(path)
        with store_errors(self.location, path, writing=True):
            for folder, _, names in os.walk(full, topdown=False, onerror=_raise_unless_gone):
                for name in filter(is_hidden, names):
                    with suppress(BeingWrittenError):
                        self._remove_unwritten(os.path.join(folder, name), path)  # noqa: PTH118 - as it is
                once_let_go(partial(remove_if_empty, Path(folder)))

    # -- places -------------------------------------------------------------------------------------------------------

    def at(self, path: str) -> FolderStore:
        full = self._checked(path)
        separator = "\\" if self._location.startswith("\\\\") else os.sep
        location = separator.join([self._location.rstrip("/\\"), *path.split("/")])
        return FolderStore(full, location=location, view_of=self)

    def close(self) -> None:
        if self._view_of is None and not self._closed.is_set():
            self._closed.set()
            self._on_close()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise StoreClosedError(store=self.location)

    def _full(self, path: str) -> str:
        return os.path.join(self._root, *path.split("/")) if path else self._root  # noqa: PTH118 - \\?\ paths as they are

    def _checked(self, path: str) -> str:
        """The path in the operating system's form, once no part of it below the root is a link."""
        self._check_open()
        check_path(path, self.location)
        full = self._root
        for part in path.split("/"):
            full = os.path.join(full, part)  # noqa: PTH118
            try:
                status = os.lstat(full)
            except (FileNotFoundError, NotADirectoryError):
                break
            except OSError as error:
                raise store_error(self.location, error, path, writing=False) from error
            if is_link(status):
                raise self._is_a_link(path)
        return self._full(path)


class _Opening:
    """A file that is opened when its context is entered: a plain class, as small files come by the ten thousand."""

    __slots__ = ("_file", "_name", "_offset", "_path", "_store")

    def __init__(self, store: FolderStore, path: str, name: str, offset: int) -> None:
        self._store = store
        self._path = path
        self._name = name
        self._offset = offset
        self._file: io.FileIO | None = None

    def __enter__(self) -> Reader:
        try:
            file, size_bytes = self._store._open_file(self._name)
            self._file = file
            if self._offset:
                file.seek(self._offset)
        except OSError as error:
            raise store_error(self._store.location, error, self._path, writing=False) from error
        return FolderReader(file, size_bytes, self._store.location, self._path)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@cache
def _opener() -> Callable[[str, str], int] | None:
    return opener_beneath(_READ)


def _outcome(step: Callable[[], T]) -> T | StoreError:
    try:
        return step()
    except StoreError as error:
        return error
