"""The payload of a run that is sealed: its files as listed and as hashed, on disk, as there may be any number."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.store import Entry, FilesOnDisk
from bridge.store.transfer import FileHash


class Payload(FilesOnDisk):
    """What one look at the payload found."""

    def __init__(self) -> None:
        super().__init__(
            "the list of the payload's files", "size_bytes INTEGER NOT NULL, md5 BLOB, etag TEXT, sha256 TEXT"
        )
        self.entries = self.by_path("path, size_bytes, md5, etag", "1", Entry)
        """Every file, as it was listed."""
        self.digests = self.by_path("path, size_bytes, sha256", "sha256 IS NOT NULL", FileHash)
        """Every file whose digest is known by now."""

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
