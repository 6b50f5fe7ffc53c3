"""A run that waits for its stamp says so once, and what was checked before a long wait is checked again after it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.bundle import DECLARATION
from bridge.collection import Access, Event, Journal, Place, Request, RunState, Waiting, attach, collect
from bridge.collection._parts import open_place
from bridge.errors import ExitCode
from bridge.secrets import Credential, Secret
from bridge.store import FolderStore, Store
from tests.support.fake_endpoint import FakeEndpoint, fake_ports
from tests.support.fake_runs import run
from tests.support.runs import QUICK


def rest(state_dir: Path, stamp: str, until: datetime) -> None:
    """Somebody has stopped a run of this stamp, which cools down."""
    with Journal(state_dir) as journal:
        journal.cool_down(stamp, until)


def test_a_wait_in_the_queue_is_one_step_of_the_journal_however_often_it_looks(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    rest(state_dir, request_to.stamp.name, datetime.now(UTC) + timedelta(seconds=1.5))
    told: list[Event] = []
    outcome = run(request_to, access, state_dir, endpoint, queue=True, on_event=told.append)
    assert outcome.state is RunState.DONE, outcome
    looks = [event for event in told if isinstance(event, Waiting) and "cools down" in event.reason]
    assert len(looks) > 5
    with Journal(state_dir) as journal:
        steps = [step for step in journal.run(outcome.run_id).steps if step.name in {"lock", "wait in the queue"}]
    assert [(step.name, step.status) for step in steps] == [
        ("lock", "begun"),
        ("lock", "failed"),
        ("wait in the queue", "begun"),
        ("wait in the queue", "done"),
    ]
    assert "cools down" in str(steps[1].detail)


def test_a_sas_that_would_end_in_the_middle_after_a_long_wait_is_refused_then(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    late = timedelta(0)

    def now() -> datetime:
        return datetime.now(UTC) + late

    def wait_long(event: Event) -> None:
        nonlocal late
        if isinstance(event, Waiting):
            late = timedelta(hours=3)

    def open_store(place: Place, secret: Credential | Secret | None) -> Store:
        return FolderStore(tmp_path / "container") if place.kind == "container" else open_place(place, secret)

    (tmp_path / "container").mkdir()
    expires = datetime.now(UTC) + timedelta(minutes=request_to.timeout_minutes, hours=1)
    sas = Secret(f"sv=2022-11-02&sr=c&sp=rwl&se={expires:%Y-%m-%dT%H:%M:%SZ}&sig=c2lnbmF0dXJl")
    rest(state_dir, request_to.stamp.name, datetime.now(UTC) + timedelta(minutes=4))
    outcome = collect(
        replace(
            request_to,
            staging=request_to.destination,
            destination=Place.parse("https://logs.blob.core.windows.net/bundles"),
        ),
        replace(access, destination=sas),
        state_dir=state_dir,
        queue=True,
        on_event=wait_long,
        settings=QUICK,
        ports=replace(fake_ports(endpoint, now=now), open_store=open_store),
    )
    assert outcome.state is RunState.FAILED, outcome
    assert [error.fields.get("cause") for error in outcome.errors] == ["SasExpiredError"]
    assert endpoint.sent == []
    again = run(request_to, access, state_dir, endpoint, ports=fake_ports(endpoint, now=now))
    assert again.state is RunState.DONE, again  # nothing of the stamp was kept


def test_a_run_that_is_taken_over_before_anything_was_sent_has_its_places_checked_again(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    bundles = Path(request_to.destination.text)
    with Journal(state_dir) as journal:
        journal.create("killed", request_to, "azs-sim-killed")
        journal.move("killed", RunState.PREFLIGHTED)
    bundles.mkdir()
    (bundles / DECLARATION).write_text("BagIt-Version: 1.0\n")  # somebody has made a bundle of the place meanwhile
    outcome = attach("killed", access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint))
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.PREFLIGHT), outcome
    assert endpoint.sent == []
