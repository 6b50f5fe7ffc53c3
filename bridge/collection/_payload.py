"""The payload of a run that is sealed: its files as listed and as hashed, on disk, as there may be any number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from bridge.store import Entry, TemporaryDatabase
from bridge.store.transfer import FileHash

T = TypeVar("T")

_PAGE_ROWS = 1000
_SCHEMA = (
    "CREATE TABLE file (path TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, md5 BLOB, etag TEXT, sha256 TEXT)"
    " WITHOUT ROWID"
)


class Rows(Generic[T]):
    """Some of the files, sorted by path: with a length, and to be walked any number of times, by any thread."""

    def __init__(self, database: TemporaryDatabase, columns: str, where: str, make: Callable[..., T]) -> None:
        """``columns`` (the path first) and ``where`` are constants of this module."""
        self._database = database
        self._count = f"SELECT COUNT(*) FROM file WHERE {where}"  # noqa: S608 - see above
        self._page = f"SELECT {columns} FROM file WHERE path > ? AND {where} ORDER BY path LIMIT {_PAGE_ROWS}"  # noqa: S608
        self._make = make

    def __len__(self) -> int:
        [(count,)] = self._database.rows(self._count)
        return int(count)

    def __iter__(self) -> Iterator[T]:
        last = ""
        while page := self._database.rows(self._page, (last,)):
            yield from (self._make(*values) for values in page)
            last = page[-1][0]


class Payload:
    """What one look at the payload found. It lies in a private temporary database that is gone when it is closed; its
    methods raise ``StoreFullError`` where there is no space for it."""

    def __init__(self) -> None:
        self._database = TemporaryDatabase("the list of the payload's files", _SCHEMA)
        self.entries: Rows[Entry] = Rows(self._database, "path, size_bytes, md5, etag", "1", Entry)
        """Every file, as it was listed."""
        self.digests: Rows[FileHash] = Rows(self._database, "path, size_bytes, sha256", "sha256 IS NOT NULL", FileHash)
        """Every file whose digest is known by now."""
        self._database.run("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def list(self, entries: Iterable[Entry]) -> None:
        """Enters what there is."""
        self._database.run_for_each(
            "INSERT OR REPLACE INTO file (path, size_bytes, md5, etag) VALUES (?, ?, ?, ?)",
            ((entry.path, entry.size_bytes, entry.md5, entry.etag) for entry in entries),
        )

    @property
    def size_bytes(self) -> int:
        """Of all files, as listed."""
        [(size_bytes,)] = self._database.rows("SELECT COALESCE(SUM(size_bytes), 0) FROM file")
        return int(size_bytes)

    def entry(self, path: str) -> Entry | None:
        """A file as it was listed."""
        rows = self._database.rows("SELECT path, size_bytes, md5, etag FROM file WHERE path = ?", (path,))
        return Entry(*rows[0]) if rows else None

    def hashed(self, path: str, size_bytes: int, sha256: str) -> None:
        """A file was read to its end."""
        self._database.run("UPDATE file SET size_bytes = ?, sha256 = ? WHERE path = ?", (size_bytes, sha256, path))
