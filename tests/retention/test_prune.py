"""Pruning a folder, a share and a container: only what is whole elsewhere goes, and nothing half is left."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.bundle import bundle_name, read_bundle, seal
from bridge.collection import Journal
from bridge.errors import ExitCode, NotABundleError, StoreError, StoreUnreachableError
from bridge.retention import Elsewhere, Limits, Pruned, find_bundles, find_half_removed, prune
from bridge.store import FolderStore, Store, open_store, parse_destination
from tests.support.azurite import Azurite
from tests.support.bundles import DOCUMENTS, INFO, PAYLOAD, digests_of, write_file
from tests.support.command_line import run
from tests.support.samba import Samba

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)
MONTH = Limits(age=timedelta(days=30))


@pytest.fixture(params=["folder", "share", "container"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store
    if request.param == "folder":
        store = FolderStore(tmp_path / "place")
    elif request.param == "share":
        samba: Samba = request.getfixturevalue("samba")
        url = samba.url("bundles") + f"/prune-{os.getpid()}-{tmp_path.name}"
        store = open_store(parse_destination(url), credential=samba.credential)
    else:
        azurite: Azurite = request.getfixturevalue("azurite")
        container = azurite.new_container()
        store = open_store(parse_destination(azurite.container_url(container)), sas=azurite.sas(container, "racwdl"))
    yield store
    store.close()


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return FolderStore(tmp_path / "other")


def put(store: Store, days_old: float, *, complete: bool = True, stamp: str = "east") -> str:
    """A sealed bundle of so many days ago; its name."""
    started = NOW - timedelta(days=days_old)
    name = bundle_name(stamp, started, "00c0ffee")
    info = replace(INFO, stamp=stamp, bundle_name=name, started=started)
    bundle = store.at(name)
    for path, content in PAYLOAD.items():
        write_file(bundle, path, content)
    documents = {**DOCUMENTS, "coverage.json": json.dumps({"complete": complete}).encode()}
    seal(bundle, digests=digests_of(), documents=documents, info=info)
    return name


def looking_at(*others: Store) -> Elsewhere:
    stores = {store.location: store for store in others}
    return Elsewhere(lambda _name: list(stores), lambda where: _opened(stores[where]))


def _opened(store: Store) -> Store:
    return FolderStore(store.location) if isinstance(store, FolderStore) else store


def pruned(place: Store, *others: Store, limits: Limits = MONTH, force: bool = False, act: bool = True) -> Pruned:
    return prune(place, limits, now=NOW, elsewhere=looking_at(*others), force=force, act=act)


def names(store: Store) -> list[str]:
    return [held.name for held in find_bundles(store)]


def test_an_old_bundle_with_a_whole_copy_elsewhere_goes_to_its_last_file(place: Store, other: Store) -> None:
    old, young = put(place, 40), put(place, 1)
    put(other, 40)
    done = pruned(place, other)
    assert (done.removed, done.errors) == ((old,), ())
    assert names(place) == [young]
    assert [entry.path for entry in place.list() if not entry.path.startswith(young)] == []
    if isinstance(place, FolderStore):
        assert not (place.root / old).exists()


def test_a_dry_run_says_the_same_and_removes_nothing(place: Store, other: Store) -> None:
    old, young = put(place, 40), put(place, 1)
    put(other, 40)
    done = pruned(place, other, act=False)
    assert [verdict.held.name for verdict in done.going] == [old]
    assert done.removed == ()
    assert names(place) == [old, young]


def test_a_bundle_without_a_copy_stays_unless_it_is_forced(place: Store) -> None:
    old, young = put(place, 40), put(place, 1)
    done = pruned(place)
    assert done.removed == ()
    assert [verdict.kept_because for verdict in done.verdicts] == ["no copy is known elsewhere", None]
    assert pruned(place, force=True).removed == (old,)
    assert names(place) == [young]


def test_the_last_good_bundle_stays_even_when_it_is_forced(place: Store) -> None:
    older, whole, damaged = put(place, 50), put(place, 40), put(place, 35)
    place.remove(next(entry.path for entry in place.list(f"{damaged}/data")))
    assert set(pruned(place, force=True).removed) == {older, damaged}
    assert names(place) == [whole]


def test_a_removal_that_was_cut_short_leaves_no_bundle_and_is_finished_by_the_next(
    place: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, young = put(place, 40), put(place, 1)
    removed: list[str] = []
    real = type(place).remove

    def fails_after_two(self: Store, path: str) -> None:
        if len(removed) == 2:
            raise StoreUnreachableError(store=self.location, detail="cut")
        removed.append(path)
        real(self, path)

    monkeypatch.setattr(type(place), "remove", fails_after_two)
    done = pruned(place, force=True)
    assert done.removed == ()
    assert [type(error) for error in done.errors] == [StoreUnreachableError]
    assert removed[0] == f"{old}/bagit.txt"
    monkeypatch.undo()
    with pytest.raises(NotABundleError):
        read_bundle(place.at(old))
    assert names(place) == [young]
    again = pruned(place, force=True)
    assert again.finished == (old,)
    assert find_half_removed(place) == ()
    assert [entry.path for entry in place.list(old)] == []


# -- what counts as a copy (on folders, where it is quick) -------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "here")


def why_kept(done: Pruned, name: str) -> str:
    return next(verdict.kept_because or "" for verdict in done.verdicts if verdict.held.name == name)


def test_a_copy_that_lacks_a_file_is_none(here: FolderStore, other: Store) -> None:
    old, _ = put(here, 40), put(here, 1)
    put(other, 40)
    other.remove(next(entry.path for entry in other.list(f"{old}/data")))
    assert "does not verify" in why_kept(pruned(here, other), old)
    assert old in names(here)


def test_a_copy_whose_bytes_changed_is_found_where_every_byte_is_read(here: FolderStore, tmp_path: Path) -> None:
    other = FolderStore(tmp_path / "other")
    old, _ = put(here, 40), put(here, 1)
    put(other, 40)
    file = next(path for path in (tmp_path / "other" / old / "data").rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(bytes(content))
    careful = replace(looking_at(other), every_byte=True)
    done = prune(here, MONTH, now=NOW, elsewhere=careful, act=True)
    assert "does not verify" in why_kept(done, old)


def test_another_bundle_of_that_name_is_no_copy(here: FolderStore, other: Store) -> None:
    old, _ = put(here, 40), put(here, 1)
    put(other, 40, complete=False)
    assert "another bundle" in why_kept(pruned(here, other), old)


def test_the_same_place_by_another_address_is_no_copy(here: FolderStore, tmp_path: Path) -> None:
    old, _ = put(here, 40), put(here, 1)
    (tmp_path / "alias").symlink_to(tmp_path / "here")
    done = pruned(here, FolderStore(tmp_path / "alias"))
    assert done.removed == ()
    assert "same place" in why_kept(done, old)
    assert "same place" in why_kept(pruned(here, FolderStore(tmp_path / "alias"), act=False), old)
    assert old in names(here)
    assert find_half_removed(here) == ()


def test_the_same_share_by_another_name_of_its_server_is_no_copy(samba: Samba, tmp_path: Path) -> None:
    url = samba.url("bundles") + f"/prune-{os.getpid()}-{tmp_path.name}"
    with ExitStack() as stores:
        here, there = (
            stores.enter_context(closing(open_store(parse_destination(each), credential=samba.credential)))
            for each in (url, url.replace("127.0.0.1", "localhost"))
        )
        old, _ = put(here, 40), put(here, 1)
        done = pruned(here, there)
        assert done.removed == ()
        assert "only copy" in why_kept(done, old)
        assert old in names(here)


def test_a_copy_that_lies_in_the_bundle_itself_is_none(here: FolderStore, tmp_path: Path) -> None:
    old, _ = put(here, 40), put(here, 1)
    copied = tmp_path / "copy"
    shutil.copytree(tmp_path / "here" / old, copied)
    shutil.move(copied, tmp_path / "here" / old / old)
    done = pruned(here, FolderStore(tmp_path / "here" / old))
    assert done.removed == ()
    assert "same place" in why_kept(done, old)


def test_a_place_that_cannot_be_opened_proves_nothing(here: FolderStore) -> None:
    old, _ = put(here, 40), put(here, 1)

    def closed(where: str) -> Store:
        raise StoreUnreachableError(store=where, detail="no route")

    done = prune(here, MONTH, now=NOW, elsewhere=Elsewhere(lambda _name: ["nas"], closed), act=True)
    assert "no route" in why_kept(done, old)
    assert old in names(here)


def test_a_folder_that_is_no_bundle_is_never_touched(here: FolderStore, tmp_path: Path) -> None:
    put(here, 1)
    unsealed = tmp_path / "here" / bundle_name("east", NOW - timedelta(days=90), "00c0ffee")
    for folder in (
        unsealed,
        tmp_path / "here" / "holiday photos",
        tmp_path / "here" / "east-20260230T000000Z-00c0ffee",
    ):
        folder.mkdir()
        (folder / "data.txt").write_text("mine")
    (tmp_path / "here" / "holiday photos" / "bagit.txt").write_text("mine")
    (tmp_path / "here" / "east-20260230T000000Z-00c0ffee" / "bagit.txt").write_text("mine")
    before = sorted(tmp_path.joinpath("here").rglob("*"))
    pruned(here, force=True)
    assert sorted(path for path in tmp_path.joinpath("here").rglob("*") if ".pep-bridge" not in path.parts) == before


def test_an_old_mark_of_a_bundle_that_was_brought_back_does_not_remove_it(here: FolderStore) -> None:
    back = put(here, 1)
    with here.open_write(f".pep-bridge/removing/{back}", 0) as writer:
        writer.commit()
    pruned(here, force=True)
    assert names(here) == [back]
    assert find_half_removed(here) == ()


def test_half_written_files_go_with_their_bundle(here: FolderStore, tmp_path: Path) -> None:
    old, _ = put(here, 40), put(here, 1)
    with here.open_resume(f"{old}/data/half.zip", 0) as writer:
        writer.write(b"personal")
    assert pruned(here, force=True).removed == (old,)
    assert not (tmp_path / "here" / old).exists()


def test_a_newer_partial_bundle_does_not_take_the_place_of_the_last_complete_one(here: FolderStore) -> None:
    complete, partial = put(here, 50), put(here, 40, complete=False)
    assert pruned(here, force=True).removed == (partial,)
    assert names(here) == [complete]


# -- the command line --------------------------------------------------------------------------------------------------


def test_prune_finds_copies_by_the_journal_of_deliveries_and_acts_only_with_yes(tmp_path: Path) -> None:
    here, there = FolderStore(tmp_path / "here"), FolderStore(tmp_path / "there")
    old, _ = put(here, 40), put(here, 1)
    put(there, 40)
    with Journal(tmp_path / "state") as journal:
        journal.note_delivery(old, str(tmp_path / "there" / old), "done")
    config = tmp_path / "config.toml"
    config.write_text(f"[destinations.drop]\nlocation = '{tmp_path / 'here'}'\n[retention]\nolder_than = '30d'\n")
    command = ("--config", str(config), "--state-dir", str(tmp_path / "state"), "prune", "drop")
    dry = run(*command)
    assert dry.returncode == ExitCode.OK, dry.stderr
    assert f"would go    {old}" in dry.stdout
    assert "--yes" in dry.stderr
    assert len(names(here)) == 2
    done = run(*command, "--yes", "--json")
    assert done.data["removed"] == [old]
    assert len(names(here)) == 1


def test_prune_without_a_limit_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    done = run("--config", str(config), "--state-dir", str(tmp_path), "prune", str(tmp_path))
    assert done.returncode == ExitCode.USAGE
    assert "--older-than" in done.stderr


def test_what_cannot_be_listed_is_an_error_and_not_an_empty_place(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.close()
    with pytest.raises(StoreError):
        pruned(store)
