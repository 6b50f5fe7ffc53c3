"""Every fault that ``simulate --fault`` knows does what its name says, faults combine, and a seed repeats them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from bridge.endpoint import (
    Command,
    LineEvent,
    LineState,
    Outcome,
    Parameter,
    PipelineState,
    Record,
    SessionOptions,
    Stream,
    attach,
    live_shells,
    open_session,
)
from bridge.errors import (
    BridgeError,
    EndpointUnreachableError,
    NoSuchConfigurationError,
    NotPermittedError,
    QuotaExceededError,
    SessionGoneError,
    SessionLostError,
)
from bridge.secrets import Credential
from bridge.simulator import EndpointServer, ProtocolFaults
from bridge.simulator.stamp import FAULTS, SimulatedStamp, StampOptions
from bridge.stamp import Stamp

OPTIONS = SessionOptions(connect_timeout_s=3, operation_timeout_s=1, read_timeout_s=10, reconnect_deadline_s=20)
ALLOWED = frozenset({"Get-AzureStackLog", "Test-AzureStack", "Get-AzureStackSupportConfiguration"})
UNTIL = datetime(2026, 11, 22, 12, tzinfo=UTC)
SINCE = datetime(2026, 11, 22, 8, tzinfo=UTC)
PATIENCE_S = 30.0


@dataclass
class Seen:
    """What one collection, and the stamp around it, looked like."""

    stamp: SimulatedStamp
    endpoint: str = ""
    records: list[Record] = field(default_factory=list)
    outcome: Outcome | None = None
    error: BridgeError | None = None
    events: list[LineEvent] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    took_s: float = 0.0

    def texts(self, stream: Stream) -> list[str]:
        return [record.text for record in self.records if record.stream is stream]

    def zips(self, role: str) -> dict[str, bytes]:
        return {name: data for name, data in self.files.items() if f"/{role}-" in f"/{name}" and name.endswith(".zip")}

    @property
    def log(self) -> str:
        return next((data.decode() for name, data in self.files.items() if name.endswith("_Output.log")), "")


class Place:
    """Where the collections of one test go."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._number = 0

    def next(self) -> Path:
        self._number += 1
        folder = self._root / str(self._number)
        folder.mkdir()
        return folder


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def simulated(place: Place, *faults: str, **options: Any) -> tuple[SimulatedStamp, Path]:
    root = place.next()
    defaults: dict[str, Any] = {"size_bytes": 300_000, "duration_s": 0.3, "seed": 7, "client_lost_after_s": 1.0}
    return SimulatedStamp(StampOptions(**{**defaults, **options}, faults=faults, output_root=root)), root


def access(stamp: SimulatedStamp) -> tuple[Stamp, Credential]:
    return Stamp(stamp.name, stamp.endpoints), Credential(stamp.username, stamp.password)


def collecting(root: Path, roles: tuple[str, ...] = ("Storage", "ACS"), **parameters: Any) -> Command:
    asked: dict[str, Any] = {"OutputPath": str(root), "FilterByRole": roles, "FromDate": SINCE, "ToDate": UNTIL}
    return Command(
        "Get-AzureStackLog", tuple(Parameter(name, value) for name, value in {**asked, **parameters}.items())
    )


def collected(place: Place, *faults: str, wait_s: float = 0.0, **options: Any) -> Seen:
    """One collection of two roles from a stamp with these faults."""
    simulation, root = simulated(place, *faults, **options)
    with simulation as stamp:
        seen = Seen(stamp)
        began = time.monotonic()
        try:
            with open_session(*access(stamp), allow=ALLOWED, options=OPTIONS, on_line=seen.events.append) as session:
                seen.endpoint = session.endpoint.name
                pipeline = session.start([collecting(root)])
                seen.records += pipeline.records()
                seen.outcome = pipeline.outcome
        except BridgeError as error:
            seen.error = error
        seen.took_s = time.monotonic() - began
        time.sleep(wait_s)
        seen.files = {
            str(path.relative_to(root)).partition("/")[2]: path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }
    return seen


def answered(place: Place, command: Command, *faults: str) -> list[Record]:
    simulation, _ = simulated(place, *faults)
    with simulation as stamp, open_session(*access(stamp), allow=ALLOWED, options=OPTIONS) as session:
        return list(session.start([command]).records())


def refused(place: Place, *faults: str) -> BridgeError:
    error = collected(place, *faults).error
    assert error is not None
    return error


def finished_well(seen: Seen) -> bool:
    return seen.outcome is not None and seen.outcome.state is PipelineState.COMPLETED


def role_fails(place: Place) -> None:
    seen = collected(place, "role-fails:Storage")
    assert seen.zips("ACS")
    assert not seen.zips("Storage")
    assert any("Storage" in text for text in seen.texts(Stream.ERROR))


def role_empty(place: Place) -> None:
    seen = collected(place, "role-empty:Storage")
    assert seen.zips("ACS")
    assert not seen.zips("Storage")
    assert seen.texts(Stream.ERROR) == []


def role_hangs(place: Place) -> None:
    simulation, root = simulated(place, "role-hangs:Storage")
    with simulation as stamp, open_session(*access(stamp), allow=ALLOWED, options=OPTIONS) as session:
        pipeline = session.start([collecting(root)])
        time.sleep(2)
        assert pipeline.outcome is None
        assert [each.outcome for each in stamp.state.collections] == ["running"]
        pipeline.stop()
        assert pipeline.wait().state is PipelineState.STOPPED


def role_truncated(place: Place) -> None:
    whole, cut = collected(place), collected(place, "role-truncated:Storage")
    assert whole.zips("Storage").keys() == cut.zips("Storage").keys()
    shorter = [name for name, data in cut.zips("Storage").items() if len(data) < len(whole.zips("Storage")[name])]
    assert len(shorter) == 1


def node_missing(place: Place) -> None:
    seen = collected(place, "node-missing:AzS-Node02")
    assert seen.zips("Storage")
    assert not [name for name in seen.zips("Storage") if "AzS-Node02" in name]


def vm_off(place: Place) -> None:
    whole, less = collected(place), collected(place, "vm-off:AzS-ACS01")
    assert sum(map(len, less.zips("ACS").values())) < sum(map(len, whole.zips("ACS").values()))


def staging_disk_full(place: Place) -> None:
    seen = collected(place, "staging-disk-full:30")
    assert "There is not enough space on the disk." in seen.log
    assert not finished_well(seen) or seen.texts(Stream.ERROR)


def other_collection_running(place: Place) -> None:
    seen = collected(place, "other-collection-running:1h")
    assert any("already in progress" in text for text in seen.texts(Stream.ERROR))
    assert seen.files == {}


def output_late(place: Place) -> None:
    assert not collected(place, "output-late:1h").zips("Storage")
    assert collected(place, "output-late:0.5s", wait_s=2.0).zips("Storage")


def collection_outlives_session(place: Place) -> None:
    simulation, root = simulated(place, "collection-outlives-session", duration_s=2.0)
    with simulation as stamp:
        session = open_session(*access(stamp), allow=ALLOWED, options=OPTIONS)
        next(session.start([collecting(root)]).records())
        session.close()
        deadline = time.monotonic() + PATIENCE_S
        while stamp.state.collections[0].outcome == "running" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert stamp.state.collections[0].outcome == "finished"


def wrong_clock(place: Place) -> None:
    simulation, _ = simulated(place, "wrong-clock:-2h")
    with simulation as stamp:
        assert 7000 < (datetime.now(UTC) - stamp.state.now()).total_seconds() < 7400
        answer = requests.post(f"http://127.0.0.1:{stamp.endpoints[0].port}/wsman", timeout=10)
        assert answer.headers["Date"] != ""


def hostile_names(place: Place) -> None:
    seen = collected(place, "hostile-names")
    assert any("drive-letter" in text for text in seen.texts(Stream.WARNING))


def hostile_records(place: Place) -> None:
    seen = collected(place, "hostile-records")
    assert max(len(record.text) for record in seen.records) > 500_000
    assert finished_well(seen)


def leaky_logs(place: Place) -> None:
    sas = "https://account.blob.example/c?sv=2019-02-02&sig=Kn0wn%3D"
    for faults, leaks in (((), False), (("leaky-logs",), True)):
        simulation, _ = simulated(place, *faults)
        with simulation as stamp:
            with open_session(*access(stamp), allow=ALLOWED, options=OPTIONS) as session:
                asked = (Parameter("OutputSasUri", sas), Parameter("FilterByRole", ("ACS",)))
                list(session.start([Command("Get-AzureStackLog", asked)]).records())
            told = [line for each in stamp.state._transcripts.values() for line in each.lines]
            assert any("Kn0wn" in line for line in told) is leaks


def not_registered(place: Place) -> None:
    command = Command("Get-AzureStackSupportConfiguration")
    assert any(record.data for record in answered(place, command))
    assert not any(record.data for record in answered(place, command, "not-registered"))


def test_fails(place: Place) -> None:
    command = Command("Test-AzureStack", (Parameter("Include", ("AzsControlPlane",)),))
    assert answered(place, command)[-1].data is True
    assert answered(place, command, "test-fails:AzsControlPlane")[-1].data is False


def portal_down(place: Place) -> None:
    simulation, _ = simulated(place, "portal-down")
    with simulation as stamp, pytest.raises(requests.ConnectionError):
        requests.get(stamp.portal.url, timeout=10)


def ercs_dies(place: Place) -> None:
    seen = collected(place, "ercs-dies:AzS-ERCS01", duration_s=0.0)
    assert seen.endpoint == "AzS-ERCS02" or isinstance(seen.error, SessionLostError)
    simulation, root = simulated(place, "ercs-dies:AzS-ERCS01@2s-3s", duration_s=60.0)
    with simulation as stamp:
        session = open_session(*access(stamp), allow=ALLOWED, options=OPTIONS)
        with pytest.raises(SessionGoneError):
            list(session.start([collecting(root)]).records())
        session.close()
        assert [each.outcome for each in stamp.state.collections] == ["stopped"]


def ercs_refuses(place: Place) -> None:
    assert collected(place, "ercs-refuses:AzS-ERCS01").endpoint == "AzS-ERCS02"
    error = refused(place, *(f"ercs-refuses:AzS-ERCS0{number}" for number in (1, 2, 3)))
    assert type(error) is EndpointUnreachableError


def connection_cut(place: Place) -> None:
    seen = collected(place, "connection-cut:40", seed=3)
    assert LineState.DOWN in [event.state for event in seen.events] or seen.error is not None
    whole = collected(place)
    if seen.error is None:
        assert len(seen.texts(Stream.VERBOSE)) == len(whole.texts(Stream.VERBOSE))


def connection_stalls(place: Place) -> None:
    seen = collected(place, "connection-stalls:100")
    assert finished_well(seen)
    assert seen.took_s > collected(place).took_s + 3


def idle_close(place: Place) -> None:
    simulation, _ = simulated(place, "idle-close:1s")
    with simulation as stamp:
        events: list[LineEvent] = []
        with open_session(*access(stamp), allow=ALLOWED, options=OPTIONS, on_line=events.append) as session:
            time.sleep(2.5)
            assert stamp.servers[0].clients() == set()
            session.run([Command("Get-AzureStackSupportConfiguration")])
        assert [event.state for event in events][:1] == [LineState.DOWN]


def receive_cut(place: Place) -> None:
    seen = collected(place, "receive-cut:0.2s", duration_s=4.0)
    whole = collected(place)
    assert LineState.DOWN in [event.state for event in seen.events]
    assert finished_well(seen)
    assert len(seen.texts(Stream.VERBOSE)) == len(whole.texts(Stream.VERBOSE))


def session_ends(place: Place) -> None:
    seen = collected(place, "session-ends:1s", duration_s=30.0)
    assert isinstance(seen.error, SessionLostError)
    assert [each.outcome for each in seen.stamp.state.collections] == ["stopped"]


def left_alone(place: Place, fault: str, *, ends: bool) -> None:
    simulation, root = simulated(place, fault, "hostile-records", duration_s=0.0, size_bytes=50_000)
    with simulation as stamp:
        session = open_session(*access(stamp), allow=ALLOWED, options=OPTIONS)
        pipeline = session.start([collecting(root)])
        pipeline.disconnect()
        session.close()
        deadline = time.monotonic() + (PATIENCE_S if ends else 3.0)
        while not stamp.state.collections or stamp.state.collections[0].outcome == "running":
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        assert (stamp.state.collections[0].outcome == "finished") is ends
        again = attach(*access(stamp), pipeline.ids, options=OPTIONS, deadline_s=PATIENCE_S)
        assert again.wait().state is PipelineState.COMPLETED
        again.session.close()
        assert [each.outcome for each in stamp.state.collections] == ["finished"]


def disconnected_buffer(place: Place) -> None:
    left_alone(place, "disconnected-buffer:1KB", ends=False)


def disconnected_drop(place: Place) -> None:
    left_alone(place, "disconnected-drop:1KB", ends=True)


def quota_exceeded(place: Place) -> None:
    assert type(refused(place, "quota-exceeded")) is QuotaExceededError


def access_denied(place: Place) -> None:
    assert type(refused(place, "access-denied")) is NotPermittedError


def no_such_configuration(place: Place) -> None:
    assert type(refused(place, "no-such-configuration")) is NoSuchConfigurationError


def no_enumeration(place: Place) -> None:
    for faults in ((), ("no-enumeration",)):
        simulation, _ = simulated(place, *faults)
        with simulation as stamp:
            known, credential = access(stamp)
            if not faults:
                assert live_shells(known, credential, known.endpoints[0]) == ()
                continue
            with pytest.raises(NotPermittedError):
                live_shells(known, credential, known.endpoints[0])


CHECKS: dict[str, Callable[[Place], None]] = {
    name: globals()[name.replace("-", "_")] for name in FAULTS if name.replace("-", "_") in globals()
}
test_fails.__test__ = False  # type: ignore[attr-defined]


def test_every_fault_has_a_check() -> None:
    assert CHECKS.keys() == FAULTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CHECKS))
def test_the_fault_does_what_it_says(name: str, place: Place) -> None:
    CHECKS[name](place)


def digest(seen: Seen) -> dict[str, str]:
    zips = {name: data for name, data in seen.files.items() if name.endswith(".zip")}
    return {name: hashlib.sha256(data).hexdigest() for name, data in zips.items()}


COMBINED = ("role-fails:any", "node-missing:AzS-Node03", "vm-off:AzS-ACS01", "connection-cut:10", "receive-cut:0.3s")


def test_faults_combine_and_two_runs_with_one_seed_are_the_same(place: Place) -> None:
    one, two = (collected(place, *COMBINED, seed=11) for _ in range(2))
    assert digest(one) == digest(two)
    assert one.texts(Stream.ERROR) == two.texts(Stream.ERROR) != []
    assert [text for text in one.texts(Stream.VERBOSE) if "Role" in text] == [
        text for text in two.texts(Stream.VERBOSE) if "Role" in text
    ]
    assert digest(collected(place, *COMBINED, seed=12)) != digest(one)


def fates(faults: ProtocolFaults, count: int = 60) -> list[str]:
    """What becomes of so many requests, each on a connection of its own."""
    found = []
    with EndpointServer(faults=faults) as server:
        for _ in range(count):
            began = time.monotonic()
            try:
                requests.post(f"http://{server.host}:{server.port}/wsman", timeout=10)
            except requests.ConnectionError:
                found.append("cut")
            else:
                found.append("late" if time.monotonic() - began > 0.1 else "answered")
    return found


def test_the_nth_request_meets_the_same_fate_in_every_run_with_one_seed_whatever_other_faults_there_are() -> None:
    cuts = ProtocolFaults(seed=5, cut_chance=0.3)
    first = fates(cuts)
    assert first == fates(cuts)
    assert {"cut", "answered"} == set(first)
    assert first != fates(ProtocolFaults(seed=6, cut_chance=0.3))
    both = fates(ProtocolFaults(seed=5, cut_chance=0.3, stall_chance=0.2, stall_s=0.15))
    assert [fate == "cut" for fate in both] == [fate == "cut" for fate in first]
    assert "late" in both


def test_the_table_in_the_documentation_says_the_same() -> None:
    page = (Path(__file__).parents[3] / "docs" / "rehearsal-faults.md").read_text(encoding="utf-8")
    rows = [line for line in page.partition("## ")[0].splitlines() if line.startswith("| `")]
    assert rows == [f"| `{kind.usage}` | {kind.meaning} |" for kind in FAULTS.values()]
