"""Finds names that differ only in case: a share, or a folder on Windows, holds one file for both."""

from __future__ import annotations

from bridge.store._temporary import TemporaryDatabase

_MOST_PAIRS = 100
_SCHEMA = "CREATE TABLE names (folded TEXT PRIMARY KEY, path TEXT) WITHOUT ROWID"


class Twins:
    """Takes the names of a transfer one by one; keeps them in a temporary file, not in memory. Not thread-safe."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self._db = TemporaryDatabase("the list of names", _SCHEMA)
        self._db.run("BEGIN")

    def add(self, path: str) -> None:
        """Notes a name; where an earlier one differs only in case, both stand in ``pairs`` (the first hundred)."""
        folded = path.casefold()
        if self._db.run("INSERT OR IGNORE INTO names VALUES (?, ?)", (folded, path)) or len(self.pairs) >= _MOST_PAIRS:
            return
        [(earlier,)] = self._db.rows("SELECT path FROM names WHERE folded = ?", (folded,))
        if earlier != path:
            self.pairs.append((earlier, path))

    def close(self) -> None:
        self._db.close()
