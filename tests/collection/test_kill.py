"""A client that is killed loses nothing: whoever attaches finishes the run, with one collection on the endpoint."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.bundle import Verdict, verify
from bridge.collection import Journal, Place, Request, RunState, Window
from bridge.errors import ExitCode
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.stamp import Stamp
from bridge.store import FolderStore
from tests.support.collecting_child import start

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="not run: Windows has no SIGKILL"),
    pytest.mark.timeout(1200),
    pytest.mark.slow,
]
WINDOW_END = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ALL = bool(os.environ.get("PEP_BRIDGE_ALL_KILLS"))
"""``make soak`` sets it: every edge and 50 moments. Without it a part of each, to keep the test suite short."""
EVERY = 1 if ALL else 6
MOMENTS = 50 if ALL else 6
SEED = 4


class Rig:
    """One simulated stamp; every attempt has its own state folder and destination."""

    def __init__(self, sim: SimulatedStamp, root: Path) -> None:
        self.sim = sim
        self.root = root
        self.attempts = 0
        self.stamp = Stamp(sim.name, tuple(sim.endpoints), username=sim.username)

    def new_attempt(self, *, staged: bool) -> dict[str, Any]:
        self.attempts += 1
        folder = self.root / f"attempt-{self.attempts}"
        folder.mkdir()
        request = Request(
            self.stamp,
            Window(WINDOW_END - timedelta(hours=4), WINDOW_END),
            Place.parse(str(folder / "far")),
            roles=("Storage", "ACS"),
            shared_disk=True,
            staging=Place.parse(str(folder / "near")) if staged else None,
        )
        return {
            "request": request.to_json(),
            "state_dir": str(folder / "state"),
            "username": self.sim.username,
            "password": self.sim.password.reveal(),
        }

    def run_of(self, document: dict[str, Any]) -> Any:
        with Journal(Path(document["state_dir"])) as journal:
            return journal.latest()

    def attach(self, document: dict[str, Any], run_id: str) -> dict[str, Any]:
        child = start({**document, "attach": run_id})
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    root = tmp_path_factory.mktemp("killed")
    with SimulatedStamp(
        StampOptions(size_bytes=400_000, duration_s=0.6, seed=7, output_root=root, client_lost_after_s=1.0)
    ) as sim:
        yield Rig(sim, root)


def payload(bundle: Path) -> dict[str, str]:
    """Name and digest of every zip: the output log and the folder's name hold times."""
    lines = (bundle / "manifest-sha256.txt").read_text().splitlines()
    pairs = (line.split("  ", 1) for line in lines)
    return {path.rsplit("/", 1)[-1]: digest for digest, path in pairs if path.endswith(".zip")}


@pytest.fixture(scope="module")
def undisturbed(rig: Rig) -> dict[str, str]:
    child = start(rig.new_attempt(staged=False))
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    outcome = json.loads(out)
    assert outcome["state"] == "done", outcome
    return payload(Path(outcome["bundle"]))


def assert_it_survives(rig: Rig, document: dict[str, Any], undisturbed: dict[str, str], before: int) -> None:
    run = rig.run_of(document) if Path(document["state_dir"], "journal.sqlite").exists() else None
    if run is None:
        assert len(rig.sim.state.collections) == before
        return
    outcome = rig.attach(document, run.id)
    steps = [(step.name, step.status) for step in rig.run_of(document).steps]
    assert outcome["state"] == "done", (outcome["errors"], outcome["warnings"], steps)
    assert verify(FolderStore(Path(outcome["bundle"]))).verdict is Verdict.VERIFIED
    assert payload(Path(outcome["bundle"])) == undisturbed
    assert len(rig.sim.state.collections) == before + 1


@pytest.mark.parametrize("staged", [False, True], ids=["in place", "staged"])
def test_a_kill_at_every_edge_of_the_journal_loses_nothing(
    rig: Rig, undisturbed: dict[str, str], *, staged: bool
) -> None:
    count = -1 if staged and not ALL else 0  # other edges than in place
    while True:
        count += EVERY
        document = rig.new_attempt(staged=staged)
        before = len(rig.sim.state.collections)
        child = start({**document, "kill_at": count})
        _, err = child.communicate(timeout=120)
        if child.returncode == 0 and count > 20:
            break
        assert child.returncode == -signal.SIGKILL, err
        assert_it_survives(rig, document, undisturbed, before)
    assert count > 30


def test_a_kill_at_any_moment_loses_nothing(rig: Rig, undisturbed: dict[str, str]) -> None:
    moments = random.Random(SEED)
    killed = 0
    for number in range(MOMENTS):
        document = rig.new_attempt(staged=number % 2 == 0)
        before = len(rig.sim.state.collections)
        child = start(document)
        began = time.monotonic()
        while not Path(document["state_dir"], "journal.sqlite").exists():
            assert child.poll() is None
            assert time.monotonic() - began < 60
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 2.0))
        child.kill()
        child.communicate()
        killed += child.returncode == -signal.SIGKILL
        assert_it_survives(rig, document, undisturbed, before)
    assert killed > MOMENTS // 3


def test_a_client_that_is_killed_again_and_again_still_ends(rig: Rig, undisturbed: dict[str, str]) -> None:
    document = rig.new_attempt(staged=True)
    before = len(rig.sim.state.collections)
    child = start({**document, "kill_at": 9})
    child.communicate(timeout=120)
    run = rig.run_of(document)
    for count in range(1, 12):
        if rig.run_of(document).state.is_final:
            break
        child = start({**document, "attach": run.id, "kill_at": count})
        child.communicate(timeout=120)
    assert_it_survives(rig, document, undisturbed, before)
    assert rig.run_of(document).state is RunState.DONE


def test_of_two_processes_with_two_state_folders_one_wins_and_the_other_says_who_has_the_stamp(rig: Rig) -> None:
    for _ in range(3):
        first, second = rig.new_attempt(staged=False), rig.new_attempt(staged=False)
        second["request"] = first["request"]
        before = len(rig.sim.state.collections)
        children = [start(document) for document in (first, second)]
        outcomes = [json.loads(child.communicate(timeout=120)[0]) for child in children]
        loser, winner = sorted(outcomes, key=lambda outcome: str(outcome["state"]), reverse=True)
        assert (winner["state"], loser["state"]) == ("done", "failed"), outcomes
        assert loser["exit_code"] == ExitCode.BUSY, loser
        assert winner["run"] in loser["errors"][0]
        assert "(process " in loser["errors"][0]
        assert len(rig.sim.state.collections) == before + 1
