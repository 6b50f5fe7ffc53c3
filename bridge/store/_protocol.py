"""What every store can do: the port between bundles and the three places where they live."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bridge.errors import StoreError, UnsafePathError
from bridge.store._rate import RateLimiter

Buffer = bytes | bytearray | memoryview
UnsafeNameHandler = Callable[[UnsafePathError], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a store. ``path`` is relative to the store's root, with ``/`` between its parts, and has passed
    ``check_path``. ``md5`` is what a service says of its contents, where it says anything; ``etag`` changes when the
    file does (of a folder or share: the time of its last write, with its size)."""

    path: str
    size_bytes: int
    md5: bytes | None = None
    etag: str | None = None


class Reader(Protocol):
    """An open file that is read front to back, by one thread at a time."""

    size_bytes: int

    def readinto(self, buffer: memoryview, /) -> int:
        """Fills the buffer from where the last read ended; returns the bytes read, 0 only at the end."""
        ...


class LendingReader(Reader, Protocol):
    """A reader that can show what has come where it lies: whoever only looks at it needs no copy (a share)."""

    def lend(self) -> memoryview:
        """The next bytes, as many as have come together, until the reader is called again; empty only at the end."""
        ...


class Writer(Protocol):
    """A file that is being written; it is there, whole, only after ``commit``.

    Leaving the context without ``commit`` leaves no file under its name (blocks or a partial file that a later
    attempt can go on from may stay, under a name that ``list`` does not show).
    """

    def write(self, data: Buffer, /) -> None: ...

    def commit(self) -> Entry: ...


class ReadableStore(Protocol):
    """What whoever only looks at files asks of a store."""

    def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
        """As ``Store.list``."""
        ...

    def open_read(self, path: str, offset: int = 0) -> AbstractContextManager[Reader]:
        """As ``Store.open_read``."""
        ...


class Store(ReadableStore, Protocol):
    """A folder, an SMB share or a blob container, rooted at one place in it.

    Paths are relative, ``/``-separated and checked (``check_path``) by every method. Failures are ``StoreError``s: not
    found, access, authentication, read-only, full, unreachable, unsafe path. A store may be used from several threads.
    """

    @property
    def location(self) -> str:
        """Where this is, for people: a path, a UNC path or a URL without its query. Never a secret."""
        ...

    def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
        """Every file at or below a folder, at any depth, sorted by path. An absent folder has no files.

        A name found there that ``check_path`` refuses, or that is no plain file or folder (a symbolic link, a
        device), is not followed: ``on_unsafe`` is called with the error and the listing goes on; without a handler
        the error is raised where it is met, so that nothing is passed over in silence.
        """
        ...

    def stat(self, path: str) -> Entry:
        """One file; raises ``StoreNotFoundError``."""
        ...

    def open_read(self, path: str, offset: int = 0) -> AbstractContextManager[Reader]: ...

    def open_write(
        self, path: str, size_bytes: int | None = None, *, replace: bool = True
    ) -> AbstractContextManager[Writer]:
        """A new file, or the replacement of an old one; folders on the way are made.

        With ``replace=False`` the commit raises ``StoreExistsError`` where a file of that name is there already;
        of several writers, in any process, exactly one succeeds. (On a share the name may be seen empty for a moment
        before the file is there.)
        """
        ...

    def remove(self, path: str) -> None:
        """Removes one file; an absent one is no error."""
        ...

    def free_bytes(self) -> int | None:
        """Space left, or ``None`` where the store does not say (a container)."""
        ...

    def at(self, path: str) -> Store:
        """The same store rooted one folder deeper: a view that shares its connections and ends when it is closed."""
        ...

    def close(self) -> None:
        """Ends connections; every later call raises ``StoreClosedError``. Closing twice is no error."""
        ...


@runtime_checkable
class FolderTree(Protocol):
    """A store in which folders exist without files in them (folder, share): a container has none."""

    def clear_folder(self, path: str) -> None:
        """Removes what ``list`` does not show of a folder whose files were removed: half-written files that nobody
        writes, and every folder that is empty. Whatever else is there stays."""
        ...


@runtime_checkable
class ListedReads(Protocol):
    """A store that need not be asked again how large a file of its listing is (a container)."""

    def open_listed(self, entry: Entry, offset: int = 0) -> AbstractContextManager[Reader]:
        """Reads the file that the entry tells of.

        Where it was replaced since, ``readinto`` raises ``StoreReplacedError``; after a ``StoreUnreachableError`` it
        may be called again, and goes on at the byte reached.
        """
        ...

    def abort_reads(self) -> None:
        """Wakes every thread that waits for an answer; may be called from any thread."""
        ...


@runtime_checkable
class Abortable(Protocol):
    """A store whose server may fall silent while a thread waits for it (a share)."""

    def abort(self) -> None:
        """Wakes every thread that waits for an answer, which then raises; may be called from any thread.

        The store can be used again afterwards.
        """
        ...


@runtime_checkable
class PacedReads(Protocol):
    """A store whose reading can be held to a rate (a share, a container)."""

    def paced(self, limiter: RateLimiter) -> AbstractContextManager[None]:
        """As long as the context lasts, no more is asked for than the limiter lets pass."""
        ...


class PartialStore(Store, Protocol):
    """A store of files (folder, share) that can go on with a half-written one, in this process or a later one."""

    def partial_bytes(self, path: str) -> int:
        """How much of an uncommitted, resumable write of this file is there; 0 where there is none."""
        ...

    def open_read_partial(self, path: str) -> AbstractContextManager[Reader]:
        """Reads what is there of it, so that it can be checked before it is continued."""
        ...

    def open_resume(self, path: str, offset: int, size_bytes: int | None = None) -> AbstractContextManager[Writer]:
        """A write that is kept when it is left without ``commit`` (or killed) and goes on at ``offset``, cutting off
        whatever lies beyond; offset 0 starts anew. One writer a path at a time."""
        ...

    def remove_partial(self, path: str) -> None:
        """Removes what is there of it; nothing there is no error.

        Raises ``BeingWrittenError``, as ``open_resume`` does, where somebody writes it in this process or another one.
        """
        ...


Outcomes = list[Entry | StoreError]
"""What became of several writes, in their order."""


@runtime_checkable
class CommitsTogether(Protocol):
    """A store that commits many files at the cost of a few (a folder): a disk confirms one flush at a time."""

    def commit_together(self, writers: Sequence[Writer]) -> Outcomes:
        """Commits writes of this store, all flushed before the first is said to be there; what becomes of each."""
        ...
