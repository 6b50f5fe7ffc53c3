"""What the target holds already, looked up by path without keeping a long list in memory."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """What a target says of a file that it has."""

    path: str
    size_bytes: int
    md5: bytes | None = None
    etag: str | None = None
    sha256: str | None = None


class Arrived:
    """An index of the target's files in a temporary file that SQLite makes on demand and removes."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        for fact in facts:
            if self._db is None:
                self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
                self._db.execute("PRAGMA journal_mode=OFF")
                self._db.execute("CREATE TABLE files (path TEXT PRIMARY KEY, size, md5, etag, sha256) WITHOUT ROWID")
                self._db.execute("BEGIN")
            self._db.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                (fact.path, fact.size_bytes, fact.md5, fact.etag, fact.sha256),
            )
        if self._db is not None:
            self._db.execute("COMMIT")

    def __bool__(self) -> bool:
        return self._db is not None

    def find(self, path: str) -> Fact | None:
        if self._db is None:
            return None
        with self._lock:
            row = self._db.execute("SELECT * FROM files WHERE path = ?", (path,)).fetchone()
        return Fact(*row) if row else None

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
