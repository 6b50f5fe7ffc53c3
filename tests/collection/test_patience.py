"""What is configured of a run's patience."""

from __future__ import annotations

import pytest

from bridge.collection import Settings, read_settings
from bridge.errors import UsageError
from bridge.settings import CollectionPreferences
from bridge.store.transfer import TransferSettings

TRANSFER = TransferSettings(connections=3)


def test_who_configures_nothing_has_the_patience_of_the_library() -> None:
    assert read_settings(CollectionPreferences(), TRANSFER) == Settings(transfer=TRANSFER)


def test_how_long_the_output_must_be_still_can_be_said_for_each_end() -> None:
    found = read_settings(CollectionPreferences(settle="2m", settle_after_stop="5s"), TRANSFER)
    assert (found.settle_s, found.after_stop_s) == (120, 5)


@pytest.mark.parametrize("wrong", [CollectionPreferences(settle="soon"), CollectionPreferences(settle_after_stop="0s")])
def test_what_is_no_span_of_time_is_refused(wrong: CollectionPreferences) -> None:
    with pytest.raises(UsageError, match="is not a span of time"):
        read_settings(wrong, TRANSFER)
