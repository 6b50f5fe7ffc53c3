"""What every store can do: the port between bundles and the three places where they live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a store. ``path`` is relative to the store's root, with ``/`` between its parts, and has passed
    ``check_path``. ``md5`` and ``etag`` are what a service says of it, where it says anything."""

    path: str
    size_bytes: int
    md5: bytes | None = None
    etag: str | None = None


class Reader(Protocol):
    """An open file that is read front to back."""

    size_bytes: int

    def readinto(self, buffer: memoryview, /) -> int:
        """Fills the buffer from where the last read ended; returns the bytes read, 0 only at the end."""
        ...


class Writer(Protocol):
    """A file that is being written; it is there, whole, only after ``commit``.

    Leaving the context without ``commit`` leaves no file under its name (blocks or a partial file that a later
    attempt can go on from may stay, under a name that ``list`` does not show).
    """

    def write(self, data: Buffer, /) -> None: ...

    def commit(self) -> Entry: ...


class Store(Protocol):
    """A folder, an SMB share or a blob container, rooted at one place in it.

    Paths are relative, ``/``-separated and checked (``check_path``) by every method. Failures are ``StoreError``s: not
    found, access, authentication, read-only, full, unreachable, unsafe path. A store may be used from several threads.
    """

    @property
    def location(self) -> str:
        """Where this is, for people: a path, a UNC path or a URL without its query. Never a secret."""
        ...

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every file at or below a folder, at any depth, sorted by path. An absent folder has no files."""
        ...

    def stat(self, path: str) -> Entry:
        """One file; raises ``StoreNotFoundError``."""
        ...

    def open_read(self, path: str, offset: int = 0) -> AbstractContextManager[Reader]: ...

    def open_write(self, path: str, size_bytes: int | None = None) -> AbstractContextManager[Writer]:
        """A new file, or the replacement of an old one; folders on the way are made."""
        ...

    def remove(self, path: str) -> None:
        """Removes one file; an absent one is no error."""
        ...

    def free_bytes(self) -> int | None:
        """Space left, or ``None`` where the store does not say (a container)."""
        ...

    def at(self, path: str) -> Store:
        """The same store rooted one folder deeper."""
        ...

    def close(self) -> None: ...
