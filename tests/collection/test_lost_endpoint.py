"""An endpoint that is lost: what still gives a sign of life is waited for, what does not is sealed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.bundle import Verdict, verify
from bridge.collection import (
    Access,
    Event,
    Journal,
    Landed,
    LineChanged,
    Outcome,
    Place,
    RecordArrived,
    Request,
    RunState,
    Settings,
    StateChanged,
    Warned,
    attach,
    collect,
)
from bridge.collection._watch import OutputFolder, Waited, wait_for_output
from bridge.collection._work import Leave, follow
from bridge.endpoint import Record, Stream
from bridge.errors import AuthenticationFailedError, ExitCode, JournalError, StoreError, StoreUnreachableError
from bridge.store import Entry, FolderStore, UnsafeNameHandler
from tests.support.fake_endpoint import FakeEndpoint, FakeRunning, fake_ports, wait_until
from tests.support.runs import QUICK, make_request

PATIENT_LINE = replace(QUICK, line_patience_s=0.1, line_deadline_s=3600.0, attach_deadline_s=3600.0, stall_s=1.5)


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    fake = FakeEndpoint(ends_log=False)
    yield fake
    fake.join()


class Away(FolderStore):
    """A place that can be away for a while."""

    away = threading.Event()

    def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
        if self.away.is_set():
            raise StoreUnreachableError(store=self.location, detail="the network is down")
        return super().list(prefix, on_unsafe=on_unsafe)

    def at(self, path: str) -> FolderStore:
        return Away(Path(self.location) / path)


@pytest.fixture
def away() -> Iterator[threading.Event]:
    Away.away.clear()
    yield Away.away
    Away.away.clear()


def run(
    request: Request,
    access: Access,
    state_dir: Path,
    endpoint: FakeEndpoint,
    *,
    settings: Settings,
    on_event: Callable[[Event], None] | None = None,
    store: type[FolderStore] = FolderStore,
) -> Outcome:
    ports = replace(fake_ports(endpoint), open_store=lambda place, _secret: store(Path(place.location)))
    return collect(request, access, state_dir=state_dir, settings=settings, ports=ports, on_event=on_event)


class SignsOfLife:
    """When the last of them was seen, and when the run was sealed."""

    def __init__(self) -> None:
        self.last = self.sealed = time.monotonic()
        self.warnings: list[str] = []

    def note(self, event: Event) -> None:
        if isinstance(event, (Landed, RecordArrived)):
            self.last = time.monotonic()
        elif isinstance(event, StateChanged) and event.state is RunState.SEALING:
            self.sealed = time.monotonic()
        elif isinstance(event, Warned):
            self.warnings.append(event.text)


def test_the_stall_counts_from_the_last_sign_of_life_and_not_from_the_loss_of_the_line(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    """The line would be waited for an hour: what neither moves nor speaks for ``stall_s`` is not."""
    endpoint.silent_after_records = 1
    endpoint.unreachable = True
    signs = SignsOfLife()
    outcome = run(request_to, access, state_dir, endpoint, settings=PATIENT_LINE, on_event=signs.note)
    assert outcome.bundle is not None, outcome
    assert any("it has stalled, or ended" in text for text in signs.warnings)
    assert signs.sealed - signs.last >= PATIENT_LINE.stall_s - 2 * PATIENT_LINE.watch_s


def test_what_still_lands_after_the_line_went_down_puts_the_stall_off(
    request_to: Request, access: Access, state_dir: Path
) -> None:
    endpoint = FakeEndpoint({f"Storage-{number}.zip": b"z" for number in range(6)}, pause_s=0.8, ends_log=False)
    endpoint.silent_after_records = 1
    endpoint.unreachable = True
    signs = SignsOfLife()
    outcome = run(request_to, access, state_dir, endpoint, settings=PATIENT_LINE, on_event=signs.note)
    assert outcome.file_count == 7  # six zips and the log, each 0.8 s after the other: 5 s in all, a stall is 1.5 s
    assert signs.sealed - signs.last >= PATIENT_LINE.stall_s - 2 * PATIENT_LINE.watch_s
    endpoint.join()


def test_a_session_that_is_lost_in_a_quiet_hour_is_not_taken_for_stalled_at_once(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    """Nothing had landed for longer than the stall; but the endpoint answered until it was lost."""
    lost_at = 0.0

    def note(event: Event) -> None:
        nonlocal lost_at
        if isinstance(event, Warned) and "the session is lost" in event.text:
            lost_at = time.monotonic()
        signs.note(event)

    signs = SignsOfLife()
    settings = replace(QUICK, stall_s=1.0, reattach_s=3600)
    endpoint.files = {"Storage-1.zip": b"1", "ACS-1.zip": b"2"}
    endpoint.pause_s = 2.5
    endpoint.lose_after_records = 2
    endpoint.gone = True
    outcome = run(request_to, access, state_dir, endpoint, settings=settings, on_event=note)
    assert outcome.bundle is not None
    assert signs.sealed - lost_at >= settings.stall_s - 2 * settings.watch_s


def test_a_place_that_cannot_be_reached_is_not_taken_for_an_empty_one(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, away: threading.Event
) -> None:
    """The jump box loses its whole network, endpoint and share, for longer than every patience."""
    warned = threading.Event()

    def cut(event: Event) -> None:
        if isinstance(event, RecordArrived):
            away.set()
        if isinstance(event, Warned) and "cannot be seen" in event.text:
            warned.set()

    def mend() -> None:
        wait_until(warned.is_set)
        time.sleep(3 * QUICK.stall_s)
        away.clear()

    endpoint.silent_after_records = 1
    endpoint.unreachable = True
    mending = threading.Thread(target=mend)
    mending.start()
    settings = replace(QUICK, line_patience_s=0.1, line_deadline_s=0.3, attach_deadline_s=0.3)
    outcome = run(request_to, access, state_dir, endpoint, settings=settings, on_event=cut, store=Away)
    mending.join()
    assert outcome.state in {RunState.PARTIAL, RunState.DONE}, outcome
    assert outcome.file_count == 3
    assert verify(FolderStore(Path(str(outcome.bundle)))).verdict is Verdict.VERIFIED


def test_a_run_whose_output_cannot_be_seen_at_its_end_is_kept_and_finished_by_attach(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, away: threading.Event
) -> None:
    def cut(event: Event) -> None:
        if isinstance(event, RecordArrived):
            away.set()

    short = replace(QUICK, late_s=0.3, stall_s=0.3)
    kept = run(request_to, access, state_dir, endpoint, settings=short, on_event=cut, store=Away)
    assert (kept.state, kept.exit_code) == (RunState.RUNNING, ExitCode.DELIVERY), kept
    assert "the network is down" in str(kept.errors[0])
    away.clear()
    outcome = attach(kept.run_id, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint))
    assert (outcome.state, outcome.file_count) == (RunState.DONE, 3), outcome


def test_a_password_that_is_refused_while_the_session_is_asked_for_again_is_not_tried_again_and_again(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    def refuse(event: Event) -> None:
        if isinstance(event, Warned) and "the session is lost" in event.text:
            endpoint.refuses = AuthenticationFailedError(host="AzS-ERCS01", username="x")

    endpoint.lose_after_records = 1
    endpoint.may_write.set()
    endpoint.pause_s = 0.8
    settings = replace(QUICK, reattach_s=0.05, stall_s=2.0)
    outcome = run(request_to, access, state_dir, endpoint, settings=settings, on_event=refuse)
    assert outcome.bundle is not None
    assert endpoint.attached == 1
    assert any("not asked for again" in text for text in outcome.warnings)


def test_the_wait_for_the_output_is_neither_still_nor_ended_while_the_folder_cannot_be_listed(
    tmp_path: Path, away: threading.Event
) -> None:
    told: list[Any] = []
    output = OutputFolder(lambda: Away(tmp_path), lambda: "data", on_change=told.append, on_trouble=told.append)
    away.set()

    def wait(deadline_s: float) -> Waited:
        return wait_for_output(
            output, poll_s=0.01, still_s=0.05, deadline_s=deadline_s, interrupted=_pause, from_now=False
        )

    with pytest.raises(StoreError, match="the network is down"):
        wait(0.3)
    assert len(told) == 1
    away.clear()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.zip").write_bytes(b"a")
    began = time.monotonic()
    assert wait(30.0) is Waited.STILL
    assert time.monotonic() - began >= 0.05
    assert output.snapshot.files == 1


def test_a_run_that_no_journalled_session_belongs_to_is_told_from_one_that_runs(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    """Killed while it sent its command, then attached to with a wrong password: it may run, so it is kept."""
    run_id = "20260101T000000Z-00000000"
    with Journal(state_dir) as journal:
        journal.create(run_id, request_to, "killed-bundle")
        for state in (RunState.PREFLIGHTED, RunState.LOCKED):
            journal.move(run_id, state)
        ids = {"pipeline_id": "1", "endpoint": "AzS-ERCS01", "shell_id": "1"}
        journal.note(run_id, session=ids, endpoint="AzS-ERCS01", command_sent="2026-01-01T00:00:00Z")
    endpoint.refuses = AuthenticationFailedError(host="AzS-ERCS01", username="x")
    kept = attach(run_id, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint))
    assert (kept.state, kept.exit_code) == (RunState.LOCKED, ExitCode.AUTHENTICATION)
    endpoint.refuses = None
    outcome = attach(run_id, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint))
    assert outcome.state is RunState.DONE
    assert len(endpoint.sent) == 1


def test_a_session_that_could_not_be_ended_on_a_broken_line_is_ended_by_the_next_run(
    request_to: Request, access: Access, state_dir: Path
) -> None:
    endpoint = FakeEndpoint()

    def cut(event: Event) -> None:
        if isinstance(event, StateChanged) and event.state is RunState.RUNNING:
            endpoint.unreachable = True

    first = run(request_to, access, state_dir, endpoint, settings=QUICK, on_event=cut)
    assert first.state is RunState.DONE, first
    [session] = endpoint.collections
    with Journal(state_dir) as journal:
        assert [ids["shell_id"] for ids in journal.run(first.run_id).facts["opening"]] == [session]
    endpoint.unreachable = False
    endpoint.ended.clear()
    assert run(request_to, access, state_dir, endpoint, settings=QUICK).state is RunState.DONE
    assert session in {ids["shell_id"] for ids in endpoint.ended}
    with Journal(state_dir) as journal:
        assert "opening" not in journal.run(first.run_id).facts
    endpoint.join()


class Clock:
    """A clock that is set a day forward as soon as the session is lost."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def note(self, event: Event) -> None:
        if isinstance(event, LineChanged) and event.state == "lost":
            self.ahead = timedelta(days=1)


def test_a_clock_that_is_set_forward_ends_no_collection_whose_session_is_lost(
    request_to: Request, access: Access, state_dir: Path
) -> None:
    clock = Clock()
    endpoint = FakeEndpoint({f"Storage-{number}.zip": b"z" for number in range(5)}, pause_s=0.3)
    endpoint.lose_after_records, endpoint.gone = 1, True
    ports = replace(fake_ports(endpoint), now=clock.now)
    request = replace(request_to, roles=("Storage",))
    outcome = collect(
        request, access, state_dir=state_dir, settings=replace(QUICK, stall_s=60), ports=ports, on_event=clock.note
    )
    endpoint.join()
    assert clock.ahead
    assert (outcome.state, outcome.file_count) == (RunState.DONE, 6), outcome


def test_a_clock_that_is_set_forward_frees_no_stamp_whose_collection_may_still_run(
    request_to: Request, access: Access, state_dir: Path, tmp_path: Path
) -> None:
    clock = Clock()
    endpoint = FakeEndpoint(ends_log=False)
    endpoint.lose_after_records, endpoint.gone = 1, True
    ports = replace(fake_ports(endpoint), now=clock.now)
    lost = collect(request_to, access, state_dir=state_dir, settings=QUICK, ports=ports, on_event=clock.note)
    assert any("may still run" in text for text in lost.warnings)
    for place, journal in ((tmp_path / "elsewhere", state_dir), (tmp_path / "bundles", tmp_path / "other")):
        second = collect(
            make_request(place), access, state_dir=journal, settings=QUICK, ports=ports, on_event=clock.note
        )
        assert second.exit_code is ExitCode.BUSY, second
    assert len(endpoint.sent) == 1
    endpoint.join()


def test_a_staging_copy_is_kept_while_the_collection_may_still_write_to_it(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.lose_after_records, endpoint.gone = 1, True
    request = make_request(tmp_path / "far", staging=Place.parse(str(tmp_path / "near")), remove_staging=True)
    outcome = run(request, access, state_dir, endpoint, settings=QUICK)
    assert outcome.bundle == str(tmp_path / "far" / outcome.bundle_name)
    assert outcome.staging == str(tmp_path / "near" / outcome.bundle_name)
    assert any("may still write to it" in text for text in outcome.warnings)
    assert len(list(Path(outcome.staging).rglob("*.zip"))) == 2


class Growing(FolderStore):
    """A far place; as soon as the bundle there is looked through as a whole, a file of the near one grows."""

    def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
        if not prefix and "far" in self.location and (Path(self.location) / "bagit.txt").exists():
            near = Path(self.location.replace("far", "near"))
            for path in near.rglob("Storage-*.zip"):
                with path.open("ab") as file:
                    file.write(b"and more")
        return super().list(prefix, on_unsafe=on_unsafe)

    def at(self, path: str) -> FolderStore:
        return Growing(Path(self.location) / path)


def test_a_file_that_grew_after_it_was_delivered_keeps_the_staging_copy(
    tmp_path: Path, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.ends_log = True
    request = make_request(tmp_path / "far", staging=Place.parse(str(tmp_path / "near")), remove_staging=True)
    outcome = run(request, access, state_dir, endpoint, settings=QUICK, store=Growing)
    assert outcome.staging == str(tmp_path / "near" / outcome.bundle_name), outcome
    assert any("Storage-AzS-XRP01-1.zip" in text and "is kept" in text for text in outcome.warnings)
    [grown] = Path(outcome.staging).rglob("Storage-*.zip")
    assert grown.read_bytes().endswith(b"and more")


def test_records_that_nobody_takes_any_more_hold_no_thread() -> None:
    class Endless(FakeRunning):
        def __init__(self) -> None:
            self.endpoint = "AzS-ERCS01"

        def records(self) -> Iterator[Record]:
            while True:
                yield Record(Stream.OUTPUT, "more", datetime.now(UTC))

    def refuse(record: Record) -> None:
        raise JournalError(path="journal", detail="it is locked")

    before = set(threading.enumerate())
    with pytest.raises(JournalError):
        follow(Endless(), on_record=refuse, leave=lambda: Leave.STAY, insist=lambda: None, stop_s=1)
    wait_until(lambda: set(threading.enumerate()) <= before)


def _pause(seconds: float) -> bool:
    time.sleep(seconds)
    return False
