"""Finds names that differ only in case: a share, or a folder on Windows, holds one file for both."""

from __future__ import annotations

import sqlite3

_MOST_PAIRS = 100


class Twins:
    """Takes the names of a transfer one by one; keeps them in a temporary file, not in memory. Not thread-safe."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("CREATE TABLE names (folded TEXT PRIMARY KEY, path TEXT) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def add(self, path: str) -> None:
        """Notes a name; where an earlier one differs only in case, both stand in ``pairs`` (the first hundred)."""
        folded = path.casefold()
        added = self._db.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (folded, path))
        if added.rowcount or len(self.pairs) >= _MOST_PAIRS:
            return
        (earlier,) = self._db.execute("SELECT path FROM names WHERE folded = ?", (folded,)).fetchone()
        if earlier != path:
            self.pairs.append((earlier, path))

    def close(self) -> None:
        self._db.close()
