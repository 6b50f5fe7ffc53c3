"""Ctrl-C and ``stop`` do in every phase what is expected: nothing is orphaned, nothing that arrived is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
    RecordArrived,
    Request,
    RunState,
    Settings,
    StateChanged,
    Waiting,
    Warned,
    attach,
    collect,
    stop,
)
from bridge.errors import ExitCode, InterruptedRunError
from bridge.store import FolderStore
from bridge.store.transfer import LinePolicy, TransferSettings
from tests.support.fake_endpoint import FakeEndpoint, fake_ports, wait_until
from tests.support.fake_runs import verified
from tests.support.runs import QUICK, make_request

HOURS = 3600.0


class Operator:
    """Collects, and does something when an event comes."""

    def __init__(self, access: Access, state_dir: Path, endpoint: FakeEndpoint, settings: Settings) -> None:
        self.control = Control()
        self.access = access
        self.state_dir = state_dir
        self.endpoint = endpoint
        self.settings = settings
        self._when: Callable[[Event], bool] = lambda event: False
        self._do: Callable[[], None] = lambda: None

    def when(self, is_it: Callable[[Event], bool], do: Callable[[], None]) -> None:
        self._when, self._do = is_it, do

    def collect(self, request: Request, **options: Any) -> Outcome:
        return collect(request, self.access, on_event=self._note, control=self.control, **self._options(), **options)

    def attach(self, run_id: str, settings: Settings = QUICK) -> Outcome:
        return attach(run_id, self.access, **{**self._options(), "settings": settings})

    def stop(self, run_id: str, settings: Settings = QUICK, **options: Any) -> Outcome:
        return stop(run_id, self.access, **{**self._options(), "settings": settings}, **options)

    def _options(self) -> dict[str, Any]:
        return {"state_dir": self.state_dir, "settings": self.settings, "ports": fake_ports(self.endpoint)}

    def _note(self, event: Event) -> None:
        if self._when(event):
            self._when = lambda event: False
            self._do()


def operator(access: Access, state_dir: Path, endpoint: FakeEndpoint, **patience: Any) -> Operator:
    return Operator(access, state_dir, endpoint, replace(QUICK, **patience))


def is_state(state: RunState) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StateChanged) and event.state is state


def is_waiting_for(words: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Waiting) and words in event.reason


def test_a_second_interrupt_soon_after_the_first_stops_the_collection_that_was_just_left(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    at_work = operator(access, state_dir, endpoint, second_thoughts_s=HOURS)
    endpoint.pause_s = 0.5
    at_work.when(lambda event: isinstance(event, Landed), at_work.control.detach)

    def press_again() -> None:
        def is_detached() -> bool:
            with Journal(state_dir) as journal:
                return bool(journal.runs(state=RunState.DETACHED))

        wait_until(is_detached)
        time.sleep(0.6)  # a person
        at_work.control.stop()

    endpoint.files = {f"Storage-{number}.zip": b"z" for number in range(50)}
    pressing = threading.Thread(target=press_again)
    pressing.start()
    outcome = at_work.collect(request_to)
    pressing.join()
    assert (outcome.state, outcome.exit_code) == (RunState.STOPPED, ExitCode.INTERRUPTED), outcome
    assert verified(outcome)
    assert all(each.end is not None for each in endpoint.collections.values())


def test_an_interrupt_in_the_queue_ends_it_before_anything_was_begun(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    endpoint.may_write.clear()
    first = operator(access, state_dir, endpoint)
    detached = first.collect(request_to, detach=True)
    same_folder = operator(access, state_dir, endpoint)
    same_folder.when(is_waiting_for(detached.run_id), same_folder.control.detach)
    with pytest.raises(InterruptedRunError, match="nothing was begun"):
        same_folder.collect(request_to, queue=True)
    other_folder = operator(access, tmp_path / "other", endpoint)
    other_folder.when(is_waiting_for(detached.run_id), other_folder.control.detach)
    left = other_folder.collect(request_to, queue=True)
    assert (left.state, left.exit_code) == (RunState.STOPPED, ExitCode.INTERRUPTED)
    assert len(endpoint.sent) == 1


def test_stop_from_another_shell_ends_a_run_in_the_queue(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    endpoint.may_write.clear()
    detached = operator(access, tmp_path / "first", endpoint).collect(request_to, detach=True)
    queued = operator(access, state_dir, endpoint)
    outcomes: list[Outcome] = []
    asked: list[Outcome] = []

    def stop_it() -> None:
        with Journal(state_dir) as journal:
            [run] = journal.runs()
        asked.append(queued.stop(run.id))

    stopping = threading.Thread(target=stop_it)
    queued.when(is_waiting_for(detached.run_id), stopping.start)
    outcomes.append(queued.collect(request_to, queue=True))
    stopping.join()
    assert [each.state for each in (*outcomes, *asked)] == [RunState.STOPPED, RunState.STOPPED]
    assert len(endpoint.sent) == 1


def test_an_interrupt_while_the_heartbeat_of_a_lock_is_watched_is_no_busy_stamp(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    with Journal(tmp_path / "other") as journal:
        journal.create("dead", request_to, "dead")
    from bridge.collection._lock import LockSettings, StampLock

    store = FolderStore(Path(request_to.destination.location))
    dead = StampLock(
        store,
        "azs-sim",
        "dead",
        settings=LockSettings(),
        now=lambda: request_to.window.until,
        wait=lambda s: False,
        on_lost=lambda text: None,
    )
    dead.acquire()
    dead.leave()
    at_work = operator(access, state_dir, endpoint, lock=LockSettings(heartbeat_s=HOURS, poll_s=HOURS))
    threading.Timer(1.0, at_work.control.detach).start()
    outcome = at_work.collect(request_to)
    assert (outcome.state, outcome.exit_code) == (RunState.STOPPED, ExitCode.INTERRUPTED), outcome
    assert endpoint.sent == []


@pytest.mark.parametrize("late", [True, False], ids=["nothing has arrived yet", "after a stop"])
def test_an_interrupt_while_late_output_is_waited_for_leaves_the_run_to_attach(
    request_to: Request, access: Access, state_dir: Path, *, late: bool
) -> None:
    endpoint = FakeEndpoint({} if late else None, ends_log=False)
    at_work = operator(access, state_dir, endpoint, late_s=HOURS, after_stop_s=HOURS)
    if not late:
        endpoint.pause_s = 0.5

    def note(event: Event) -> bool:
        if not late and isinstance(event, RecordArrived):
            at_work.control.stop()
        return is_waiting_for("may come late" if late else "after the stop")(event)

    at_work.when(note, threading.Timer(0.5, at_work.control.detach).start)
    left = at_work.collect(request_to)
    assert (left.state, left.exit_code) == (RunState.RUNNING, ExitCode.INTERRUPTED), left
    assert f"pep-bridge attach {left.run_id}" in left.errors[-1].advice
    outcome = at_work.attach(left.run_id)
    assert outcome.state is (RunState.PARTIAL if late else RunState.STOPPED), outcome
    assert verified(outcome)
    endpoint.join()


def test_stop_while_late_output_is_waited_for_seals_what_is_there(
    request_to: Request, access: Access, state_dir: Path
) -> None:
    endpoint = FakeEndpoint(ends_log=False)
    at_work = operator(access, state_dir, endpoint, settle_s=HOURS)
    stopped: list[Outcome] = []

    def stop_it() -> None:
        with Journal(state_dir) as journal:
            wait_until(lambda: bool(journal.runs()[0].facts.get("end")))
            stopped.append(at_work.stop(journal.runs()[0].id))

    stopping = threading.Thread(target=stop_it)
    at_work.when(is_state(RunState.RUNNING), stopping.start)
    outcome = at_work.collect(request_to)
    stopping.join()
    assert outcome.state is RunState.DONE, outcome
    assert stopped[0].exit_code is ExitCode.OK
    assert verified(outcome)
    endpoint.join()


def test_an_interrupt_while_it_is_sealed_leaves_the_run_to_attach(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    at_work = operator(access, state_dir, endpoint)

    def leave() -> None:
        at_work.control.detach()
        time.sleep(0.6)  # the files of this test are hashed in no time

    at_work.when(lambda event: isinstance(event, HashProgress), leave)
    left = at_work.collect(request_to)
    assert (left.state, left.exit_code) == (RunState.SEALING, ExitCode.INTERRUPTED), left
    outcome = at_work.attach(left.run_id)
    assert outcome.state is RunState.DONE
    assert verified(outcome)


def slow_delivery(tmp_path: Path, endpoint: FakeEndpoint) -> tuple[Request, dict[str, Any]]:
    endpoint.files = {"Storage-1.zip": b"s" * 400_000, "ACS-1.zip": b"a" * 400_000}
    request = make_request(tmp_path / "far", staging=Place.parse(str(tmp_path / "near")))
    return request, {"transfer": TransferSettings(policy=LinePolicy(limit_rate_bits_per_s=100_000))}


def test_stop_while_it_delivers_gives_the_delivery_up_and_keeps_the_sealed_staging_copy(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    request, slow = slow_delivery(tmp_path, endpoint)
    at_work = operator(access, state_dir, endpoint, **slow)
    stopped: list[Outcome] = []

    def stop_it() -> None:
        with Journal(state_dir) as journal:
            run_id = journal.runs()[0].id
        stopped.append(at_work.stop(run_id))

    stopping = threading.Thread(target=stop_it)
    at_work.when(lambda event: isinstance(event, DeliveryProgress), stopping.start)
    outcome = at_work.collect(request)
    stopping.join()
    assert (outcome.state, outcome.exit_code) == (RunState.STOPPED, ExitCode.INTERRUPTED), outcome
    assert stopped[0].exit_code is ExitCode.OK
    assert outcome.bundle == str(tmp_path / "near" / outcome.bundle_name)
    assert verified(outcome)


def test_a_second_interrupt_while_it_delivers_gives_the_delivery_up(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    request, slow = slow_delivery(tmp_path, endpoint)
    at_work = operator(access, state_dir, endpoint, second_thoughts_s=HOURS, **slow)
    second = threading.Timer(1.0, at_work.control.stop)  # by then the first one is being heeded

    def press_twice() -> None:
        at_work.control.detach()
        second.start()

    at_work.when(lambda event: isinstance(event, DeliveryProgress), press_twice)
    outcome = at_work.collect(request)
    second.join()
    assert (outcome.state, outcome.exit_code) == (RunState.STOPPED, ExitCode.INTERRUPTED), outcome
    assert outcome.bundle == str(tmp_path / "near" / outcome.bundle_name)
    assert verified(outcome)


def test_a_stopped_collection_is_delivered_all_the_same(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.pause_s = 0.5
    at_work = operator(access, state_dir, endpoint)
    at_work.when(lambda event: isinstance(event, Landed), at_work.control.stop)
    outcome = at_work.collect(make_request(tmp_path / "far", staging=Place.parse(str(tmp_path / "near"))))
    assert outcome.state is RunState.STOPPED
    assert outcome.bundle == str(tmp_path / "far" / outcome.bundle_name)
    assert verified(outcome)


def test_stop_of_a_collection_whose_endpoint_is_not_to_be_had_stops_nothing_and_says_so(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    endpoint.pause_s = 0.4
    at_work = operator(access, state_dir, endpoint, line_patience_s=0.1, attach_deadline_s=0.3)
    detached = at_work.collect(request_to, detach=True)
    endpoint.unreachable = True
    refused = at_work.stop(detached.run_id, settings=replace(QUICK, attach_deadline_s=0.3))
    assert (refused.state, refused.exit_code) == (RunState.RUNNING, ExitCode.UNREACHABLE), refused
    assert f"pep-bridge stop {detached.run_id}" in refused.errors[-1].advice
    other = operator(access, tmp_path / "other", endpoint).collect(request_to)
    assert other.exit_code is ExitCode.BUSY
    endpoint.unreachable = False
    outcome = at_work.attach(detached.run_id)
    assert outcome.state is RunState.DONE, outcome
    assert verified(outcome)


def test_stop_of_a_lost_collection_is_confirmed_by_the_endpoint_when_it_is_back(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.pause_s = 0.5
    endpoint.files = {f"Storage-{number}.zip": b"z" for number in range(50)}
    endpoint.lose_after_records = 1
    at_work = operator(access, state_dir, endpoint, reattach_s=HOURS, stall_s=HOURS)
    at_work.when(lambda event: isinstance(event, Warned) and "the session is lost" in event.text, at_work.control.stop)
    outcome = at_work.collect(request_to)
    assert (outcome.state, outcome.exit_code) == (RunState.STOPPED, ExitCode.INTERRUPTED), outcome
    assert all(each.end is not None for each in endpoint.collections.values())
    assert verified(outcome)
    assert not any("may still run" in text for text in outcome.warnings)
    with Journal(state_dir) as journal:
        assert "on_stamp_until" not in journal.run(outcome.run_id).facts


def test_a_stop_that_the_endpoint_does_not_heed_ends_its_session(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.pause_s = 0.5
    endpoint.files = {f"Storage-{number}.zip": b"z" for number in range(50)}
    endpoint.deaf = True
    at_work = operator(access, state_dir, endpoint, stop_s=0.5)
    at_work.when(lambda event: isinstance(event, Landed), at_work.control.stop)
    outcome = at_work.collect(request_to)
    assert outcome.state is RunState.STOPPED, outcome
    assert any("has not confirmed the stop" in text for text in outcome.warnings)
    assert verified(outcome)


def test_an_interrupt_while_stop_waits_for_another_process_leaves_the_request(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    from bridge.collection._context import run_folder
    from bridge.collection._owner import drive

    with Journal(state_dir) as journal:
        journal.create("r1", request_to, "b1")
    leaving = Control()
    leaving.detach()
    with drive(run_folder(state_dir, "r1"), "r1"), pytest.raises(InterruptedRunError, match="still asked to stop"):
        operator(access, state_dir, endpoint).stop("r1", control=leaving)
    with Journal(state_dir) as journal:
        assert journal.run("r1").stop_requested


def test_an_interrupt_while_the_staging_copy_is_removed_leaves_the_rest_to_attach(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    control = Control()

    class Slow(FolderStore):
        """The operator presses Ctrl-C while the first file of the staging copy is removed."""

        def remove(self, path: str) -> None:
            super().remove(path)
            if "near" in self.location and ".pep-bridge" not in path:
                control.detach()

        def at(self, path: str) -> FolderStore:
            return Slow(Path(self.location) / path)

    request = make_request(tmp_path / "far", staging=Place.parse(str(tmp_path / "near")), remove_staging=True)
    ports = replace(fake_ports(endpoint), open_store=lambda place, _secret: Slow(Path(place.location)))
    left = collect(request, access, state_dir=state_dir, settings=QUICK, ports=ports, control=control)
    assert (left.state, left.exit_code) == (RunState.DELIVERING, ExitCode.INTERRUPTED), left
    assert f"pep-bridge attach {left.run_id}" in left.errors[-1].advice
    assert list((tmp_path / "near").glob("*/data/**/*.zip"))
    outcome = attach(left.run_id, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint))
    assert (outcome.state, outcome.file_count) == (RunState.DONE, 3), outcome
    assert outcome.bundle == str(tmp_path / "far" / outcome.bundle_name)
    assert verified(outcome)
    assert not list((tmp_path / "near").glob("azs-sim-*"))
