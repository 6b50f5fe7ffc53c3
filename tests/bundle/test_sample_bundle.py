"""The sample bundle in ``fixtures``: made long ago, it still verifies, and the code of today still makes the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bagit
import pytest

from bridge.bundle import read_bundle, verify
from bridge.store import FolderStore
from tests.support.make_sample_bundle import SAMPLE, seal_sample


def all_files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_sample_verifies_here_and_with_the_bagit_library() -> None:
    assert verify(FolderStore(SAMPLE)).ok
    bagit.Bag(str(SAMPLE)).validate()


@pytest.mark.skipif(sys.platform != "linux", reason="not run: sha256sum is a program of Linux")
def test_the_sample_verifies_with_sha256sum_alone() -> None:
    for manifest in ("tagmanifest-sha256.txt", "manifest-sha256.txt"):
        subprocess.run(["sha256sum", "--strict", "--quiet", "-c", manifest], cwd=SAMPLE, check=True)


def test_the_same_payload_and_documents_still_make_the_same_bytes(tmp_path: Path) -> None:
    documents = {name: (SAMPLE / name).read_bytes() for name in ("collection.json", "coverage.json", "session.jsonl")}
    bundle_id = seal_sample(tmp_path, documents)
    assert all_files(tmp_path) == all_files(SAMPLE)
    assert bundle_id == read_bundle(FolderStore(SAMPLE)).bundle_id


def test_the_coverage_document_still_has_the_fields_of_its_schema_version(tmp_path: Path) -> None:
    seal_sample(tmp_path)
    then, now = (read_bundle(FolderStore(root)).document("coverage.json") for root in (SAMPLE, tmp_path))
    assert now["schema_version"] == then["schema_version"]
    assert now.keys() == then.keys()
    assert now["roles"][1].keys() == then["roles"][1].keys()
    assert now["roles"][1]["zips"][0].keys() == then["roles"][1]["zips"][0].keys()
