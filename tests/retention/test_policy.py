"""Which bundles go: limits by age, count and size, and what stays whatever they say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UsageError
from bridge.retention import Held, Limits, Verdict, judge

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def held(days_old: float, size_bytes: int = 10, stamp: str = "east") -> Held:
    started = NOW - timedelta(days=days_old)
    return Held(f"{stamp}-{started:%Y%m%dT%H%M%SZ}-{size_bytes:08x}", stamp, started, 3, size_bytes)


def gone(
    bundles: list[Held], limits: Limits, kept: Mapping[str, str] | None = None, last: Mapping[str, str] | None = None
) -> list[Held]:
    verdicts = judge(
        bundles, limits, now=NOW, last_good=last or {}, kept_because=lambda bundle: (kept or {}).get(bundle.name)
    )
    assert sorted(verdict.held.name for verdict in verdicts) == sorted(bundle.name for bundle in bundles)
    return [verdict.held for verdict in verdicts if verdict.goes]


def test_only_what_is_older_goes() -> None:
    old, edge, young = held(31), held(30), held(1)
    assert gone([young, edge, old], Limits(age=timedelta(days=30))) == [old]


def test_the_newest_of_each_stamp_are_counted_by_themselves() -> None:
    east, west = [held(n) for n in (1, 2, 3)], [held(n, stamp="west") for n in (4, 5)]
    assert gone([*east, *west], Limits(count=1)) == [west[1], east[2], east[1]]


def test_the_oldest_go_until_the_rest_fits_and_no_more() -> None:
    bundles = [held(n, size_bytes=10) for n in (1, 2, 3, 4)]
    assert gone(bundles, Limits(size_bytes=25)) == [bundles[3], bundles[2]]


def test_one_that_must_stay_still_takes_its_space_so_the_next_oldest_goes() -> None:
    bundles = [held(n, size_bytes=10) for n in (1, 2, 3, 4)]
    assert gone(bundles, Limits(size_bytes=25), kept={bundles[3].name: "no copy"}) == [bundles[2], bundles[1]]


def test_what_age_takes_counts_before_size_takes_more() -> None:
    bundles = [held(n, size_bytes=10) for n in (1, 2, 40)]
    assert gone(bundles, Limits(age=timedelta(days=30), size_bytes=20)) == [bundles[2]]


def test_the_last_good_one_stays_and_says_so() -> None:
    only = held(400)
    [verdict] = judge([only], Limits(count=1, age=timedelta(days=1)), now=NOW, last_good={"east": only.name},
                      kept_because=lambda _bundle: None)  # fmt: skip
    assert verdict == Verdict(only, "it is older than 1 days", "it is the last good one of east")


def test_another_store_is_asked_only_about_bundles_that_are_over_a_limit() -> None:
    asked: list[str] = []
    bundles = [held(1), held(50)]
    judge(
        bundles,
        Limits(age=timedelta(days=30)),
        now=NOW,
        last_good={},
        kept_because=lambda bundle: asked.append(bundle.name),
    )
    assert asked == [bundles[1].name]


@pytest.mark.parametrize("limits", [{}, {"count": 0}, {"size_bytes": 0}, {"age": timedelta(days=-1)}])
def test_limits_that_are_none_or_take_everything_are_refused(limits: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Limits(**limits)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 50), st.sampled_from(["east", "west"])), max_size=12),
    st.none() | st.integers(1, 60),
    st.integers(1, 6),
    st.none() | st.integers(1, 300),
    st.sets(st.integers(0, 11)),
)
def test_what_goes_is_over_a_limit_and_what_may_go_does_not_leave_too_much(
    shapes: list[tuple[int, int, str]], days: int | None, count: int, size_bytes: int | None, kept: set[int]
) -> None:
    bundles = list({each.name: each for each in (held(*shape) for shape in shapes)}.values())
    limits = Limits(age=timedelta(days=days) if days else None, count=count, size_bytes=size_bytes)
    must_stay = {bundles[number].name: "no copy" for number in kept if number < len(bundles)}
    last = {each.stamp: each.name for each in sorted(bundles, key=lambda each: each.started)}
    went = gone(bundles, limits, must_stay, last)
    stay = [each for each in bundles if each not in went]
    assert not {each.name for each in went} & ({*must_stay} | {*last.values()})
    free_to_go = [each for each in stay if each.name not in must_stay and last[each.stamp] != each.name]
    if free_to_go and size_bytes is not None:
        assert sum(each.size_bytes for each in stay) <= size_bytes
    for each in free_to_go:
        assert days is None or each.started >= NOW - timedelta(days=days)
