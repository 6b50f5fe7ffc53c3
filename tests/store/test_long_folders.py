"""One folder of very many files is listed in order, in a memory that does not grow with their number."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import StoreError
from bridge.store import FolderStore, Store, TemporaryDatabase, open_store, parse_destination
from bridge.store._sorted_names import Listed, SortedNames
from tests.support.samba import Samba

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="not run: open files are seen in /proc on Linux only")

# The peak of the whole process, which counts what SQLite holds too: of its own start and imports, then of the listing.
_LIST_AND_MEASURE = """
import resource, sys
from bridge.store import FolderStore
store = FolderStore(sys.argv[1])
list(store.list("warm"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
previous, count = "", 0
for entry in store.list("many"):
    assert previous < entry.path
    previous, count = entry.path, count + 1
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def make_files(folder: Path, count: int) -> None:
    """In an order that is not the listing's."""
    folder.mkdir(parents=True)
    for number in range(count):
        os.close(os.open(folder / f"{number * 7919 % count:06}-{'long' * 20}.zip", os.O_CREAT | os.O_WRONLY, 0o600))


@linux_only
def test_the_memory_of_a_listing_does_not_grow_with_the_files_of_a_folder(tmp_path: Path) -> None:
    grown_kib: dict[int, int] = {}
    for count in (25_000, 60_000):
        root = tmp_path / str(count)
        make_files(root / "many", count)
        (root / "warm").mkdir()
        done = subprocess.run(
            [sys.executable, "-c", _LIST_AND_MEASURE, str(root)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        listed, grown_kib[count] = (int(word) for word in done.stdout.split())
        assert listed == count
    assert grown_kib[60_000] < 16 * 1024, grown_kib
    assert grown_kib[60_000] < grown_kib[25_000] + 6 * 1024, grown_kib


def test_a_long_folder_of_a_share_is_listed_in_order_and_cleared(
    samba: Samba, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_at_most(1000, monkeypatch)
    folder = samba.path() / tmp_path.name / "many"
    make_files(folder, 5000)
    (folder / "000003").mkdir()
    (folder / "000003" / "below").write_text("x")
    (folder / ".pep-0123456789abcdef.partial").write_text("half")
    expected = sorted(str(file.relative_to(folder)) for file in folder.rglob("[!.]*") if file.is_file())
    with closing(open_store(parse_destination(samba.url(folder=tmp_path.name)), credential=samba.credential)) as store:
        assert [entry.path for entry in store.at("many").list()] == expected
        for file in expected:
            (folder / file).unlink()
        store.clear_folder("many")  # type: ignore[attr-defined]
    assert not folder.exists()


def test_folders_and_files_of_a_long_folder_are_listed_as_those_of_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "a-b", "B"):
        (tmp_path / name / "deep").mkdir(parents=True)
        for inner in ("z.zip", "deep/x.zip", "deep.zip"):
            (tmp_path / name / inner).write_text("x")
    for name in ("a.txt", "a0", "Z", "ä.log", "日本.log", "emoji-😀.log"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to(tmp_path / "Z")
    usual, told = look(FolderStore(tmp_path))
    assert len(usual) == 15
    assert len(told) == 1
    for most_kept in (0, 1, 2, 5, 9, 10):
        keep_at_most(most_kept, monkeypatch)
        assert look(FolderStore(tmp_path)) == (usual, told)


def look(store: Store) -> tuple[list[object], list[str]]:
    told: list[str] = []
    return list(store.list(on_unsafe=lambda error: told.append(str(error)))), told


def keep_at_most(names: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in ("_folder", "_share"):
        monkeypatch.setattr(f"bridge.store.{where}.SortedNames", lambda: SortedNames(names))


# -- order ------------------------------------------------------------------------------------------------------------

# Few characters, so that names share their beginnings; what sorts near the slash, near the surrogates, and one half of
# a pair, as a server may send it and as bytes that are no text are told.
names = st.text("ab.-/0\0~é\ud7ff\ud800\udcff\udfff\ue000\uffff😀", max_size=6)
numbers = st.integers(0, 2**63 - 1)
listed = st.builds(Listed, names, st.booleans(), numbers, st.integers(-(2**63), 2**63 - 1), st.booleans())


@given(st.lists(listed, max_size=40), st.integers(0, 41))
def test_names_come_back_whole_and_in_order_wherever_they_lay(found: list[Listed], most_kept: int) -> None:
    with SortedNames(most_kept) as sorted_names:
        sorted_names.read(iter(found))
        returned = list(sorted_names)
    assert returned == sorted(found, key=lambda one: one.name + "/" if one.is_folder else one.name)
    assert all(type(one.is_folder) is type(one.is_link) is bool for one in returned)


@pytest.mark.parametrize("count", [1999, 2000, 2001, 4000, 4001])
def test_none_is_lost_where_one_page_or_part_ends(count: int) -> None:
    with SortedNames(2000) as sorted_names:
        sorted_names.read(Listed(f"{number * 7919 % count:05}", is_folder=False) for number in range(count))
        assert [one.name for one in sorted_names] == [f"{number:05}" for number in range(count)]


# -- what is left of it -----------------------------------------------------------------------------------------------


def temporary_databases() -> int:
    """How many this process has open: SQLite's temporary files have a name of their own and are unlinked at once."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum("etilqs" in str(link.readlink()) for link in links)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[TemporaryDatabase]:
    """Every database is held on to: one that nobody closes stays open, and does not go with its last user."""
    made: list[TemporaryDatabase] = []

    def make(holds: str, schema: str) -> TemporaryDatabase:
        made.append(TemporaryDatabase(holds, schema))
        return made[-1]

    monkeypatch.setattr("bridge.store._sorted_names.TemporaryDatabase", make)
    return made


def to_its_end(listing: Iterator[object]) -> None:
    assert len(list(listing)) == 20_000


def left_early(listing: Iterator[object]) -> None:
    list(islice(listing, 3))
    assert temporary_databases() > 0
    listing.close()  # type: ignore[attr-defined]


def thrown_into(listing: Iterator[object]) -> None:
    next(listing)
    with pytest.raises(ZeroDivisionError):
        listing.throw(ZeroDivisionError)  # type: ignore[attr-defined]


@linux_only
@pytest.mark.parametrize("use", [to_its_end, left_early, thrown_into])
def test_nothing_is_left_on_the_disk_when_a_listing_ends(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: list[TemporaryDatabase],
    use: Callable[[Iterator[object]], None],
) -> None:
    keep_at_most(100, monkeypatch)
    make_files(tmp_path / "many", 20_000)
    before = temporary_databases()
    use(FolderStore(tmp_path).list())
    assert len(held) == 1
    assert temporary_databases() == before


@linux_only
def test_of_a_reading_that_fails_nothing_is_left(held: list[TemporaryDatabase]) -> None:
    def cut_off() -> Iterator[Listed]:
        for number in range(20_000):
            yield Listed(f"{number:05}-{'long' * 50}", is_folder=False)
        raise StoreError(store="here", detail="the line was cut")

    before = temporary_databases()
    with SortedNames(100) as sorted_names:
        with pytest.raises(StoreError, match="cut"):
            sorted_names.read(cut_off())
        assert len(held) == 1
        assert temporary_databases() == before
        assert list(sorted_names) == []
        sorted_names.read([Listed("again", is_folder=False)])
        assert [one.name for one in sorted_names] == ["again"]
