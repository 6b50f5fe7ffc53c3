"""What a delivery remembers between processes: which files and blocks the target has confirmed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bridge.errors import JournalError
from bridge.store.transfer._block_ids import BlockKey

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, source_mark TEXT, target_mark TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    path TEXT NOT NULL, block_id TEXT NOT NULL, PRIMARY KEY (path, block_id)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A file that the target has confirmed. The marks are the stores' ETags of then: equal marks, unchanged file."""

    path: str
    size_bytes: int
    sha256: str
    source_mark: str | None
    target_mark: str | None


class TransferJournal:
    """A SQLite file (write-ahead log) that survives SIGKILL at any moment and a lost power supply.

    It only ever claims less than the target has: an entry is written after the service's answer. Losing the file costs
    questions to the target, never data.

    Raises:
        JournalError: it cannot be opened or written, is of a newer version, or belongs to another delivery.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5.0)
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from error
        found = self._fact("schema_version", str(_SCHEMA_VERSION))
        if found != str(_SCHEMA_VERSION):
            raise JournalError(
                path=str(path), detail=f"it is of version {found}", fix="Use the newer pep-bridge that made it."
            )

    def belongs_to(self, source: str, target: str) -> None:
        """Ties the journal to one delivery; the first call decides.

        Raises:
            JournalError: it was made for another source or target.
        """
        for name, value in (("source", source), ("target", target)):
            if (found := self._fact(name, value)) != value:
                raise JournalError(
                    path=str(self._path), detail=f"it belongs to the {name} {found}", fix="Give every delivery its own."
                )

    def delivered(self, path: str) -> Delivered | None:
        rows = self._run("SELECT * FROM files WHERE path = ?", (path,))
        return Delivered(*rows[0]) if rows else None

    def record(self, files: Iterable[Delivered]) -> None:
        """Writes confirmed files, all in one transaction, and forgets their blocks."""
        rows = [(file.path, file.size_bytes, file.sha256, file.source_mark, file.target_mark) for file in files]
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)
                self._db.executemany("DELETE FROM blocks WHERE path = ?", [row[:1] for row in rows])
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise self._error(error) from error

    def forget(self, path: str) -> None:
        """Drops a file and its blocks: the target does not have it after all."""
        self._run("DELETE FROM files WHERE path = ?", (path,))
        self._run("DELETE FROM blocks WHERE path = ?", (path,))

    def staged(self, path: str) -> list[BlockKey]:
        """The blocks that the service has confirmed and that are not known to be part of a blob."""
        keys = [
            BlockKey.decode(block_id)
            for (block_id,) in self._run("SELECT block_id FROM blocks WHERE path = ?", (path,))
        ]
        return [key for key in keys if key is not None]

    def record_block(self, path: str, key: BlockKey) -> None:
        self._run("INSERT OR REPLACE INTO blocks VALUES (?, ?)", (path, key.encode()))

    def remove(self) -> None:
        """Closes it and removes its file: the delivery is done, and a later one must look at the target anew."""
        self.close()
        for ending in ("", "-wal", "-shm"):
            with suppress(OSError):  # Windows keeps what another process has open; it is memory only
                self._path.with_name(self._path.name + ending).unlink()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> TransferJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fact(self, name: str, value: str) -> str:
        self._run("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, value))
        found: str = self._run("SELECT value FROM facts WHERE name = ?", (name,))[0][0]
        return found

    def _run(self, statement: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise self._error(error) from error

    def _error(self, error: Exception) -> JournalError:
        return JournalError(
            path=str(self._path), detail=str(error), fix="Check the folder's space and permissions, then run it again."
        )
