"""Lists that may be longer than memory lie on a disk, which may be full: then that is said, and where it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bridge.errors import ExitCode, StoreFullError
from bridge.store import TemporaryDatabase

ROOT = Path(__file__).parents[2]
SCHEMA = "CREATE TABLE names (name TEXT)"

_SAY_WHERE = """
import os
from pathlib import Path
from bridge.errors import StoreFullError
from bridge.store import TemporaryDatabase

database = TemporaryDatabase("the names", "CREATE TABLE names (name TEXT)")
for _ in range(60):
    database.run("INSERT INTO names VALUES (zeroblob(100000))")  # more than fits SQLite's cache of 2 MB
links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
print(*{str(Path(link).parent) for link in links if "etilqs" in link})
database.run("PRAGMA max_page_count = 1")  # what it has is what it may have: full, in SQLite's words
try:
    database.run("INSERT INTO names VALUES (zeroblob(100000))")
except StoreFullError as error:
    print(error)
"""

_FILL = """
import sys
from bridge.bundle._ledger import Ledger
from bridge.collection._listing import Listing
from bridge.errors import StoreFullError
from bridge.store import Entry
from bridge.store._sorted_names import Listed, SortedNames
from bridge.store.transfer import TransferItem
from bridge.store.transfer._arrived import Arrived, Fact
from bridge.store.transfer._twins import Twins

paths = [f"data/{number:05}/{'long' * 50}.zip" for number in range(20_000)]

def ledger():
    with Ledger() as ledger:
        for path in paths:
            ledger.find(Entry(path, 1))

def listing():
    with Listing() as listing:
        listing.promise((path, "0" * 64) for path in paths)

def arrived():
    Arrived(Fact(path, 1) for path in paths)

def twins():
    twins = Twins()
    for path in paths:
        twins.add(path)

def names():
    with SortedNames(most_kept=100) as names:
        names.read(Listed(path, is_folder=False) for path in paths)

try:
    globals()[sys.argv[1]]()
except StoreFullError as error:
    print(int(error.exit_code), error)
"""


def run(code: str, *arguments: str, folders: Mapping[str, Path]) -> list[str]:
    """In a process of its own: SQLite looks at the environment once, when it is first used."""
    usual = {name: value for name, value in os.environ.items() if name not in {"SQLITE_TMPDIR", "TMPDIR"}}
    chosen = {name: str(folder) for name, folder in folders.items()}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=usual | chosen,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_no_space_for_it_is_told_as_that() -> None:
    database = TemporaryDatabase("the names", SCHEMA)
    database.run("PRAGMA max_page_count = 20")  # SQLite says of it what it says of a full disk
    with pytest.raises(StoreFullError, match=r"the names in .*full") as caught:
        database.run_for_each("INSERT INTO names VALUES (?)", ((str(number) * 1000,) for number in range(1000)))
    assert caught.value.exit_code is ExitCode.NO_SPACE
    database.close()


@pytest.mark.skipif(sys.platform != "linux", reason="not run: the open files of a process are seen on Linux only")
@pytest.mark.parametrize(
    "named",
    [
        {},
        {"TMPDIR": "there"},
        {"TMPDIR": "not there"},
        {"SQLITE_TMPDIR": "there", "TMPDIR": "also there"},
        {"SQLITE_TMPDIR": "not there", "TMPDIR": "also there"},
    ],
    ids=str,
)
def test_the_folder_that_is_said_to_be_full_is_the_one_that_sqlite_uses(tmp_path: Path, named: dict[str, str]) -> None:
    for there in ("there", "also there"):
        (tmp_path / there).mkdir()
    used, said = run(_SAY_WHERE, folders={name: tmp_path / folder for name, folder in named.items()})
    assert f"the names in {used}: there is no space left" in said


@pytest.mark.parametrize("which", ["ledger", "listing", "arrived", "twins", "names"])
def test_a_full_folder_for_temporary_files_is_named_by_every_list_that_lies_there(tiny_disk: Path, which: str) -> None:
    [said] = run(_FILL, which, folders={"SQLITE_TMPDIR": tiny_disk})
    assert said.startswith(f"{int(ExitCode.NO_SPACE)} the list of ")
    assert f" in {tiny_disk}: there is no space left" in said
