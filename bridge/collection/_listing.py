"""The files of a bundle that is to be delivered, listed on disk: a bundle may have any number of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from bridge.store import TemporaryDatabase
from bridge.store.transfer import TransferItem

_PAGE_ROWS = 1000
_SCHEMA = "CREATE TABLE file (path TEXT PRIMARY KEY, size_bytes INTEGER, sha256 TEXT, etag TEXT) WITHOUT ROWID"


class Listing:
    """Files as a manifest promises them, and as they are found; those found come back sorted by path.

    It has a length and can be walked any number of times, by any thread. It lies in a private temporary database that
    is gone when it is closed. Its methods raise ``StoreFullError`` where there is no space for it.
    """

    def __init__(self) -> None:
        self._database = TemporaryDatabase("the list of files", _SCHEMA)
        self._database.run("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def promise(self, digests: Iterable[tuple[str, str]]) -> None:
        """What the manifest says: paths and their SHA-256."""
        self._database.run_for_each("INSERT OR REPLACE INTO file (path, sha256) VALUES (?, ?)", digests)

    def promised_sha256(self, path: str) -> str | None:
        """What the manifest says of a file that was not found yet."""
        rows = self._database.rows("SELECT sha256 FROM file WHERE path = ?", (path,))
        return rows[0][0] if rows else None

    def find(self, item: TransferItem) -> None:
        """A file that is there."""
        self._database.run(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", (item.path, item.size_bytes, item.sha256, item.etag)
        )

    def missing(self) -> tuple[int, str | None]:
        """How many files were promised and not found, and the first of them."""
        [(count, first)] = self._database.rows("SELECT COUNT(*), MIN(path) FROM file WHERE size_bytes IS NULL")
        return count, first

    def __len__(self) -> int:
        [(count,)] = self._database.rows("SELECT COUNT(*) FROM file WHERE size_bytes IS NOT NULL")
        return int(count)

    def __iter__(self) -> Iterator[TransferItem]:
        query = "SELECT * FROM file WHERE path > ? AND size_bytes IS NOT NULL ORDER BY path LIMIT ?"
        last = ""
        while page := self._database.rows(query, (last, _PAGE_ROWS)):
            for path, size_bytes, sha256, etag in page:
                yield TransferItem(path, size_bytes, sha256, etag=etag)
            last = page[-1][0]
