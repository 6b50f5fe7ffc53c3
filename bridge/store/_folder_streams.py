"""A file of a folder as it is read and as it is written: beside its place, flushed, then renamed."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from functools import partial

from bridge.errors import StoreCorruptError, StoreError
from bridge.store._os_errors import store_error, store_errors
from bridge.store._os_files import once_let_go, rename_to_new, sync_folder
from bridge.store._protocol import Buffer, Entry


class FolderReader:
    """A plain file, as long as it was when it was opened."""

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


class FolderWriter:
    """A file under a name of its own until it is whole and on the disk."""

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
            sync_folder(self.folder)
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
            entry = entry_of(self._path, os.fstat(self._file.fileno()))  # whatever becomes of the name afterwards
            if os.name == "nt":
                self._file.close()  # what is open cannot be renamed there, and so not be taken by another writer
            rename = os.replace if self._replace else rename_to_new  # strings: \\?\ paths as they are
            once_let_go(partial(rename, self._temporary, self._full))
            self._file.close()  # with its lock: another writer then sees that the name is no longer this file's
            self._committed = True
            return entry

    def close(self) -> bool:
        """Closes the file; tells whether it was committed."""
        self._file.close()
        return self._committed


def entry_of(path: str, status: os.stat_result) -> Entry:
    return Entry(path, status.st_size, etag=f"{status.st_mtime_ns:x}-{status.st_size:x}")
