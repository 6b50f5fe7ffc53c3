"""The store that is a folder of this machine (or a UNC path that Windows itself opens)."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from bridge.errors import (
    BeingWrittenError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreNotFoundError,
    UnsafePathError,
)
from bridge.store._beneath import opener_beneath
from bridge.store._names import is_hidden, partial_name, temporary_name
from bridge.store._os_errors import store_error, store_errors
from bridge.store._paths import check_path
from bridge.store._protocol import Buffer, Entry, Outcomes, Reader, UnsafeNameHandler, Writer
from bridge.store._sorted_names import Listed, SortedNames

T = TypeVar("T")

_FILE_MODE = 0o600
_FOLDER_MODE = 0o700
_READ = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe under a file's name must not stop us
    | getattr(os, "O_NOCTTY", 0)
)
_WRITE = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_LOCKED_BYTE = 1 << 62  # far behind every content: on Windows a lock keeps others from its bytes
_ACCESS_DENIED, _SHARING_VIOLATION = 5, 32  # as winerror (MS-ERREF 2.2)
_HELD_ELSEWHERE = {_ACCESS_DENIED, _SHARING_VIOLATION}
_HELD_FOR_S = 2.0
_REPARSE_LINKS = {0xA000000C, 0xA0000003}  # IO_REPARSE_TAG_SYMLINK, IO_REPARSE_TAG_MOUNT_POINT (MS-FSCC 2.1.2.1)


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
                    yield _entry(path, status)

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
        if _is_link(status) or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise UnsafePathError(store=self.location, path=ascii(path), detail="it is a link or a device, not a file")
        return status

    def stat(self, path: str) -> Entry:
        full = self._checked(path)
        with store_errors(self.location, path, writing=False):
            status = os.lstat(full)
        if not stat.S_ISREG(status.st_mode):
            raise StoreNotFoundError(store=self.location, detail=f"{path}: it is a folder, not a file", path=path)
        return _entry(path, status)

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
        ours = [writer for writer in writers if isinstance(writer, _FolderWriter)]
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
            _sync_folder(folder)

    def _open_writer(
        self, path: str, full: str, temporary: str, size_bytes: int | None, *, flags: int, replace: bool = True
    ) -> _FolderWriter:
        with store_errors(self.location, path, writing=True):
            _make_folders(Path(full).parent)
            if Path(full).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            file = io.FileIO(self._open_alone(path, temporary, _WRITE | flags), "r+")
        return _FolderWriter(
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
            descriptor = os.open(temporary, flags, _FILE_MODE)
            try:
                if not _lock(descriptor):
                    raise BeingWrittenError(store=self.location, path=path)
                if _is_still(descriptor, temporary):
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
                if getattr(error, "winerror", None) == _SHARING_VIOLATION:
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
                once_let_go(partial(_remove_if_empty, Path(folder)))

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
            if _is_link(status):
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
        return _FolderReader(file, size_bytes, self._store.location, self._path)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


class _FolderReader:
    __slots__ = ("_file", "_location", "_path", "size_bytes")

    def __init__(self, file: io.FileIO, size_bytes: int, location: str, path: str) -> None:
        self.size_bytes = size_bytes
        self._file = file
        self._location = location
        self._path = path

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            return self._file.readinto(buffer) or 0
        except OSError as error:
            raise store_error(self._location, error, self._path, writing=False) from error


class _FolderWriter:
    def __init__(
        self,
        file: io.FileIO,
        *,
        location: str,
        path: str,
        full: str,
        temporary: str,
        size_bytes: int | None,
        replace: bool,
    ) -> None:
        self._file = file
        self._location = location
        self._path = path
        self._full = full
        self._temporary = temporary
        self._size_bytes = size_bytes
        self._replace = replace
        self._written = 0
        self._committed = False

    def go_on_at(self, offset: int) -> None:
        with store_errors(self._location, self._path, writing=True):
            there = os.fstat(self._file.fileno()).st_size
            if offset > there:
                raise StoreError(
                    store=self._location, detail=f"{self._path}: only {there} bytes are there, not {offset}"
                )
            self._file.truncate(offset)
            self._file.seek(offset)
        self._written = offset

    def write(self, data: Buffer, /) -> None:
        rest = memoryview(data).cast("B")
        with store_errors(self._location, self._path, writing=True):
            while rest:
                written = self._file.write(rest)
                self._written += written
                rest = rest[written:]

    def commit(self) -> Entry:
        self.flush()
        entry = self.rename()
        with store_errors(self._location, self._path, writing=True):
            _sync_folder(self.folder)
        return entry

    @property
    def folder(self) -> str:
        return os.path.dirname(self._full)  # noqa: PTH120 - \\?\ paths as they are

    def begin_flush(self) -> None:
        """Has the system begin to write it to the disk, where it can be told so, without waiting."""
        if sys.platform == "linux":
            with suppress(OSError):  # the flush says what is wrong
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def flush(self) -> None:
        """Has its content on the disk, once it is as long as announced."""
        if self._size_bytes is not None and self._written != self._size_bytes:
            raise StoreCorruptError(
                store=self._location,
                detail=f"{self._path}: {self._written} bytes were written, {self._size_bytes} were announced",
            )
        with store_errors(self._location, self._path, writing=True):
            os.fsync(self._file.fileno())

    def rename(self) -> Entry:
        """Gives it its name; the folder is still to be flushed."""
        with store_errors(self._location, self._path, writing=True):
            entry = _entry(self._path, os.fstat(self._file.fileno()))  # whatever becomes of the name afterwards
            if os.name == "nt":
                self._file.close()  # what is open cannot be renamed there, and so not be taken by another writer
            rename = os.replace if self._replace else _rename_to_new  # strings: \\?\ paths as they are
            once_let_go(partial(rename, self._temporary, self._full))
            self._file.close()  # with its lock: another writer then sees that the name is no longer this file's
            self._committed = True
            return entry

    def close(self) -> bool:
        """Closes the file; tells whether it was committed."""
        self._file.close()
        return self._committed


def once_let_go(
    step: Callable[[], T],
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Renames or removes a file as soon as nobody else on Windows has it open, and tries for two seconds.

    A scanner, an indexer or another machine opens what was just written for a moment, without sharing it for removal:
    Windows refuses the rename meanwhile (CreateFile, FILE_SHARE_DELETE, Microsoft Learn). It says the same where the
    access is denied for good, so that this is known two seconds later.

    Raises:
        OSError: the last one that the step raised.
    """
    give_up_at = monotonic() + _HELD_FOR_S
    wait_s = 0.01
    while True:
        try:
            return step()
        except OSError as error:
            held = getattr(error, "winerror", None) in _HELD_ELSEWHERE
            if not held or monotonic() >= give_up_at:
                raise
        sleep(wait_s)
        wait_s = min(2 * wait_s, 0.2)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise


@cache
def _opener() -> Callable[[str, str], int] | None:
    return opener_beneath(_READ)


def os_path(root: Path | str) -> str:
    """An absolute path; on Windows in the form that has no limit of 260 characters (Naming Files, Microsoft Learn)."""
    if sys.platform != "win32":
        return os.path.abspath(root)  # noqa: PTH100 - a link at the root itself is the caller's choice
    full = os.path.abspath(root)  # type: ignore[unreachable,unused-ignore]  # noqa: PTH100
    if full.startswith("\\\\?\\"):
        return full
    if full.startswith("\\\\"):
        return "\\\\?\\UNC\\" + full[2:]
    return "\\\\?\\" + full


def _entry(path: str, status: os.stat_result) -> Entry:
    return Entry(path, status.st_size, etag=f"{status.st_mtime_ns:x}-{status.st_size:x}")


def _make_folders(folder: Path) -> None:
    """Path.mkdir(parents=True) would give the folders on the way everybody's permissions."""
    missing = []
    while not folder.is_dir():
        if folder == folder.parent:  # a drive or share that is gone is its own parent
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=_FOLDER_MODE, exist_ok=True)


def _is_link(status: os.stat_result) -> bool:
    return stat.S_ISLNK(status.st_mode) or (os.name == "nt" and getattr(status, "st_reparse_tag", 0) in _REPARSE_LINKS)


def _rename_to_new(source: str, target: str) -> None:
    if os.name == "nt":
        os.rename(source, target)  # noqa: PTH104 - refuses an existing target on Windows
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: take the name first, then put the contents there.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _FILE_MODE))
        os.replace(source, target)  # noqa: PTH105
        return
    os.unlink(source)  # noqa: PTH108


def _lock(descriptor: int) -> bool:
    """Locks a file until it is closed; false where another process or writer has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems cannot: there it is as it was without.
        return error.errno not in {errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
    return True


def _is_still(descriptor: int, path: str) -> bool:
    """Whether the open file is the one under this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _outcome(step: Callable[[], T]) -> T | StoreError:
    try:
        return step()
    except StoreError as error:
        return error


def _sync_folder(path: str) -> None:
    if os.name == "nt":
        return  # Windows has no handle on a folder that can be flushed without more rights
    folder = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network file systems cannot
            raise
    finally:
        os.close(folder)
