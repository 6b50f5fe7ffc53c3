"""A bundle of very many files costs no more memory to deliver than one of a few."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.bundle import seal
from bridge.collection import Control, Place, deliver
from bridge.errors import BridgeError, VerificationFailedError
from bridge.secrets import Credential, Secret
from bridge.store import FolderStore, Store
from tests.support.bundles import DOCUMENTS, INFO, Digest
from tests.support.many_files import LOG, ManyFiles, path_of

DIGEST = hashlib.sha256(LOG).hexdigest()
KIB = 1 << 10


def sealed(folder: Path, count: int) -> ManyFiles:
    root = folder / INFO.bundle_name
    (root / "data").mkdir(parents=True)
    store = ManyFiles(root, count)
    digests = (Digest(path_of(number), len(LOG), DIGEST) for number in range(count))
    seal(store, digests=digests, documents=DOCUMENTS, info=replace(INFO))
    return store


def peak_bytes(folder: Path, count: int) -> int:
    """The most that Python held while a delivery was prepared, and then left."""
    source = sealed(folder, count)
    control = Control()

    def open_store(place: Place, secret: Credential | Secret | None) -> Store:
        if place.location.endswith(INFO.bundle_name):
            return source
        control.detach()  # everything has been listed when the first file would be sent
        return FolderStore(folder / "far")

    bundle, far = Place.parse(str(source.root)), Place.parse(str(folder / "far"))
    tracemalloc.start()
    try:
        with pytest.raises(BridgeError):
            deliver(bundle, far, state_dir=folder / "state", control=control, open_store=open_store)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_delivery_does_not_depend_on_how_many_files_there_are(tmp_path: Path) -> None:
    peak_bytes(tmp_path / "first", 10)  # modules are imported
    some = peak_bytes(tmp_path / "some", 16_000)  # its manifest is read in more than one piece
    many = peak_bytes(tmp_path / "many", 48_000)
    assert many < some + 512 * KIB


def test_of_many_missing_files_the_first_is_named_and_the_rest_are_counted(tmp_path: Path) -> None:
    source = sealed(tmp_path, 2_500)
    source.count = 1_200
    far = FolderStore(tmp_path / "far")
    with pytest.raises(VerificationFailedError, match=r"00001200\.log is missing, and 1299 more"):
        deliver(
            Place.parse(str(source.root)),
            Place.parse(far.location),
            state_dir=tmp_path / "state",
            open_store=lambda place, secret: source if place.location == str(source.root) else far,
        )
