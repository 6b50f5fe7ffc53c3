"""The names of one folder, sorted: a list that is too long for memory lies on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple, Self

from bridge.store._temporary import TemporaryDatabase

_MOST_KEPT = 20_000  # a few megabytes
_PAGE_NAMES = 1000
_SCHEMA = "CREATE TABLE names (place BLOB, is_folder, size_bytes, written_at, is_link)"
# The rows that such a statement makes are numbered from 1 in the order of its query (sqlite.org/lang_createtable.html).
_SORT = "CREATE TABLE sorted AS SELECT * FROM names ORDER BY place, rowid"


class Listed(NamedTuple):
    """One name in a folder. Of the rest a share's listing tells; a file of this machine is asked for it when it is its
    turn."""

    name: str
    is_folder: bool
    size_bytes: int = 0
    written_at: int = 0
    """In units of 100 ns since 1601 (FILETIME)."""
    is_link: bool = False


class SortedNames:
    """Takes the names of a folder in any order and gives them back in the order of their files' paths.

    A folder sorts as its files do, by the whole path: "a.txt" stands before "a/b" ('.' < '/'). To be used in a
    ``with``: at its end what lies on the disk is gone.

    Raises:
        StoreFullError: there is no space for a long list; reading and giving back may raise it.
    """

    def __init__(self, most_kept: int = _MOST_KEPT) -> None:
        """
        Args:
            most_kept: as many names stay in memory, more go to a temporary database.
        """
        self._most_kept = most_kept
        self._kept: list[Listed] = []
        self._database: TemporaryDatabase | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, found: Iterable[Listed]) -> None:
        """Takes all names of a folder; of a reading that fails none are left."""
        try:
            self._read(iter(found))
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Listed]:
        return iter(self._kept) if self._database is None else _given_back(self._database)

    def close(self) -> None:
        self._kept = []
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _read(self, found: Iterator[Listed]) -> None:
        self._kept = list(islice(found, self._most_kept))
        for one in found:
            if len(self._kept) >= self._most_kept:
                self._put_away()
            self._kept.append(one)
        if self._database is None:
            self._kept.sort(key=_place)
        else:
            self._put_away()
            self._database.run(_SORT)

    def _put_away(self) -> None:
        if self._database is None:
            self._database = TemporaryDatabase("the list of a folder's names", _SCHEMA)
            self._database.run("BEGIN")
        self._database.run_for_each(
            "INSERT INTO names VALUES (?, ?, ?, ?, ?)",
            # These bytes sort as the characters do; a name need not be text, and SQLite's text must be.
            ((_place(one).encode("utf-8", "surrogatepass"), *one[1:]) for one in self._kept),
        )
        self._kept = []


def _place(one: Listed) -> str:
    return one.name + "/" if one.is_folder else one.name


def _given_back(database: TemporaryDatabase) -> Iterator[Listed]:
    last = 0
    page = "SELECT rowid, * FROM sorted WHERE rowid > ? ORDER BY rowid LIMIT ?"
    while rows := database.rows(page, (last, _PAGE_NAMES)):
        for last, place, is_folder, size_bytes, written_at, is_link in rows:  # noqa: B007 - the next page begins there
            name = place.decode("utf-8", "surrogatepass")
            yield Listed(name[:-1] if is_folder else name, bool(is_folder), size_bytes, written_at, bool(is_link))
