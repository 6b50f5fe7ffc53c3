"""What the target holds already, looked up by path without keeping a long list in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.store._temporary import TemporaryDatabase

_SCHEMA = "CREATE TABLE files (path TEXT PRIMARY KEY, size, md5, etag, sha256) WITHOUT ROWID"


@dataclass(frozen=True, slots=True)
class Fact:
    """What a target says of a file that it has."""

    path: str
    size_bytes: int
    md5: bytes | None = None
    etag: str | None = None
    sha256: str | None = None


class Arrived:
    """An index of the target's files in a temporary database; none is made where the target has nothing."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self._lock = threading.Lock()
        self._db: TemporaryDatabase | None = None
        for fact in facts:
            if self._db is None:
                self._db = TemporaryDatabase("the list of what the target has", _SCHEMA)
                self._db.run("BEGIN")
            self._db.run(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                (fact.path, fact.size_bytes, fact.md5, fact.etag, fact.sha256),
            )
        if self._db is not None:
            self._db.run("COMMIT")

    def __bool__(self) -> bool:
        return self._db is not None

    def find(self, path: str) -> Fact | None:
        if self._db is None:
            return None
        with self._lock:
            rows = self._db.rows("SELECT * FROM files WHERE path = ?", (path,))
        return Fact(*rows[0]) if rows else None

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
