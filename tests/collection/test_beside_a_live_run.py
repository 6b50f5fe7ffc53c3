"""No way leads to a second collection beside a live one: each refuses or waits, and says which run and what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.collection import Access, Event, Journal, Landed, Outcome, Request, RunState, attach, collect
from bridge.collection._context import RunContext, Wishes
from bridge.collection._lock import COOL_DOWN, LOCK_FOLDER
from bridge.collection._locks import StampLocks
from bridge.collection._work import Control
from bridge.errors import ExitCode, StampBusyError, StoreUnreachableError
from bridge.store import Entry, FolderStore, UnsafeNameHandler
from tests.support.fake_endpoint import FakeEndpoint, fake_ports
from tests.support.fake_runs import run
from tests.support.runs import QUICK, make_request


def lose(request: Request, access: Access, state_dir: Path) -> Outcome:
    """A collection whose session is lost and whose output stalls: nobody knows whether it goes on."""
    endpoint = FakeEndpoint(ends_log=False)
    endpoint.lose_after_records = 1
    endpoint.gone = True
    lost = run(request, access, state_dir, endpoint)
    assert lost.state.is_final
    endpoint.join()
    return lost


def test_a_collection_that_was_never_seen_to_end_is_known_to_the_journal_wherever_the_next_one_goes(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    lost = lose(request_to, access, state_dir)
    elsewhere = make_request(tmp_path / "elsewhere")
    refused = run(elsewhere, access, state_dir, endpoint)
    assert (refused.state, refused.exit_code) == (RunState.FAILED, ExitCode.BUSY)
    assert lost.run_id in str(refused.errors[0])
    assert f"pep-bridge show {lost.run_id}" in refused.errors[0].advice
    assert "--break-lock" in refused.errors[0].advice
    assert endpoint.sent == []

    a_day_later = fake_ports(endpoint, now=lambda: datetime.now(UTC) + timedelta(days=1))
    later = collect(elsewhere, access, state_dir=state_dir, settings=QUICK, ports=a_day_later)
    assert later.state is RunState.DONE, later


def test_the_operator_who_knows_that_nothing_runs_may_start_beside_a_lost_collection(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    lose(request_to, access, state_dir)
    assert run(request_to, access, state_dir, endpoint, break_lock=True).state is RunState.DONE


def test_breaking_the_lock_does_not_start_beside_a_run_that_this_journal_knows_to_be_live(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.may_write.clear()
    detached = run(request_to, access, state_dir, endpoint, detach=True)
    with pytest.raises(StampBusyError, match=detached.run_id) as refused:
        run(request_to, access, state_dir, endpoint, break_lock=True)
    assert f"pep-bridge attach {detached.run_id}" in refused.value.advice
    assert f"pep-bridge stop {detached.run_id}" in refused.value.advice
    assert len(endpoint.sent) == 1


def test_a_stamp_in_other_letters_is_the_same_stamp(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    endpoint.may_write.clear()
    detached = run(request_to, access, state_dir, endpoint, detach=True)
    shouted = replace(request_to, stamp=replace(request_to.stamp, name=request_to.stamp.name.upper()))
    with pytest.raises(StampBusyError, match=detached.run_id):
        run(shouted, access, state_dir, endpoint)
    other = run(shouted, access, tmp_path / "other", endpoint)
    assert other.exit_code is ExitCode.BUSY
    assert len(endpoint.sent) == 1


def test_a_command_that_may_have_been_sent_before_a_kill_is_not_sent_again_while_its_output_may_come(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    """The session is gone and nothing lies there yet: the first output of the killed client's command is waited for."""
    run_id = "20260101T000000Z-00000000"
    folder = Path(request_to.destination.location) / "killed-bundle" / "data" / "AzureStackLogs-1"
    with Journal(state_dir) as journal:
        journal.create(run_id, request_to, "killed-bundle")
        for state in (RunState.PREFLIGHTED, RunState.LOCKED):
            journal.move(run_id, state)
        ids = {"pipeline_id": "1", "endpoint": "AzS-ERCS01", "shell_id": "1"}
        sent = datetime.now(UTC).isoformat()
        journal.note(run_id, session=ids, endpoint="AzS-ERCS01", command_sent=sent)

    def write() -> None:
        folder.mkdir(parents=True)
        (folder / "Storage-1.zip").write_bytes(b"1")

    writing = threading.Timer(1.0, write)
    writing.start()
    patient = replace(QUICK, late_s=3600.0)
    outcome = attach(run_id, access, state_dir=state_dir, settings=patient, ports=fake_ports(endpoint))
    writing.join()
    assert endpoint.sent == []
    assert outcome.state is RunState.PARTIAL
    assert outcome.file_count == 1


class HalfAway(FolderStore):
    """One of two places cannot be reached."""

    def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
        raise StoreUnreachableError(store=self.location, detail="the network is down")


def test_taking_the_locks_back_gives_none_back_where_one_place_is_away(tmp_path: Path) -> None:
    def locks(second: FolderStore, warnings: list[str]) -> StampLocks:
        return StampLocks(
            "azs-sim",
            "r1",
            lambda: [FolderStore(tmp_path / "a"), second],
            settings=QUICK.lock,
            now=lambda: datetime.now(UTC),
            wait=lambda seconds: False,
            warn=warnings.append,
            is_over=lambda run_id: False,
        )

    first = locks(FolderStore(tmp_path / "b"), [])
    first.acquire(break_lock=False)
    first.expect_work_until(datetime.now(UTC) + timedelta(hours=4))
    first.leave()
    warnings: list[str] = []
    second = locks(HalfAway(tmp_path / "b"), warnings)
    second.take_back()
    second.leave()
    assert len(warnings) == 1
    for side in ("a", "b"):
        [lock] = (tmp_path / side / LOCK_FOLDER / "azs-sim").iterdir()
        assert json.loads(lock.read_bytes())["held"] is True


class AwayAtFirst(FolderStore):
    """Cannot be reached the first few times that it is asked."""

    def __init__(self, root: Path, failures: int) -> None:
        super().__init__(root)
        self.failures = failures

    def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
        if self.failures:
            self.failures -= 1
            raise StoreUnreachableError(store=self.location, detail="the network is down")
        return super().list(prefix, on_unsafe=on_unsafe)


@pytest.mark.parametrize("failures", [1, 2, 3], ids=["back when it has ended", "back at the very end", "never back"])
def test_a_lock_whose_place_was_away_when_the_run_was_taken_over_is_given_back_with_it(
    tmp_path: Path, failures: int
) -> None:
    def locks(store: FolderStore, warnings: list[str]) -> StampLocks:
        return StampLocks(
            "azs-sim",
            "r1",
            lambda: [store],
            settings=QUICK.lock,
            now=lambda: datetime.now(UTC),
            wait=lambda seconds: False,
            warn=warnings.append,
            is_over=lambda run_id: False,
        )

    first = locks(FolderStore(tmp_path), [])
    first.acquire(break_lock=False)
    first.expect_work_until(datetime.now(UTC) + timedelta(hours=4))
    first.leave()
    warnings: list[str] = []
    second = locks(AwayAtFirst(tmp_path, failures), warnings)
    second.take_back()  # when it is followed
    second.take_back()  # when it has ended
    second.release(cool_down_until=None)
    second.leave()
    [lock] = (tmp_path / LOCK_FOLDER / "azs-sim").iterdir()
    assert json.loads(lock.read_bytes())["held"] is (failures == 3)
    assert any("could not be given back" in text for text in warnings) is (failures == 3)


def test_a_cool_down_of_a_clock_that_was_a_day_ahead_does_not_hold_for_a_day(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    with Journal(state_dir) as journal:
        journal.cool_down("AZS-SIM", datetime.now(UTC) + timedelta(days=1))
        assert journal.cool_down_until("azs-sim") is not None
    refused = run(request_to, access, state_dir, endpoint)  # the clock may as well have been set back a second ago
    assert refused.errors[0].fields["until"] <= datetime.now(UTC) + COOL_DOWN
    later = fake_ports(endpoint, now=lambda: datetime.now(UTC) + COOL_DOWN)
    outcome = collect(request_to, access, state_dir=state_dir, settings=QUICK, ports=later)
    assert outcome.state is RunState.DONE, outcome


def test_a_lock_that_could_not_be_given_back_is_tried_once_more_at_the_end_of_the_run(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    class Stumbling(FolderStore):
        """Refuses to write the lock once, when the run gives it back."""

        stumbles = 1

        def open_write(self, path: str, size_bytes: int | None = None, *, replace: bool = True) -> Any:
            if LOCK_FOLDER in path and landed.is_set() and ended() and Stumbling.stumbles:
                Stumbling.stumbles -= 1
                raise StoreUnreachableError(store=self.location, detail="just now")
            return super().open_write(path, size_bytes, replace=replace)

    landed = threading.Event()

    def ended() -> bool:
        return any(each.end is not None for each in endpoint.collections.values())

    def note(event: Event) -> None:
        if isinstance(event, Landed):
            landed.set()

    calm = replace(QUICK, lock=replace(QUICK.lock, heartbeat_s=3600.0))
    ports = replace(fake_ports(endpoint), open_store=lambda place, _secret: Stumbling(Path(place.location)))
    outcome = collect(request_to, access, state_dir=state_dir, settings=calm, ports=ports, on_event=note)
    assert outcome.state is RunState.DONE
    assert Stumbling.stumbles == 0
    assert run(request_to, access, tmp_path / "other", endpoint).state is RunState.DONE


def test_a_lock_that_a_killed_process_could_not_give_back_goes_when_its_run_is_finished(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    """The stamp was free, its place was away, and the process was killed before it could try once more."""
    ended = run(request_to, access, state_dir, endpoint)
    hold_again(request_to, ended.run_id)
    with Journal(state_dir) as journal:
        journal._connection.execute("UPDATE runs SET state = 'sealing' WHERE id = ?", (ended.run_id,))
    again = attach(ended.run_id, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint))
    assert again.state is RunState.DONE
    [lock] = (Path(request_to.destination.location) / LOCK_FOLDER / "azs-sim").iterdir()
    assert json.loads(lock.read_bytes())["held"] is False


@pytest.mark.parametrize("reached", [RunState.PREFLIGHTED, RunState.LOCKED])
def test_the_lock_of_a_process_that_was_killed_before_it_sent_anything_goes_with_its_run(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, reached: RunState
) -> None:
    run_id = "20260101T000000Z-00000000"
    killed = StampLocks(
        "azs-sim",
        run_id,
        lambda: [FolderStore(request_to.destination.location)],
        settings=QUICK.lock,
        now=lambda: datetime.now(UTC),
        wait=lambda seconds: False,
        warn=lambda text: None,
        is_over=lambda run_id: False,
    )
    killed.acquire(break_lock=False)
    killed.expect_work_until(datetime.now(UTC) + timedelta(hours=1))
    killed.leave()
    with Journal(state_dir) as journal:
        journal.create(run_id, request_to, "killed-bundle")
        for state in (RunState.PREFLIGHTED, RunState.LOCKED):
            journal.move(run_id, state)
            if state is reached:
                break
    control = Control()
    control.detach()
    ports = fake_ports(endpoint)
    outcome = attach(run_id, access, state_dir=state_dir, settings=QUICK, ports=ports, control=control)
    assert outcome.state is RunState.STOPPED
    assert endpoint.sent == []
    [lock] = (Path(request_to.destination.location) / LOCK_FOLDER / "azs-sim").iterdir()
    assert json.loads(lock.read_bytes())["held"] is False


def hold_again(request: Request, run_id: str) -> None:
    """The lock as a run leaves it whose place was away when it ended."""
    [lock] = (Path(request.destination.location) / LOCK_FOLDER / "azs-sim").iterdir()
    until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "run": run_id, "held": True, "on_stamp_until": until}))


def test_a_lock_that_could_not_be_given_back_at_all_does_not_hold_up_who_knows_that_its_run_has_ended(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    ended = run(request_to, access, state_dir, endpoint)
    hold_again(request_to, ended.run_id)
    assert run(request_to, access, tmp_path / "other", endpoint).exit_code is ExitCode.BUSY
    assert run(request_to, access, state_dir, endpoint).state is RunState.DONE


def test_the_lock_of_a_lost_run_holds_also_against_the_journal_that_knows_it(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    lost = lose(request_to, access, state_dir)
    hold_again(request_to, lost.run_id)
    assert run(request_to, access, state_dir, endpoint).exit_code is ExitCode.BUSY
    assert endpoint.sent == []


def test_a_wish_of_the_context_is_asked_of_the_journal_and_of_this_process(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    with Journal(state_dir) as journal:
        journal.create("r1", request_to, "b")
        control = Control()

        def context() -> RunContext:
            return RunContext(
                journal.run("r1"),
                access,
                journal,
                settings=QUICK,
                ports=fake_ports(endpoint),
                control=control,
                on_event=None,
                wishes=Wishes(),
            )

        assert context().wait(0.0) is False
        journal.request_stop("r1")
        here = context()
        assert here.wait(0.0) is True
        here.note_end(end={"state": "stopped"})
        assert here.wait(0.0) is False
        control.stop()
        assert here.wait(0.0) is True
        here.note_end()
        assert (control.asked, here.wait(0.0)) == (False, False)
        assert here.run.facts["end"] == {"state": "stopped"}
