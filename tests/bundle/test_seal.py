"""Sealing: deterministic, resumable, and never a bundle before its last file."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import bagit
import pytest

from bridge.bundle import FindingKind, SealedBundle, Unhashed, Verdict, read_bundle, seal, verify
from bridge.errors import NotABundleError, SealingError, StoreFullError
from bridge.store import FolderStore, Store, Writer
from tests.support.bundles import DOCUMENTS, INFO, LOGS, PAYLOAD, digests_of, make_bundle, write_payload

STORAGE = f"{LOGS}/Storage-AzS-ERCS01.zip"
PLAIN = {path: content for path, content in PAYLOAD.items() if "%" not in path}


def seal_again(store: Store) -> SealedBundle:
    return seal(store, digests=digests_of(), documents=DOCUMENTS, info=INFO)


def tag_files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.is_file()}


def test_the_files_of_a_bundle_are_those_of_the_profile(root: Path, store: Store) -> None:
    sealed = make_bundle(root, store)
    files = tag_files(root)
    assert set(files) == {
        "bagit.txt",
        "bag-info.txt",
        "manifest-sha256.txt",
        "tagmanifest-sha256.txt",
        "payload-sizes.txt",
        *DOCUMENTS,
    }
    assert sealed.bundle_id == hashlib.sha256(files["tagmanifest-sha256.txt"]).hexdigest()
    assert sealed.payload_files == len(PAYLOAD)
    assert sealed.payload_bytes == sum(map(len, PAYLOAD.values()))
    assert files["bagit.txt"] == b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
    assert files["bag-info.txt"].decode().splitlines() == [
        "External-Identifier: west-20261123T135500Z-1a2b3c4d",
        "External-Description: Azure Stack Hub diagnostic logs of stamp west",
        "Bagging-Date: 2026-11-23",
        "Bag-Software-Agent: pep-bridge 0.1",
        "Internal-Sender-Identifier: CASE 42",
        "Bundle-Profile: pep-bridge bundle 1",
        "Stamp: west",
        "Collection-Start: 2026-11-23T13:55:00Z",
        "Logs-From: 2026-11-23T09:55:00Z",
        "Logs-To: 2026-11-23T13:55:00Z",
        f"Payload-Oxum: {sealed.payload_bytes}.4",
        "Bag-Size: 12.7 KiB",
    ]


def test_a_manifest_has_sorted_paths_line_feeds_and_utf8(root: Path, store: Store) -> None:
    make_bundle(root, store)
    lines = (root / "manifest-sha256.txt").read_bytes().split(b"\n")
    assert lines.pop() == b""
    paths = [line[66:].decode() for line in lines]
    assert paths == sorted(paths)
    assert f"{LOGS}/Grüße 100%25 ☃/empty.log" in paths
    sizes = (root / "payload-sizes.txt").read_text("utf-8").splitlines()
    assert [line.split("  ", 1)[1] for line in sizes] == paths


def test_the_same_payload_gives_the_same_bytes_in_another_store_and_order(tmp_path: Path) -> None:
    make_bundle(tmp_path / "a", FolderStore(tmp_path / "a"))
    write_payload(tmp_path / "b")
    seal(
        FolderStore(tmp_path / "b"),
        digests=reversed(digests_of()),
        documents=dict(reversed(list(DOCUMENTS.items()))),
        info=INFO,
    )
    assert tag_files(tmp_path / "a") == tag_files(tmp_path / "b")


def test_a_value_from_outside_cannot_add_a_line_to_bag_info(root: Path, store: Store) -> None:
    write_payload(root)
    hostile = replace(INFO, case_number="1\nPayload-Oxum: 0.0\r\u2028Stamp: x\0", stamp="a\nb")
    seal(store, digests=digests_of(), documents=DOCUMENTS, info=hostile)
    info = read_bundle(store).info
    assert info["Internal-Sender-Identifier"] == ("1 Payload-Oxum: 0.0 Stamp: x",)
    assert len(info["Payload-Oxum"]) == len(info["Stamp"]) == 1


def test_a_local_document_is_streamed_into_the_bundle(root: Path, store: Store, tmp_path: Path) -> None:
    session = tmp_path / "session.jsonl"
    session.write_bytes(b"x" * (3 << 20))
    write_payload(root)
    seal(store, digests=digests_of(), documents={"session.jsonl": session}, info=INFO)
    assert (root / "session.jsonl").read_bytes() == session.read_bytes()
    assert verify(store).ok


# -- other tools ------------------------------------------------------------------------------------------------------


def test_the_bagit_library_and_sha256sum_accept_a_bundle(root: Path, store: Store) -> None:
    # 'bagit' and 'sha256sum' do not decode %25, which RFC 8493 section 2.1.3 asks for: docs/bundle.md says so.
    write_payload(root, PLAIN)
    seal(store, digests=digests_of(PLAIN), documents=DOCUMENTS, info=INFO)
    bagit.Bag(str(root)).validate()
    bagit.Bag(str(root)).validate(fast=True)
    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        checked = subprocess.run(
            ["sha256sum", "--strict", "-c", manifest], cwd=root, capture_output=True, check=False, text=True
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_a_bag_that_the_bagit_library_made_is_read_and_verified(root: Path, store: Store) -> None:
    root.mkdir()
    (root / "Storage.zip").write_bytes(b"zip")
    (root / "a folder").mkdir()
    (root / "a folder" / "ü.log").write_bytes(b"log")
    bagit.make_bag(str(root), {"Source-Organization": "Contoso"}, checksums=["sha256", "md5"])
    assert read_bundle(store).field("Source-Organization") == "Contoso"
    listed = [(file.path, file.size_bytes) for file in read_bundle(store).files()]
    assert listed == [("data/Storage.zip", None), ("data/a folder/ü.log", None)]
    for fast in (False, True):
        assert verify(store, fast=fast).findings == ()


# -- what sealing refuses ---------------------------------------------------------------------------------------------


def test_a_file_that_lands_after_the_hashing_stops_the_seal(root: Path, store: Store) -> None:
    write_payload(root)
    (root / LOGS / "late.zip").write_bytes(b"late")
    with pytest.raises(SealingError, match=r"late\.zip landed after"):
        seal_again(store)
    assert not (root / "bagit.txt").exists()


def test_a_file_that_went_or_grew_after_the_hashing_stops_the_seal(root: Path, store: Store) -> None:
    write_payload(root)
    with (root / STORAGE).open("ab") as file:
        file.write(b"more")
    with pytest.raises(SealingError, match="changed its size"):
        seal_again(store)
    (root / STORAGE).unlink()
    with pytest.raises(SealingError, match="not there any more"):
        seal_again(store)
    assert not (root / "bagit.txt").exists()


def test_a_stranger_beside_the_payload_is_named_left_alone_and_no_part_of_the_bundle(root: Path, store: Store) -> None:
    write_payload(root)
    (root / "Thumbs.db").write_bytes(b"x")
    sealed = seal_again(store)
    assert (sealed.unhashed_files, sealed.payload_files) == (1, len(PAYLOAD))
    assert (root / "Thumbs.db").read_bytes() == b"x"
    assert read_bundle(store).payload == (sealed.payload_bytes, sealed.payload_files)
    assert "Thumbs.db" not in read_bundle(store).own_files()
    for fast in (True, False):
        report = verify(store, fast=fast)
        assert report.verdict is Verdict.UNPROVEN
        assert [(finding.kind, finding.path) for finding in report.findings] == [(FindingKind.UNHASHED, "Thumbs.db")]
    assert seal_again(store) == sealed

    (root / "Thumbs.db").unlink()  # as in a copy
    assert verify(store).counts == {FindingKind.UNHASHED: 1}
    (root / "Thumbs2.db").write_bytes(b"x")
    assert verify(store).counts == {FindingKind.UNHASHED: 1, FindingKind.UNEXPECTED: 1}


def test_a_list_of_strangers_does_not_excuse_a_changed_file_of_the_bundle(root: Path, store: Store) -> None:
    make_bundle(root, store)
    (root / "unhashed.json").write_text('{"files": [{"path": "coverage.json", "reason": "trust me"}]}')
    (root / "coverage.json").write_bytes(b"{}")
    found = {(finding.kind, finding.path) for finding in verify(store).findings}
    assert (FindingKind.TAG_CHANGED, "coverage.json") in found
    assert (FindingKind.UNEXPECTED, "unhashed.json") in found
    (root / "coverage.json").unlink()
    assert (FindingKind.MISSING, "coverage.json") in {(each.kind, each.path) for each in verify(store).findings}


@pytest.mark.parametrize("name", ["manifest-sha256.txt", "bagit.txt", "data/x", "unhashed.json"])
def test_a_document_cannot_take_the_name_of_a_file_that_sealing_writes(root: Path, store: Store, name: str) -> None:
    write_payload(root)
    with pytest.raises(SealingError, match="not a name"):
        seal(store, digests=digests_of(), documents={name: b""}, info=INFO)


def test_a_digest_outside_the_payload_or_given_twice_is_refused(root: Path, store: Store) -> None:
    write_payload(root)
    (digest, *_) = digests_of()
    for digests, reason in (
        ([replace(digest, path="x")], "not under data/"),
        ([digest, digest], "hashed twice"),
        ([replace(digest, path="data/../x")], "leaves its folder"),
    ):
        with pytest.raises(SealingError, match=reason):
            seal(store, digests=digests, documents=DOCUMENTS, info=INFO)


def test_a_sealed_bundle_is_not_sealed_over_with_other_content(root: Path, store: Store) -> None:
    make_bundle(root, store)
    before = tag_files(root)
    with pytest.raises(SealingError, match="sealed already"):
        seal(store, digests=digests_of(), documents={**DOCUMENTS, "coverage.json": b"{}"}, info=INFO)
    assert tag_files(root) == before


def test_a_document_that_cannot_be_read_fails_the_seal_by_name(root: Path, store: Store, tmp_path: Path) -> None:
    write_payload(root)
    with pytest.raises(SealingError, match=r"gone\.jsonl"):
        seal(store, digests=digests_of(), documents={"session.jsonl": tmp_path / "gone.jsonl"}, info=INFO)
    assert not (root / "bagit.txt").exists()


# -- failures in the middle -------------------------------------------------------------------------------------------


class FailingStore(FolderStore):
    """A folder that fails at the n-th file written, before or after it has taken it."""

    def __init__(self, root: Path, *, fail_at: int, error: Callable[[], BaseException], after_commit: bool) -> None:
        super().__init__(root)
        self.left = fail_at
        self.error = error
        self.after_commit = after_commit

    @contextmanager
    def open_write(self, path: str, size_bytes: int | None = None, *, replace: bool = True) -> Iterator[Writer]:
        self.left -= 1
        fail = self.left == 0
        with super().open_write(path, size_bytes, replace=replace) as writer:
            if fail and not self.after_commit:
                raise self.error()
            yield writer
            if fail:
                raise self.error()


def full() -> BaseException:
    return StoreFullError(store="folder", detail="no space left")


@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("fail_at", range(1, 9))
def test_a_failure_at_any_file_leaves_no_bundle_and_a_second_seal_gives_the_same_one(
    tmp_path: Path, fail_at: int, after_commit: bool
) -> None:
    make_bundle(tmp_path / "undisturbed", FolderStore(tmp_path / "undisturbed"))
    root = tmp_path / "disturbed"
    write_payload(root)
    failing = FailingStore(root, fail_at=fail_at, error=full, after_commit=after_commit)
    with pytest.raises(StoreFullError):
        seal_again(failing)
    assert not (root / "bagit.txt").exists()
    with pytest.raises(NotABundleError, match="never sealed"):
        read_bundle(failing)
    seal_again(FolderStore(root))
    assert tag_files(root) == tag_files(tmp_path / "undisturbed")


def test_an_interrupt_while_the_last_file_is_written_leaves_no_bundle(root: Path) -> None:
    write_payload(root)
    with pytest.raises(KeyboardInterrupt):
        seal_again(FailingStore(root, fail_at=8, error=KeyboardInterrupt, after_commit=True))
    assert not (root / "bagit.txt").exists()


def test_sealing_twice_writes_nothing_and_gives_the_same_answer(root: Path, store: Store) -> None:
    first = make_bundle(root, store)
    failing = FailingStore(root, fail_at=1, error=full, after_commit=False)
    assert seal_again(failing) == first


# -- what could not be hashed -----------------------------------------------------------------------------------------


def seal_unhashed(root: Path, store: Store) -> SealedBundle:
    write_payload(root)
    proven = [digest for digest in digests_of() if digest.path != STORAGE]
    unread = Unhashed(STORAGE, len(PAYLOAD[STORAGE]), "the SAS does not allow reading")
    return seal(store, digests=proven, documents=DOCUMENTS, info=INFO, unhashed=[unread])


def test_an_unhashed_file_is_said_and_no_tool_calls_the_bundle_valid(root: Path, store: Store) -> None:
    sealed = seal_unhashed(root, store)
    assert (sealed.unhashed_files, sealed.unhashed_bytes) == (1, len(PAYLOAD[STORAGE]))
    assert sealed.payload_files == len(PAYLOAD)
    bundle = read_bundle(store)
    assert bundle.unhashed_files == 1
    assert {(file.path, file.size_bytes) for file in bundle.files()} == {
        (path, len(content)) for path, content in PAYLOAD.items() if path != STORAGE
    }
    assert bundle.payload is None
    report = verify(store)
    assert report.verdict is Verdict.UNPROVEN
    assert not report.ok
    assert [(finding.kind, finding.path) for finding in report.findings] == [(FindingKind.UNHASHED, STORAGE)]
    assert "SAS does not allow" in report.findings[0].detail
    with pytest.raises(bagit.BagValidationError, match=re.escape(STORAGE)):
        bagit.Bag(str(root)).validate()


def test_an_unhashed_file_that_changes_its_size_or_goes_is_still_found(root: Path, store: Store) -> None:
    seal_unhashed(root, store)
    with (root / STORAGE).open("ab") as file:
        file.write(b"x")
    for fast in (True, False):
        assert verify(store, fast=fast).counts[FindingKind.WRONG_SIZE] == 1
    (root / STORAGE).unlink()
    assert verify(store).counts[FindingKind.MISSING] == 1
    assert verify(store).verdict is Verdict.FAILED


@pytest.mark.skipif(os.name == "nt", reason="not run: Windows itself refuses the name")
def test_a_payload_name_that_is_unsafe_is_recorded_and_the_rest_is_sealed(root: Path, store: Store) -> None:
    write_payload(root)
    (root / LOGS / "aux.zip").write_bytes(b"x")
    (root / LOGS / "a\\..\\b:c\n.zip").write_bytes(b"x")
    sealed = seal_again(store)
    assert sealed.unhashed_files == 2
    assert sealed.payload_files == len(PAYLOAD) + 2
    report = verify(store)
    assert report.verdict is Verdict.UNPROVEN
    assert report.counts == {FindingKind.UNHASHED: 2}
    (root / LOGS / "con.zip").write_bytes(b"x")
    assert verify(store).counts == {FindingKind.UNHASHED: 2, FindingKind.UNSAFE_PATH: 1}


def test_a_later_seal_with_everything_hashed_leaves_nothing_of_an_unhashed_attempt(root: Path, store: Store) -> None:
    seal_unhashed(root, store)
    (root / "bagit.txt").unlink()
    seal_again(store)
    assert not (root / "unhashed.json").exists()
    assert verify(store).ok


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_sealed_bundle_is_read_back(root: Path, store: Store) -> None:
    sealed = make_bundle(root, store)
    bundle = read_bundle(store)
    assert bundle.bundle_id == sealed.bundle_id
    assert bundle.spoken == sealed.spoken
    assert bundle.payload == (sealed.payload_bytes, sealed.payload_files)
    assert {(file.path, file.size_bytes, file.sha256) for file in bundle.files()} == {
        (file.path, file.size_bytes, file.sha256) for file in digests_of()
    }
    assert bundle.document("collection.json") == {"schema_version": 1}


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda root: (root / "bagit.txt").unlink(), "never sealed"),
        (lambda root: (root / "bagit.txt").write_bytes(b"BagIt-Version: 9.0\n"), "two lines"),
        (lambda root: (root / "bagit.txt").write_bytes(b"x" * 5000), "more than"),
        (lambda root: (root / "tagmanifest-sha256.txt").unlink(), "no tagmanifest"),
        (lambda root: (root / "bag-info.txt").write_bytes(b"\xff"), "not UTF-8"),
        (lambda root: (root / "bag-info.txt").write_bytes(b"x" * (2 << 20)), "more than"),
    ],
)
def test_what_is_no_bundle_is_refused_with_its_reason(
    root: Path, store: Store, break_it: Callable[[Path], Any], reason: str
) -> None:
    make_bundle(root, store)
    break_it(root)
    with pytest.raises(NotABundleError, match=reason):
        read_bundle(store)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b""])
def test_a_document_that_is_no_json_is_refused(root: Path, store: Store, content: bytes) -> None:
    make_bundle(root, store)
    (root / "collection.json").write_bytes(content)
    with pytest.raises(NotABundleError, match="not JSON"):
        read_bundle(store).document("collection.json")
    with pytest.raises(NotABundleError, match=r"no other\.json"):
        read_bundle(store).document("other.json")
