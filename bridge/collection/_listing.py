"""The files of a bundle that is to be delivered, listed on disk: a bundle may have any number of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bridge.store import FilesOnDisk
from bridge.store.transfer import TransferItem


class Listing(FilesOnDisk):
    """Files as a manifest promises them, and as they are found; those found come back sorted by path.

    It has a length and can be walked any number of times, by any thread.
    """

    def __init__(self) -> None:
        super().__init__("the list of files", "size_bytes INTEGER, sha256 TEXT, etag TEXT")
        self._found = self.by_path("path, size_bytes, sha256, etag", "size_bytes IS NOT NULL", TransferItem)

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
        return len(self._found)

    def __iter__(self) -> Iterator[TransferItem]:
        return iter(self._found)
