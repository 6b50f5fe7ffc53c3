"""Finds names that differ only in case: a share, or a folder on Windows, takes both for one."""

from __future__ import annotations

import secrets
from contextlib import suppress

from bridge.errors import StoreNotFoundError
from bridge.store._protocol import FolderTree, PartialStore
from bridge.store._temporary import TemporaryDatabase

_MOST_PAIRS = 100
_SCHEMA = "CREATE TABLE names (folded TEXT PRIMARY KEY, path TEXT) WITHOUT ROWID"


class Twins:
    """Takes the names of a transfer one by one; keeps them in a temporary file, not in memory. Not thread-safe."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        """Files, or folders, of one folder that differ only in case: the first hundred."""
        self._folder = ""
        self._db = TemporaryDatabase("the list of names", _SCHEMA)
        self._db.run("BEGIN")

    def add(self, path: str) -> None:
        """Notes a file and the folders that it lies in."""
        folder = path.rpartition("/")[0]
        if folder != self._folder:  # files come folder by folder, as a rule
            self._folder = folder
            self._add_folder(folder)
        self._add(path)

    def _add_folder(self, folder: str) -> None:
        if folder:
            self._add_folder(folder.rpartition("/")[0])
            self._add(folder)

    def _add(self, path: str) -> None:
        folded = path.casefold()
        if self._db.run("INSERT OR IGNORE INTO names VALUES (?, ?)", (folded, path)) or len(self.pairs) >= _MOST_PAIRS:
            return
        [(earlier,)] = self._db.rows("SELECT path FROM names WHERE folded = ?", (folded,))
        # Below two such folders everything has a twin: the folders say it all.
        if earlier != path and earlier.rpartition("/")[0] == path.rpartition("/")[0]:
            self.pairs.append((earlier, path))

    def close(self) -> None:
        self._db.close()


def takes_for_one(target: PartialStore, first: str, second: str) -> bool:
    """Whether a store takes two names, which differ in their last part, for one: asked of the store itself, as each
    has its own rules of what is upper case. What is written for it is removed again.

    Raises:
        StoreError: the store cannot be written to.
    """
    probe = f".pep-case-{secrets.token_hex(8)}"
    one, other = (f"{probe}/{name.rpartition('/')[2]}/probe" for name in (first, second))
    try:
        with target.open_resume(one, 0, 1) as writer:
            writer.write(b"?")
        return target.partial_bytes(other) > 0
    finally:
        if isinstance(target, FolderTree):
            with suppress(StoreNotFoundError):
                target.clear_folder(probe)
