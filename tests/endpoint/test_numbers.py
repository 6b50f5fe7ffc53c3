"""What the numbers of messages tell: what is missing, what went elsewhere, and when nothing can be said."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bridge.endpoint._numbers import MessageNumbers


def missing(numbers: MessageNumbers, came: Iterable[int]) -> int:
    return sum(numbers.missing_before(number) for number in came)


def test_the_numbers_of_a_windows_host_that_was_left_and_connected_to_lack_nothing() -> None:
    """Recorded of Windows PowerShell 5.1: 5 and 6 in the answer to Connect, 7 on the pool."""
    numbers = MessageNumbers(received=3, in_answer=(5, 6))
    assert missing(numbers, [4, 8, 9, 10]) == 0
    assert numbers.received == 10


def test_what_the_host_dropped_is_counted_and_what_it_sent_elsewhere_is_not() -> None:
    assert missing(MessageNumbers(received=10, in_answer=(101, 102)), [61, *range(62, 101), 104, 105]) == 50
    assert missing(MessageNumbers(received=10, in_answer=(101, 102)), [104, 105]) == 90


def test_a_hole_among_what_had_waited_is_counted_too() -> None:
    assert missing(MessageNumbers(received=10, in_answer=(30, 31)), [11, 12, 20, 21]) == 7


def test_a_record_that_came_between_the_answer_and_the_pools_own_message_is_no_hole() -> None:
    numbers = MessageNumbers(received=3, in_answer=(4, 6))
    assert missing(numbers, [5, 7, 9, 10]) == 0
    assert numbers.received == 10


def test_a_host_that_repeats_its_opening_took_no_number_for_the_answer() -> None:
    numbers = MessageNumbers(received=12, in_answer=(1, 1 << 62))
    assert missing(numbers, [13, 14]) == 0
    assert numbers.received == 14
    assert missing(MessageNumbers(received=12, in_answer=(1, 1 << 62)), [20, 21]) == 7


def test_who_does_not_know_how_far_the_records_came_says_nothing_but_knows_it_afterwards() -> None:
    numbers = MessageNumbers(in_answer=(20, 21))
    assert missing(numbers, [15, 16, 17, 18, 19, 23, 24]) == 0
    assert numbers.received == 24


@pytest.mark.parametrize("came", [[], [4], [4, 5]])
def test_who_leaves_before_the_answers_own_numbers_have_passed_does_not_know_it(came: list[int]) -> None:
    numbers = MessageNumbers(in_answer=(6, 7))
    assert missing(numbers, came) == 0
    assert numbers.received is None


def test_a_host_whose_numbers_jump_while_it_is_listened_to_is_not_judged_by_them() -> None:
    """As where several sessions share one process."""
    numbers = MessageNumbers()
    assert missing(numbers, [4, 5, 9, 10]) == 0
    assert numbers.received is None


def test_what_comes_again_or_late_is_no_hole() -> None:
    numbers = MessageNumbers(received=5)
    assert missing(numbers, [6, 6, 5, 7]) == 0
    assert numbers.received == 7
