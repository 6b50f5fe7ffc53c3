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

from bridge.errors import JournalError, JournalFullError
from bridge.store._sqlite import primary_code, says_full, use_write_ahead_log
from bridge.store.transfer._block_ids import BlockKey

_SCHEMA_VERSION = 1
_BUSY_S = 5.0  # how long another process may write
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
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
    questions to the target, never data: so one that is damaged is moved aside, and a new one begun.

    Raises:
        JournalError: it cannot be opened or written, is of a newer version, or belongs to another delivery.
        JournalFullError: there is no space for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.set_aside: Path | None = None
        """Where a damaged journal, which this one has replaced, was moved."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = self._open_whole()
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from error
        found = self._fact("schema_version", str(_SCHEMA_VERSION))
        if found != str(_SCHEMA_VERSION):
            raise JournalError(
                path=str(path), detail=f"it is of version {found}", fix="Use the newer pep-bridge that made it."
            )

    def _open_whole(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if not _is_damaged(error):
                raise
            self._move_aside()
            return self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=_BUSY_S)
        try:
            self._path.chmod(0o600)
            use_write_ahead_log(db, _BUSY_S)
            db.execute("PRAGMA synchronous=NORMAL")
            db.executescript(_SCHEMA)
            if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise _DamagedError(found)
        except BaseException:
            db.close()
            raise
        return db

    def _move_aside(self) -> None:
        self.set_aside = self._path.with_name(f"{self._path.name}.damaged")
        self._path.replace(self.set_aside)
        for ending in ("-wal", "-shm"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)

    def belongs_to(self, source: str, target: str) -> None:
        """Ties the journal to one target; the first call decides.

        The source may be another copy of the same files, or the same one at another place: what the target has is
        known by its content, only the old source's own marks say nothing any more.

        Raises:
            JournalError: it was made for another target.
        """
        if (found := self._fact("target", target)) != target:
            raise JournalError(
                path=str(self._path), detail=f"it belongs to the target {found}", fix="Give every delivery its own."
            )
        if self._fact("source", source) != source:
            self._run("UPDATE files SET source_mark = NULL", ())  # first: a cut between the two costs only questions
            self._run("UPDATE facts SET value = ? WHERE name = 'source'", (source,))

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

    def _error(self, error: sqlite3.Error | OSError) -> JournalError:
        if says_full(error):
            return JournalFullError(path=str(self._path), detail=str(error))
        return JournalError(path=str(self._path), detail=str(error), fix=_fix_for(error))


class _DamagedError(sqlite3.DatabaseError):
    """What a check of the file has found."""


def _is_damaged(error: sqlite3.Error) -> bool:
    return isinstance(error, _DamagedError) or primary_code(error) in _DAMAGED


def _fix_for(error: sqlite3.Error | OSError) -> str:
    if isinstance(error, sqlite3.Error) and _is_damaged(error):
        return "Run the same command again: the file is then moved aside, and the target asked what it has."
    if isinstance(error, sqlite3.Error) and primary_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return "Another process is using it: wait until that has ended, then run the same command again."
    return "Check the folder's permissions, then run it again."
