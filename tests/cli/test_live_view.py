"""What the views of a run say on a terminal and in plain lines."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from rich.console import Console as RichConsole

from bridge.collection import DeliveryProgress, HashProgress, RecordArrived, RunState, StateChanged, Waiting, Warned
from bridge.endpoint import Progress, Record, Stream
from cli._console import Console
from cli._live import KEYS, _Lines, _Screen, _Teller
from cli._progress import Pace, bytes_bar, pace_words

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


@dataclass
class Line:
    """A line that rests, or whose keys can be pressed."""

    rest: str = ""
    words: str = ""


def test_a_delivery_that_rests_says_why_and_promises_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    _Lines(Console(as_json=False), Line("quiet hours until 18:00")).on_event(progress(3, left_s=125.0))
    assert capsys.readouterr().err == "delivered: 3.0 MB of 8.0 MB, quiet hours until 18:00\n"


def test_a_delivery_that_is_almost_done_does_not_look_finished(capsys: pytest.CaptureFixture[str]) -> None:
    event = replace(progress(8), bytes_done=8 * MB - 40_000)
    assert plain(event, capsys).startswith("delivered: all but 40.0 KB of 8.0 MB, ")


def test_the_end_of_a_delivery_is_told_however_soon_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _Lines(Console(as_json=False))
    for event in (progress(1), progress(2), progress(8), progress(8, left_s=0.0)):
        lines.on_event(event)
    assert capsys.readouterr().err.splitlines()[1:] == ["delivered: 8.0 MB of 8.0 MB"]


def test_what_an_earlier_delivery_had_left_is_told_from_the_first_line_on(capsys: pytest.CaptureFixture[str]) -> None:
    said = plain(replace(progress(3), bytes_there=2_500_000, rate_bytes_per_s=0.0), capsys)
    assert said == "delivered: 3.0 MB of 8.0 MB (2.5 MB from before)\n"


def test_the_last_figure_of_hashing_is_all_of_it_and_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _Lines(Console(as_json=False))
    for done in (1, 2, 8, 8, 8):
        lines.on_event(HashProgress(run_id="", bytes_done=done * MB, bytes_total=8 * MB))
    told = [line for line in capsys.readouterr().err.splitlines() if "hashed" in line]
    assert [line.partition(",")[0] for line in told] == ["hashed: 1.0 MB of 8.0 MB", "hashed: 8.0 MB of 8.0 MB"]


@pytest.mark.parametrize("width", [60, 70, 80])
def test_a_narrow_window_cuts_neither_the_time_left_nor_the_keys(width: int) -> None:
    words = "limit 40 Mbit/s; keys: p pause, - slower, + faster, r read the configuration"
    screen = _Screen("deliver", Console(as_json=False), "Ctrl-C: stop", _Teller(Line(words=words)))
    screen.on_event(replace(progress(3, left_s=12_500.0), bytes_there=2 * MB))
    told = " ".join(drawn(screen, width).split())
    assert "about 3:28:20 left (3:28:20 to 6:56:40)" in told
    assert words in told


def drawn(screen: _Screen, width: int = 120) -> str:
    shown = RichConsole(width=width, height=40, force_terminal=False, record=True)
    with shown.capture() as captured:
        shown.print(screen)
    return captured.get()


def bar(screen: _Screen) -> str:
    return next(line for line in drawn(screen).splitlines() if "━" in line).rstrip()


def test_no_bar_is_full_before_the_service_has_said_yes() -> None:
    screen = _Screen("deliver", Console(as_json=False), "Ctrl-C: stop")
    screen.on_event(progress(4))
    assert 55 <= len(bar(screen).rstrip("╺ ")) <= 65
    screen.on_event(progress(8))
    assert len(bar(screen)) < 120
    assert "waiting for the last confirmation" in drawn(screen)
    screen.on_event(progress(8, left_s=0.0))
    assert len(bar(screen)) == 120


def test_what_an_endpoint_says_of_itself_fills_no_bar_and_ends_with_its_state() -> None:
    screen = _Screen("collect", Console(as_json=False), "Ctrl-C: detach")
    record = Record(Stream.PROGRESS, "", datetime.now(UTC), progress=Progress("Collecting", 0, "nearly", 100))
    screen.on_event(RecordArrived(run_id="", record=record))
    assert len(bar(screen)) < 120
    screen.on_event(StateChanged(run_id="", state=RunState.SEALING))
    assert "━" not in drawn(screen)
    screen.on_event(HashProgress(run_id="", bytes_done=8 * MB, bytes_total=8 * MB))
    assert len(bar(screen)) < 120


def test_what_is_tried_again_has_a_line_of_its_own_that_is_not_cut_off_by_the_figures() -> None:
    screen = _Screen("deliver", Console(as_json=False), "Ctrl-C: stop")
    screen.on_event(progress(3, left_s=125.0, detail="retrying data/a.zip"))
    assert "retrying data/a.zip" in drawn(screen, width=50)
    screen.on_event(progress(4, left_s=125.0))
    assert "retrying" not in drawn(screen)


def test_the_keys_are_shown_above_what_ctrl_c_does() -> None:
    screen = _Screen(
        "deliver", Console(as_json=False), "Ctrl-C: stop", _Teller(Line(words="limit 8 Mbit/s; keys: - + r"))
    )
    assert drawn(screen).splitlines()[-2:] == ["limit 8 Mbit/s; keys: - + r", "Ctrl-C: stop"]


def test_the_time_before_the_first_byte_is_no_part_of_the_pace() -> None:
    clock = iter([1000.0, 1001.0])
    pace = Pace(lambda: next(clock))
    pace.saw(1 * MB)
    assert pace_words(pace.rate, *pace.left(9 * MB)) == []
    pace.saw(4 * MB)
    assert pace_words(pace.rate, *pace.left(6 * MB)) == ["3.0 MB/s now", "about 0:02 left"], "one look has no spread"


def test_hashing_shows_its_rate_and_the_time_left_with_its_spread() -> None:
    clock = iter(map(float, range(100)))
    pace = Pace(lambda: next(clock))
    for done in (0, 2, 4, 5):  # two seconds at 2 MB, one at 1 MB
        pace.saw(done * MB)
    words = pace_words(pace.rate, *pace.left(10 * MB))
    assert words == ["1.7 MB/s now", "about 0:06 left (0:05 to 0:10)"]


def test_a_pace_that_has_come_to_a_stop_is_nothing_now_and_promises_no_time_in_the_end() -> None:
    clock = iter(map(float, range(100)))
    pace = Pace(lambda: next(clock))
    for done in (0, 2, 4):
        pace.saw(done * MB)
    for _ in range(5):
        pace.saw(4 * MB)
    assert pace_words(pace.rate, *pace.left(10 * MB)) == ["0 B/s now", "about 0:17 left (0:05 or more)"]
    for _ in range(30):
        pace.saw(4 * MB)
    assert pace_words(pace.rate, *pace.left(10 * MB)) == ["0 B/s now"]


def test_plain_lines_go_on_and_say_that_nothing_comes_while_a_line_is_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli._progress._SAMPLE_EVERY_S", 0.02)
    monkeypatch.setattr("cli._progress._LINE_EVERY_S", 0.05)
    said = ""
    with bytes_bar(Console(as_json=False), "reading") as bar:
        while "0 B/s now" not in said:
            bar.update(2 * MB, 8 * MB)
            time.sleep(0.02)
            said += capsys.readouterr().err
    assert "reading: 2.0 MB of 8.0 MB, 0 B/s now\n" in said


def test_a_reading_that_rests_says_why_at_once_and_once_and_its_rest_is_no_part_of_its_pace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(map(float, range(0, 100_000, 3)))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with bytes_bar(Console(as_json=False), "reading") as bar:
        for _ in range(100):
            bar.update(2 * MB, 8 * MB, "quiet hours until 18:00")
        assert capsys.readouterr().err == "reading: 2.0 MB of 8.0 MB, quiet hours until 18:00\n"
        bar.update(2 * MB, 8 * MB)
        assert capsys.readouterr().err == "reading: 2.0 MB of 8.0 MB\n"


def test_hashing_that_rests_says_why_and_that_nothing_comes_where_a_share_is_silent() -> None:
    clock = iter(map(float, range(1000)))
    teller = _Teller(Line("quiet hours until 18:00"))
    teller._hashing = Pace(lambda: next(clock))
    event = HashProgress(run_id="", bytes_done=2 * MB, bytes_total=8 * MB, over_line=True)
    assert teller.line(replace(event, is_paused=True)) == "hashed: 2.0 MB of 8.0 MB, quiet hours until 18:00"
    told = [teller.line(event) for _ in range(3)]
    assert told == ["hashed: 2.0 MB of 8.0 MB", *["hashed: 2.0 MB of 8.0 MB, 0 B/s now"] * 2]
    assert _Teller().line(replace(event, is_paused=True)) == "hashed: 2.0 MB of 8.0 MB, paused"


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
    now = time.monotonic()
    screen = _Screen("collect", Console(as_json=False), "Ctrl-C: detach", started=now - 3600, sent=now - worked_s)
    for said in (0, percent):
        record = Record(
            Stream.PROGRESS, "", datetime.now(UTC), progress=Progress("Collecting", 0, f"role {said}", said)
        )
        screen.on_event(RecordArrived(run_id="", record=record))
    return drawn(screen)


def test_a_collection_shows_the_time_left_at_the_pace_so_far() -> None:
    assert "role 25 (25 %), at this pace about 5:00 left" in collecting(25, worked_s=100.0)


def test_a_collection_that_has_hardly_begun_promises_no_time() -> None:
    assert "left" not in collecting(2, worked_s=100.0)


def test_a_run_that_is_taken_over_counts_from_its_own_beginning() -> None:
    assert drawn(_attached()).splitlines()[0].rstrip() == "attach r  starting  4:00:00"
    screen = _attached()
    screen.on_event(StateChanged(run_id="r", state=RunState.RUNNING))
    screen.on_event(RecordArrived(run_id="r", record=said_percent(90)))
    assert "at this pace about 26:00 left" in drawn(screen)


def _attached() -> _Screen:
    """The screen of a run that began four hours ago and worked for all but six minutes of them."""
    now = time.monotonic()
    return _Screen("attach r", Console(as_json=False), KEYS, started=now - 4 * 3600, sent=now - 4 * 3600 + 360)


def said_percent(percent: int) -> Record:
    return Record(Stream.PROGRESS, "", datetime.now(UTC), progress=Progress("Collecting", 0, "role", percent))


def test_another_state_does_not_begin_the_pace_anew() -> None:
    screen = _attached()
    for state in (RunState.RUNNING, RunState.DETACHED, RunState.RUNNING):
        screen.on_event(StateChanged(run_id="r", state=state))
        screen.on_event(RecordArrived(run_id="r", record=said_percent(50)))
    assert "about 3:54:00 left" in drawn(screen)


def test_a_collection_that_is_asked_to_stop_shows_that_and_promises_nothing_else() -> None:
    asked: list[bool] = []
    screen = _Screen("collect", Console(as_json=False), KEYS, sent=0.0, stopping=lambda: bool(asked))
    screen.on_event(StateChanged(run_id="r", state=RunState.RUNNING))
    screen.on_event(RecordArrived(run_id="r", record=said_percent(50)))
    assert "left" in drawn(screen)
    asked.append(True)
    shown = drawn(screen)
    assert "running, stopping" in shown
    assert " left" not in shown
    assert KEYS not in shown
    screen.on_event(StateChanged(run_id="r", state=RunState.SEALING))
    assert "stopping" not in drawn(screen)


def test_what_the_endpoint_said_and_the_screen_cut_off_is_said_whole_when_the_screen_is_gone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "nobody was connected for a while: " + "the oldest records may be missing " * 5
    screen = _Screen("attach", Console(as_json=False), KEYS)
    for number in (0, 0, *range(15)):
        record = Record(Stream.WARNING, f"{long} {number}", datetime.now(UTC))
        screen.on_event(RecordArrived(run_id="r", record=record))
    assert long not in drawn(screen, width=80)
    screen.tell_what_was_cut()
    said = capsys.readouterr().err
    assert f"warning from the endpoint: {long} 0\n" in said
    assert said.count("nobody was connected") == 10
    assert "and 5 more" in said


def test_a_warning_that_stands_there_as_a_line_is_not_repeated_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=False)
    _Lines(console).on_event(Warned(run_id="r", text="the stamp has no such role"))
    console.warn_once("the stamp has no such role")
    console.warn_once("another one")
    assert capsys.readouterr().err.splitlines()[1:] == ["warning: the stamp has no such role", "warning: another one"]


def test_why_a_run_failed_is_told_once_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _Lines(Console(as_json=False))
    lines.on_event(StateChanged(run_id="r", state=RunState.FAILED, reason="no way to azs-ercs01"))
    assert capsys.readouterr().err.splitlines() == ["run r", "failed"]


def test_a_wait_for_a_stamp_says_once_until_when_and_that_nothing_is_started(
    capsys: pytest.CaptureFixture[str],
) -> None:
    until = datetime(2026, 11, 23, 18, 34, 37, tzinfo=UTC)
    cools = Waiting(run_id="r", reason="s is busy: a run was stopped; it cools down until 18:34:37Z", until=until)
    _Lines(Console(as_json=False)).on_event(cools)
    assert capsys.readouterr().err.count("18:34:37Z") == 1
    _Lines(Console(as_json=False)).on_event(replace(cools, reason="s is busy"))
    assert "(until 2026-11-23 18:34:37Z)" in capsys.readouterr().err

    screen = _Screen("collect", Console(as_json=False), KEYS)
    screen.on_event(StateChanged(run_id="r", state=RunState.PREFLIGHTED))
    screen.on_event(cools)
    shown = drawn(screen)
    assert "Ctrl-C: leave; nothing is started" in shown
    assert "detach" not in shown
    screen.on_event(StateChanged(run_id="r", state=RunState.LOCKED))
    assert KEYS in drawn(screen)
    screen.on_event(StateChanged(run_id="r", state=RunState.DETACHED))
    assert "leaving it running; Ctrl-C again: stop it" in drawn(screen)
