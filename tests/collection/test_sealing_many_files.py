"""A run with very many files costs no more memory to seal and to deliver than one of a few."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import pytest

from bridge.bundle import FindingKind, verify
from bridge.collection import Journal
from bridge.collection._finish import Finished, Finisher
from bridge.collection._payload import Payload
from bridge.errors import ExitCode, StoreFullError
from bridge.secrets import Scrubber
from bridge.store import Entry
from bridge.store.transfer import FileHash
from tests.support.many_files import ManyFiles
from tests.support.runs import QUICK, make_request

KIB = 1 << 10


def finisher(folder: Path) -> Finisher:
    request = make_request(folder / "bundles")
    with Journal(folder / "state") as journal:
        run = journal.create("20261124T000000Z-1a2b3c4d", request, "azs-sim-20261124T000000Z-1a2b3c4d")
        journal.note(run.id, sealed="2026-11-24T00:00:00+00:00")
        run = journal.run(run.id)
    run_dir = folder / "run"
    run_dir.mkdir()
    return Finisher(
        run=run,
        run_dir=run_dir,
        settings=QUICK,
        scrubber=Scrubber(()),
        assess=lambda bundle, run, log: (True, {}),
        emit=lambda event: None,
        warn=lambda text: None,
        warn_once=lambda text: None,
        cancel=threading.Event(),
    )


def seal_many(folder: Path, count: int) -> Finished:
    root = folder / "bundle"
    root.mkdir(parents=True)
    return finisher(folder).seal_in_place(ManyFiles(root, count))


def peak_bytes(folder: Path, count: int) -> int:
    tracemalloc.start()
    try:
        assert seal_many(folder, count).files == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_sealing_a_run_does_not_depend_on_how_many_files_there_are(tmp_path: Path) -> None:
    peak_bytes(tmp_path / "first", 10)  # modules are imported
    some = peak_bytes(tmp_path / "some", 20_000)  # each of its lists is written in more than one piece
    many = peak_bytes(tmp_path / "many", 40_000)
    assert many < some + 512 * KIB


def test_what_was_sealed_of_many_files_is_what_is_there(tmp_path: Path) -> None:
    finished = seal_many(tmp_path, 2_500)
    report = verify(ManyFiles(tmp_path / "bundle", 2_500))
    assert report.ok, report.findings
    assert report.bundle_id == finished.bundle_id
    less = verify(ManyFiles(tmp_path / "bundle", 2_499))
    assert less.counts[FindingKind.MISSING] == 1


def test_a_payload_has_its_files_sorted_and_the_digests_of_those_that_were_read() -> None:
    names = [f"data/{number:05}.log" for number in range(2_500)]
    with Payload() as payload:
        payload.list(Entry(name, 3, md5=b"m", etag="e") for name in reversed(names))
        for name in names[100:0:-1]:
            payload.hashed(name, 4, "f" * 64)
        assert [entry.path for entry in payload.entries] == names
        assert len(payload.entries) == 2_500
        assert list(payload.digests) == [FileHash(name, 4, "f" * 64) for name in names[1:101]]
        assert len(payload.digests) == 100
        assert payload.size_bytes == 3 * 2_400 + 4 * 100
        assert payload.entry(names[0]) == Entry(names[0], 3, md5=b"m", etag="e")
        assert payload.entry("data/other") is None


def test_a_temporary_folder_without_space_for_the_payload_is_told_as_that() -> None:
    with Payload() as payload:
        payload._database.run("PRAGMA max_page_count = 20")  # SQLite says of it what it says of a full disk
        with pytest.raises(StoreFullError, match="full") as caught:
            payload.list(Entry(f"data/{number:06}.log", 1) for number in range(20_000))
    assert caught.value.exit_code is ExitCode.NO_SPACE
