"""Verifying: each way in which a bundle can be wrong has its own finding, and none hides another."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bagit
import pytest

from bridge.bundle import FileDigest, FindingKind, Verdict, VerifyProgress, verify
from bridge.bundle._findings import MAX_FINDINGS_OF_A_KIND
from bridge.errors import StoreAccessError, StoreError, StoreNotFoundError, StoreUnreachableError
from bridge.store import Entry, FolderStore, Reader, Store
from bridge.store.transfer import hash_files
from tests.support.bundles import LOGS, PAYLOAD, make_bundle

STORAGE = f"{LOGS}/Storage-AzS-ERCS01.zip"
SEED_RING = f"{LOGS}/SeedRing-AzS-ERCS01.zip"
ADDED = f"{LOGS}/added.zip"
PLAIN = {path: content for path, content in PAYLOAD.items() if "%" not in path}


@pytest.fixture
def bundle(root: Path, store: Store) -> Path:
    make_bundle(root, store, PLAIN)
    return root


def found(store: Store, *, fast: bool = False) -> list[tuple[str, str]]:
    report = verify(store, fast=fast)
    assert report.ok == (not report.findings)
    return [(str(finding.kind), finding.path) for finding in report.findings]


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_an_untouched_bundle_verifies_in_full_and_fast(bundle: Path, store: Store) -> None:
    for fast in (False, True):
        report = verify(store, fast=fast)
        assert report.verdict is Verdict.VERIFIED
        assert report.findings == ()
        assert report.fast is fast
        assert (report.payload_files, report.payload_bytes) == (len(PLAIN), sum(map(len, PLAIN.values())))


# -- the three that every tool must find ------------------------------------------------------------------------------


def test_one_flipped_byte_is_found_and_named_here_by_bagit_and_by_sha256sum(bundle: Path, store: Store) -> None:
    flip_a_byte(bundle / STORAGE)
    assert found(store) == [("changed", STORAGE)]
    with pytest.raises(bagit.BagValidationError, match="Storage-AzS"):
        bagit.Bag(str(bundle)).validate()
    checked = subprocess.run(
        ["sha256sum", "-c", "--quiet", "manifest-sha256.txt"], cwd=bundle, capture_output=True, check=False, text=True
    )
    assert checked.returncode == 1
    assert checked.stdout == f"{STORAGE}: FAILED\n"


def test_one_missing_file_is_found_and_named(bundle: Path, store: Store) -> None:
    (bundle / STORAGE).unlink()
    for fast in (False, True):
        assert found(store, fast=fast) == [("oxum-mismatch", "bag-info.txt"), ("missing", STORAGE)]
    with pytest.raises(bagit.BagValidationError):
        bagit.Bag(str(bundle)).validate()


def test_one_added_file_is_found_and_named(bundle: Path, store: Store) -> None:
    (bundle / ADDED).write_bytes(b"")
    for fast in (False, True):
        assert found(store, fast=fast) == [("oxum-mismatch", "bag-info.txt"), ("unexpected", ADDED)]


# -- the other kinds --------------------------------------------------------------------------------------------------


def test_a_truncated_file_has_the_wrong_size_even_in_a_fast_check(bundle: Path, store: Store) -> None:
    os.truncate(bundle / STORAGE, 10)
    for fast in (False, True):
        assert found(store, fast=fast) == [("oxum-mismatch", "bag-info.txt"), ("wrong-size", STORAGE)]


def test_a_fast_check_names_a_size_that_the_sum_does_not_show(bundle: Path, store: Store) -> None:
    os.truncate(bundle / STORAGE, (bundle / STORAGE).stat().st_size - 1)
    append(bundle / SEED_RING, b"x")
    assert found(store, fast=True) == [("wrong-size", SEED_RING), ("wrong-size", STORAGE)]


def test_a_fast_check_does_not_claim_to_see_a_flipped_byte(bundle: Path, store: Store) -> None:
    flip_a_byte(bundle / STORAGE)
    report = verify(store, fast=True)
    assert report.ok
    assert report.fast
    assert report.to_json()["fast"] is True


@pytest.mark.parametrize("name", ["collection.json", "session.jsonl", "bag-info.txt", "payload-sizes.txt"])
def test_a_changed_file_of_the_bundles_own_is_found_even_in_a_fast_check(bundle: Path, store: Store, name: str) -> None:
    append(bundle / name, b"\n")
    for fast in (False, True):
        assert ("tag-changed", name) in found(store, fast=fast)


def test_a_manifest_that_was_mended_to_fit_a_forgery_is_a_changed_tag_file(bundle: Path, store: Store) -> None:
    flip_a_byte(bundle / STORAGE)
    listed = subprocess.run(
        ["sha256sum", *sorted(PLAIN)], cwd=bundle, capture_output=True, check=True, text=True
    ).stdout
    (bundle / "manifest-sha256.txt").write_text(listed, encoding="utf-8")
    assert found(store) == [("tag-changed", "manifest-sha256.txt")]


def test_a_bundle_without_its_last_file_is_not_sealed_and_is_still_checked(bundle: Path, store: Store) -> None:
    (bundle / "bagit.txt").unlink()
    flip_a_byte(bundle / STORAGE)
    assert found(store) == [("not-sealed", "bagit.txt"), ("changed", STORAGE)]


def test_a_folder_that_never_was_a_bundle_is_not_sealed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.zip").write_bytes(b"x")
    assert found(FolderStore(tmp_path)) == [("not-sealed", "bagit.txt")]
    assert found(FolderStore(tmp_path / "absent")) == [("not-sealed", "bagit.txt")]


@pytest.mark.parametrize("name", ["manifest-sha256.txt", "tagmanifest-sha256.txt"])
def test_a_missing_manifest_is_one_finding_and_not_one_a_file(bundle: Path, store: Store, name: str) -> None:
    (bundle / name).unlink()
    assert set(found(store)) == {("missing", name)}


@pytest.mark.parametrize(
    "declaration",
    [
        b"",
        b"\xef\xbb\xbfBagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n",
        b"BagIt-Version: 2.0\nTag-File-Character-Encoding: UTF-8\n",
        b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-16\n",
        "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n".encode("utf-16"),
    ],
)
def test_a_declaration_of_another_form_is_found(bundle: Path, store: Store, declaration: bytes) -> None:
    (bundle / "bagit.txt").write_bytes(declaration)
    assert set(found(store)) == {("bad-declaration", "bagit.txt"), ("tag-changed", "bagit.txt")}


@pytest.mark.parametrize(
    ("lines", "kind", "path"),
    [
        (b"garbage\n", "bad-manifest-line", "manifest-sha256.txt"),
        (b"a" * 100_000 + b"\n", "bad-manifest-line", "manifest-sha256.txt"),
        (b"0" * 64 + b"  bag-info.txt\n", "bad-manifest-line", "manifest-sha256.txt"),
        (b"0" * 64 + b"  " + STORAGE.encode() + b"\n", "bad-manifest-line", "manifest-sha256.txt"),
        (b"0" * 64 + b"  data/../../../etc/passwd\n", "unsafe-path", "data/../../../etc/passwd"),
        (b"0" * 64 + b"  /etc/passwd\n", "unsafe-path", "/etc/passwd"),
        (b"0" * 64 + b"  data/" + ADDED.encode() + b"\n", "missing", "data/" + ADDED),
    ],
)
def test_a_hostile_line_of_the_manifest_is_named_and_the_rest_is_checked(
    bundle: Path, store: Store, lines: bytes, kind: str, path: str
) -> None:
    append(bundle / "manifest-sha256.txt", lines)
    flip_a_byte(bundle / STORAGE)
    assert set(found(store)) == {
        (kind, path),
        ("tag-changed", "manifest-sha256.txt"),
        ("changed", STORAGE),
    }


def test_a_manifest_in_another_encoding_never_passes(bundle: Path, store: Store) -> None:
    manifest = bundle / "manifest-sha256.txt"
    manifest.write_bytes(manifest.read_text("utf-8").encode("utf-16"))
    kinds = {kind for kind, _ in found(store)}
    assert {"bad-manifest-line", "tag-changed", "unexpected"} <= kinds


def test_an_added_file_beside_the_payload_is_found(bundle: Path, store: Store) -> None:
    (bundle / "fetch.txt").write_bytes(b"https://example.invalid/x 10 data/x\n")
    assert found(store) == [("unexpected", "fetch.txt")]


@pytest.mark.skipif(os.name == "nt", reason="not run: making a symbolic link needs a privilege on Windows")
def test_a_payload_file_replaced_by_a_link_is_not_followed(bundle: Path, store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    shutil.copy(bundle / STORAGE, secret)
    (bundle / STORAGE).unlink()
    (bundle / STORAGE).symlink_to(secret)
    assert {("unsafe-path", STORAGE), ("missing", STORAGE)} <= set(found(store))


@pytest.mark.parametrize(
    "oxum", ["1.1", "nonsense", "-1.3", "1e3.3", "99999999999999999999999.1", "0.0\nPayload-Oxum: 1.1"]
)
def test_a_false_payload_oxum_is_found(bundle: Path, store: Store, oxum: str) -> None:
    info = bundle / "bag-info.txt"
    lines = [line for line in info.read_text("utf-8").splitlines() if not line.startswith("Payload-Oxum")]
    info.write_text("\n".join([*lines, f"Payload-Oxum: {oxum}\n"]), encoding="utf-8")
    assert ("oxum-mismatch", "bag-info.txt") in found(store)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"files": 1}', b'{"files": [{"path": 1, "reason": ""}]}', b"[" * 99_999]
)
def test_a_list_of_unhashed_files_that_cannot_be_read_is_found(bundle: Path, store: Store, content: bytes) -> None:
    (bundle / "unhashed.json").write_bytes(content)
    assert set(found(store)) == {("bad-manifest-line", "unhashed.json"), ("unexpected", "unhashed.json")}


def test_a_forged_list_of_unhashed_files_does_not_excuse_an_added_file(bundle: Path, store: Store) -> None:
    (bundle / ADDED).write_bytes(b"x")
    (bundle / "unhashed.json").write_text(f'{{"files": [{{"path": "{ADDED}", "reason": "trust me"}}]}}')
    report = verify(store)
    assert report.verdict is Verdict.FAILED
    assert ("unexpected", "unhashed.json") in found(store)


def test_everything_wrong_at_once_is_all_found(bundle: Path, store: Store) -> None:
    flip_a_byte(bundle / STORAGE)
    (bundle / SEED_RING).unlink()
    (bundle / ADDED).write_bytes(b"x")
    append(bundle / "manifest-sha256.txt", b"garbage\n" + b"0" * 64 + b"  data/con\n")
    append(bundle / "coverage.json", b" ")
    os.truncate(bundle / LOGS / "Get-AzureStackLog_Output.log", 1)
    report = verify(store)
    assert set(report.counts) == {
        FindingKind.CHANGED,
        FindingKind.MISSING,
        FindingKind.UNEXPECTED,
        FindingKind.WRONG_SIZE,
        FindingKind.BAD_MANIFEST_LINE,
        FindingKind.UNSAFE_PATH,
        FindingKind.TAG_CHANGED,
        FindingKind.OXUM_MISMATCH,
    }


def test_of_countless_findings_all_are_counted_and_some_are_kept(bundle: Path, store: Store) -> None:
    append(bundle / "manifest-sha256.txt", b"garbage\n" * 5000)
    report = verify(store)
    assert report.counts[FindingKind.BAD_MANIFEST_LINE] == 5000
    assert len(report.findings) == MAX_FINDINGS_OF_A_KIND + 1


# -- the store in the middle ------------------------------------------------------------------------------------------


class RefusingStore(FolderStore):
    """A folder in which one file cannot be read."""

    def __init__(self, root: Path, path: str, error: StoreError) -> None:
        super().__init__(root)
        self.refused = path
        self.error = error

    @contextmanager
    def open_read(self, path: str, offset: int = 0) -> Iterator[Reader]:
        if path == self.refused:
            raise self.error
        with super().open_read(path, offset) as reader:
            yield reader


DENIED = StoreAccessError(store="folder", detail="denied")


@pytest.mark.parametrize("path", [STORAGE, "collection.json"])
def test_a_file_that_cannot_be_read_is_said_and_the_others_are_checked(bundle: Path, path: str) -> None:
    flip_a_byte(bundle / SEED_RING)
    assert set(found(RefusingStore(bundle, path, DENIED))) == {("unreadable", path), ("changed", SEED_RING)}


@pytest.mark.parametrize("path", ["manifest-sha256.txt", "tagmanifest-sha256.txt", "bag-info.txt", "bagit.txt"])
def test_a_list_that_cannot_be_read_is_said(bundle: Path, path: str) -> None:
    assert ("unreadable", path) in found(RefusingStore(bundle, path, DENIED))


def test_a_file_that_goes_while_it_is_verified_is_missing(bundle: Path) -> None:
    gone = StoreNotFoundError(store="folder", detail="gone")
    assert found(RefusingStore(bundle, STORAGE, gone)) == [("missing", STORAGE)]


def test_a_store_that_is_lost_ends_the_verification_instead_of_blaming_each_file(bundle: Path) -> None:
    lost = StoreUnreachableError(store="folder", detail="the line is down")
    for path in (STORAGE, "manifest-sha256.txt", "bagit.txt"):
        with pytest.raises(StoreUnreachableError):
            verify(RefusingStore(bundle, path, lost))


def test_a_hasher_of_the_callers_is_used_and_progress_ends_at_the_total(bundle: Path, store: Store) -> None:
    hashed: list[str] = []
    told: list[VerifyProgress] = []

    def hasher(
        store: Store,
        files: Iterable[Entry],
        /,
        *,
        on_error: Callable[[str, StoreError], None],
        on_bytes: Callable[[int], None],
    ) -> Iterator[FileDigest]:
        for digest in reversed(list(hash_files(store, files, on_error=on_error, on_bytes=on_bytes))):
            hashed.append(digest.path)
            yield digest

    assert verify(store, hasher=hasher, on_progress=told.append).ok
    assert set(PLAIN) <= set(hashed)
    assert told[-1].files_done == told[-1].files_total == len(hashed)
    assert told[-1].bytes_done == told[-1].bytes_total > 0


def test_a_hasher_that_leaves_files_out_never_passes_for_success(bundle: Path, store: Store) -> None:
    def lazy(
        store: Store,
        files: Iterable[Entry],
        /,
        *,
        on_error: Callable[[str, StoreError], None],
        on_bytes: Callable[[int], None],
    ) -> Iterator[FileDigest]:
        return (digest for digest in hash_files(store, files) if digest.path != STORAGE)

    report = verify(store, hasher=lazy)
    assert [(finding.kind, finding.path) for finding in report.findings] == [(FindingKind.UNREADABLE, STORAGE)]
