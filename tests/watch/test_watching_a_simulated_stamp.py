"""The watch on a whole simulated stamp, with its times compressed: what it collects, and that it survives."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.bundle import Verdict, read_bundle, verify
from bridge.collection import DATA_WARNING, Access, Consent, Journal, Place, Request, RunState, Window
from bridge.credentials import read_secret_file
from bridge.errors import AuthenticationFailedError, ExitCode
from bridge.secrets import Credential, Secret
from bridge.settings import load_settings
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.store import FolderStore
from bridge.watch import (
    ArmAlerts,
    EndpointAlerts,
    Health,
    Memory,
    Policy,
    RunCollector,
    Told,
    Watcher,
    WatchState,
    static_token,
)
from tests.support.command_line import Rehearsal, rehearsal
from tests.support.runs import QUICK

NODE = "FRP.Heartbeat.PhysicalNode"
WARNING = "CertificateExpiration.ExternalCert.Warning"
SOON = Policy(persist=timedelta(seconds=1), cool_down=timedelta(hours=1), retry=timedelta(seconds=1))
CONSENT = Consent("You agree to this.", datetime(2026, 11, 1, tzinfo=UTC), "night shift")


class Watched:
    """A simulated stamp and a watch over it, step by step."""

    def __init__(self, sim: SimulatedStamp, folder: Path, root: Path) -> None:
        self.sim, self.state_dir, self.root = sim, folder / "state", root
        self.told: list[Told] = []
        settings = load_settings(sim.config_file).settings
        self.stamp = settings.stamp(sim.name)
        self.credential = Credential(sim.username, sim.password)
        self.destination = root / folder.name
        self.memory = Memory(self.state_dir, sim.name)
        now = datetime.now(UTC)
        self.request = Request(
            self.stamp,
            Window(now - timedelta(hours=4), now),
            Place.parse(str(self.destination)),
            roles=("Storage",),
            shared_disk=True,
        )
        token = settings.stamps[sim.name].arm_token_file
        assert token is not None
        every = timedelta(milliseconds=200)
        self.arm = ArmAlerts(
            sim.name, sim.portal.url, "local", static_token(read_secret_file(token)), subscription="x", every=every
        )
        self.endpoint = EndpointAlerts(self.stamp, self.credential, records=self.memory.records, every=every)

    def watcher(self, *sources: Any, policy: Policy = SOON, password: Secret | None = None) -> Watcher:
        access = Access(replace(self.credential, password=password or self.credential.password))
        collector = RunCollector(self.request, access, CONSENT, state_dir=self.state_dir, settings=QUICK)
        return Watcher(policy, Health(sources), collector, self.memory, tell=self.told.append)

    def step_until(self, watcher: Watcher, is_so: Callable[[WatchState], bool]) -> WatchState:
        for _ in range(60):
            watcher.step()
            state = self.memory.load()
            if is_so(state):
                return state
            time.sleep(0.2)
        raise AssertionError([told.text for told in self.told])

    @property
    def bundles(self) -> list[Path]:
        return sorted(path.parent for path in self.destination.glob("*/bagit.txt"))


@pytest.fixture(scope="module")
def stamp_and_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SimulatedStamp, Path]]:
    root = tmp_path_factory.mktemp("out")
    with SimulatedStamp(StampOptions(duration_s=0.1, size_bytes=100_000, output_root=root)) as sim:
        yield sim, root


@pytest.fixture
def watched(stamp_and_root: tuple[SimulatedStamp, Path], tmp_path: Path) -> Iterator[Watched]:
    sim, root = stamp_and_root
    yield Watched(sim, tmp_path, root)
    for alert in sim.state.alerts.active():
        sim.state.alerts.close_alert(alert.alert_id)


def was_collected(state: WatchState) -> bool:
    return state.begun is None and any(each.handled for each in state.tracked)


def test_an_alert_of_the_api_that_persists_is_collected_once(watched: Watched) -> None:
    watcher = watched.watcher(watched.arm)
    watcher.step()
    assert watched.bundles == []
    watched.sim.state.alerts.raise_alert(NODE)
    watcher.step()
    assert watched.bundles == []  # it is there, but not for long enough
    watched.step_until(watcher, was_collected)
    for _ in range(3):
        watcher.step()
    [bundle] = watched.bundles
    store = FolderStore(bundle)
    assert verify(store).verdict is Verdict.VERIFIED
    document = read_bundle(store).document("collection.json")
    assert document["request"]["trigger"] == "proactive"
    assert document["data_handling"] == {"warning": DATA_WARNING, "consent": CONSENT.to_json()}
    assert read_bundle(store).field("Data-Handling") == DATA_WARNING


def test_an_alert_that_only_the_endpoint_tells_is_collected_and_a_mere_warning_is_not(watched: Watched) -> None:
    watched.sim.portal.take_down()
    try:
        watcher = watched.watcher(watched.arm, watched.endpoint)
        watched.sim.state.alerts.raise_alert(WARNING)
        for _ in range(3):
            watcher.step()
            time.sleep(0.5)
        assert watched.memory.load().tracked == ()
        watched.sim.state.alerts.raise_alert(NODE)
        state = watched.step_until(watcher, was_collected)
    finally:
        watched.sim.portal.bring_up()
    assert state.source == "endpoint"
    assert [each.fault_type_id for each in state.tracked] == [NODE]
    assert len(watched.bundles) == 1


def test_the_rolling_offload_is_a_run_of_its_own_kind(watched: Watched) -> None:
    watcher = watched.watcher(watched.arm, policy=replace(SOON, offload=timedelta(hours=8)))
    watched.step_until(watcher, lambda state: state.offloaded_until is not None)
    watcher.step()
    with Journal(watched.state_dir) as journal:
        [run] = journal.runs()
    assert (run.request.trigger, run.state) == ("offload", RunState.DONE)
    assert run.request.window.length == timedelta(hours=8)


def interrupted(_self: object, _wanted: object) -> None:
    raise KeyboardInterrupt


def test_a_state_that_says_begun_without_a_run_is_tried_again_and_collected_once(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.sim.state.alerts.raise_alert(NODE)
    first = watched.watcher(watched.arm)
    monkeypatch.setattr(RunCollector, "collect", interrupted)
    with pytest.raises(KeyboardInterrupt):  # killed between writing that it begins and beginning
        watched.step_until(first, was_collected)
    monkeypatch.undo()
    assert watched.memory.load().begun is not None
    watched.step_until(watched.watcher(watched.arm), was_collected)
    assert len(watched.bundles) == 1


def pause(_seconds: float) -> bool:
    time.sleep(0.3)
    return False


def test_a_refused_password_ends_the_loop_and_the_next_start_may_try_again(watched: Watched) -> None:
    watched.sim.state.alerts.raise_alert(NODE)
    watcher = watched.watcher(watched.arm, password=Secret("wrong"))
    with pytest.raises(AuthenticationFailedError):
        watcher.run(pause, timedelta(seconds=1))
    assert watched.memory.load().begun is None
    assert watched.bundles == []


def test_the_loop_outlives_a_stamp_that_nobody_can_ask(watched: Watched) -> None:
    dead = ArmAlerts(watched.sim.name, "http://127.0.0.1:9", "local", static_token(Secret("t")), subscription="x")
    looks = 0

    def wait(_seconds: float) -> bool:
        nonlocal looks
        looks += 1
        return looks == 3

    watched.watcher(dead).run(wait, timedelta(seconds=1))
    assert looks == 3
    assert [told.failed for told in watched.told] == [True, False]  # told once: nobody answers; what it waits for
    assert watched.memory.load().blind


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Rehearsal]:
    options = ("--duration", "4s", "--size", "1MB", "--alert", f"{NODE}@0s", "--client-lost-after", "2s")
    with rehearsal(tmp_path / "stamp", *options) as found:
        yield found


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_watch_that_is_ended_while_it_collects_is_finished_by_the_next_one(
    process: Rehearsal, how: signal.Signals
) -> None:
    watch = ("watch", process.stamp, "--to", "local", "--role", "Storage", "--persist", "1s", "--every", "1s")
    refused = process.run(*watch, "--once")
    assert refused.returncode == ExitCode.USAGE
    assert "--agree" in refused.stderr
    with process.start(*watch, "--agree") as running:
        wait_for_run(process.state_dir, RunState.RUNNING)
        running.send_signal(how)
        _, told = running.communicate()
    assert running.returncode == (ExitCode.INTERRUPTED if how is signal.SIGTERM else -how), told
    done = process.run(*watch, "--once", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    with Journal(process.state_dir) as journal:
        [run] = journal.runs()
    assert (run.state, run.request.trigger) == (RunState.DONE, "proactive")
    assert done.data["state"]["begun"] is None
    status = process.run("watch", "status", process.stamp, "--json")
    assert status.data["consent"]["destination"] == run.request.destination.location
    everything = [process.state_dir, *process.state_dir.rglob("*")]
    assert [path for path in everything if path.stat().st_mode & 0o077] == []


def wait_for_run(state_dir: Path, state: RunState) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (state_dir / "journal.sqlite").exists():
            with Journal(state_dir) as journal:
                if any(run.state is state for run in journal.runs()):
                    return
        time.sleep(0.1)
    raise AssertionError(json.dumps([str(path) for path in state_dir.rglob("*")]))
