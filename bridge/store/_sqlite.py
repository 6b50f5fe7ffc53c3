"""What SQLite's failures mean for whoever has to free a disk, and a log that several processes begin at once."""

from __future__ import annotations

import errno
import sqlite3
import time

# Not SQLITE_FULL: the shared index of a write-ahead log could not be made longer (sqlite.org/rescode.html).
_NO_ROOM_FOR_THE_INDEX = sqlite3.SQLITE_IOERR_SHMSIZE
_LOOK_AGAIN_S = 0.01


def says_full(error: sqlite3.Error | OSError) -> bool:
    """Whether a database could not be opened, read or written because there is no space left."""
    code = int(getattr(error, "sqlite_errorcode", 0))
    return (
        primary_code(error) == sqlite3.SQLITE_FULL
        or code == _NO_ROOM_FOR_THE_INDEX
        or getattr(error, "errno", None) == errno.ENOSPC
    )


def primary_code(error: sqlite3.Error | OSError) -> int:
    """SQLite's primary result code, 0 where it said none: the extended ones say more in their higher bytes."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def use_write_ahead_log(connection: sqlite3.Connection, patience_s: float) -> None:
    """Sets the mode that outlives SIGKILL, and waits for another process that sets it.

    SQLite's own waiting does not cover this change: who meets another one is told at once that the file is locked.

    Raises:
        sqlite3.Error: the file cannot be written, or stayed locked.
    """
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_at:
                raise
        else:
            return
        time.sleep(_LOOK_AGAIN_S)
