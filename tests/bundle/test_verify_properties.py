"""Whatever a payload is, sealing it verifies, and whatever is done to one file of it afterwards is found and named."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import bagit
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.bundle import FindingKind, seal, verify
from bridge.errors import UnsafePathError
from bridge.store import FolderStore, check_path
from tests.support.bundles import DOCUMENTS, INFO, Digest, write_payload

# No leading dots or tildes: a store may hide such names as its own partial files.
parts = st.text(
    st.characters(categories=["Lu", "Ll", "Lo", "Nd"], include_characters=" -_()+%#ß€"), min_size=1, max_size=12
)
contents = st.binary(max_size=200)
FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def is_safe(path: str) -> bool:
    try:
        check_path(path)
    except UnsafePathError:
        return False
    return True


def is_file_among(paths: list[str]) -> bool:
    """No path is a folder of another, nor the same on a file system that folds case."""
    return all(not other.startswith(f"{path}/") for path in paths for other in paths)


paths = st.lists(parts, min_size=1, max_size=3).map(lambda found: "/".join(["data", *found])).filter(is_safe)
payloads = st.dictionaries(paths, contents, min_size=1, max_size=6).filter(lambda found: is_file_among(list(found)))


def make(root: Path, payload: dict[str, bytes]) -> FolderStore:
    write_payload(root, payload)
    store = FolderStore(root)
    digests = [Digest(path, len(content), hashlib.sha256(content).hexdigest()) for path, content in payload.items()]
    seal(store, digests=digests, documents=DOCUMENTS, info=INFO)
    return store


@FEW
@given(payloads)
def test_every_payload_that_is_sealed_verifies(payload: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = make(Path(folder), payload)
        assert verify(store).findings == ()
        assert verify(store, fast=True).findings == ()
        if not any("%" in path for path in payload):
            bagit.Bag(folder).validate()


@FEW
@given(payloads, st.data())
def test_one_changed_byte_of_any_file_is_the_only_finding(payload: dict[str, bytes], data: st.DataObject) -> None:
    full = [path for path, content in payload.items() if content]
    if not full:
        return
    path = data.draw(st.sampled_from(full))
    content = bytearray(payload[path])
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        store = make(Path(folder), payload)
        (Path(folder) / path).write_bytes(content)
        assert [(found.kind, found.path) for found in verify(store).findings] == [(FindingKind.CHANGED, path)]


@FEW
@given(payloads, st.data())
def test_one_removed_file_is_named_and_no_other(payload: dict[str, bytes], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(payload)))
    with tempfile.TemporaryDirectory() as folder:
        store = make(Path(folder), payload)
        (Path(folder) / path).unlink()
        found = {(found.kind, found.path) for found in verify(store).findings}
        assert found == {(FindingKind.MISSING, path), (FindingKind.OXUM_MISMATCH, "bag-info.txt")}


@FEW
@given(payloads, st.data())
def test_no_damage_to_a_file_beside_the_payload_raises_or_passes(
    payload: dict[str, bytes], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = make(Path(folder), payload)
        names = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
        name = data.draw(st.sampled_from(names))
        content = bytearray((Path(folder) / name).read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(content) - 1))
            content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        changed = bytes(content) != (Path(folder) / name).read_bytes()
        (Path(folder) / name).write_bytes(content)
        report = verify(store)
        if name == "tagmanifest-sha256.txt":
            original = make_id(payload)
            assert report.bundle_id != original or not changed
        else:
            assert report.ok is not changed


def make_id(payload: dict[str, bytes]) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        return verify(make(Path(folder), payload)).bundle_id


@pytest.mark.skipif(sys.platform != "linux", reason="not run: this file system may not tell the names apart")
@pytest.mark.parametrize("payload", [{"data/a": b"", "data/A": b"x"}, {"data/é": b"", "data/e\u0301": b"x"}])
def test_names_that_only_some_systems_tell_apart_are_kept_apart(payload: dict[str, bytes], tmp_path: Path) -> None:
    store = make(tmp_path, payload)
    assert verify(store).ok
