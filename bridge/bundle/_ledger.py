"""What a payload should be beside what is there, kept on disk: a bundle may have any number of files."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.store import Entry, FilesByPath, FilesOnDisk

IS_PAYLOAD = "(path >= 'data/' AND path < 'data0')"  # '0' follows '/': a range that the key serves
IS_TAG = f"NOT {IS_PAYLOAD}"

_COLUMNS = (
    "path, expected_sha256, expected_bytes, found_bytes, found_sha256, expected_md5, found_md5, problem,"
    " in_manifest, unhashed"
)
_DECLARED = (
    "expected_sha256 TEXT, expected_bytes INTEGER, found_bytes INTEGER, found_sha256 TEXT, expected_md5 BLOB,"
    " found_md5 BLOB, problem TEXT, in_manifest INTEGER NOT NULL DEFAULT 0, unhashed INTEGER NOT NULL DEFAULT 0"
)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One path: what was promised of it, and what was found."""

    path: str
    expected_sha256: str | None
    expected_bytes: int | None
    found_bytes: int | None
    found_sha256: str | None
    expected_md5: bytes | None
    found_md5: bytes | None
    problem: str | None
    in_manifest: bool
    unhashed: bool


class Ledger(FilesOnDisk):
    """Promised and found files by path. A hasher may walk the rows in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("the list of the bundle's files", _DECLARED)

    def promise_sha256(self, path: str, sha256: str) -> bool:
        """A manifest's line; false where the manifest has that path already (the first line stands)."""
        return (
            self._database.run(
                "INSERT INTO file (path, expected_sha256, in_manifest) VALUES (?, ?, 1) ON CONFLICT (path)"
                " DO UPDATE SET expected_sha256 = excluded.expected_sha256, in_manifest = 1 WHERE in_manifest = 0",
                (path, sha256),
            )
            > 0
        )

    def promise_size(self, path: str, size_bytes: int) -> bool:
        """A promised size; false where another one was promised for that path already."""
        return (
            self._database.run(
                "INSERT INTO file (path, expected_bytes) VALUES (?, ?) ON CONFLICT (path)"
                " DO UPDATE SET expected_bytes = excluded.expected_bytes"
                " WHERE expected_bytes IS NULL OR expected_bytes = excluded.expected_bytes",
                (path, size_bytes),
            )
            > 0
        )

    def promise_unhashed(self, path: str, md5: bytes | None = None) -> None:
        """A file that is in the payload, as the bundle itself says, without a SHA-256."""
        self._database.run(
            "INSERT INTO file (path, unhashed, expected_md5) VALUES (?, 1, ?) ON CONFLICT (path)"
            " DO UPDATE SET unhashed = 1, expected_md5 = excluded.expected_md5",
            (path, md5),
        )

    def find(self, entry: Entry) -> None:
        """A file that is there."""
        self._database.run(
            "INSERT INTO file (path, found_bytes, found_md5) VALUES (?, ?, ?) ON CONFLICT (path)"
            " DO UPDATE SET found_bytes = excluded.found_bytes, found_md5 = excluded.found_md5",
            (entry.path, entry.size_bytes, entry.md5),
        )

    def find_sha256(self, path: str, sha256: str) -> None:
        """The checksum that a file has."""
        self._database.run("UPDATE file SET found_sha256 = ? WHERE path = ?", (sha256, path))

    def fail(self, path: str, problem: str) -> None:
        """A file that is there and could not be read, and why."""
        self._database.run("UPDATE file SET problem = ? WHERE path = ?", (problem, path))

    def lose(self, path: str) -> None:
        """A file that was listed and then was not there to be read."""
        self._database.run("UPDATE file SET found_bytes = NULL WHERE path = ?", (path,))

    def has(self, path: str) -> bool:
        """Whether a file of that path was found."""
        query = "SELECT 1 FROM file WHERE path = ? AND found_bytes IS NOT NULL"
        return bool(self._database.rows(query, (path,)))

    def rows(self, where: str = "1") -> FilesByPath[LedgerRow]:
        """The rows for which a condition (a constant of this package, never input) holds, as a manifest is sorted."""
        return self.by_path(_COLUMNS, where, LedgerRow)

    def total(self, where: str = "1") -> tuple[int, int]:
        """How many rows meet a condition, and the sum of the sizes found, in bytes."""
        query = f"SELECT COUNT(*), COALESCE(SUM(found_bytes), 0) FROM file WHERE {where}"  # noqa: S608
        [(count, size_bytes)] = self._database.rows(query)
        return count, size_bytes
