"""One payload in a folder, on a share and in a container: one bundle, sealed, read and verified in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.bundle import FindingKind, SealedBundle, Unhashed, Verdict, read_bundle, seal, verify
from bridge.errors import SealingError, StoreFullError
from bridge.store import FolderStore, Store, open_store, parse_destination
from tests.support.azurite import Azurite
from tests.support.bundles import DOCUMENTS, INFO, LOGS, PAYLOAD, digests_of, write_file
from tests.support.samba import Samba

STORAGE = f"{LOGS}/Storage-AzS-ERCS01.zip"


@pytest.fixture(params=["folder", "share", "container"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        store: Store = FolderStore(tmp_path / "place")
    elif request.param == "share":
        samba: Samba = request.getfixturevalue("samba")
        store = open_store(parse_destination(samba.url("bundles")), credential=samba.credential)
    else:
        azurite: Azurite = request.getfixturevalue("azurite")
        container = azurite.new_container()
        store = open_store(parse_destination(azurite.container_url(container)), sas=azurite.sas(container))
    yield store.at(f"bundle-{tmp_path.name}")
    store.close()


def seal_in(store: Store) -> SealedBundle:
    for path, content in PAYLOAD.items():
        write_file(store, path, content)
    return seal(store, digests=digests_of(), documents=DOCUMENTS, info=INFO)


def test_the_bundle_is_the_same_in_every_store(place: Store, tmp_path: Path) -> None:
    here = seal_in(FolderStore(tmp_path / "here"))
    there = seal_in(place)
    assert there == here
    assert sorted(entry.path for entry in place.list()) == sorted(
        entry.path for entry in FolderStore(tmp_path / "here").list()
    )
    assert read_bundle(place).bundle_id == here.bundle_id
    for fast in (False, True):
        report = verify(place, fast=fast)
        assert (report.verdict, report.bundle_id) == (Verdict.VERIFIED, here.bundle_id)


def test_a_changed_a_missing_and_an_added_file_are_named_in_every_store(place: Store) -> None:
    seal_in(place)
    changed = bytearray(PAYLOAD[STORAGE])
    changed[17] ^= 0x10
    write_file(place, STORAGE, bytes(changed))
    place.remove(f"{LOGS}/SeedRing-AzS-ERCS01.zip")
    write_file(place, f"{LOGS}/added.zip", b"x")
    found = {(finding.kind, finding.path) for finding in verify(place).findings}
    assert found == {
        (FindingKind.CHANGED, STORAGE),
        (FindingKind.MISSING, f"{LOGS}/SeedRing-AzS-ERCS01.zip"),
        (FindingKind.UNEXPECTED, f"{LOGS}/added.zip"),
        (FindingKind.OXUM_MISMATCH, "bag-info.txt"),
    }


def test_a_share_without_space_for_the_bundles_own_files_leaves_no_bundle(samba: Samba, tmp_path: Path) -> None:
    share = open_store(parse_destination(samba.url("small")), credential=samba.credential)
    store = share.at(tmp_path.name)
    session = tmp_path / "session.jsonl"
    session.write_bytes(b"x" * (6 << 20))
    write_file(store, STORAGE, PAYLOAD[STORAGE])
    digests = [digest for digest in digests_of() if digest.path == STORAGE]
    try:
        with pytest.raises(StoreFullError):
            seal(store, digests=digests, documents={"session.jsonl": session}, info=INFO)
        assert [finding.kind for finding in verify(store).findings] == [FindingKind.NOT_SEALED]
    finally:
        for entry in list(store.list()):
            store.remove(entry.path)
        share.close()


def test_a_container_that_may_only_be_written_and_listed_gives_an_unproven_bundle(azurite: Azurite) -> None:
    container = azurite.new_container()
    destination = parse_destination(azurite.container_url(container))
    with (
        closing(open_store(destination, sas=azurite.sas(container))) as readable,
        closing(open_store(destination, sas=azurite.sas(container, permissions="wcl"))) as write_only,
    ):
        owner, blind = readable.at("b"), write_only.at("b")
        for path, content in PAYLOAD.items():
            write_file(owner, path, content)
        unread = [
            Unhashed(entry.path, entry.size_bytes, "the SAS does not permit reading", entry.md5)
            for entry in blind.list("data")
        ]
        sealed = seal(blind, digests=[], documents=DOCUMENTS, info=INFO, unhashed=unread)
        assert sealed.unhashed_files == len(PAYLOAD)
        report = verify(owner)
        assert report.verdict is Verdict.UNPROVEN
        assert report.bundle_id == sealed.bundle_id
        assert report.counts == {FindingKind.UNHASHED: len(PAYLOAD)}
        with pytest.raises(SealingError):
            seal(blind, digests=[], documents=DOCUMENTS, info=INFO)


def test_the_permissions_that_the_vendor_asks_for_are_enough_to_seal(azurite: Azurite) -> None:
    # GETLOG: Read, Write and List; no Create, no Delete.
    container = azurite.new_container()
    destination = parse_destination(azurite.container_url(container))
    with closing(open_store(destination, sas=azurite.sas(container, permissions="rwl"))) as store:
        seal_in(store.at("b"))
        assert verify(store.at("b")).ok
