"""What a delivery remembers helps it, and never stands in its way: another copy, a damaged file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bridge.errors import DeliveryFailedError, JournalError
from bridge.store import FolderStore
from bridge.store.transfer import Note, TransferEvent, TransferJournal, TransferSettings, transfer
from bridge.store.transfer._journal import Delivered
from tests.support.transfer_lab import KIB, digests_in_folder, make_tree

SIZES = {f"data/{number}.zip": 50 * KIB + number for number in range(8)}


def begin(source: Path, target: Path, journal: TransferJournal) -> None:
    """A delivery that fails half-way: a folder stands where the last file is to be."""
    (target / "data/7.zip").mkdir(parents=True)
    with pytest.raises(DeliveryFailedError):
        transfer(
            FolderStore(source),
            FolderStore(target),
            FolderStore(source).list(),
            settings=TransferSettings(connections=1),
            journal=journal,
        )
    (target / "data/7.zip").rmdir()


def test_a_delivery_begun_from_one_copy_is_finished_from_another(tmp_path: Path) -> None:
    first, second = (make_tree(tmp_path / name, SIZES) for name in ("first", "second"))
    target = tmp_path / "target"
    with TransferJournal(tmp_path / "journal.sqlite") as journal:
        begin(first, target, journal)
    with TransferJournal(tmp_path / "journal.sqlite") as journal:
        result = transfer(FolderStore(second), FolderStore(target), FolderStore(second).list(), journal=journal)
    assert digests_in_folder(target) == digests_in_folder(second)
    assert result.skipped >= 7, "what had arrived is not sent again"


def test_the_marks_of_one_copy_prove_nothing_of_another(tmp_path: Path) -> None:
    """Same name, size and time, other content: only the digest, or a look at the content, tells them apart."""
    first, second = (make_tree(tmp_path / name, SIZES, seed) for seed, name in enumerate(("first", "second")))
    for path in SIZES:
        status = (first / path).stat()
        os.utime(second / path, ns=(status.st_atime_ns, status.st_mtime_ns))
    target = tmp_path / "target"
    with TransferJournal(tmp_path / "journal.sqlite") as journal:
        begin(first, target, journal)
        transfer(FolderStore(second), FolderStore(target), FolderStore(second).list(), journal=journal)
    assert digests_in_folder(target) == digests_in_folder(second)


@pytest.mark.parametrize("damage", ["not a database", "a page in the middle"])
def test_a_damaged_journal_is_moved_aside_and_said(tmp_path: Path, damage: str) -> None:
    source, target = make_tree(tmp_path / "source", SIZES), tmp_path / "target"
    path = tmp_path / "journal.sqlite"
    with TransferJournal(path) as journal:
        begin(source, target, journal)
        journal.record(Delivered(f"old/{number:05}", 1, "00", None, None) for number in range(2000))
    content = bytearray(path.read_bytes())
    content[slice(0, 4096) if damage == "not a database" else slice(5 * 4096, 8 * 4096)] = b"garbage!" * (
        512 if damage == "not a database" else 1536
    )
    path.write_bytes(content)
    events: list[TransferEvent] = []
    with TransferJournal(path) as journal:
        transfer(
            FolderStore(source),
            FolderStore(target),
            FolderStore(source).list(),
            journal=journal,
            on_event=events.append,
        )
        assert journal.delivered("data/0.zip") is not None, "the new one remembers"
    assert digests_in_folder(target) == digests_in_folder(source)
    [note] = [event.text for event in events if isinstance(event, Note)]
    assert "journal.sqlite.damaged" in note
    assert (tmp_path / "journal.sqlite.damaged").read_bytes() == bytes(content)
    with TransferJournal(path) as journal:
        assert journal.set_aside is None


def test_what_only_cannot_be_opened_is_not_taken_for_damaged(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    TransferJournal(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(JournalError, match="locked"):
            TransferJournal(path)
    finally:
        holder.close()
    assert path.exists()
    assert not (tmp_path / "journal.sqlite.damaged").exists()


def test_a_journal_that_another_process_holds_is_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    TransferJournal(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="locked") as failure:
            TransferJournal(path)
    assert "Another process" in failure.value.advice
    assert "permissions" not in failure.value.advice
