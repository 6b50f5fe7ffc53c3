"""What an operator types as a window, and what is refused with a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.collection import Window, parse_window
from bridge.errors import ExitCode, WindowError

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "until", "hours"),
    [
        (None, None, 4),
        ("4h", None, 4),
        ("90m", None, 1.5),
        ("1d12h", None, 36),
        ("-8h", "2h", 6),
        ("2w", "1w", 168),
        ("2026-11-23T10:00", None, 5),
        ("2026-11-23T10:00Z", "2026-11-23T13:00+01:00", 2),
        ("2026-11-23", "2026-11-23T04:00", 4),
    ],
)
def test_a_window_is_read_as_it_is_typed(since: str | None, until: str | None, hours: float) -> None:
    assert parse_window(since, until, tz=BERLIN, now=NOW).length == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("since", "until", "reason"),
    [
        ("2h", "4h", "not after"),
        ("now", None, "not after"),
        ("4h", "2026-11-23T15:30", "in the future"),
        ("2030-01-01", None, "not after"),
        ("yesterday", None, "is not a time"),
        ("", "h", "is not a time"),
        ("2026-10-25T02:30", "2026-10-25T06:00Z", "comes twice"),
        ("2026-03-29T02:30", "2026-03-29T06:00Z", "does not exist"),
        ("2026-10-24T20:00", "2026-10-25T06:00", "crosses a clock change"),
        ("99999999m99999w", None, "is not a time"),
    ],
)
def test_a_window_that_means_nothing_certain_is_refused(since: str, until: str | None, reason: str) -> None:
    with pytest.raises(WindowError, match=reason) as caught:
        parse_window(since, until, tz=BERLIN, now=NOW)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_window_across_a_clock_change_is_accepted_when_it_is_written_with_offsets() -> None:
    window = parse_window("2026-10-24T20:00+02:00", "2026-10-25T06:00+01:00", tz=BERLIN, now=NOW)
    assert window.length == timedelta(hours=11)


def test_the_advice_can_be_pasted() -> None:
    with pytest.raises(WindowError) as caught:
        parse_window("2026-10-25T02:30", None, tz=BERLIN, now=NOW)
    assert "2026-10-25T02:30:00+02:00" in str(caught.value.fields["fix"])
    assert "2026-10-25T02:30:00+01:00" in str(caught.value.fields["fix"])


def test_a_window_of_naive_times_cannot_be_made() -> None:
    with pytest.raises(WindowError, match="no time zone"):
        Window(datetime(2026, 1, 1), datetime(2026, 1, 2, tzinfo=UTC))  # noqa: DTZ001


@given(st.text(max_size=20), st.one_of(st.none(), st.text(max_size=20)))
def test_whatever_is_typed_gives_a_window_that_has_passed_or_a_reason(since: str, until: str | None) -> None:
    try:
        window = parse_window(since, until, tz=BERLIN, now=NOW)
    except WindowError:
        return
    assert window.since < window.until <= NOW
