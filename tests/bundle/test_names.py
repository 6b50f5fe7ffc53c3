"""The names of bundles: folders and ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from bridge.bundle import bundle_name, format_bundle_id, parse_bundle_id
from bridge.errors import UsageError

START = datetime(2026, 3, 29, 3, 30, 15, tzinfo=timezone(timedelta(hours=2)))
ID = "0123456789abcdef" * 4


def test_a_bundle_is_named_after_stamp_utc_start_and_token() -> None:
    assert bundle_name("west", START, "1a2b3c4d") == "west-20260329T013015Z-1a2b3c4d"


@pytest.mark.parametrize("stamp", ["../../etc", "a/b\\c", "con:", "weiß ☃", "", "..", "x" * 500])
def test_no_stamp_name_makes_an_unsafe_folder(stamp: str) -> None:
    name = bundle_name(stamp, START, "1a2b3c4d")
    assert "/" not in name
    assert name.isascii()
    assert name.endswith("-20260329T013015Z-1a2b3c4d")


def test_a_naive_start_and_a_foreign_token_are_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        bundle_name("west", START.replace(tzinfo=None), "1a2b3c4d")
    with pytest.raises(ValueError, match="eight"):
        bundle_name("west", datetime(2026, 1, 1, tzinfo=UTC), "../../..")


def test_an_id_is_read_out_in_groups_and_understood_in_any_grouping() -> None:
    spoken = format_bundle_id(ID)
    assert spoken.split() == ["0123", "4567", "89ab", "cdef"] * 4
    for heard in (spoken, spoken.upper(), spoken.replace(" ", "-"), f" {ID}\n", ID):
        assert parse_bundle_id(heard) == ID


@pytest.mark.parametrize("text", ["", ID[:-1], ID + "0", "g" * 64])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a bundle id"):
        parse_bundle_id(text)
