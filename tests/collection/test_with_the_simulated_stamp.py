"""A whole stamp on loopback, real sessions, a real share and a real container: from request to proven bundle."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bagit
import pytest

from bridge.bundle import Verdict, verify
from bridge.collection import (
    Access,
    Control,
    Event,
    Landed,
    Outcome,
    Place,
    RecordArrived,
    Request,
    RunState,
    Settings,
    StateChanged,
    Warned,
    Window,
    attach,
    collect,
    deliver,
    stop,
)
from bridge.collection._parts import open_place
from bridge.errors import ExitCode
from bridge.secrets import Credential, Secret
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.stamp import Stamp
from bridge.store import FolderStore
from tests.support.azurite import Azurite
from tests.support.runs import QUICK
from tests.support.samba import Samba

WINDOW_END = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ROLES = ("Storage", "ACS", "SeedRing")


class Rehearsal:
    """A stamp and what is needed to collect from it."""

    def __init__(self, sim: SimulatedStamp, tmp_path: Path) -> None:
        self.sim = sim
        self.tmp_path = tmp_path
        self.state_dir = tmp_path / "state"
        self.stamp = Stamp(sim.name, tuple(sim.endpoints), username=sim.username)
        self.credential = Credential(sim.username, sim.password)

    def request(self, destination: Place, **changes: Any) -> Request:
        window = Window(WINDOW_END - timedelta(hours=4), WINDOW_END)
        parts: dict[str, Any] = {"roles": ROLES, "shared_disk": True} | changes
        return Request(self.stamp, window, destination, **parts)

    def folder(self, name: str) -> Place:
        return Place.parse(str(self.tmp_path / name))

    def collect(self, request: Request, *, settings: Settings = QUICK, **options: Any) -> Outcome:
        access = Access(self.credential, options.pop("destination", None), options.pop("staging", None))
        options.setdefault("state_dir", self.state_dir)
        return collect(request, access, settings=settings, **options)

    def attach(self, run_id: str, **options: Any) -> Outcome:
        return attach(run_id, Access(self.credential), state_dir=self.state_dir, settings=QUICK, **options)


def rehearsal(tmp_path: Path, **options: Any) -> Iterator[Rehearsal]:
    defaults: dict[str, Any] = {"size_bytes": 2_000_000, "duration_s": 0.5, "seed": 7, "output_root": tmp_path}
    with SimulatedStamp(StampOptions(**{**defaults, **options})) as sim:
        yield Rehearsal(sim, tmp_path)
        assert sim.state.dangerous_calls == ()


@pytest.fixture
def with_stamp(tmp_path: Path, samba: Samba) -> Iterator[Rehearsal]:
    yield from rehearsal(tmp_path, smb_port=samba.port)


@pytest.fixture
def slow_stamp(tmp_path: Path, samba: Samba) -> Iterator[Rehearsal]:
    yield from rehearsal(tmp_path, smb_port=samba.port, duration_s=4.0)


def manifest(store: Any) -> list[str]:
    """Lines of the manifest but for the output log's (it holds times) and with the folder's time blanked."""
    with store.open_read("manifest-sha256.txt") as reader:
        buffer = bytearray(reader.size_bytes)
        view, filled = memoryview(buffer), 0
        while count := reader.readinto(view[filled:]):
            filled += count
    lines = bytes(buffer).decode().splitlines()
    return sorted(
        f"{line.split('  ', 1)[0]} {line.rsplit('/', 1)[-1]}"
        for line in lines
        if "Get-AzureStackLog_Output" not in line
    )


def test_a_folder_gets_a_bundle_that_every_tool_accepts(with_stamp: Rehearsal) -> None:
    events: list[Event] = []
    outcome = with_stamp.collect(with_stamp.request(with_stamp.folder("out")), on_event=events.append)
    assert (outcome.state, outcome.exit_code, outcome.errors) == (RunState.DONE, ExitCode.OK, ())
    bundle = Path(str(outcome.bundle))
    assert verify(FolderStore(bundle)).verdict is Verdict.VERIFIED
    assert bagit.Bag(str(bundle)).is_valid()
    for name in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        subprocess.run([shutil.which("sha256sum") or "sha256sum", "--quiet", "-c", name], cwd=bundle, check=True)
    document = json.loads((bundle / "collection.json").read_bytes())
    assert document["end"] == {"state": "completed"}
    assert document["records"]["progress"] > 0
    assert sum(isinstance(event, RecordArrived) for event in events) == sum(document["records"].values())
    [command] = [call for call in with_stamp.sim.state.calls if call.name == "Get-AzureStackLog"]
    assert command.parameters["FromDate"] == WINDOW_END - timedelta(hours=4)


def test_share_staged_container_and_direct_container_hold_the_same_payload(
    with_stamp: Rehearsal, samba: Samba, azurite: Azurite, tmp_path: Path
) -> None:
    share = Place.parse(samba.url("bundles"))
    on_share = with_stamp.collect(with_stamp.request(share), destination=samba.credential)

    container = azurite.new_container()
    there = Place.parse(azurite.container_url(container))
    sas = azurite.sas(container, "rwldc")
    staged = with_stamp.collect(with_stamp.request(there, staging=share), destination=sas, staging=samba.credential)
    direct = with_stamp.collect(with_stamp.request(there, direct=True), destination=sas)

    manifests = []
    for outcome, place, secret in (
        (on_share, share, samba.credential),
        (staged, there, sas),
        (direct, there, sas),
    ):
        assert outcome.state is RunState.DONE, (outcome.errors, outcome.warnings, outcome.coverage)
        assert outcome.unchecked == ()
        store = open_place(place, secret)
        bundle = store.at(outcome.bundle_name)
        report = verify(bundle)
        assert report.verdict is Verdict.VERIFIED, report.findings
        assert report.bundle_id == outcome.bundle_id
        manifests.append(manifest(bundle))
        store.close()
    assert manifests[0] == manifests[1] == manifests[2]
    assert len(manifests[0]) >= 10
    staging_copy = samba.path("bundles") / staged.bundle_name
    assert verify(FolderStore(staging_copy)).bundle_id == staged.bundle_id

    for secret in (with_stamp.credential.password, samba.credential.password, sas):
        signature = secret.reveal().split("sig=")[-1].split("&")[0]
        for path in (*tmp_path.rglob("*"), *samba.path("bundles").rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                assert secret.reveal().encode() not in content, path
                assert signature.encode() not in content, path


def test_what_a_sas_does_not_permit_to_read_is_said_and_not_hidden(with_stamp: Rehearsal, azurite: Azurite) -> None:
    container = azurite.new_container()
    place = Place.parse(azurite.container_url(container))
    outcome = with_stamp.collect(with_stamp.request(place, direct=True), destination=azurite.sas(container, "wlc"))
    assert (outcome.state, outcome.exit_code) == (RunState.PARTIAL, ExitCode.PARTIAL), outcome.errors
    assert len(outcome.unchecked) >= 10
    assert any("cannot be read" in warning for warning in outcome.warnings)


def test_a_bundle_on_a_share_is_delivered_to_a_container(with_stamp: Rehearsal, samba: Samba, azurite: Azurite) -> None:
    share = Place.parse(samba.url("bundles"))
    outcome = with_stamp.collect(with_stamp.request(share), destination=samba.credential)
    container = azurite.new_container()
    sas = azurite.sas(container, "rwl")
    delivered = deliver(
        Place.parse(f"{samba.url('bundles')}/{outcome.bundle_name}"),
        Place.parse(azurite.container_url(container)),
        source_access=samba.credential,
        target_access=sas,
        state_dir=with_stamp.state_dir,
    )
    assert delivered.bundle_id == outcome.bundle_id
    store = open_place(Place.parse(azurite.container_url(container)), sas)
    assert verify(store.at(outcome.bundle_name)).verdict is Verdict.VERIFIED
    store.close()


def test_a_wrong_password_ends_with_its_own_exit_code(with_stamp: Rehearsal) -> None:
    with_stamp.credential = Credential(with_stamp.sim.username, Secret("not the password"))
    outcome = with_stamp.collect(with_stamp.request(with_stamp.folder("out")))
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.AUTHENTICATION)


def test_a_share_that_refuses_is_found_before_the_endpoint_is_asked(with_stamp: Rehearsal, samba: Samba) -> None:
    for share, credential in (
        (samba.url("readonly"), samba.credential),
        (samba.url("bundles"), samba.wrong_credential),
        (samba.url("nosuchshare"), samba.credential),
    ):
        outcome = with_stamp.collect(with_stamp.request(Place.parse(share)), destination=credential)
        assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.PREFLIGHT), outcome.errors
        assert outcome.errors[0].advice
    assert with_stamp.sim.state.calls == ()


def test_a_full_share_is_found_before_the_endpoint_is_asked(with_stamp: Rehearsal, samba: Samba) -> None:
    outcome = with_stamp.collect(
        with_stamp.request(Place.parse(samba.url("small"))),
        destination=samba.credential,
        settings=Settings(free_bytes=1 << 40),
    )
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.NO_SPACE)
    assert with_stamp.sim.state.calls == ()


def test_a_sas_that_will_not_do_is_found_before_the_endpoint_is_asked(with_stamp: Rehearsal, azurite: Azurite) -> None:
    container, other = azurite.new_container(), azurite.new_container()
    place = Place.parse(azurite.container_url(container))
    for sas, word in (
        (azurite.sas(container, "rwl", expires_in=timedelta(hours=-1)), "not valid now"),
        (azurite.sas(container, "rwl", expires_in=timedelta(minutes=10)), "may last until"),
        (azurite.sas(container, "rl"), "writing"),
        (azurite.sas(other, "rwl"), ""),
    ):
        outcome = with_stamp.collect(with_stamp.request(place, direct=True), destination=sas)
        assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.PREFLIGHT), outcome
        assert word in str(outcome.errors[0])
    assert with_stamp.sim.state.calls == ()


@pytest.mark.parametrize(
    ("fault", "state", "exit_code"),
    [
        ("role-fails:Storage", RunState.PARTIAL, ExitCode.PARTIAL),
        ("role-empty:ACS", RunState.PARTIAL, ExitCode.PARTIAL),
        ("role-truncated:ACS", RunState.PARTIAL, ExitCode.PARTIAL),
        ("staging-disk-full:50", RunState.PARTIAL, ExitCode.PARTIAL),
        ("other-collection-running", RunState.FAILED, ExitCode.BUSY),
        ("output-late:0.4s", RunState.DONE, ExitCode.OK),
    ],
)
def test_a_fault_of_the_stamp_is_told_as_what_it_is(
    tmp_path: Path, fault: str, state: RunState, exit_code: ExitCode
) -> None:
    for with_stamp in rehearsal(tmp_path, faults=(fault,)):
        outcome = with_stamp.collect(
            with_stamp.request(with_stamp.folder("out")), settings=Settings(watch_s=0.1, settle_s=0.5, late_s=5)
        )
        assert (outcome.state, outcome.exit_code) == (state, exit_code), outcome
        if outcome.bundle:
            assert verify(FolderStore(Path(outcome.bundle))).verdict is Verdict.VERIFIED


def test_hostile_names_are_reported_and_kept_out_of_harm(tmp_path: Path) -> None:
    for with_stamp in rehearsal(tmp_path, faults=("hostile-names", "hostile-records")):
        outcome = with_stamp.collect(with_stamp.request(with_stamp.folder("out")))
        assert outcome.state is RunState.PARTIAL, outcome
        assert any("not safe to use" in warning for warning in outcome.warnings)
        assert outcome.bundle is not None
        outside = {path.name for path in tmp_path.iterdir()}
        assert outside <= {"out", "state"} | {path.name for path in tmp_path.glob("*.toml")}, outside


def test_a_hostile_name_in_the_staging_place_is_left_there_and_makes_the_run_partial(tmp_path: Path) -> None:
    for with_stamp in rehearsal(tmp_path, faults=("hostile-names",)):
        request = with_stamp.request(with_stamp.folder("far"), staging=with_stamp.folder("near"))
        outcome = with_stamp.collect(request)
        assert outcome.state is RunState.PARTIAL, outcome
        assert any("not safe to use" in warning for warning in outcome.warnings)
        assert verify(FolderStore(Path(str(outcome.bundle)))).verdict is Verdict.VERIFIED


def test_an_unsafe_name_is_told_once_and_files_under_the_bundles_own_names_are_never_written_over(
    tmp_path: Path,
) -> None:
    for with_stamp in rehearsal(tmp_path, faults=("hostile-names",)):
        told: list[str] = []
        planted: list[Path] = []

        def note(event: Event, told: list[str] = told, planted: list[Path] = planted) -> None:
            if isinstance(event, Warned):
                told.append(event.text)
            if isinstance(event, StateChanged) and event.state is RunState.SEALING and not planted:
                [payload] = (tmp_path / "out").glob("*/data")
                planted.append(payload.parent / "coverage.json")
                planted[0].write_bytes(b"planted")

        outcome = with_stamp.collect(with_stamp.request(with_stamp.folder("out")), on_event=note)
        assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.SEALING), outcome
        assert "coverage.json" in str(outcome.errors[0])
        assert not [text for text in told if "starts again" in text]
        assert planted[0].read_bytes() == b"planted"

        planted[0].unlink()
        assert with_stamp.attach(outcome.run_id, on_event=note).state is RunState.PARTIAL
        unsafe = [text for text in told if "not safe to use" in text]
        assert unsafe
        assert len(unsafe) == len(set(unsafe))


def test_a_staging_copy_that_holds_what_was_not_delivered_is_kept_and_said(tmp_path: Path) -> None:
    for with_stamp in rehearsal(tmp_path, faults=("hostile-names",)):
        near = with_stamp.folder("near")
        outcome = with_stamp.collect(with_stamp.request(with_stamp.folder("far"), staging=near, remove_staging=True))
        assert outcome.state is RunState.PARTIAL, outcome
        assert (outcome.staging, outcome.staging_removed) == (f"{near.location}/{outcome.bundle_name}", None)
        assert any("the staging copy is kept" in warning for warning in outcome.warnings)
        assert verify(FolderStore(Path(str(outcome.staging)))).verdict is not Verdict.FAILED


def test_a_removed_staging_copy_leaves_no_folder_on_a_share(with_stamp: Rehearsal, samba: Samba) -> None:
    share = Place.parse(samba.url("bundles"))
    request = with_stamp.request(with_stamp.folder("far"), staging=share, remove_staging=True)
    outcome = with_stamp.collect(request, staging=samba.credential)
    assert outcome.state is RunState.DONE, outcome
    assert outcome.staging_removed is not None
    assert not (samba.path("bundles") / outcome.bundle_name).exists()


def test_a_detached_collection_is_finished_by_attach_and_loses_no_record(slow_stamp: Rehearsal) -> None:
    request = slow_stamp.request(slow_stamp.folder("out"))
    detached = slow_stamp.collect(request, detach=True)
    assert detached.state is RunState.DETACHED, detached
    outcome = slow_stamp.attach(detached.run_id)
    assert outcome.state is RunState.DONE, outcome
    assert len(slow_stamp.sim.state.collections) == 1
    assert verify(FolderStore(Path(str(outcome.bundle)))).verdict is Verdict.VERIFIED
    lines = (Path(str(outcome.bundle)) / "session.jsonl").read_text().splitlines()
    texts = [json.loads(line).get("text", "") for line in lines]
    for role in ROLES:
        assert sum(f"Role '{role}'" in text for text in texts) == 1


def test_a_stopped_collection_leaves_no_orphan_and_keeps_what_arrived(slow_stamp: Rehearsal) -> None:
    control = Control()

    def stop_soon(event: Event) -> None:
        if isinstance(event, RecordArrived) and "Role 2" in event.record.text:
            control.stop()

    outcome = slow_stamp.collect(slow_stamp.request(slow_stamp.folder("out")), on_event=stop_soon, control=control)
    assert (outcome.state, outcome.exit_code) == (RunState.STOPPED, ExitCode.INTERRUPTED), outcome
    assert [each.outcome for each in slow_stamp.sim.state.collections] == ["stopped"]
    assert all(not server.shells() for server in slow_stamp.sim.servers)
    assert verify(FolderStore(Path(str(outcome.bundle)))).verdict is Verdict.VERIFIED


def test_what_arrives_after_a_stop_that_the_endpoint_confirmed_is_sealed(tmp_path: Path) -> None:
    for with_stamp in rehearsal(tmp_path, faults=("collection-outlives-session",), duration_s=4.0):
        control = Control()

        def stop_at_once(event: Event, control: Control = control) -> None:
            if isinstance(event, RecordArrived):
                control.stop()

        outcome = with_stamp.collect(
            with_stamp.request(with_stamp.folder("out")),
            on_event=stop_at_once,
            control=control,
            settings=replace(QUICK, after_stop_s=30, stall_s=60),
        )
        assert [each.outcome for each in with_stamp.sim.state.collections] == ["finished"]
        assert (outcome.state, outcome.exit_code) == (RunState.STOPPED, ExitCode.INTERRUPTED), outcome
        assert len(list(Path(str(outcome.bundle)).rglob("*.zip"))) > 0
        assert verify(FolderStore(Path(str(outcome.bundle)))).verdict is Verdict.VERIFIED


def test_a_collection_that_no_stop_ends_is_sealed_as_it_stands_and_keeps_its_stamp_locked(tmp_path: Path) -> None:
    for with_stamp in rehearsal(tmp_path, faults=("collection-outlives-session",), duration_s=20.0):
        control = Control()

        def stop_when_some_landed(event: Event, control: Control = control) -> None:
            if isinstance(event, Landed) and event.files:
                control.stop()

        outcome = with_stamp.collect(
            with_stamp.request(with_stamp.folder("out")),
            on_event=stop_when_some_landed,
            control=control,
            settings=replace(QUICK, after_stop_s=30, late_s=0.5, stall_s=0.5, seal_attempts=20),
        )
        assert outcome.state is RunState.STOPPED, outcome
        assert any("goes on all the same" in warning for warning in outcome.warnings)
        assert any("the stamp stays locked until" in warning for warning in outcome.warnings)


def test_stop_ends_a_detached_collection(slow_stamp: Rehearsal) -> None:
    detached = slow_stamp.collect(slow_stamp.request(slow_stamp.folder("out")), detach=True)
    outcome = stop(detached.run_id, Access(slow_stamp.credential), state_dir=slow_stamp.state_dir, settings=QUICK)
    assert (outcome.state, outcome.exit_code) == (RunState.STOPPED, ExitCode.OK), outcome
    assert [each.outcome for each in slow_stamp.sim.state.collections] == ["stopped"]


def test_a_machine_that_dies_does_not_lose_what_it_wrote(slow_stamp: Rehearsal) -> None:
    def kill(event: Event) -> None:
        if isinstance(event, RecordArrived) and "Role 2" in event.record.text:
            slow_stamp.sim.servers[0].kill()

    outcome = slow_stamp.collect(
        slow_stamp.request(slow_stamp.folder("out")),
        on_event=kill,
        settings=Settings(watch_s=0.1, settle_s=0.5, stall_s=2, line_deadline_s=2, reattach_s=1, attach_deadline_s=1),
    )
    assert outcome.state in {RunState.PARTIAL, RunState.DONE}, outcome
    assert outcome.bundle is not None
    assert verify(FolderStore(Path(outcome.bundle))).verdict is Verdict.VERIFIED
    assert any("AzS-ERCS02" in warning for warning in outcome.warnings)
    assert len(slow_stamp.sim.state.collections) == 1


def test_a_line_that_is_cut_again_and_again_loses_nothing(slow_stamp: Rehearsal) -> None:
    states: list[str] = []

    def cut(event: Event) -> None:
        if isinstance(event, StateChanged):
            states.append(event.state)
        if isinstance(event, RecordArrived) and event.record.progress is not None:
            slow_stamp.sim.servers[0].cut_connections()

    outcome = slow_stamp.collect(slow_stamp.request(slow_stamp.folder("out")), on_event=cut)
    assert outcome.state is RunState.DONE, outcome
    assert states.count("running") == 1
    assert len(slow_stamp.sim.state.collections) == 1


def test_a_folder_of_this_machine_is_written_by_the_endpoint_under_its_share_name(
    with_stamp: Rehearsal, samba: Samba
) -> None:
    here = Place.parse(str(samba.path("bundles")), endpoint_location=samba.unc("bundles"))
    outcome = with_stamp.collect(with_stamp.request(here, shared_disk=False), destination=samba.credential)
    assert outcome.state is RunState.DONE, outcome
    assert outcome.bundle == str(samba.path("bundles") / outcome.bundle_name)
    [command] = with_stamp.sim.state.calls
    assert command.parameters["OutputSharePath"] == f"{samba.unc('bundles')}\\{outcome.bundle_name}\\data"


def test_a_share_that_fills_up_keeps_what_arrived_and_is_sealed_when_there_is_space_again(
    tmp_path: Path, samba: Samba
) -> None:
    if not samba.small_is_mounted:
        pytest.skip("not run: the small share needs root")
    small = samba.path("small")
    for with_stamp in rehearsal(tmp_path, smb_port=samba.port, size_bytes=12_000_000):
        full = with_stamp.collect(with_stamp.request(Place.parse(samba.url("small"))), destination=samba.credential)
        assert (full.state, full.exit_code) == (RunState.FAILED, ExitCode.NO_SPACE), full
        bundle = small / full.bundle_name
        arrived = {path.relative_to(bundle): path.stat().st_size for path in bundle.rglob("*.zip")}
        assert arrived
        assert not (bundle / "bagit.txt").exists()
        for other in small.rglob("*"):
            if other.is_file() and bundle not in other.parents and ".pep-bridge" not in other.parts:
                other.unlink()
        (small / "ballast").unlink(missing_ok=True)
        largest = max(bundle.rglob("*.zip"), key=lambda path: path.stat().st_size)
        largest.unlink()  # as an operator who makes room would, with what may be lost
        outcome = attach(
            full.run_id,
            Access(with_stamp.credential, samba.credential),
            state_dir=with_stamp.state_dir,
            settings=QUICK,
        )
        assert (outcome.state, outcome.exit_code) == (RunState.PARTIAL, ExitCode.PARTIAL), outcome
        assert verify(FolderStore(bundle)).verdict is Verdict.VERIFIED
        shutil.rmtree(bundle)


def test_a_collection_whose_output_blocks_while_nobody_listens_goes_on_after_attach(slow_stamp: Rehearsal) -> None:
    for server in slow_stamp.sim.servers:
        server.faults = replace(server.faults, disconnected_buffer_bytes=2000)
    detached = slow_stamp.collect(slow_stamp.request(slow_stamp.folder("out")), detach=True)
    assert detached.state is RunState.DETACHED, detached
    time.sleep(5)
    assert [each.outcome for each in slow_stamp.sim.state.collections] == ["running"]
    outcome = slow_stamp.attach(detached.run_id)
    assert outcome.state is RunState.DONE, outcome
    assert len(slow_stamp.sim.state.collections) == 1
