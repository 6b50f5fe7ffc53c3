"""One collection a stamp: the lock beside the bundles has one holder, shows its owner, and is broken only safely."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.collection import LockSettings
from bridge.collection._lock import LOCK_FOLDER, StampLock
from bridge.errors import StampBusyError
from bridge.store import FolderStore

QUICK = LockSettings(heartbeat_s=0.05, poll_s=0.02)


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def pause(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def lock_of(store: FolderStore, run_id: str, clock: Clock, lost: list[str] | None = None) -> StampLock:
    said = [] if lost is None else lost
    return StampLock(store, "AZS-Sim", run_id, settings=QUICK, now=clock.now, wait=pause, on_lost=said.append)


def test_a_second_run_is_told_who_has_the_stamp_and_until_when(store: FolderStore, clock: Clock) -> None:
    first = lock_of(store, "r1", clock)
    first.acquire()
    first.expect_work_until(clock.now() + timedelta(hours=4))
    with pytest.raises(StampBusyError, match=r"r1 of .*\(process \d+\)") as caught:
        lock_of(store, "r2", clock).acquire()
    assert caught.value.fields["until"] is not None
    first.release()
    second = lock_of(store, "r2", clock)
    second.acquire()
    second.release()


def test_a_holder_that_shows_life_is_not_broken_whatever_its_clock_says(store: FolderStore, clock: Clock) -> None:
    first = lock_of(store, "r1", clock)
    first.acquire()
    ahead = Clock()
    ahead.ahead = timedelta(days=3)
    with pytest.raises(StampBusyError, match="about to collect"):
        lock_of(store, "r2", ahead).acquire()
    first.release()


def test_a_holder_that_died_before_it_sent_anything_is_broken_after_a_while(store: FolderStore, clock: Clock) -> None:
    dead = lock_of(store, "r1", clock)
    dead.acquire()
    dead.leave()  # no heartbeat any more, as after SIGKILL
    second = lock_of(store, "r2", clock)
    second.acquire()
    second.release()


def test_a_holder_that_died_while_the_stamp_works_is_kept_until_the_collection_must_have_ended(
    store: FolderStore, clock: Clock
) -> None:
    dead = lock_of(store, "r1", clock)
    dead.acquire()
    dead.expect_work_until(clock.now() + timedelta(hours=4))
    dead.leave()
    with pytest.raises(StampBusyError):
        lock_of(store, "r2", clock).acquire()
    clock.ahead = timedelta(hours=5)
    second = lock_of(store, "r2", clock)
    second.acquire()
    second.release()


def test_the_same_run_takes_its_lock_back(store: FolderStore, clock: Clock) -> None:
    until = clock.now() + timedelta(hours=4)
    first = lock_of(store, "r1", clock)
    first.acquire()
    first.expect_work_until(until)
    first.leave()
    again = lock_of(store, "r1", clock)
    again.acquire()
    again.leave()
    with pytest.raises(StampBusyError, match="collects from it"):
        lock_of(store, "r2", clock).acquire()


def test_a_lock_that_is_broken_by_hand_is_lost_to_its_holder_who_hears_of_it(store: FolderStore, clock: Clock) -> None:
    lost: list[str] = []
    first = lock_of(store, "r1", clock, lost)
    first.acquire()
    first.expect_work_until(clock.now() + timedelta(hours=4))
    second = lock_of(store, "r2", clock)
    second.acquire(break_lock=True)
    second.expect_work_until(clock.now() + timedelta(hours=4))
    deadline = time.monotonic() + 10
    while not lost:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.release()
    with pytest.raises(StampBusyError, match="r2"):
        lock_of(store, "r3", clock).acquire()
    second.release()


def test_a_stopped_run_leaves_a_cool_down_behind(store: FolderStore, clock: Clock) -> None:
    first = lock_of(store, "r1", clock)
    first.acquire()
    first.release(cool_down_until=clock.now() + timedelta(minutes=5))
    with pytest.raises(StampBusyError, match="cools down"):
        lock_of(store, "r2", clock).acquire()
    clock.ahead = timedelta(minutes=6)
    second = lock_of(store, "r2", clock)
    second.acquire()
    second.release()


def test_of_many_that_race_exactly_one_wins(store: FolderStore, clock: Clock) -> None:
    for round_number in range(5):
        start = threading.Barrier(8)
        won: list[StampLock] = []
        refused: list[StampBusyError] = []

        def race(name: str, start: threading.Barrier = start, won: list[StampLock] = won) -> None:
            lock = lock_of(store, name, clock)
            start.wait()
            try:
                lock.acquire()
            except StampBusyError as error:
                refused.append(error)  # noqa: B023 - joined before the next round
            else:
                won.append(lock)

        threads = [threading.Thread(target=race, args=(f"r{round_number}-{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert len(refused) == 7
        won[0].release()


def test_numbers_never_start_again_so_that_a_slow_racer_cannot_win_twice(store: FolderStore, clock: Clock) -> None:
    for number in range(3):
        lock = lock_of(store, f"r{number}", clock)
        lock.acquire()
        lock.release()
    assert [entry.path for entry in store.list(LOCK_FOLDER)] == [f"{LOCK_FOLDER}/azs-sim/00000003.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"run": 1, "owner": 2}', b"{" * 5000])
def test_a_lock_file_that_cannot_be_read_holds_until_it_shows_no_life(
    store: FolderStore, clock: Clock, content: bytes
) -> None:
    with store.open_write(f"{LOCK_FOLDER}/azs-sim/00000001.json") as writer:
        writer.write(content)
        writer.commit()
    lock = lock_of(store, "r1", clock)
    lock.acquire()
    lock.release()


def test_a_holder_that_stood_still_while_its_lock_was_taken_starts_nothing(store: FolderStore, clock: Clock) -> None:
    sleeper = lock_of(store, "r1", clock)
    sleeper.acquire()
    sleeper.leave()  # no heartbeat, as while the lid is closed
    second = lock_of(store, "r2", clock)
    second.acquire()
    with pytest.raises(StampBusyError, match="r2"):
        sleeper.expect_work_until(clock.now() + timedelta(hours=4))
    second.release()


def test_who_takes_the_lock_of_a_holder_that_wakes_up_just_then_gives_way(
    store: FolderStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = lock_of(store, "r1", clock)
    sleeper.acquire()
    sleeper.leave()
    second = lock_of(store, "r2", clock)
    take = second._take

    def wake_up_first(generation: int) -> None:
        sleeper.expect_work_until(clock.now() + timedelta(hours=4))
        take(generation)

    monkeypatch.setattr(second, "_take", wake_up_first)
    with pytest.raises(StampBusyError, match="r1"):
        second.acquire()
    with pytest.raises(StampBusyError, match="r1"):
        lock_of(store, "r3", clock).acquire()
    sleeper.release()
    lock_of(store, "r3", clock).acquire()
