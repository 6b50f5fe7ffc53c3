"""What ``status`` says of a run in each of its states, and which run ``attach`` and ``stop`` take without an id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.collection import Journal, Place, Request, RunState, Window
from bridge.errors import ExitCode
from bridge.stamp import EndpointAddress, Stamp
from tests.support.command_line import Done, rehearsal, run

S = RunState
WAYS: dict[RunState, tuple[RunState, ...]] = {
    S.PLANNED: (),
    S.PREFLIGHTED: (S.PREFLIGHTED,),
    S.LOCKED: (S.PREFLIGHTED, S.LOCKED),
    S.RUNNING: (S.PREFLIGHTED, S.LOCKED, S.RUNNING),
    S.DETACHED: (S.PREFLIGHTED, S.LOCKED, S.RUNNING, S.DETACHED),
    S.SEALING: (S.PREFLIGHTED, S.LOCKED, S.RUNNING, S.SEALING),
    S.DELIVERING: (S.PREFLIGHTED, S.LOCKED, S.RUNNING, S.DELIVERING),
    S.DONE: (S.PREFLIGHTED, S.LOCKED, S.RUNNING, S.SEALING, S.DONE),
    S.PARTIAL: (S.PREFLIGHTED, S.LOCKED, S.RUNNING, S.SEALING, S.PARTIAL),
    S.FAILED: (S.PREFLIGHTED, S.FAILED),
    S.STOPPED: (S.PREFLIGHTED, S.LOCKED, S.RUNNING, S.STOPPED),
}
"""By which states a run comes to each."""
SAID = {
    S.PLANNED: "before anything was sent",
    S.PREFLIGHTED: "before anything was sent",
    S.LOCKED: "may go on at the endpoint",
    S.RUNNING: "may go on at the endpoint",
    S.DETACHED: "may go on at the endpoint",
    S.SEALING: "its bundle is not finished",
    S.DELIVERING: "its bundle is not finished",
}


def journalled(state_dir: Path, run_id: str, way: Sequence[RunState], *, stamp: str = "east", minutes: int = 0) -> None:
    """A run that was left where it is by a process that is gone."""
    until = datetime(2026, 11, 23, 8, tzinfo=UTC)
    request = Request(
        stamp=Stamp(stamp, (EndpointAddress("ERCS01", "192.0.2.1", 5985),), "S\\CloudAdmin"),
        window=Window(until - timedelta(hours=4), until),
        destination=Place.parse(str(state_dir / "bundles")),
    )
    with Journal(state_dir) as journal:
        journal.create(run_id, request, f"{stamp}-{run_id}", at=until + timedelta(minutes=minutes))
        for state in way:
            journal.move(run_id, state, "because of the test" if state is S.FAILED else None)


def status(state_dir: Path, *arguments: str) -> Done:
    return run("--state-dir", str(state_dir), "status", *arguments)


@pytest.mark.parametrize("state", RunState)
def test_each_state_has_its_words_and_its_next_command(tmp_path: Path, state: RunState) -> None:
    journalled(tmp_path, "20261123T080000Z-00000001", WAYS[state])
    done, document = status(tmp_path), status(tmp_path, "--json")
    assert done.returncode == document.returncode == ExitCode.OK
    if state.is_final:
        assert "20261123T080000Z-00000001" not in done.stdout + done.stderr
        assert "'pep-bridge history' shows the finished ones" in done.stderr
        assert document.data["runs"] == []
        assert str(state) in run("--state-dir", str(tmp_path), "history").stdout
        return
    assert re.search(rf"20261123T080000Z-00000001 .*\b{state}\b", done.stdout), done.stdout
    assert "(live)" not in done.stdout, "its process is gone"
    assert SAID[state] in done.stderr
    assert "next: pep-bridge attach 20261123T080000Z-00000001" in done.stderr
    assert [found["state"] for found in document.data["runs"]] == [state]


def test_a_run_that_is_driven_here_is_told_as_that_and_how_it_is_ended(tmp_path: Path) -> None:
    with rehearsal(tmp_path, "--duration", "60s", "--size", "1MB") as stamp:
        with stamp.start("collect", stamp.stamp, "--role", "Storage", "--to", "local", "--json") as collecting:
            while not (done := stamp.run("status")).stdout.count("running"):
                assert collecting.poll() is None
            assert "(live)" in done.stdout
            assert re.search(
                r"a process of this machine is at it; to end it: pep-bridge stop \S+$", done.stderr.strip()
            )
            collecting.terminate()
            collecting.communicate()


def test_a_detached_run_is_told_although_its_endpoint_is_away(tmp_path: Path) -> None:
    with rehearsal(tmp_path, "--duration", "60s", "--size", "1MB") as stamp:
        left = stamp.run("collect", stamp.stamp, "--role", "Storage", "--to", "local", "--detach", "--json")
        assert left.returncode == ExitCode.OK, left.stderr
    done = status(stamp.state_dir)
    assert done.returncode == ExitCode.OK
    assert re.search(r"\bdetached\b", done.stdout)
    assert f"next: pep-bridge attach {left.data['run']}" in done.stderr


@pytest.mark.parametrize("verb", ["attach", "stop"])
def test_the_run_that_is_not_finished_is_meant_and_not_a_newer_one_that_failed(tmp_path: Path, verb: str) -> None:
    journalled(tmp_path, "20261123T080000Z-00000001", WAYS[S.DETACHED])
    journalled(tmp_path, "20261123T090000Z-00000002", WAYS[S.FAILED], stamp="west", minutes=60)
    done = run("--state-dir", str(tmp_path), verb)
    assert "has ended already" not in done.stderr
    assert "S\\CloudAdmin on east" in done.stderr, "the password is wanted for the run of stamp east"


@pytest.mark.parametrize("verb", ["attach", "stop"])
def test_of_several_runs_that_are_not_finished_none_is_guessed(tmp_path: Path, verb: str) -> None:
    journalled(tmp_path, "20261123T080000Z-00000001", WAYS[S.DETACHED])
    journalled(tmp_path, "20261123T090000Z-00000002", WAYS[S.SEALING], stamp="west", minutes=60)
    done = run("--state-dir", str(tmp_path), verb)
    assert done.returncode == ExitCode.USAGE
    assert "20261123T080000Z-00000001 (east, detached)" in done.stderr
    assert "20261123T090000Z-00000002 (west, sealing)" in done.stderr
