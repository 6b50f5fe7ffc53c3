"""The retention inside a watch: pieces of its own rolling offload go, whatever else lies beside them stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.bundle import bundle_name, seal
from bridge.collection import Journal, RunState, Trigger
from bridge.errors import StoreError, StoreUnreachableError
from bridge.retention import Limits, Pruned, find_bundles
from bridge.settings import RetentionPreferences
from bridge.store import FolderStore, Store
from bridge.watch import read_offload_limits, tidy_offload
from tests.support.bundles import DOCUMENTS, INFO, PAYLOAD, digests_of, write_file
from tests.support.runs import make_request

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)
WEEK = Limits(age=timedelta(days=7))


class Place:
    """A folder with sealed bundles, and a journal that knows where some of them are from."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "state"
        self.state_dir.mkdir()
        self.store = FolderStore(folder / "nas")
        self.request = make_request(self.store.root)

    def put(self, days_old: float, trigger: Trigger | None, *, to: Path | None = None, stamp: str = "azs-sim") -> str:
        """A sealed bundle of so many days ago, and the run that it is from; ``None``: a bundle of another machine."""
        started = NOW - timedelta(days=days_old)
        name = bundle_name(stamp, started, "00c0ffee")
        bundle = self.store.at(name)
        for path, content in PAYLOAD.items():
            write_file(bundle, path, content)
        info = replace(INFO, stamp=stamp, bundle_name=name, started=started)
        seal(bundle, digests=digests_of(), documents={**DOCUMENTS, "coverage.json": b'{"complete": true}'}, info=info)
        if trigger is not None:
            request = make_request(to or self.store.root, trigger=trigger)
            request = replace(request, stamp=replace(request.stamp, name=stamp))
            with Journal(self.state_dir) as journal:
                journal.create(name, request, name, at=started)
                journal.move(name, RunState.FAILED)  # how it ended is no matter: the bundle is there
        return name

    def tidy(self, limits: Limits = WEEK) -> Pruned:
        return tidy_offload(
            self.request, limits, state_dir=self.state_dir, open_store=lambda: FolderStore(self.store.root), now=NOW
        )

    @property
    def names(self) -> set[str]:
        return {held.name for held in find_bundles(self.store)}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_old_piece_of_the_offload_goes_without_a_copy_elsewhere(place: Place) -> None:
    old, young = place.put(8, "offload"), place.put(1, "offload")
    done = place.tidy()
    assert (done.removed, done.errors) == ((old,), ())
    assert place.names == {young}


@pytest.mark.parametrize(
    "put_beside",
    [
        lambda place, _folder: place.put(9, "manual"),
        lambda place, _folder: place.put(9, "proactive"),
        lambda place, _folder: place.put(9, None),
        lambda place, _folder: (place.put(1, "offload", stamp="west"), place.put(9, "offload", stamp="west"))[1],
        lambda place, folder: place.put(9, "offload", to=folder / "elsewhere"),
    ],
    ids=["asked for", "for an alert", "of another machine", "of another stamp", "collected to another place"],
)
def test_a_bundle_that_is_no_piece_of_this_offload_stays_however_old_it_is(
    place: Place, tmp_path: Path, put_beside: Callable[[Place, Path], str]
) -> None:
    precious = put_beside(place, tmp_path)
    old, young = place.put(8, "offload"), place.put(1, "offload")
    assert place.tidy().removed == (old,)
    assert {precious, young} <= place.names


def test_other_bundles_do_not_use_up_the_count_of_the_offload(place: Place) -> None:
    asked = {place.put(hours / 24, "manual") for hours in (1, 2, 3)}
    oldest, *kept = [place.put(days, "offload") for days in (3, 2, 1)]
    assert place.tidy(Limits(count=2)).removed == (oldest,)
    assert place.names == asked | set(kept)


def test_the_newest_piece_stays_where_it_is_the_last_good_bundle_of_the_stamp(place: Place) -> None:
    place.put(20, "offload")
    newest = place.put(10, "offload")
    place.tidy()
    assert place.names == {newest}


def test_a_destination_that_cannot_be_opened_is_told_and_nothing_goes(place: Place) -> None:
    old = place.put(8, "offload")

    def cannot_be_opened() -> Store:
        raise StoreUnreachableError(store="nas", detail="nobody answers")

    with pytest.raises(StoreError):
        tidy_offload(place.request, WEEK, state_dir=place.state_dir, open_store=cannot_be_opened, now=NOW)
    assert place.names == {old}


def test_without_any_limit_nothing_is_tidied_and_an_option_goes_over_the_configuration() -> None:
    assert read_offload_limits(RetentionPreferences()) is None
    configured = RetentionPreferences(older_than="30d", max_size="500GB")
    assert read_offload_limits(configured) == Limits(age=timedelta(days=30), size_bytes=500 * 10**9)
    assert read_offload_limits(configured, keep=3) == Limits(count=3)
