"""A simulated week: the core of the watch collects exactly when it should, and at no other time."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.watch import Ended, Kind, Policy
from tests.support.watched_week import (
    CERTIFICATE,
    DISK,
    LOOK,
    MONDAY,
    NODE,
    UNLISTED,
    VM,
    Open,
    Started,
    Week,
    clock,
    hours,
)

DAY = timedelta(days=1)

# A node fails on Monday; others come while the watch cools down; Tuesday flaps; Wednesday warns; Thursday is bad.
THE_WEEK = (
    Open(NODE, 9.0, 13.0),  # Mon 09:00 to 13:00: collected at 09:30
    Open(VM, 10.0, 12.0),  # inside the cool-down (to Mon 13:50) and gone before it ends: never
    Open(DISK, 11.0, 20.0),  # inside the cool-down, and still there at its end: collected then
    *(Open(NODE, 24 + 8 + n * 0.5, 24 + 8 + n * 0.5 + 0.4, id="flapping") for n in range(20)),  # Tue: 24 min each
    Open(CERTIFICATE, 48.0, 96.0, severity="Warning"),  # Wed and Thu: a mere warning
    Open(UNLISTED, 48.0, 96.0),  # critical, and on no list
    Open(VM, 72 + 1.0, 72 + 1.45),  # Thu 01:00: 27 minutes
    *(Open(DISK, 96 + n * 4.5, 96 + n * 4.5 + 1.0) for n in range(6)),  # Fri: six alerts, a budget of three
    Open(NODE, 144 + 6.0, 200.0),  # Sun 06:00, and for the rest of the week: collected once
)
EXPECTED = [
    (clock("Mon 09:30"), 1),
    (clock("Mon 13:50"), 1),
    (clock("Fri 00:30"), 1),
    (clock("Fri 05:00"), 1),
    (clock("Fri 09:30"), 1),
    (clock("Sun 06:30"), 1),
]


def moments(started: list[Started]) -> list[tuple[object, int]]:
    return [(each.at, len(each.alerts)) for each in started]


def test_the_week_brings_exactly_these_collections() -> None:
    assert moments(Week(Policy(), THE_WEEK).run()) == EXPECTED


def test_a_process_that_is_restarted_again_and_again_decides_the_same() -> None:
    assert moments(Week(Policy(), THE_WEEK, restarts=range(0, 10_000, 7)).run()) == EXPECTED


def test_a_collection_asks_for_the_hours_before_it() -> None:
    first = Week(Policy(window=timedelta(hours=2)), THE_WEEK).run()[0]
    assert (first.since, first.until) == (clock("Mon 07:30"), clock("Mon 09:30"))


def test_alerts_that_persist_together_are_answered_by_one_collection() -> None:
    started = Week(Policy(), [Open(NODE, 1, 5), Open(VM, 1, 5)], length=DAY).run()
    assert moments(started) == [(clock("Mon 01:30"), 2)]


def test_an_alert_that_was_there_before_the_first_look_counts_from_when_it_was_raised() -> None:
    assert moments(Week(Policy(), [Open(NODE, -5, 5)], length=DAY).run()) == [(MONDAY, 1)]


def test_an_alert_that_comes_back_under_its_old_id_and_old_time_starts_anew() -> None:
    again = [Open(NODE, first, last, id="x", raised_h=1) for first, last in ((1, 1.3), (1.5, 1.9), (2.1, 9))]
    assert moments(Week(Policy(), again, length=DAY).run()) == [(clock("Mon 02:40"), 1)]  # seen again at 02:10


def test_nothing_is_collected_for_an_alert_while_health_is_unknown_and_the_alert_is_not_forgotten() -> None:
    week = Week(Policy(), [Open(NODE, 1, 9)], blind=lambda at: hours(1.2) < at < hours(3), length=DAY)
    assert moments(week.run()) == [(hours(3), 1)]


def test_a_budget_of_nothing_collects_nothing_for_alerts() -> None:
    assert Week(Policy(daily_budget=0), THE_WEEK).run() == []


def test_a_collection_that_failed_is_tried_again_with_growing_pauses_until_the_budget_is_used_up() -> None:
    week = Week(Policy(), [Open(NODE, 1, 100)], fate=lambda _number: Ended.FAILED, length=DAY)
    pauses = [later.at - earlier.at for earlier, later in pairwise(week.run())]
    assert len(week.started) == 3
    assert pauses == [timedelta(minutes=25), timedelta(minutes=30)]  # 20 min of work, then 5 and 10


def test_a_stamp_that_cannot_be_reached_is_tried_each_hour_and_uses_no_budget() -> None:
    fates = [Ended.NOT_STARTED] * 8 + [Ended.COLLECTED]
    week = Week(Policy(), [Open(NODE, 1, 100)], takes=timedelta(minutes=5), fate=lambda n: fates[n - 1], length=DAY)
    week.run()
    assert len(week.started) == 9
    assert week.started[-1].at - week.started[-2].at == timedelta(minutes=65)


def test_the_rolling_offload_covers_the_week_without_a_gap() -> None:
    started = Week(Policy(offload=timedelta(hours=8)), ()).run()
    assert [each.kind for each in started] == [Kind.OFFLOAD] * len(started)
    assert len(started) == 21
    for earlier, later in pairwise(started):
        assert later.since == earlier.until
        assert later.at - earlier.at <= timedelta(hours=8) + LOOK


def test_after_a_long_absence_the_offload_takes_the_last_period_and_not_days() -> None:
    policy = Policy(offload=timedelta(hours=8))
    week = Week(policy, (), fate=lambda n: Ended.COLLECTED if n != 2 else Ended.FAILED)
    week.takes = timedelta(hours=20)
    assert all(each.until - each.since <= timedelta(hours=16) for each in week.run())


def test_an_alert_goes_before_an_offload_and_neither_uses_the_others_budget() -> None:
    started = Week(Policy(offload=timedelta(hours=8), daily_budget=1), [Open(NODE, 0, 20)], length=DAY).run()
    assert [each.kind for each in started].count(Kind.ALERT) == 1
    assert [each.kind for each in started].count(Kind.OFFLOAD) == 3


TIMELINES = st.lists(
    st.builds(
        lambda fault, start, length, severity, number: Open(
            fault, start / 12, (start + length) / 12, f"{fault}/{number}", severity
        ),
        st.sampled_from([NODE, VM, DISK, CERTIFICATE, UNLISTED]),
        st.integers(0, 300),
        st.integers(1, 200),
        st.sampled_from(["Critical", "Critical", "Warning", ""]),
        st.integers(0, 3),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    TIMELINES,
    st.integers(0, 4),
    st.sampled_from([0, 30, 60, 240]),
    st.lists(st.sampled_from(list(Ended)[:3]), min_size=1, max_size=5),
    st.sets(st.integers(0, 300), max_size=20),
)
def test_whatever_happens_no_collection_is_too_early_too_soon_or_too_many(
    alerts: list[Open], budget: int, cool_down_minutes: int, fates: list[Ended], restarts: set[int]
) -> None:
    policy = Policy(daily_budget=budget, cool_down=timedelta(minutes=cool_down_minutes))
    week = Week(
        policy, alerts, fate=lambda n: fates[n % len(fates)], restarts=restarts, length=timedelta(days=1, hours=12)
    )
    started = week.run()
    by_key: dict[str, list[Open]] = {}
    for alert in alerts:
        by_key.setdefault(alert.key, []).append(alert)
    for each in started:
        assert each.alerts
        for key in each.alerts:
            for minutes in range(0, 31, 5):  # there at every look of the last half hour
                at = each.at - timedelta(minutes=minutes)
                assert at < MONDAY or any(alert.is_there(at) for alert in by_key[key])
            assert all(alert.fault != UNLISTED for alert in by_key[key])
            assert any(
                alert.severity == "Critical" or (not alert.severity and alert.fault != CERTIFICATE)
                for alert in by_key[key]
            )
    counted = [each.at for number, each in enumerate(started, 1) if fates[number % len(fates)] is not Ended.NOT_STARTED]
    for at in counted:
        assert sum(at - DAY < other <= at for other in counted) <= budget
    collected = [each.at for number, each in enumerate(started, 1) if fates[number % len(fates)] is Ended.COLLECTED]
    for earlier in collected:
        assert not any(earlier < each.at < earlier + week.takes + policy.cool_down for each in started)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TIMELINES, st.sets(st.integers(0, 300), max_size=40))
def test_restarts_change_nothing(alerts: list[Open], restarts: set[int]) -> None:
    length = timedelta(days=1)
    assert Week(Policy(), alerts, restarts=restarts, length=length).run() == Week(Policy(), alerts, length=length).run()


@pytest.mark.parametrize("fault", [NODE, VM, DISK])
@pytest.mark.parametrize("start", [0.0, 3.01, 7.7])
def test_a_listed_alert_that_stays_is_always_answered_within_one_look_of_half_an_hour(fault: str, start: float) -> None:
    started = Week(Policy(), [Open(fault, start, start + 2)], length=DAY).run()
    assert len(started) == 1
    assert timedelta(minutes=30) <= started[0].at - hours(start) < timedelta(minutes=30) + LOOK
