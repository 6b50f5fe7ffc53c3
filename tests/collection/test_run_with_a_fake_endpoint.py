"""A run from request to bundle, its state machine and its journal, with an endpoint that is a thread."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.bundle import Verdict, verify
from bridge.collection import (
    Access,
    Control,
    DeliveryProgress,
    Event,
    HashProgress,
    Journal,
    Landed,
    Outcome,
    Place,
    Request,
    RunState,
    StateChanged,
    Waiting,
    Warned,
    attach,
    collect,
    stop,
)
from bridge.endpoint import ErrorDetail
from bridge.errors import (
    AuthenticationFailedError,
    EndpointUnreachableError,
    ExitCode,
    JournalError,
    NoSuchRunError,
    StampBusyError,
)
from bridge.store import FolderStore
from bridge.store.transfer import LinePolicy, TransferSettings
from tests.support.fake_endpoint import FakeEndpoint, fake_ports, wait_until
from tests.support.fake_runs import run, take_over
from tests.support.runs import PASSWORD, QUICK, make_request
from tests.support.samba import Samba


def states(state_dir: Path, run_id: str) -> list[str]:
    with Journal(state_dir) as journal:
        return [step.name for step in journal.run(run_id).steps if step.status == "state"]


def assert_verified(outcome: Outcome) -> None:
    assert outcome.bundle is not None
    report = verify(FolderStore(Path(outcome.bundle)))
    assert report.verdict is Verdict.VERIFIED, report.findings
    assert report.bundle_id == outcome.bundle_id


def test_a_collection_ends_as_a_verified_bundle(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    events: list[Event] = []
    outcome = run(request_to, access, state_dir, endpoint, on_event=events.append)

    assert (outcome.state, outcome.exit_code, outcome.errors) == (RunState.DONE, ExitCode.OK, ())
    assert outcome.file_count == 3
    assert_verified(outcome)
    assert states(state_dir, outcome.run_id) == ["planned", "preflighted", "locked", "running", "sealing", "done"]
    assert [e.state for e in events if isinstance(e, StateChanged)][-1] is RunState.DONE
    landed = [event for event in events if isinstance(event, Landed)][-1]
    assert set(landed.roles) == {"Storage", "ACS"}
    assert landed.files == 3


def test_the_documents_of_the_bundle_say_what_was_asked_and_sent(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    outcome = run(request_to, access, state_dir, endpoint)
    assert outcome.bundle is not None
    document = json.loads((Path(outcome.bundle) / "collection.json").read_bytes())
    assert document["schema_version"] == 1
    assert document["request"]["roles"] == ["Storage", "ACS"]
    assert document["endpoint"] == "AzS-ERCS01"
    parameters = dict(document["commands"][0]["parameters"])
    assert parameters["TimeOutInMinutes"] == 240
    assert parameters["IncludeDumpFile"] is False
    assert parameters["PerformVMLogRecovery"] is False
    assert parameters["FromDate"]["text"].endswith("+00:00")
    lines = (Path(outcome.bundle) / "session.jsonl").read_text().splitlines()
    assert [json.loads(line)["progress"]["operation"] for line in lines] == list(endpoint.files)


def test_a_role_without_output_makes_the_run_partial(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    outcome = run(make_request(tmp_path / "b", roles=("Storage", "SeedRing")), access, state_dir, endpoint)
    assert (outcome.state, outcome.exit_code) == (RunState.PARTIAL, ExitCode.PARTIAL)
    assert outcome.coverage is not None
    assert outcome.coverage["roles"] == {"Storage": True, "SeedRing": False}
    assert_verified(outcome)


def test_a_failed_command_with_output_is_sealed_as_partial(
    request_to: Request, access: Access, state_dir: Path
) -> None:
    endpoint = FakeEndpoint(
        error=ErrorDetail("it broke", "Broken,Get-AzureStackLog", "NotSpecified", "System.Exception")
    )
    outcome = run(request_to, access, state_dir, endpoint)
    assert (outcome.state, outcome.exit_code) == (RunState.PARTIAL, ExitCode.PARTIAL)
    assert [error.name for error in outcome.errors] == ["CommandFailedError"]
    assert_verified(outcome)


def test_a_failed_command_without_output_ends_with_its_own_error(
    request_to: Request, access: Access, state_dir: Path
) -> None:
    error = ErrorDetail("no", "LogCollectionInProgress,Get-AzureStackLog", "ResourceBusy", "System.Exception")
    outcome = run(request_to, access, state_dir, FakeEndpoint({}, error=error))
    assert (outcome.state, outcome.exit_code, outcome.bundle) == (RunState.FAILED, ExitCode.BUSY, None)


def test_an_endpoint_that_refuses_the_password_fails_the_run_and_frees_the_stamp(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.open_error = AuthenticationFailedError(host="AzS-ERCS01", username="x")
    outcome = run(request_to, access, state_dir, endpoint)
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.AUTHENTICATION)
    endpoint.open_error = None
    assert run(request_to, access, state_dir, endpoint).state is RunState.DONE


def test_a_folder_that_the_endpoint_cannot_see_is_refused_before_anything_is_sent(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    outcome = run(make_request(tmp_path / "b", shared_disk=False), access, state_dir, endpoint)
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.PREFLIGHT)
    assert endpoint.sent == []


def test_an_unknown_role_is_warned_of_and_sent(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    outcome = run(make_request(tmp_path / "b", roles=("Storage", "CLM")), access, state_dir, endpoint)
    assert any("CLM" in warning for warning in outcome.warnings)
    assert {p.name: p.value for p in endpoint.sent[0][0].parameters}["FilterByRole"] == ("Storage", "CLM")


def test_a_detached_run_goes_on_and_is_finished_by_attach(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.may_write.clear()
    endpoint.pause_s = 0.01
    detached = run(request_to, access, state_dir, endpoint, detach=True)
    assert (detached.state, detached.exit_code, detached.bundle) == (RunState.DETACHED, ExitCode.OK, None)
    endpoint.may_write.set()

    outcome = take_over(detached.run_id, access, state_dir, endpoint)
    assert outcome.state is RunState.DONE
    assert len(endpoint.sent) == 1
    assert_verified(outcome)
    assert outcome.bundle is not None
    assert len((Path(outcome.bundle) / "session.jsonl").read_text().splitlines()) == len(endpoint.files)


def test_a_second_run_is_refused_while_one_is_detached(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.may_write.clear()
    detached = run(request_to, access, state_dir, endpoint, detach=True)
    with pytest.raises(StampBusyError, match=detached.run_id):
        run(request_to, access, state_dir, endpoint)


def test_a_run_of_another_state_folder_is_seen_by_the_lock_beside_the_bundles(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    endpoint.may_write.clear()
    detached = run(request_to, access, state_dir, endpoint, detach=True)
    other = run(request_to, access, tmp_path / "other", endpoint)
    assert (other.state, other.exit_code) == (RunState.FAILED, ExitCode.BUSY)
    assert detached.run_id in str(other.errors[0])
    assert len(endpoint.sent) == 1


def test_a_queued_run_waits_for_the_other_to_end(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    endpoint.may_write.clear()
    first = run(request_to, access, state_dir, endpoint, detach=True)
    outcomes: list[Outcome] = []
    queued = threading.Thread(
        target=lambda: outcomes.append(run(request_to, access, tmp_path / "other", endpoint, queue=True))
    )
    queued.start()
    endpoint.may_write.set()
    assert take_over(first.run_id, access, state_dir, endpoint).state is RunState.DONE
    queued.join()
    assert [outcome.state for outcome in outcomes] == [RunState.DONE]


def test_a_stopped_run_keeps_what_arrived_and_makes_the_stamp_cool_down(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    control = Control()

    def stop_after_the_first(event: Event) -> None:
        if isinstance(event, Landed) and event.files == 1:
            control.stop()

    endpoint.pause_s = 0.6
    outcome = run(request_to, access, state_dir, endpoint, on_event=stop_after_the_first, control=control)
    assert (outcome.state, outcome.exit_code) == (RunState.STOPPED, ExitCode.INTERRUPTED)
    assert outcome.file_count == 1
    assert_verified(outcome)
    for folder in (state_dir, tmp_path / "other"):
        again = run(request_to, access, folder, endpoint)
        assert again.exit_code is ExitCode.BUSY
        assert "cools down" in str(again.errors[0])


def test_stop_asks_the_process_that_drives_the_run(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.may_write.clear()
    outcomes: list[Outcome] = []
    driver = threading.Thread(target=lambda: outcomes.append(run(request_to, access, state_dir, endpoint)))
    driver.start()

    def running() -> str | None:
        with Journal(state_dir) as journal:
            found = journal.runs(state=RunState.RUNNING)
            return found[0].id if found else None

    wait_until(lambda: running() is not None)
    run_id = running()
    assert run_id is not None
    stopped = stop(run_id, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint))
    driver.join()
    assert stopped.state is RunState.STOPPED
    assert stopped.exit_code is ExitCode.OK
    assert outcomes[0].state is RunState.STOPPED


def test_a_first_interrupt_detaches_and_says_how_to_go_on(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    control = Control()
    endpoint.may_write.clear()

    def interrupt(event: Event) -> None:
        if isinstance(event, StateChanged) and event.state is RunState.RUNNING:
            control.detach()

    outcome = run(request_to, access, state_dir, endpoint, on_event=interrupt, control=control)
    assert (outcome.state, outcome.exit_code) == (RunState.DETACHED, ExitCode.INTERRUPTED)
    assert f"pep-bridge attach {outcome.run_id}" in outcome.errors[0].advice


def test_a_lost_session_is_taken_back_while_the_collection_goes_on(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.lose_after_records = 1
    endpoint.pause_s = 0.5
    outcome = run(request_to, access, state_dir, endpoint)
    assert outcome.state is RunState.DONE
    assert endpoint.attached >= 1
    assert len(endpoint.sent) == 1
    assert_verified(outcome)


def test_a_session_that_is_gone_is_followed_by_its_output_until_the_log_ends(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.lose_after_records = 1
    endpoint.gone = True
    endpoint.pause_s = 0.3
    outcome = run(request_to, access, state_dir, endpoint)
    assert outcome.state is RunState.DONE
    assert any("AzS-ERCS02" in warning for warning in outcome.warnings)
    assert_verified(outcome)
    assert len(endpoint.sent) == 1


def test_output_that_stalls_after_the_endpoint_was_lost_is_sealed_as_partial(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    def cut(event: Event) -> None:
        if isinstance(event, Landed) and event.files == 1:
            endpoint.may_write.clear()

    endpoint.lose_after_records = 1
    endpoint.gone = True
    endpoint.pause_s = 0.4
    outcome = run(request_to, access, state_dir, endpoint, on_event=cut)
    assert (outcome.state, outcome.exit_code) == (RunState.PARTIAL, ExitCode.PARTIAL)
    assert_verified(outcome)


def test_a_staged_bundle_is_the_same_in_both_places(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    request = make_request(tmp_path / "far", staging=Place.parse(str(tmp_path / "near")), shared_disk=True)
    outcome = run(request, access, state_dir, endpoint)
    assert outcome.state is RunState.DONE, outcome.errors
    assert outcome.bundle == str(tmp_path / "far" / outcome.bundle_name)
    assert_verified(outcome)
    near, far = (tmp_path / side / outcome.bundle_name for side in ("near", "far"))
    for name in ("manifest-sha256.txt", "tagmanifest-sha256.txt", "collection.json", "report.html", "bagit.txt"):
        assert (near / name).read_bytes() == (far / name).read_bytes()


def test_a_staging_copy_is_removed_only_when_asked(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    staging = Place.parse(str(tmp_path / "near"))
    outcome = run(make_request(tmp_path / "far", staging=staging, remove_staging=True), access, state_dir, endpoint)
    assert_verified(outcome)
    assert not (tmp_path / "near" / outcome.bundle_name).exists()
    assert (outcome.staging, outcome.staging_removed) == (None, str(tmp_path / "near" / outcome.bundle_name))


def test_a_staging_copy_beside_which_something_else_landed_is_not_removed(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    def add_a_stranger(event: Event) -> None:
        if isinstance(event, StateChanged) and event.state is RunState.DELIVERING:
            [payload] = (tmp_path / "near").glob("*/data")
            (payload.parent / "stranger.zip").write_bytes(b"x")

    request = make_request(tmp_path / "far", staging=Place.parse(str(tmp_path / "near")), remove_staging=True)
    outcome = run(request, access, state_dir, endpoint, on_event=add_a_stranger)
    assert (outcome.state, outcome.exit_code) == (RunState.PARTIAL, ExitCode.PARTIAL), outcome
    assert_verified(outcome)
    assert not (Path(str(outcome.bundle)) / "stranger.zip").exists()
    assert outcome.staging_removed is None
    assert (Path(str(outcome.staging)) / "stranger.zip").read_bytes() == b"x"
    assert any("stranger.zip" in text and "is kept" in text for text in outcome.warnings), outcome.warnings


def test_a_staging_copy_that_was_half_removed_by_a_killed_process_does_not_change_the_delivered_bundle(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    request = make_request(tmp_path / "far", staging=Place.parse(str(tmp_path / "near")), remove_staging=True)
    dying = replace(fake_ports(endpoint), open_store=lambda place, _secret: DyingStore(Path(place.location)))
    with pytest.raises(KilledError):
        collect(request, access, state_dir=state_dir, settings=QUICK, ports=dying)
    [left] = (tmp_path / "near").glob("azs-sim-*")
    [delivered] = (tmp_path / "far").glob("azs-sim-*")
    assert not (left / "bagit.txt").exists()
    bundle_id = verify(FolderStore(delivered)).bundle_id

    with Journal(state_dir) as journal:
        [killed] = journal.runs()
    outcome = take_over(killed.id, access, state_dir, endpoint)
    assert (outcome.state, outcome.bundle_id) == (RunState.DONE, bundle_id), outcome
    assert outcome.coverage == json.loads((delivered / "coverage.json").read_bytes())
    assert not left.exists()
    assert_verified(outcome)


class KilledError(BaseException):
    """Stands for the end of a process."""


class DyingStore(FolderStore):
    """The process that removes a few files from it ends."""

    def at(self, path: str) -> FolderStore:
        return DyingStore(Path(self.location) / path)

    def remove(self, path: str) -> None:
        super().remove(path)
        if path.endswith(".zip"):
            raise KilledError


def test_no_secret_is_written_anywhere(request_to: Request, access: Access, state_dir: Path, tmp_path: Path) -> None:
    endpoint = FakeEndpoint(
        error=ErrorDetail(f"login with {PASSWORD} failed", "Broken", "NotSpecified", "System.Exception")
    )
    events: list[Event] = []
    outcome = run(request_to, access, state_dir, endpoint, on_event=events.append)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"login with ***" in written
    assert PASSWORD.encode() not in written
    assert PASSWORD not in str(outcome.to_json())
    assert PASSWORD not in repr(events)


def test_attach_to_a_run_that_has_ended_only_reports_it(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    done = run(request_to, access, state_dir, endpoint)
    again = take_over(done.run_id[:18], access, state_dir, endpoint)
    assert (again.state, again.bundle, again.bundle_id) == (done.state, done.bundle, done.bundle_id)
    with pytest.raises(NoSuchRunError):
        take_over("19990101", access, state_dir, endpoint)


def test_output_that_arrives_after_the_command_has_ended_is_waited_for(
    request_to: Request, access: Access, state_dir: Path
) -> None:
    endpoint = FakeEndpoint({}, ends_log=False)
    events: list[Event] = []

    def write_late() -> None:
        wait_until(lambda: bool(endpoint.collections))
        folder = next(iter(endpoint.collections.values())).folder
        assert folder is not None
        wait_until(lambda: any(isinstance(event, StateChanged) and event.state is RunState.RUNNING for event in events))
        time.sleep(0.4)
        for role in ("Storage", "ACS"):
            (folder / "AzureStackLogs-1").mkdir(exist_ok=True)
            (folder / "AzureStackLogs-1" / f"{role}-1.zip").write_bytes(b"late")

    writer = threading.Thread(target=write_late)
    writer.start()
    outcome = run(request_to, access, state_dir, endpoint, on_event=events.append)
    writer.join()
    assert outcome.state is RunState.DONE, outcome
    assert_verified(outcome)
    assert not [event for event in events if isinstance(event, Warned)]


def test_a_delivery_that_fails_leaves_a_sealed_staging_copy_and_is_finished_by_attach(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    request = make_request(tmp_path / "far", staging=Place.parse(str(tmp_path / "near")))
    patience = replace(QUICK, transfer=TransferSettings(give_up_after_s=0.5, connect_give_up_after_s=0.5))

    def block(event: Event) -> None:
        if isinstance(event, StateChanged) and event.state is RunState.DELIVERING:
            with Journal(state_dir) as journal:
                (tmp_path / "far" / journal.run(event.run_id).bundle_name).write_text("in the way")

    failed = collect(
        request, access, state_dir=state_dir, settings=patience, ports=fake_ports(endpoint), on_event=block
    )
    assert (failed.state, failed.exit_code) == (RunState.FAILED, ExitCode.DELIVERY), failed.errors
    assert f"pep-bridge attach {failed.run_id}" in failed.errors[0].advice
    assert failed.bundle == str(tmp_path / "near" / failed.bundle_name)
    assert_verified(failed)

    (tmp_path / "far" / failed.bundle_name).unlink()
    outcome = take_over(failed.run_id, access, state_dir, endpoint)
    assert (outcome.state, outcome.bundle_id) == (RunState.DONE, failed.bundle_id)
    assert outcome.bundle == str(tmp_path / "far" / failed.bundle_name)
    assert_verified(outcome)
    assert len(endpoint.sent) == 1
    with Journal(state_dir) as journal:
        [delivery] = journal.run(outcome.run_id).deliveries
    assert (delivery.state, delivery.attempts) == ("done", 2)


def test_an_interrupt_while_delivering_keeps_the_run_where_it_is(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    request = make_request(tmp_path / "far", staging=Place.parse(str(tmp_path / "near")))
    control = Control()

    def interrupt(event: Event) -> None:
        if isinstance(event, DeliveryProgress):
            control.detach()

    endpoint.files = {"Storage-1.zip": b"s" * 400_000, "ACS-1.zip": b"a" * 400_000}
    slow = replace(QUICK, transfer=TransferSettings(policy=LinePolicy(limit_rate_bits_per_s=1_000_000)))
    interrupted = collect(
        request,
        access,
        state_dir=state_dir,
        settings=slow,
        ports=fake_ports(endpoint),
        on_event=interrupt,
        control=control,
    )
    assert (interrupted.state, interrupted.exit_code) == (RunState.DELIVERING, ExitCode.INTERRUPTED)
    outcome = take_over(interrupted.run_id, access, state_dir, endpoint)
    assert outcome.state is RunState.DONE
    assert_verified(outcome)


def test_a_share_is_sealed_outside_of_quiet_hours_and_the_wait_can_be_left(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    control, events = Control(), list[Event]()

    def leave(event: Event) -> None:
        events.append(event)
        if isinstance(event, HashProgress) and event.is_paused:
            control.detach()

    def share(place: Place, secret: object) -> FolderStore:
        return FolderStore(place.text, location="\\\\nas\\logs")  # as Windows' own client has it

    ports = replace(fake_ports(endpoint), open_store=share)
    paused = replace(QUICK, transfer=TransferSettings(policy=LinePolicy(paused=True)))
    options: dict[str, Any] = {"state_dir": state_dir, "ports": ports}
    left = collect(request_to, access, settings=paused, on_event=leave, control=control, **options)
    assert (left.state, left.exit_code) == (RunState.SEALING, ExitCode.INTERRUPTED), left
    assert any(isinstance(event, Waiting) and event.reason == "paused" for event in events)
    hashed = [event for event in events if isinstance(event, HashProgress)]
    assert {(event.bytes_done, event.over_line) for event in hashed} == {(0, True)}
    outcome = attach(left.run_id, access, settings=QUICK, **options)
    assert outcome.state is RunState.DONE
    assert verify(FolderStore(request_to.destination.text).at(outcome.bundle_name)).verdict is Verdict.VERIFIED


def test_the_sealing_of_a_staging_share_whose_delivery_failed_can_be_left_while_it_rests(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    far = tmp_path / "far"
    request = make_request(far, staging=Place.parse(str(tmp_path / "near")))
    first = iter([LinePolicy()])  # the delivery asks; the sealing after it is told to rest
    policy = TransferSettings(policy=lambda: next(first, LinePolicy(paused=True)))
    control = Control()

    def follow(event: Event) -> None:
        if isinstance(event, StateChanged) and event.state is RunState.DELIVERING:
            shutil.rmtree(far)
            far.write_text("a file where the place was")
        elif isinstance(event, HashProgress) and event.is_paused:
            control.detach()

    def share(place: Place, secret: object) -> FolderStore:
        return FolderStore(place.text, location=None if place.text == str(far) else "\\\\nas\\logs")

    outcome = collect(
        request,
        access,
        state_dir=state_dir,
        settings=replace(QUICK, transfer=policy),
        ports=replace(fake_ports(endpoint), open_store=share),
        on_event=follow,
        control=control,
    )
    assert outcome.exit_code is ExitCode.DELIVERY, outcome
    assert any("the staging copy could not be sealed: Interrupted" in text for text in outcome.warnings)


def test_a_stamp_stays_locked_while_a_lost_collection_may_still_run(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    endpoint.lose_after_records = 1
    endpoint.gone = True
    endpoint.may_write.clear()
    endpoint.files = {"Storage-1.zip": b"1"}
    (tmp_path / "bundles").mkdir()

    def let_one_land(event: Event) -> None:
        if isinstance(event, StateChanged) and event.state is RunState.RUNNING:
            endpoint.ends_log = False
            endpoint.may_write.set()

    lost = run(request_to, access, state_dir, endpoint, on_event=let_one_land)
    assert lost.state is RunState.PARTIAL
    other = run(request_to, access, tmp_path / "other", endpoint)
    assert other.exit_code is ExitCode.BUSY
    assert lost.run_id in str(other.errors[0])
    endpoint.gone = False
    assert run(request_to, access, tmp_path / "other", endpoint, break_lock=True).bundle is not None


def test_a_collection_beyond_its_time_is_stopped_and_sealed(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.files = {f"Storage-{number}.zip": b"z" for number in range(50)}
    endpoint.pause_s = 0.3
    detached = run(make_request(tmp_path / "b", timeout_minutes=1), access, state_dir, endpoint, detach=True)
    late = fake_ports(endpoint, now=lambda: datetime.now(UTC) + timedelta(hours=1))
    outcome = attach(detached.run_id, access, state_dir=state_dir, settings=QUICK, ports=late)
    assert (outcome.state, outcome.exit_code) == (RunState.PARTIAL, ExitCode.PARTIAL), outcome
    assert [error.name for error in outcome.errors] == ["TimeLimitError"]
    assert_verified(outcome)


def test_a_clock_that_is_set_forward_stops_no_collection_that_was_seen_to_begin(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    def jumping() -> datetime:
        return datetime.now(UTC) + timedelta(days=1 if endpoint.sent else 0)

    endpoint.pause_s = 0.4
    ports = fake_ports(endpoint, now=jumping)
    outcome = collect(request_to, access, state_dir=state_dir, settings=QUICK, ports=ports)
    assert outcome.state is RunState.DONE, outcome


def test_a_full_state_disk_during_a_run_leaves_it_to_be_attached_to(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise JournalError(path=state_dir, detail="database or disk is full")

    def fill(event: Event) -> None:
        if isinstance(event, StateChanged) and event.state is RunState.RUNNING:
            monkeypatch.setattr(Journal, "note", refuse)

    stuck = run(request_to, access, state_dir, endpoint, on_event=fill)
    assert stuck.state is RunState.RUNNING
    assert [error.name for error in stuck.errors] == ["JournalError"]
    monkeypatch.undo()
    outcome = take_over(stuck.run_id, access, state_dir, endpoint)
    assert outcome.state is RunState.DONE
    assert_verified(outcome)


def test_a_run_that_lost_its_lock_before_it_sent_anything_does_not_start_beside_the_new_holder(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    with Journal(state_dir) as journal:
        journal.create("20260101T000000Z-00000000", request_to, "killed-bundle")
        journal.move("20260101T000000Z-00000000", RunState.PREFLIGHTED)
        journal.move("20260101T000000Z-00000000", RunState.LOCKED)
    endpoint.may_write.clear()
    other = run(request_to, access, tmp_path / "other", endpoint, detach=True)
    assert other.state is RunState.DETACHED
    outcome = take_over("20260101T000000Z-00000000", access, state_dir, endpoint)
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.BUSY)
    assert other.run_id in str(outcome.reason)
    assert len(endpoint.sent) == 1


def test_a_session_that_a_killed_process_had_only_opened_is_ended_by_the_next_run(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.open_error = EndpointUnreachableError(stamp="azs-sim", port=5985, detail="the line broke", failures=[])
    assert run(request_to, access, state_dir, endpoint).state is RunState.FAILED
    assert endpoint.ended == []
    endpoint.open_error = None
    assert run(request_to, access, state_dir, endpoint).state is RunState.DONE
    assert len([ids for ids in endpoint.ended if ids["pipeline_id"] is None]) == 1
    with Journal(state_dir) as journal:
        assert [each.facts.get("opening") for each in journal.runs()] == [None, None]


def test_a_command_that_may_have_been_sent_is_taken_for_running(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.uncertain = True
    outcome = run(request_to, access, state_dir, endpoint)
    assert outcome.state is RunState.DONE
    assert (len(endpoint.sent), endpoint.attached) == (1, 1)


def test_a_line_that_is_down_is_not_waited_for_when_the_output_log_shows_the_end(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.silent_after_records = 1
    endpoint.unreachable = True
    warnings: list[str] = []
    outcome = run(
        request_to,
        access,
        state_dir,
        endpoint,
        settings=replace(QUICK, line_patience_s=0.1, line_deadline_s=3600.0, attach_deadline_s=3600.0),
        on_event=lambda event: warnings.append(event.text) if isinstance(event, Warned) else None,
    )
    assert outcome.state is RunState.DONE
    assert any("AzS-ERCS02, AzS-ERCS03 answer" in text for text in warnings)
    assert any("the collection has ended" in text for text in warnings)


def test_a_lost_session_that_left_no_output_is_told_as_a_lost_session(
    request_to: Request, access: Access, state_dir: Path
) -> None:
    endpoint = FakeEndpoint(files={}, ends_log=False)
    endpoint.uncertain = True
    endpoint.unreachable = True
    outcome = run(request_to, access, state_dir, endpoint, settings=replace(QUICK, attach_deadline_s=0.2))
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.UNREACHABLE)
    assert "the collection left no output" in str(outcome.errors[-1])
    endpoint.join()


@pytest.mark.parametrize(("minutes", "hours"), [(240, 6), (900, 12)])
def test_the_idle_time_out_outlasts_the_collection_as_far_as_windows_takes_it(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint, minutes: int, hours: int
) -> None:
    endpoint.may_write.clear()
    request = make_request(tmp_path / "b", timeout_minutes=minutes)
    detached = run(request, access, state_dir, endpoint, detach=True)
    with Journal(state_dir) as journal:
        assert journal.run(detached.run_id).facts["session"]["idle_timeout_s"] == hours * 3600
    told = [text for text in detached.warnings if "without anybody: attach before that" in text]
    assert len(told) == (1 if hours * 60 < minutes else 0)


def test_a_state_disk_that_is_really_full_loses_no_run(
    request_to: Request, access: Access, endpoint: FakeEndpoint, samba: Samba
) -> None:
    if not samba.small_is_mounted:
        pytest.skip("not run: a small disk needs root")
    small = samba.path("small")
    state = small / "state-of-a-full-disk"
    ballast = small / "ballast-of-a-full-disk"

    def fill(event: Event) -> None:
        if isinstance(event, StateChanged) and event.state is RunState.RUNNING:
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)

    try:
        endpoint.pause_s = 0.2
        first = run(request_to, access, state, endpoint, on_event=fill)
        assert first.exit_code is not ExitCode.OK
        said = [*map(str, first.errors), *first.warnings]
        assert any("full" in text for text in said), said
        assert not first.state.is_final, first
        ballast.unlink()
        outcome = take_over(first.run_id, access, state, endpoint)
        assert outcome.state is RunState.DONE, outcome
        assert_verified(outcome)
        assert len(endpoint.sent) == 1
    finally:
        ballast.unlink(missing_ok=True)
        shutil.rmtree(state, ignore_errors=True)
