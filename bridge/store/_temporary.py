"""A private database on disk for what may be longer than memory: it is gone when it is closed."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from bridge.errors import StoreError, StoreFullError
from bridge.store._sqlite import says_full

T = TypeVar("T")

_PAGE_ROWS = 1000


class TemporaryDatabase:
    """SQLite with an empty name: a database of this connection alone, in the system's folder for temporary files once
    it outgrows the cache, deleted at close (sqlite.org, "Temporary Databases"). Any thread may use it: SQLite
    serialises the calls.

    Args:
        holds: what is in it, for errors: "the list of files".
        schema: a constant of the caller, never input.

    Raises:
        StoreFullError: there is no space for it; every method may raise it.
        StoreError: it cannot be read or written; every method may raise it.
    """

    def __init__(self, holds: str, schema: str) -> None:
        self._holds = holds
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self.run("PRAGMA journal_mode = OFF")
        self.run("PRAGMA synchronous = OFF")
        self.run(schema)

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Executes a statement; returns how many rows it has changed."""
        try:
            return self._database.execute(statement, values).rowcount
        except sqlite3.Error as error:
            raise self._as_store_error(error) from error

    def run_for_each(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Executes a statement once for each of these."""
        try:
            self._database.executemany(statement, values)
        except sqlite3.Error as error:
            raise self._as_store_error(error) from error

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query: a caller that may have many asks page by page."""
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._as_store_error(error) from error

    def close(self) -> None:
        self._database.close()

    def _as_store_error(self, error: sqlite3.Error) -> StoreError:
        kind = StoreFullError if says_full(error) else StoreError
        return kind(
            store=f"{self._holds} in {_folder()}",
            detail=str(error),
            fix="See that the folder can be written to, or name another one in TMPDIR (on Windows: TMP).",
        )


class FilesByPath(Generic[T]):
    """Some of the files, sorted by path (by code point): with a length, and to be walked any number of times, by any
    thread. They are read page by page: a caller may write while it walks."""

    def __init__(self, database: TemporaryDatabase, columns: str, where: str, make: Callable[..., T]) -> None:
        self._database = database
        self._count = f"SELECT COUNT(*) FROM file WHERE {where}"  # noqa: S608 - a constant, as by_path says
        self._page = f"SELECT {columns} FROM file WHERE path > ? AND ({where}) ORDER BY path LIMIT {_PAGE_ROWS}"  # noqa: S608
        self._make = make

    def __len__(self) -> int:
        [(count,)] = self._database.rows(self._count)
        return int(count)

    def __iter__(self) -> Iterator[T]:
        last = ""
        while page := self._database.rows(self._page, (last,)):
            yield from (self._make(*values) for values in page)
            last = page[-1][0]


class FilesOnDisk:
    """Any number of files by path, in a table ``file`` of a temporary database. To be used in a ``with``: at its end
    they are gone. Every method raises ``StoreFullError`` where there is no space for it."""

    def __init__(self, holds: str, columns: str) -> None:
        """
        Args:
            holds: what is in it, for errors: "the list of files".
            columns: what is kept of a file beside its path; a constant, never input.
        """
        self._database = TemporaryDatabase(holds, f"CREATE TABLE file (path TEXT PRIMARY KEY, {columns}) WITHOUT ROWID")
        self._database.run("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def by_path(self, columns: str, where: str, make: Callable[..., T]) -> FilesByPath[T]:
        """The files for which a condition holds, each as ``make`` makes it of its columns.

        Args:
            columns: the path first; as ``where``, a constant, never input.
        """
        return FilesByPath(self._database, columns, where, make)


def _folder() -> str:
    """Where SQLite makes temporary files: its choice is not Python's (sqlite.org/tempfiles.html, section 5)."""
    return _folder_of_windows() if sys.platform == "win32" else _folder_of_unix()


def _folder_of_windows() -> str:
    named = map(os.environ.get, ("TMP", "TEMP", "USERPROFILE"))  # the order of GetTempPathW (fileapi.h)
    return next(filter(None, named), tempfile.gettempdir())


def _folder_of_unix() -> str:
    named = map(os.environ.get, ("SQLITE_TMPDIR", "TMPDIR"))
    usual = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108 - named, not used
    return next((folder for folder in filter(None, (*named, *usual)) if _may_write_in(folder)), ".")


def _may_write_in(folder: str) -> bool:
    return Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)
