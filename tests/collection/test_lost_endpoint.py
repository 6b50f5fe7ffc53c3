"""An endpoint that is lost: what still gives a sign of life is waited for, what does not is sealed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.bundle import Verdict, verify
from bridge.collection import (
    Access,
    Event,
    Journal,
    Landed,
    Outcome,
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
from bridge.errors import AuthenticationFailedError, ExitCode, StoreError, StoreUnreachableError
from bridge.store import Entry, FolderStore, UnsafeNameHandler
from tests.support.fake_endpoint import FakeEndpoint, fake_ports, wait_until
from tests.support.runs import QUICK

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


def _pause(seconds: float) -> bool:
    time.sleep(seconds)
    return False
