"""A client that is killed loses nothing: whoever attaches finishes the run, with one collection on the endpoint."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
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
EDGES_BEFORE_THE_RUN = 1
"""A client that is killed before it has written its run has begun nothing."""


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


@dataclass
class Count:
    """What the attempts of a test came to: a client that was killed, and what its journal held then."""

    attempts: int = 0
    kills: int = 0
    without_a_run: int = 0
    survived: int = 0
    at: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        states = ", ".join(f"{number} {state}" for state, number in sorted(self.at.items()))
        return (
            f"{self.attempts} attempts, {self.kills} real kills ({states}), {self.survived} runs survived,"
            f" {self.without_a_run} clients had journalled no run yet"
        )


def assert_it_survives(
    rig: Rig, document: dict[str, Any], undisturbed: dict[str, str], before: int, count: Count
) -> None:
    """``attach`` finishes what was journalled; where no run was, nothing was begun, which is counted by itself."""
    run = rig.run_of(document) if Path(document["state_dir"], "journal.sqlite").exists() else None
    if run is None:
        assert len(rig.sim.state.collections) == before
        count.without_a_run += 1
        return
    count.at[str(run.state)] += 1
    outcome = rig.attach(document, run.id)
    steps = [(step.name, step.status) for step in rig.run_of(document).steps]
    assert outcome["state"] == "done", (outcome["errors"], outcome["warnings"], steps)
    assert verify(FolderStore(Path(outcome["bundle"]))).verdict is Verdict.VERIFIED
    assert payload(Path(outcome["bundle"])) == undisturbed
    assert len(rig.sim.state.collections) == before + 1
    count.survived += 1


@pytest.mark.parametrize("staged", [False, True], ids=["in place", "staged"])
def test_a_kill_at_every_edge_of_the_journal_loses_nothing(
    rig: Rig, undisturbed: dict[str, str], capsys: pytest.CaptureFixture[str], *, staged: bool
) -> None:
    edge = -1 if staged and not ALL else 0  # other edges than in place
    count = Count()
    while True:
        edge += EVERY
        document = rig.new_attempt(staged=staged)
        before = len(rig.sim.state.collections)
        child = start({**document, "kill_at": edge})
        _, err = child.communicate(timeout=120)
        if child.returncode == 0 and edge > 20:
            break
        assert child.returncode == -signal.SIGKILL, err
        count.attempts += 1
        count.kills += 1
        assert_it_survives(rig, document, undisturbed, before, count)
    tell(capsys, f"every {EVERY} of {edge} edges: {count}")
    assert edge > 30
    assert count.survived == count.kills - count.without_a_run
    assert count.without_a_run <= EDGES_BEFORE_THE_RUN
    assert count.at.keys() >= ({"locked", "running"} if not ALL else {"planned", "preflighted", "locked", "running"})


def test_a_kill_at_any_moment_loses_nothing(
    rig: Rig, undisturbed: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A client that had ended before its moment is no kill: another moment is taken for it."""
    moments = random.Random(SEED)
    count = Count()
    while count.kills < MOMENTS:
        document = rig.new_attempt(staged=count.attempts % 2 == 0)
        count.attempts += 1
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
        if child.returncode == -signal.SIGKILL:
            count.kills += 1
            assert_it_survives(rig, document, undisturbed, before, count)
        assert count.attempts < 10 * MOMENTS, "hardly any moment is one at which the client works"
    tell(capsys, f"{MOMENTS} moments: {count}")
    assert count.survived == count.kills - count.without_a_run
    assert count.survived > MOMENTS // 2


def tell(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Figures that are seen in the log of a green run too."""
    with capsys.disabled():
        print(f"\n  {text}")


def test_a_client_that_is_killed_again_and_again_still_ends(rig: Rig, undisturbed: dict[str, str]) -> None:
    document = rig.new_attempt(staged=True)
    before = len(rig.sim.state.collections)
    child = start({**document, "kill_at": 9})
    child.communicate(timeout=120)
    run = rig.run_of(document)
    count = Count()
    for edge in range(1, 12):
        if rig.run_of(document).state.is_final:
            break
        child = start({**document, "attach": run.id, "kill_at": edge})
        child.communicate(timeout=120)
    assert_it_survives(rig, document, undisturbed, before, count)
    assert rig.run_of(document).state is RunState.DONE
    assert count.survived == 1


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
