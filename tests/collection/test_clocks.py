"""A clock that is wrong, or was set, breaks no living lock, ends no collection early and keeps none for ever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from bridge.collection import Access, Control, Event, Landed, LockSettings, Outcome, Request, RunState
from bridge.collection._endpoint import RealEndpoint
from bridge.collection._lock import COOL_DOWN, StampLock
from bridge.collection._stamp_time import StampTime
from bridge.errors import ExitCode, StampBusyError
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.stamp import Stamp
from bridge.store import FolderStore
from tests.support.fake_endpoint import SEVEN_ZIPS, FakeEndpoint, fake_ports
from tests.support.fake_runs import run, take_over
from tests.support.runs import QUICK, make_request

HOURS = timedelta(hours=1)
PATIENT = replace(QUICK, stall_s=60.0)


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    fake = FakeEndpoint(SEVEN_ZIPS, pause_s=0.3)
    fake.clock_ahead = timedelta(0)
    yield fake
    fake.join()


def clock(ahead: timedelta) -> datetime:
    return datetime.now(UTC) + ahead


def begin(request: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, ahead: timedelta) -> Outcome:
    """Collects, and leaves it to the endpoint; the clock of the machine is ahead by so much."""
    ports = fake_ports(endpoint, now=partial(clock, ahead))
    return run(request, access, state_dir, endpoint, ports=ports, detach=True)


@pytest.mark.parametrize("ahead", [10 * HOURS, -10 * HOURS], ids=["ahead", "behind"])
def test_the_lock_of_a_detached_run_holds_against_a_machine_with_another_clock(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path, ahead: timedelta
) -> None:
    endpoint.may_write.clear()
    left = begin(request_to, access, state_dir, endpoint, timedelta(0))
    assert left.state is RunState.DETACHED
    second = begin(request_to, access, tmp_path / "other", endpoint, ahead)
    assert second.exit_code is ExitCode.BUSY, second
    assert left.run_id in str(second.errors[0])
    assert len(endpoint.sent) == 1


def test_a_machine_whose_clock_is_ahead_breaks_no_lock_while_the_stamp_does_not_tell_the_time(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    endpoint.may_write.clear()
    begin(request_to, access, state_dir, endpoint, timedelta(0))
    endpoint.clock_ahead = None
    assert begin(request_to, access, tmp_path / "other", endpoint, 10 * HOURS).exit_code is ExitCode.BUSY


def lock_of(store: FolderStore, run_id: str, own: timedelta, stamp: timedelta | None) -> StampLock:
    """A machine whose clock is ahead of the true time by ``own``; the stamp's is by ``stamp``."""
    return StampLock(
        store,
        "azs-sim",
        run_id,
        settings=LockSettings(heartbeat_s=0.02, poll_s=0.01),
        now=partial(clock, own),
        wait=lambda seconds: False,
        on_lost=lambda text: None,
        ahead=lambda: stamp - own if stamp is not None else None,
    )


def test_a_lock_whose_time_is_over_by_the_stamp_is_taken_whatever_the_clocks_of_the_machines_show(
    tmp_path: Path,
) -> None:
    store = FolderStore(tmp_path)
    dead = lock_of(store, "r1", 5 * HOURS, timedelta(0))
    dead.acquire()
    dead.expect_work_until(clock(5 * HOURS) + 4 * HOURS)
    dead.leave()
    with pytest.raises(StampBusyError, match="r1") as caught:
        lock_of(store, "r2", -HOURS, timedelta(0)).acquire()
    assert abs(caught.value.fields["until"] - (clock(-HOURS) + 4 * HOURS)) < timedelta(minutes=1)  # by its own clock
    later = lock_of(store, "r3", -HOURS, 4 * HOURS)  # four hours later, on the stamp
    later.acquire()
    later.release()


def test_a_cool_down_is_as_long_for_a_machine_whose_clock_is_ahead(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    stopped = lock_of(store, "r1", timedelta(0), timedelta(0))
    stopped.acquire()
    stopped.release(cool_down_until=clock(timedelta(0)) + COOL_DOWN)
    with pytest.raises(StampBusyError, match="cools down"):
        lock_of(store, "r2", HOURS, timedelta(0)).acquire()
    rested = lock_of(store, "r2", HOURS, COOL_DOWN)
    rested.acquire()
    rested.release()


@pytest.mark.parametrize("gone", [False, True], ids=["with its session", "without it"])
def test_a_clock_that_was_set_forward_ends_no_run_that_is_attached_to(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, *, gone: bool
) -> None:
    left = begin(request_to, access, state_dir, endpoint, timedelta(0))
    endpoint.gone = gone
    ports = fake_ports(endpoint, now=partial(clock, timedelta(days=1)))
    outcome = take_over(left.run_id, access, state_dir, endpoint, settings=PATIENT, ports=ports)
    assert (outcome.state, outcome.file_count) == (RunState.DONE, 8), outcome


def test_a_clock_that_was_set_forward_ends_no_run_whose_endpoint_is_away(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    left = begin(request_to, access, state_dir, endpoint, timedelta(0))
    endpoint.clock_ahead, endpoint.unreachable = None, True
    ports = fake_ports(endpoint, now=partial(clock, timedelta(days=1)))
    settings = replace(PATIENT, attach_deadline_s=0.2)
    outcome = take_over(left.run_id, access, state_dir, endpoint, settings=settings, ports=ports)
    assert (outcome.state, outcome.file_count) == (RunState.DONE, 8), outcome


@pytest.mark.parametrize("told", [True, False], ids=["the stamp tells the time", "it does not"])
def test_a_clock_that_was_set_back_keeps_no_run_beyond_its_time(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, *, told: bool
) -> None:
    request = replace(request_to, timeout_minutes=1)
    endpoint.may_write.clear()
    left = begin(request, access, state_dir, endpoint, timedelta(0))
    if told:
        endpoint.clock_ahead = timedelta(minutes=2)
    settings = replace(QUICK, over_time_s=0.0 if told else -59.0)
    ports = fake_ports(endpoint, now=partial(clock, -HOURS))
    outcome = take_over(left.run_id, access, state_dir, endpoint, settings=settings, ports=ports)
    assert outcome.exit_code is ExitCode.TIME_LIMIT, outcome


def test_a_clock_that_was_set_forward_ends_no_cool_down_wherever_the_next_collection_goes(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    control = Control()

    def stop_it(event: Event) -> None:
        if isinstance(event, Landed):
            control.stop()

    stopped = run(request_to, access, state_dir, endpoint, control=control, on_event=stop_it)
    assert stopped.state is RunState.STOPPED
    ports = fake_ports(endpoint, now=partial(clock, HOURS))
    second = run(make_request(tmp_path / "other"), access, state_dir, endpoint, ports=ports)
    assert second.exit_code is ExitCode.BUSY, second
    assert "cools down" in str(second.errors[0])
    endpoint.clock_ahead = COOL_DOWN
    rested = run(make_request(tmp_path / "other"), access, state_dir, endpoint, ports=ports)
    assert rested.state is RunState.DONE, rested


def test_another_account_than_the_one_that_began_a_run_does_not_take_its_session_for_gone(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    left = begin(request_to, access, state_dir, endpoint, timedelta(0))
    other = replace(access, endpoint=replace(access.endpoint, username="AZURESTACK\\SomebodyElse"))
    refused = take_over(left.run_id, other, state_dir, endpoint)
    assert (refused.state, refused.exit_code) == (RunState.RUNNING, ExitCode.NOT_PERMITTED), refused
    assert "CloudAdmin" in refused.errors[-1].advice
    same = replace(access, endpoint=replace(access.endpoint, username="cloudadmin@azurestack.local"))
    outcome = take_over(left.run_id, same, state_dir, endpoint)
    assert outcome.state is RunState.DONE, outcome


def test_a_real_endpoint_tells_its_time_without_a_password(tmp_path: Path) -> None:
    with SimulatedStamp(StampOptions(output_root=tmp_path, faults=("wrong-clock:3h",))) as sim:
        stamp = Stamp(sim.name, tuple(sim.endpoints), username=sim.username)
        real = RealEndpoint.__new__(RealEndpoint)  # without a script: no command is sent
        told = real.clock(stamp)
        assert told is not None
        assert abs(told - (datetime.now(UTC) + 3 * HOURS)) < timedelta(minutes=1)
        assert real.answering(stamp) == tuple(address.name for address in sim.endpoints)
    assert real.clock(stamp) is None


def test_the_time_of_a_stamp_is_asked_for_once_and_again_where_the_own_clock_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[datetime] = []
    own = timedelta(0)

    def ask() -> datetime:
        asked.append(datetime.now(UTC))
        return asked[-1]

    monkeypatch.setattr("bridge.collection._stamp_time._ASK_AGAIN_S", 0.0)
    stamp_time = StampTime(ask, lambda: clock(own))
    for _ in range(3):
        assert stamp_time.now() is not None
    assert len(asked) == 1
    own = 5 * HOURS
    ahead = stamp_time.ahead()
    assert len(asked) == 2
    assert ahead is not None
    assert abs(ahead + own) < timedelta(seconds=1)
