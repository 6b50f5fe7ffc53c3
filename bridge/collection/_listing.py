"""The files of a bundle that is to be delivered, listed on disk: a bundle may have any number of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from tempfile import gettempdir
from types import TracebackType
from typing import Self

from bridge.errors import StoreError, StoreFullError
from bridge.store.transfer import TransferItem

_PAGE_ROWS = 1000


class Listing:
    """Files as a manifest promises them, and as they are found; those found come back sorted by path.

    It has a length and can be walked any number of times, by any thread. It lies in a private temporary database that
    is gone when it is closed. Its methods raise ``StoreFullError`` where there is no space for it.
    """

    def __init__(self) -> None:
        # An empty name is a private on-disk database that SQLite deletes at close (sqlite.org, "Temporary Databases").
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._execute("PRAGMA journal_mode = OFF")
        self._execute(
            "CREATE TABLE file (path TEXT PRIMARY KEY, size_bytes INTEGER, sha256 TEXT, etag TEXT) WITHOUT ROWID"
        )
        self._execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def promise(self, digests: Iterable[tuple[str, str]]) -> None:
        """What the manifest says: paths and their SHA-256."""
        with _as_store_errors():
            self._database.executemany("INSERT OR REPLACE INTO file (path, sha256) VALUES (?, ?)", digests)

    def promised_sha256(self, path: str) -> str | None:
        """What the manifest says of a file that was not found yet."""
        row = self._execute("SELECT sha256 FROM file WHERE path = ?", (path,)).fetchone()
        return row[0] if row else None

    def find(self, item: TransferItem) -> None:
        """A file that is there."""
        self._execute(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", (item.path, item.size_bytes, item.sha256, item.etag)
        )

    def missing(self) -> tuple[int, str | None]:
        """How many files were promised and not found, and the first of them."""
        count, first = self._execute("SELECT COUNT(*), MIN(path) FROM file WHERE size_bytes IS NULL").fetchone()
        return count, first

    def __len__(self) -> int:
        count: int = self._execute("SELECT COUNT(*) FROM file WHERE size_bytes IS NOT NULL").fetchone()[0]
        return count

    def __iter__(self) -> Iterator[TransferItem]:
        query = "SELECT * FROM file WHERE path > ? AND size_bytes IS NOT NULL ORDER BY path LIMIT ?"
        last = ""
        while page := self._execute(query, (last, _PAGE_ROWS)).fetchall():
            for path, size_bytes, sha256, etag in page:
                yield TransferItem(path, size_bytes, sha256, etag=etag)
            last = page[-1][0]

    def _execute(self, statement: str, values: tuple[str | int | None, ...] = ()) -> sqlite3.Cursor:
        with _as_store_errors():
            return self._database.execute(statement, values)


@contextmanager
def _as_store_errors() -> Iterator[None]:
    where = f"the list of files in {gettempdir()}"
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        raise (StoreFullError if full else StoreError)(store=where, detail=str(error)) from error
