"""How a collection ended decides what may be sealed, when the stamp is free, and what is said: each as it truly was."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from bridge.collection import (
    Access,
    Control,
    Journal,
    Landed,
    Place,
    Request,
    RunState,
    attach,
    collect,
    stop,
)
from bridge.collection._context import run_folder
from bridge.collection._owner import drive, is_driven
from bridge.endpoint import Record
from bridge.errors import AuthenticationFailedError, ExitCode, HostProcessDiedError, SessionGoneError
from tests.support import fake_endpoint
from tests.support.fake_endpoint import LOG, SEVEN_ZIPS, FakeEndpoint, FakeRunning, fake_ports, wait_until
from tests.support.fake_runs import run, take_over, verified
from tests.support.runs import PASSWORD, QUICK, make_request


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    fake = FakeEndpoint(SEVEN_ZIPS, pause_s=0.3)
    yield fake
    fake.join()


def _ago(back: timedelta) -> datetime:
    return datetime.now(UTC) - back


def test_a_file_that_lands_after_the_end_of_the_log_is_in_the_bundle(
    request_to: Request, access: Access, state_dir: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    def land_late() -> None:
        def logs() -> list[Path]:
            return list((tmp_path / "bundles").rglob(LOG))

        wait_until(lambda: bool(logs()))
        time.sleep(1.0)
        (logs()[0].parent / "BRP-1.zip").write_bytes(b"late")

    endpoint.pause_s = 0.0
    landing = threading.Thread(target=land_late)
    landing.start()
    settings = replace(QUICK, settle_s=3.0, watch_s=0.2)
    outcome = run(request_to, access, state_dir, endpoint, settings=settings)
    landing.join()
    assert (outcome.state, outcome.file_count) == (RunState.DONE, 9), outcome
    assert verified(outcome)


def test_a_stop_that_was_refused_is_answered_and_does_not_stop_whoever_attaches(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    ports = fake_ports(endpoint)
    left = run(request_to, access, state_dir, endpoint, detach=True)
    endpoint.refuses = AuthenticationFailedError(host="AzS-ERCS01", username="CloudAdmin")
    refused = stop(left.run_id, access, state_dir=state_dir, settings=QUICK, ports=ports)
    assert (refused.state, refused.exit_code) == (RunState.RUNNING, ExitCode.AUTHENTICATION), refused
    endpoint.refuses = None
    outcome = attach(left.run_id, access, state_dir=state_dir, settings=QUICK, ports=ports)
    assert outcome.state is RunState.DONE, outcome


def test_a_collection_that_somebody_else_stopped_is_not_told_as_a_time_limit(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    def stop_there(event: object) -> None:
        if isinstance(event, Landed):
            next(iter(endpoint.collections.values())).stopping.set()

    outcome = collect(
        request_to, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint), on_event=stop_there
    )
    assert outcome.state is RunState.STOPPED, outcome
    assert outcome.errors == ()
    assert any("not by this tool" in text for text in outcome.warnings)
    assert verified(outcome)


def test_the_cool_down_holds_also_where_the_clock_is_set_back_by_seconds(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    control = Control()

    def stop_it(event: object) -> None:
        if isinstance(event, Landed):
            control.stop()

    stopped = collect(
        request_to,
        access,
        state_dir=state_dir,
        settings=QUICK,
        ports=fake_ports(endpoint),
        control=control,
        on_event=stop_it,
    )
    assert stopped.state is RunState.STOPPED
    for back in (timedelta(seconds=2), timedelta(hours=1)):
        ports = fake_ports(endpoint, now=partial(_ago, back))
        second = run(make_request(tmp_path / "other"), access, state_dir, endpoint, ports=ports)
        assert second.exit_code is ExitCode.BUSY, second
    assert len(endpoint.sent) == 1


class Dying(FakeRunning):
    """Its host process dies after the second record; what it had begun goes on."""

    error: Exception = HostProcessDiedError(host="AzS-ERCS01", detail="RPC call failed (code 1726)")

    def records(self) -> Iterator[Record]:
        for number, record in enumerate(super().records()):
            yield record
            if number == 1:
                raise self.error


@pytest.fixture
def dying(endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> FakeEndpoint:
    """The same endpoint, of which the process that runs a command dies."""
    monkeypatch.setattr(fake_endpoint, "FakeRunning", Dying)
    return endpoint


def test_a_collection_that_outlives_its_host_process_keeps_the_stamp_until_it_has_ended(
    request_to: Request, access: Access, state_dir: Path, dying: FakeEndpoint
) -> None:
    outcome = run(
        request_to,
        access,
        state_dir,
        dying,
        settings=replace(QUICK, stall_s=30, after_stop_s=30, reattach_s=60),
    )
    assert (outcome.state, outcome.file_count) == (RunState.DONE, 8), outcome
    assert all(each.end is not None for each in dying.collections.values())
    assert verified(outcome)


def test_what_died_with_its_host_process_is_sealed_after_a_minute_and_the_stamp_stays_locked(
    request_to: Request, access: Access, state_dir: Path, dying: FakeEndpoint, tmp_path: Path
) -> None:
    dying.ends_log = False
    patience = replace(QUICK, stall_s=100_000, after_stop_s=1)
    outcome = run(request_to, access, state_dir, dying, settings=patience)
    with Journal(state_dir) as journal:
        assert journal.run(outcome.run_id).facts["end"]["how"] == "still"
    assert verified(outcome)
    again = run(make_request(tmp_path / "other"), access, state_dir, dying)
    assert again.exit_code is ExitCode.BUSY, again
    assert len(dying.sent) == 1


def test_no_secret_that_an_endpoint_repeats_is_written_in_the_journal(
    request_to: Request, access: Access, state_dir: Path, dying: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dying, "error", SessionGoneError(host="AzS-ERCS01", detail=f"the fault says {PASSWORD}"))
    dying.gone, dying.ends_log = True, False
    run(request_to, access, state_dir, dying)
    with Journal(state_dir) as journal:
        ended = journal.runs()[0]
        assert ended.facts["end"]["detail"].endswith("the fault says ***")
        journal.keep_out(access.scrubber())
        with pytest.raises(SessionGoneError), journal.step(ended.id, "attach"):
            raise SessionGoneError(host="AzS-ERCS01", detail=PASSWORD)
        journal.note_delivery(ended.bundle_name, "nas", "failed", error=f"it says {PASSWORD}")
    everything = b"".join(path.read_bytes() for path in state_dir.glob("journal.sqlite*"))
    assert PASSWORD.encode() not in everything


def test_who_only_looks_whether_a_run_is_driven_keeps_nobody_from_driving_it(state_dir: Path) -> None:
    folder = run_folder(state_dir, "r1")
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            is_driven(folder)

    folder.mkdir(parents=True)
    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):
            with drive(folder, "r1"):
                pass
    finally:
        ended.set()
        looking.join()


def test_stop_of_a_collection_that_ended_long_ago_holds_no_stamp(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    ports = fake_ports(endpoint)
    left = run(request_to, access, state_dir, endpoint, detach=True)
    wait_until(lambda: all(each.end is not None for each in endpoint.collections.values()))
    endpoint.gone = True
    outcome = stop(left.run_id, access, state_dir=state_dir, settings=QUICK, ports=ports)
    assert outcome.state is RunState.DONE, outcome
    with Journal(state_dir) as journal:
        assert "on_stamp_until" not in journal.run(left.run_id).facts
    again = run(request_to, access, state_dir, endpoint)
    assert again.state is RunState.DONE, again


def test_detach_returns_also_where_the_session_is_lost_right_after_the_command(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.uncertain = endpoint.unreachable = True
    settings = replace(QUICK, stall_s=60.0, attach_deadline_s=0.2)
    left = run(request_to, access, state_dir, endpoint, settings=settings, detach=True)
    assert (left.state, left.exit_code) == (RunState.DETACHED, ExitCode.OK), left
    assert any("the session is lost" in text for text in left.warnings)
    endpoint.unreachable = False
    outcome = take_over(left.run_id, access, state_dir, endpoint, settings=settings)
    assert (outcome.state, outcome.file_count) == (RunState.DONE, 8), outcome


@pytest.mark.parametrize("staged", [False, True], ids=["in place", "staged"])
def test_what_arrives_after_a_stalled_collection_was_sealed_is_taken_up_by_attach(
    access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path, *, staged: bool
) -> None:
    staging = Place.parse(str(tmp_path / "near")) if staged else None
    request = make_request(tmp_path / "bundles", staging=staging)
    endpoint.uncertain = endpoint.unreachable = True
    endpoint.pause_s = 0.1

    def stall_it(event: object) -> None:
        if isinstance(event, Landed) and event.files >= 2:
            endpoint.may_write.clear()

    settings = replace(QUICK, attach_deadline_s=0.1)
    first = run(request, access, state_dir, endpoint, settings=settings, on_event=stall_it)
    assert first.state is RunState.PARTIAL, first
    assert verified(first)
    again = take_over(first.run_id, access, state_dir, endpoint, settings=settings)
    assert (again.state, again.bundle_id, again.warnings) == (first.state, first.bundle_id, first.warnings)

    endpoint.may_write.set()
    wait_until(lambda: all(each.end is not None for each in endpoint.collections.values()))
    endpoint.unreachable = False
    outcome = take_over(first.run_id, access, state_dir, endpoint, settings=settings)
    assert (outcome.state, outcome.file_count) == (RunState.DONE, 8), outcome
    assert outcome.bundle_id != first.bundle_id
    assert verified(outcome)
    second = run(request, access, state_dir, FakeEndpoint())
    assert second.state is RunState.DONE, second  # the stamp is free again
