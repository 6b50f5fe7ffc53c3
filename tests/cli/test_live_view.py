"""What the views of a run say on a terminal and in plain lines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console as RichConsole

from bridge.collection import DeliveryProgress, RecordArrived
from bridge.endpoint import Progress, Record, Stream
from cli._console import Console
from cli._live import _Lines, _Screen

MB = 1_000_000


def progress(done: int, *, left_s: float | None = None, detail: str = "") -> DeliveryProgress:
    return DeliveryProgress(
        run_id="",
        bytes_done=done * MB,
        bytes_total=8 * MB,
        rate_bytes_per_s=2.5 * MB,
        seconds_left=left_s,
        seconds_left_low=left_s,
        seconds_left_high=None if left_s is None else 2 * left_s,
        detail=detail,
    )


def plain(event: DeliveryProgress, capsys: pytest.CaptureFixture[str]) -> str:
    _Lines(Console(as_json=False)).on_event(event)
    return capsys.readouterr().err


def test_a_delivery_shows_its_rate_the_time_left_and_what_is_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    said = plain(progress(3, left_s=125.0, detail="retrying data/a.zip"), capsys)
    assert said == "delivered: 3.0 MB of 8.0 MB, 2.5 MB/s now, about 2:05 left (2:05 to 4:10), retrying data/a.zip\n"


def test_a_time_left_without_an_upper_end_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    event = replace(progress(3, left_s=125.0), seconds_left_high=None)
    assert "about 2:05 left (2:05 or more)" in plain(event, capsys)


def test_a_rate_that_is_not_known_yet_is_not_shown_as_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert plain(replace(progress(1), rate_bytes_per_s=0.0), capsys) == "delivered: 1.0 MB of 8.0 MB\n"
    assert "0 B/s now" in plain(replace(progress(1, left_s=60.0), rate_bytes_per_s=0.0), capsys)


def test_a_delivery_that_is_not_confirmed_does_not_look_finished(capsys: pytest.CaptureFixture[str]) -> None:
    assert "waiting for the last confirmation" in plain(progress(8), capsys)
    assert "waiting" not in plain(progress(8, left_s=0.0), capsys)


def test_the_screen_of_a_delivery_shows_the_same_and_what_its_ctrl_c_does() -> None:
    screen = _Screen("deliver", Console(as_json=False), "Ctrl-C: stop")
    screen.on_event(progress(3, left_s=125.0))
    shown = RichConsole(width=120, height=40, force_terminal=False, record=True)
    with shown.capture() as captured:
        shown.print(screen)
    assert "2.5 MB/s now, about 2:05 left" in captured.get()
    assert "Ctrl-C: stop" in captured.get()
    assert "detach" not in captured.get()


def collecting(percent: int, worked_s: float) -> str:
    """The screen of a collection that has worked so long and says so many percent."""
    screen = _Screen("collect", Console(as_json=False), "Ctrl-C: detach")
    for said in (0, percent):
        record = Record(
            Stream.PROGRESS, "", datetime.now(UTC), progress=Progress("Collecting", 0, f"role {said}", said)
        )
        screen.on_event(RecordArrived(run_id="", record=record))
    screen.working_since -= worked_s
    shown = RichConsole(width=120, height=40, force_terminal=False, record=True)
    with shown.capture() as captured:
        shown.print(screen)
    return captured.get()


def test_a_collection_shows_the_time_left_at_the_pace_so_far() -> None:
    assert "role 25 (25 %), at this pace about 5:00 left" in collecting(25, worked_s=100.0)


def test_a_collection_that_has_hardly_begun_promises_no_time() -> None:
    assert "left" not in collecting(2, worked_s=100.0)
