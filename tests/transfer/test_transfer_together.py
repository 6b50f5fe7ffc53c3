"""Small files go to a container together; those that are brought to a folder are flushed together, and none is said to
be there before its flush."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import DeliveryFailedError, StoreError, StoreFullError
from bridge.store import Entry, FolderStore
from bridge.store._names import partial_name
from bridge.store.transfer import FileFinished, TransferEvent, TransferItem, TransferJournal, TransferSettings, transfer
from tests.support.scripted_service import ScriptedService
from tests.support.transfer_lab import (
    KIB,
    MadeUpStore,
    container,
    digests_in_folder,
    digests_in_store,
    made_up,
    make_tree,
)

SIZES = {f"data/{role}/{number:02}.log": 3 * KIB + number for role in ("west", "east") for number in range(40)}


class Disk:
    """What the system is asked to make sure of below a folder (the process has others), and in which order; it refuses
    to flush what ``refuses`` names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.steps: list[tuple[str, str]] = []
        self.refuses: dict[str, int] = {}
        fsync, replace = os.fsync, os.replace

        def flush(descriptor: int) -> None:
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            for name, times in self.refuses.items():
                if path.endswith(partial_name(name)) and times:
                    self.refuses[name] -= 1
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if path.startswith(str(root)):
                self.steps.append(("flush folder" if Path(path).is_dir() else "flush", path))
            fsync(descriptor)

        def rename(source: Any, target: Any) -> None:
            self.steps.append(("rename", str(target)))
            replace(source, target)

        monkeypatch.setattr("bridge.store._folder_streams.os.fsync", flush)
        monkeypatch.setattr("bridge.store._folder_streams.os.replace", rename)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("what a descriptor stands for is read from /proc")
    return Disk(monkeypatch, tmp_path)


def test_no_name_is_given_before_its_content_is_flushed_and_each_folder_is_flushed_once(
    tmp_path: Path, disk: Disk
) -> None:
    store = FolderStore(tmp_path / "copy")
    paths = [f"{folder}/{number}.log" for folder in "ab" for number in range(3)]
    openings = [store.open_resume(path, 0, 5) for path in paths]
    writers = [opening.__enter__() for opening in openings]
    for writer in writers:
        writer.write(b"hello")
    outcomes = store.commit_together(writers)
    for opening in openings:
        opening.__exit__(None, None, None)
    kinds = [kind for kind, _ in disk.steps]
    assert kinds == ["flush"] * 6 + ["rename"] * 6 + ["flush folder"] * 2
    assert [outcome.path for outcome in outcomes if isinstance(outcome, Entry)] == paths
    assert [store.stat(path) for path in paths] == outcomes


def test_one_that_cannot_be_flushed_keeps_its_name_free_and_the_others_are_there(tmp_path: Path, disk: Disk) -> None:
    store = FolderStore(tmp_path / "copy")
    disk.refuses = {"b.log": 1}
    openings = [store.open_resume(path, 0, 5) for path in ("a.log", "b.log", "c.log")]
    writers = [opening.__enter__() for opening in openings]
    for writer in writers:
        writer.write(b"hello")
    outcomes = store.commit_together(writers)
    for opening in openings:
        opening.__exit__(None, None, None)
    assert [type(outcome) for outcome in outcomes] == [Entry, StoreFullError, Entry]
    assert [entry.path for entry in store.list()] == ["a.log", "c.log"]
    assert store.partial_bytes("b.log") == 5


def test_small_files_are_journalled_and_told_after_their_flush_and_with_few_of_a_folder(
    tmp_path: Path, disk: Disk
) -> None:
    source = make_tree(tmp_path / "source", SIZES)
    unflushed: list[str] = []

    def tell(event: TransferEvent) -> None:
        if isinstance(event, FileFinished):
            place = str(tmp_path / "copy" / event.result.path)
            steps = list(disk.steps)
            named = steps.index(("rename", place))
            if ("flush folder", str(Path(place).parent)) not in steps[named:]:
                unflushed.append(place)

    with TransferJournal(tmp_path / "journal.sqlite") as journal:
        result = transfer(
            FolderStore(source),
            FolderStore(tmp_path / "copy"),
            FolderStore(source).list(),
            journal=journal,
            on_event=tell,
        )
        assert all(journal.delivered(path) for path in SIZES)
    assert unflushed == []
    assert result.copied == len(SIZES) + 1
    assert digests_in_store(FolderStore(tmp_path / "copy")) == digests_in_folder(source)
    assert sum(kind == "flush folder" for kind, _ in disk.steps) < len(SIZES) / 2


def test_a_flush_that_fails_once_costs_that_file_another_try_and_no_other(tmp_path: Path, disk: Disk) -> None:
    source = make_tree(tmp_path / "source", SIZES)
    disk.refuses = {"data/west/07.log": 1}
    target = FolderStore(tmp_path / "copy")
    result = transfer(FolderStore(source), target, list(FolderStore(source).list()))
    assert disk.refuses["data/west/07.log"] == 0
    assert result.files == len(SIZES) + 1
    assert digests_in_store(target) == digests_in_folder(source)


def test_a_disk_that_stays_full_ends_it_and_what_was_flushed_is_not_sent_again(tmp_path: Path, disk: Disk) -> None:
    source = make_tree(tmp_path / "source", SIZES)
    disk.refuses = {"data/west/07.log": 1000}
    target = FolderStore(tmp_path / "copy")
    items = list(FolderStore(source).list())
    with TransferJournal(tmp_path / "journal.sqlite") as journal:
        with pytest.raises(DeliveryFailedError) as failure:
            transfer(FolderStore(source), target, items, journal=journal)
        assert isinstance(failure.value.__cause__, StoreFullError)
        there = {entry.path for entry in target.list()}
        assert there
        assert "data/west/07.log" not in there
        assert {path for path in SIZES if journal.delivered(path)} <= there
        disk.refuses.clear()
        result = transfer(FolderStore(source), target, items, journal=journal)
    assert result.skipped == len(there)
    assert digests_in_store(target) == digests_in_folder(source)


def test_a_file_that_is_named_twice_is_brought_twice(tmp_path: Path) -> None:
    made_up: Any = MadeUpStore({"a.log": 2000})
    items = [TransferItem("a.log", 2000), TransferItem("a.log", 2000)]
    settings = TransferSettings(connections=1)
    result = transfer(made_up, FolderStore(tmp_path / "copy"), items, settings=settings)
    assert result.files == 2


def test_an_error_in_the_callers_own_handler_leaves_no_writer_behind(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", SIZES)
    target = FolderStore(tmp_path / "copy")

    def fail(event: TransferEvent) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transfer(FolderStore(source), target, list(FolderStore(source).list()), on_event=fail)
    try:
        transfer(FolderStore(source), target, list(FolderStore(source).list()))
    except StoreError as error:
        pytest.fail(f"a lock was left: {error}")
    assert digests_in_store(target) == digests_in_folder(source)


def test_small_files_go_to_a_container_without_waiting_for_each_others_answers() -> None:
    sizes = {f"{number:02}.log": 3 * KIB for number in range(64)}
    settings = TransferSettings(connections=1, checksum="md5", give_up_after_s=5.0, io_timeout_s=2.0)
    with ScriptedService(answers_together=16) as service:
        result = transfer(made_up(sizes), container(service.port), items(sizes), settings=settings)
        assert [request.method for request in service.requests].count("PUT") == 64, "and none is sent twice"
    assert result.copied == 64


def items(sizes: dict[str, int]) -> list[TransferItem]:
    return [TransferItem(path, size_bytes) for path, size_bytes in sizes.items()]
