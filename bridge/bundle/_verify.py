"""Verifying: every way in which a bundle may differ from what it says of itself, each found and named."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from bridge.bundle._findings import FindingKind, Findings, VerificationReport
from bridge.bundle._ledger import IS_PAYLOAD, IS_TAG, Ledger, LedgerRow
from bridge.bundle._names import name_of_unsafe
from bridge.bundle._promises import WHOLE_STORE_ERRORS, Promises, read_promises
from bridge.bundle._seal import FileDigest
from bridge.bundle._tags import DECLARATION, PAYLOAD
from bridge.errors import StoreError, StoreNotFoundError, UnsafePathError
from bridge.store import Entry, Store

_TAG_MANIFEST = re.compile(r"tagmanifest-[a-z0-9]+\.txt")  # of any algorithm: no tag manifest lists another
_MAX_UNSAFE_NAMES = 10_000
_TO_HASH = "in_manifest = 1 AND found_bytes IS NOT NULL AND (expected_bytes IS NULL OR expected_bytes = found_bytes)"


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """How far the hashing is."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int


class Hasher(Protocol):
    """Reads files and gives the digest of each, in any order, from as many threads as it likes.

    A file that cannot be read goes to ``on_error``, in the caller's thread, and the others go on. ``on_bytes`` is told
    of bytes when they are read, in any thread. The transfer engine's ``hash_files`` is one.
    """

    def __call__(
        self,
        store: Store,
        files: Iterable[Entry],
        /,
        *,
        on_error: Callable[[str, StoreError], None],
        on_bytes: Callable[[int], None],
    ) -> Iterator[FileDigest]: ...


def verify(
    store: Store,
    *,
    fast: bool = False,
    hasher: Hasher | None = None,
    on_progress: Callable[[VerifyProgress], None] | None = None,
) -> VerificationReport:
    """Compares a bundle with what it says of itself, to the end, whatever is found on the way.

    Args:
        store: rooted at the bundle.
        fast: read the bundle's own files only; of the payload compare names, sizes and counts.
        hasher: reads the files; by default the transfer engine's ``hash_files``.
        on_progress: called while files are read, one call at a time, from the hasher's threads.

    Raises:
        StoreError: the store as a whole cannot be read (unreachable, credentials refused). What is in the bundle, or
            is not, never raises.
    """
    findings = Findings()
    unsafe: dict[str, str] = {}

    def meet_unsafe(error: UnsafePathError) -> None:
        if len(unsafe) < _MAX_UNSAFE_NAMES:
            unsafe[name_of_unsafe(error)] = str(error.fields["detail"])
        else:
            findings.add(FindingKind.UNSAFE_PATH, name_of_unsafe(error), "one of very many unsafe names")

    with Ledger() as ledger:
        for entry in store.list(on_unsafe=meet_unsafe):
            ledger.find(entry)
        promises = read_promises(store, ledger, findings, fast=fast)
        for name in sorted(set(unsafe) - promises.admitted):
            findings.add(FindingKind.UNSAFE_PATH, name, f"a name in the bundle's folder: {unsafe[name]}")
        where = f"{_TO_HASH} AND {IS_TAG}" if fast else _TO_HASH
        _hash(store, ledger, where=where, hasher=hasher or _default_hasher(), on_progress=on_progress)
        for row in ledger.rows():
            _compare(row, promises, findings, fast=fast)
        files, size_bytes = ledger.total(f"{IS_PAYLOAD} AND found_bytes IS NOT NULL")
    return VerificationReport(
        store.location, promises.bundle_id, fast, files, size_bytes, findings.kept, findings.counts
    )


def _hash(
    store: Store,
    ledger: Ledger,
    *,
    where: str,
    hasher: Hasher,
    on_progress: Callable[[VerifyProgress], None] | None,
) -> None:
    files_total, bytes_total = ledger.total(where)
    files_done = bytes_done = 0
    lock = threading.Lock()

    def tell(*, files: int = 0, size_bytes: int = 0) -> None:
        nonlocal files_done, bytes_done
        with lock:
            files_done += files
            bytes_done += size_bytes
            if on_progress is not None:
                on_progress(VerifyProgress(files_done, files_total, bytes_done, bytes_total))

    def meet(path: str, error: StoreError) -> None:
        if isinstance(error, WHOLE_STORE_ERRORS):
            raise error
        if isinstance(error, StoreNotFoundError):
            ledger.lose(path)
        else:
            ledger.fail(path, str(error))

    entries = (Entry(row.path, row.found_bytes or 0) for row in ledger.rows(where))
    for digest in hasher(store, entries, on_error=meet, on_bytes=lambda read: tell(size_bytes=read)):
        ledger.find_sha256(digest.path, digest.sha256.lower())
        tell(files=1)


def _compare(row: LedgerRow, promises: Promises, findings: Findings, *, fast: bool) -> None:
    if row.found_bytes is None:
        if row.path == DECLARATION and not promises.sealed:
            return  # said already: it was never sealed
        if row.unhashed and not (row.in_manifest or row.path.startswith(PAYLOAD)):
            return  # no part of the bundle, as the bundle itself says: a copy is made without it
        findings.add(FindingKind.MISSING, row.path, "it is listed and not there")
    elif not (row.in_manifest or row.unhashed):
        _compare_unlisted(row, promises, findings)
    elif row.expected_bytes is not None and row.found_bytes != row.expected_bytes:
        detail = f"{row.found_bytes} bytes instead of {row.expected_bytes}"
        findings.add(FindingKind.WRONG_SIZE, row.path, detail)
    elif row.in_manifest and row.found_sha256 is None:
        if not (fast and row.path.startswith(PAYLOAD)):
            findings.add(FindingKind.UNREADABLE, row.path, row.problem or "it was not read")
    elif row.in_manifest and row.found_sha256 != row.expected_sha256:
        kind = FindingKind.CHANGED if row.path.startswith(PAYLOAD) else FindingKind.TAG_CHANGED
        findings.add(kind, row.path, f"its SHA-256 is {row.found_sha256} instead of {row.expected_sha256}")
    elif row.expected_md5 is not None and row.found_md5 is not None and row.found_md5 != row.expected_md5:
        detail = f"the service's MD5 is {row.found_md5.hex()} instead of {row.expected_md5.hex()}"
        findings.add(FindingKind.CHANGED, row.path, detail)


def _default_hasher() -> Hasher:
    from bridge.store.transfer import hash_files

    return hash_files


def _compare_unlisted(row: LedgerRow, promises: Promises, findings: Findings) -> None:
    payload = row.path.startswith(PAYLOAD)
    # Without a manifest one finding says why; it would be no news that every single file is not in it.
    listed = promises.has_manifest if payload else promises.bundle_id is not None
    if listed and not _TAG_MANIFEST.fullmatch(row.path):
        findings.add(FindingKind.UNEXPECTED, row.path, "it is there and not listed")
