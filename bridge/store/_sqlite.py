"""What SQLite's failures mean for whoever has to free a disk."""

from __future__ import annotations

import errno
import sqlite3

# Not SQLITE_FULL: the shared index of a write-ahead log could not be made longer (sqlite.org/rescode.html).
_NO_ROOM_FOR_THE_INDEX = sqlite3.SQLITE_IOERR_SHMSIZE


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
