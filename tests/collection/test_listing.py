"""The list of a bundle's files lies on a disk, which may be full."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.collection._listing import Listing
from bridge.errors import ExitCode, StoreFullError
from bridge.store.transfer import TransferItem

NAMES = [f"data/{number:06}.log" for number in range(20_000)]


def promise(listing: Listing) -> None:
    listing.promise((name, "0" * 64) for name in NAMES)


def find(listing: Listing) -> None:
    for name in NAMES:
        listing.find(TransferItem(name, 1))


@pytest.mark.parametrize("fill", [promise, find])
def test_a_temporary_folder_without_space_is_told_as_that(fill: Callable[[Listing], None]) -> None:
    with Listing() as listing:
        listing._database.run("PRAGMA max_page_count = 20")  # SQLite says of it what it says of a full disk
        with pytest.raises(StoreFullError, match="full") as caught:
            fill(listing)
    assert caught.value.exit_code is ExitCode.NO_SPACE
