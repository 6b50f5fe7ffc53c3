"""The journal is written before and after each step, survives what may happen to it, and is never destroyed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import sys
from contextlib import closing, suppress
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from bridge.collection import Journal, Request, RunState
from bridge.errors import (
    ExitCode,
    ImpossibleTransitionError,
    JournalError,
    JournalFullError,
    NoSuchRunError,
    StampBusyError,
)
from bridge.secrets import Secret
from tests.support.runs import PASSWORD


def test_a_run_is_there_with_its_request_after_it_was_reopened(state_dir: Path, request_to: Request) -> None:
    with Journal(state_dir) as journal:
        journal.create("r1", request_to, "bundle-1")
        journal.move("r1", RunState.PREFLIGHTED, way="in_place")
    with Journal(state_dir) as journal:
        run = journal.run("r1")
    assert (run.state, run.request, run.facts) == (RunState.PREFLIGHTED, request_to, {"way": "in_place"})
    assert [(step.name, step.status) for step in run.steps] == [("planned", "state"), ("preflighted", "state")]


def test_a_step_is_written_before_it_is_done_and_again_when_it_is_done(state_dir: Path, request_to: Request) -> None:
    with Journal(state_dir) as journal:
        journal.create("r1", request_to, "b")
        with journal.step("r1", "preflight"):
            assert [step.status for step in journal.run("r1").steps if step.name == "preflight"] == ["begun"]
        with pytest.raises(KeyError), journal.step("r1", "lock"):
            raise KeyError("x")
        steps = [(step.name, step.status) for step in journal.run("r1").steps[1:]]
    assert steps == [("preflight", "begun"), ("preflight", "done"), ("lock", "begun"), ("lock", "failed")]


def test_an_impossible_transition_changes_nothing(state_dir: Path, request_to: Request) -> None:
    with Journal(state_dir) as journal:
        journal.create("r1", request_to, "b")
        with pytest.raises(ImpossibleTransitionError, match="planned"):
            journal.move("r1", RunState.DONE, bundle="x")
        assert journal.run("r1").state is RunState.PLANNED
        assert journal.run("r1").facts == {}


def test_a_stamp_is_locked_by_one_run_of_a_journal(state_dir: Path, request_to: Request) -> None:
    with Journal(state_dir) as journal:
        for name in ("r1", "r2"):
            journal.create(name, request_to, name)
            journal.move(name, RunState.PREFLIGHTED)
        journal.move("r1", RunState.LOCKED)
        with pytest.raises(StampBusyError, match="r1"):
            journal.move("r2", RunState.LOCKED)
        with pytest.raises(StampBusyError, match="r1"):
            journal.create("r3", request_to, "r3")


def test_the_beginning_of_an_id_is_enough_where_only_one_run_has_it(state_dir: Path, request_to: Request) -> None:
    with Journal(state_dir) as journal:
        for name in ("2026a", "2026b"):
            journal.create(name, request_to, name)
        assert journal.run("2026a").id == "2026a"
        for wrong in ("2026", "", "%", "2027"):
            with pytest.raises(NoSuchRunError):
                journal.run(wrong)


def test_a_journal_of_a_newer_version_is_refused_and_left_as_it_is(state_dir: Path, request_to: Request) -> None:
    with Journal(state_dir) as journal:
        journal.create("r1", request_to, "b")
    with sqlite3.connect(state_dir / "journal.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalError, match="newer version") as caught:
        Journal(state_dir)
    assert "--state-dir" in caught.value.advice
    with sqlite3.connect(state_dir / "journal.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be looked at" * 4, b"\0" * 4096])
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(state_dir: Path, content: bytes) -> None:
    state_dir.mkdir()
    (state_dir / "journal.sqlite").write_bytes(content)
    with pytest.raises(JournalError):
        Journal(state_dir)
    assert (state_dir / "journal.sqlite").read_bytes() == content


def test_another_programs_database_is_refused(state_dir: Path) -> None:
    state_dir.mkdir()
    with sqlite3.connect(state_dir / "journal.sqlite") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(JournalError, match="not a journal"):
        Journal(state_dir)


def test_a_full_disk_is_said_and_loses_nothing_that_was_written(state_dir: Path, request_to: Request) -> None:
    with Journal(state_dir) as journal:
        journal.create("r1", request_to, "b")
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to a full disk
        with pytest.raises(JournalFullError, match="full") as caught:
            journal.note("r1", big="x" * 100_000)
        assert caught.value.exit_code is ExitCode.NO_SPACE
        assert "Free space" in caught.value.advice
        journal._connection.execute("PRAGMA max_page_count = 1000000")
        journal.move("r1", RunState.PREFLIGHTED)
        assert journal.run("r1").facts == {}


def _write_more_than_fits(state_dir: Path) -> None:
    with Journal(state_dir) as journal:
        for number in range(20):
            journal.note_delivery(f"b{number}", "nas", "begun", error="x" * 4096)


@pytest.mark.parametrize("left_bytes", [0, 4096, 16384, 40960])
@pytest.mark.parametrize("made_before", [False, True])
def test_a_journal_that_finds_no_space_when_it_is_opened_says_that(
    tiny_disk: Path, request_to: Request, left_bytes: int, made_before: bool
) -> None:
    if made_before:
        with Journal(tiny_disk / "state") as journal:
            journal.create("r1", request_to, "b")
    with (tiny_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    os.truncate(tiny_disk / "filler", (tiny_disk / "filler").stat().st_size - left_bytes)
    with pytest.raises(JournalFullError) as caught:
        _write_more_than_fits(tiny_disk / "state")
    assert caught.value.exit_code is ExitCode.NO_SPACE
    (tiny_disk / "filler").unlink()
    with Journal(tiny_disk / "state") as journal:
        assert [run.id for run in journal.runs()] == (["r1"] if made_before else [])


def test_a_folder_that_cannot_be_made_is_an_error_of_the_journal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError):
        Journal(tmp_path / "file" / "state")


def _write_for_ever(state_dir: Path, request: Request) -> None:
    with Journal(state_dir) as journal:
        number = 0
        while True:
            number += 1
            journal.note("r1", number=number)
            with journal.step("r1", f"step {number}"):
                pass


def test_sigkill_in_the_middle_of_writing_leaves_a_whole_journal(state_dir: Path, request_to: Request) -> None:
    with Journal(state_dir) as journal:
        journal.create("r1", request_to, "b")
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        child = context.Process(target=_write_for_ever, args=(state_dir, request_to))
        child.start()
        with Journal(state_dir) as journal:
            seen = journal.run("r1").facts.get("number", 0)
            while journal.run("r1").facts.get("number", 0) < 20 or journal.run("r1").facts.get("number") == seen:
                assert child.is_alive()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
        child.join()
        with Journal(state_dir) as journal:
            assert journal._connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert journal.run("r1").state is RunState.PLANNED


def _create_many(state_dir: Path, request: Request, name: str) -> None:
    for number in range(20):
        with Journal(state_dir) as journal:
            journal.create(f"{name}{number}", request, f"{name}{number}")


def test_two_processes_write_one_journal(state_dir: Path, request_to: Request) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_create_many, args=(state_dir, request_to, name)) for name in ("a", "b")]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    with Journal(state_dir) as journal:
        assert len(journal.runs()) == 40


def _open_all_at_once(folders: list[Path], together: Barrier, failures: SimpleQueue[str]) -> None:
    for folder in folders:
        together.wait()
        try:
            Journal(folder).close()
        except JournalError as error:
            failures.put(str(error))


def test_processes_that_begin_one_journal_at_the_same_moment_do_not_hinder_each_other(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(100)]
    context = multiprocessing.get_context("spawn")
    together, failures = context.Barrier(3), context.SimpleQueue()
    children = [context.Process(target=_open_all_at_once, args=(folders, together, failures)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    found = []
    while not failures.empty():
        found.append(failures.get())
    assert found == []


def test_the_journal_is_for_its_owner_alone(state_dir: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("not run: Windows has no mode bits")
    Journal(state_dir).close()
    assert state_dir.stat().st_mode & 0o077 == 0
    assert (state_dir / "journal.sqlite").stat().st_mode & 0o077 == 0


def test_a_request_in_the_journal_holds_no_secret(state_dir: Path, request_to: Request) -> None:
    with Journal(state_dir) as journal:
        journal.create("r1", request_to, "b")
    assert PASSWORD.encode() not in (state_dir / "journal.sqlite").read_bytes()
    assert Secret(PASSWORD).reveal() not in repr(request_to)


def test_deliveries_count_their_attempts_and_keep_the_last_error(state_dir: Path, request_to: Request) -> None:
    with Journal(state_dir) as journal:
        journal.create("r1", request_to, "b")
        journal.note_delivery("b", "there", "begun", run_id="r1")
        journal.note_delivery("b", "there", "failed", error="full")
        journal.note_delivery("b", "there", "begun")
        journal.note_delivery("b", "there", "done")
        [delivery] = journal.run("r1").deliveries
    assert (delivery.state, delivery.attempts, delivery.last_error) == ("done", 2, "full")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("request = json_set(request, '$.colour', 'red')", "request with colour"),
        ("state = 'pondering'", "state pondering"),
    ],
)
def test_a_run_of_a_newer_version_is_called_so_and_not_unreadable(
    state_dir: Path, request_to: Request, change: str, said: str
) -> None:
    with Journal(state_dir) as journal:
        journal.create("r1", request_to, "bundle-1")
    with closing(sqlite3.connect(state_dir / "journal.sqlite")) as connection:
        connection.execute(f"UPDATE runs SET {change}")
        connection.commit()
    with Journal(state_dir) as journal, pytest.raises(JournalError, match=f"newer version .*{said}") as caught:
        journal.run("r1")
    assert "newer version" in caught.value.advice
