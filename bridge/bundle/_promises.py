"""What a bundle says of itself: declaration, manifests, sizes and counts, read into the ledger, each fault reported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bridge.bundle._files import read_chunks, read_small
from bridge.bundle._findings import FindingKind, Findings
from bridge.bundle._ledger import IS_PAYLOAD, Ledger
from bridge.bundle._manifest import (
    MAX_MANIFEST_BYTES,
    ManifestEntry,
    ManifestProblem,
    parse_manifest,
    parse_sizes,
)
from bridge.bundle._tags import (
    BAG_INFO,
    DECLARATION,
    MANIFEST,
    MAX_BAG_INFO_BYTES,
    MAX_DECLARATION_BYTES,
    PAYLOAD,
    SIZES,
    TAG_MANIFEST,
    UNHASHED,
    parse_bag_info,
    parse_oxum,
    what_is_wrong_with_declaration,
)
from bridge.errors import (
    StoreAuthenticationError,
    StoreClosedError,
    StoreError,
    StorePermissionError,
    StoreUnreachableError,
    UnsafePathError,
)
from bridge.store import Store, check_path

_MAX_TAG_MANIFEST_BYTES = 16 << 20
_MAX_UNHASHED_BYTES = 64 << 20
_SHOWN_CHARACTERS = 200

WHOLE_STORE_ERRORS = (StoreUnreachableError, StoreAuthenticationError, StorePermissionError, StoreClosedError)
"""Failures that say nothing of one file (what a SAS permits it permits for all): with one of these verifying ends, or
every file would be called unreadable."""

_LineParser = Callable[[Iterable[bytes]], Iterator[ManifestEntry | ManifestProblem]]


@dataclass(frozen=True, slots=True)
class Promises:
    """What the ledger does not hold: which lists there are, the id, and the unsafe names that the bundle admits to."""

    sealed: bool
    has_manifest: bool
    bundle_id: str | None
    admitted: frozenset[str]


def read_promises(store: Store, ledger: Ledger, findings: Findings, *, fast: bool) -> Promises:
    """Reads the bundle's own lists; the ledger must hold what is there already.

    Raises:
        StoreError: one of ``WHOLE_STORE_ERRORS``.
    """
    reading = _Reading(store, ledger, findings)
    sealed = reading.declaration()
    bundle_id = reading.tag_manifest(sealed=sealed)
    has_manifest = reading.manifest(sealed=sealed)
    if has_manifest:
        reading.sizes()
        reading.oxum(fast=fast)
    return Promises(sealed, has_manifest, bundle_id, reading.unhashed())


class _Reading:
    def __init__(self, store: Store, ledger: Ledger, findings: Findings) -> None:
        self._store = store
        self._ledger = ledger
        self._findings = findings

    def declaration(self) -> bool:
        if not self._ledger.has(DECLARATION):
            self._findings.add(FindingKind.NOT_SEALED, DECLARATION, "there is none: this was never sealed")
            return False
        content = self._small(DECLARATION, MAX_DECLARATION_BYTES)
        if content is not None and (problem := what_is_wrong_with_declaration(content)):
            self._findings.add(FindingKind.BAD_DECLARATION, DECLARATION, problem)
        return True

    def tag_manifest(self, *, sealed: bool) -> str | None:
        """Enters the digests of the bundle's own files; returns the bundle id."""
        digest = hashlib.sha256()

        def chunks() -> Iterator[bytes]:
            for chunk in read_chunks(self._store, TAG_MANIFEST, _MAX_TAG_MANIFEST_BYTES):
                digest.update(chunk)
                yield chunk

        def refuse(path: str) -> str | None:
            return "it lists no payload, and not itself" if _is_payload(path) or path == TAG_MANIFEST else None

        if not self._has(TAG_MANIFEST, sealed=sealed):
            return None
        self._lines(TAG_MANIFEST, parse_manifest, chunks(), refuse, self._ledger.promise_sha256)
        return digest.hexdigest()

    def manifest(self, *, sealed: bool) -> bool:
        """Enters the digests of the payload; false where there is no manifest."""
        if not self._has(MANIFEST, sealed=sealed):
            return False
        chunks = read_chunks(self._store, MANIFEST, MAX_MANIFEST_BYTES)
        self._lines(MANIFEST, parse_manifest, chunks, _refuse_tag, self._ledger.promise_sha256)
        return True

    def sizes(self) -> None:
        """Enters the sizes that this project's profile adds; other BagIt tools write none."""
        if self._ledger.has(SIZES):
            chunks = read_chunks(self._store, SIZES, MAX_MANIFEST_BYTES)
            self._lines(
                SIZES, parse_sizes, chunks, _refuse_tag, lambda path, value: self._ledger.promise_size(path, int(value))
            )

    def oxum(self, *, fast: bool) -> None:
        """Compares the payload's bytes and count with those of bag-info."""
        content = self._small(BAG_INFO, MAX_BAG_INFO_BYTES) if self._ledger.has(BAG_INFO) else None
        if content is None:
            return  # the tag manifest's line for it becomes a finding
        try:
            info = parse_bag_info(content)
        except UnicodeDecodeError:
            self._findings.add(FindingKind.OXUM_MISMATCH, BAG_INFO, "it is not UTF-8")
            return
        problem = self._what_is_wrong_with_oxum(info.get("Payload-Oxum", ()))
        if problem and (info.get("Payload-Oxum") or (fast and "Unhashed-Files" not in info)):
            self._findings.add(FindingKind.OXUM_MISMATCH, BAG_INFO, problem)

    def _what_is_wrong_with_oxum(self, values: tuple[str, ...]) -> str | None:
        if not values:
            return "it has no Payload-Oxum: a quick check proves nothing"
        promised = parse_oxum(values[0])
        if promised is None or len(values) > 1:
            return f"Payload-Oxum is {_shown(' and '.join(values))}"
        files, size_bytes = self._ledger.total(f"{IS_PAYLOAD} AND found_bytes IS NOT NULL")
        if promised == (size_bytes, files):
            return None
        return f"it promises {promised[0]} bytes in {promised[1]} files; {size_bytes} bytes in {files} files are there"

    def unhashed(self) -> frozenset[str]:
        """Enters the files that were never hashed, as the bundle itself says; returns those with unsafe names."""
        content = self._small(UNHASHED, _MAX_UNHASHED_BYTES) if self._ledger.has(UNHASHED) else None
        if content is None:
            return frozenset()
        try:
            files = _parse_unhashed(content)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._findings.add(
                FindingKind.BAD_MANIFEST_LINE, UNHASHED, f"it is not the list it should be: {_shown(error)}"
            )
            return frozenset()
        for path, reason, md5 in files:
            self._findings.add(FindingKind.UNHASHED, path, f"never hashed: {reason}")
            if _is_safe(path):
                self._ledger.promise_unhashed(path, md5)
        return frozenset(path for path, _, _ in files if not _is_safe(path))

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _has(self, name: str, *, sealed: bool) -> bool:
        there = self._ledger.has(name)
        if sealed and not there:
            self._findings.add(FindingKind.MISSING, name, "no bundle is without it")
        return there

    def _lines(
        self,
        name: str,
        parse: _LineParser,
        chunks: Iterable[bytes],
        refuse: Callable[[str], str | None],
        promise: Callable[[str, str], bool],
    ) -> None:
        """Enters each good line and reports each bad one."""
        try:
            for line in parse(chunks):
                if isinstance(line, ManifestProblem):
                    self._report(name, line)
                elif problem := refuse(line.path):
                    self._bad_line(name, line, problem)
                elif not promise(line.path, line.value):
                    self._bad_line(name, line, "it is listed twice")
        except WHOLE_STORE_ERRORS:
            raise
        except StoreError as error:
            self._findings.add(FindingKind.UNREADABLE, name, str(error))

    def _report(self, name: str, line: ManifestProblem) -> None:
        if line.unsafe is None:
            self._findings.add(FindingKind.BAD_MANIFEST_LINE, name, f"line {line.line}: {line.detail}")
        else:
            self._findings.add(FindingKind.UNSAFE_PATH, line.unsafe, f"{name}, line {line.line}: {line.detail}")

    def _bad_line(self, name: str, line: ManifestEntry, detail: str) -> None:
        self._findings.add(FindingKind.BAD_MANIFEST_LINE, name, f"line {line.line}: {line.path}: {detail}")

    def _small(self, name: str, limit_bytes: int) -> bytes | None:
        """A small file, or ``None`` and a finding where it cannot be had."""
        try:
            content = read_small(self._store, name, limit_bytes)
        except WHOLE_STORE_ERRORS:
            raise
        except StoreError as error:
            self._findings.add(FindingKind.UNREADABLE, name, str(error))
            return None
        if content is None:
            self._findings.add(FindingKind.UNREADABLE, name, f"it has more than {limit_bytes} bytes")
        return content


def _parse_unhashed(content: bytes) -> list[tuple[str, str, bytes | None]]:
    """Path, reason and MD5 of each file; raises ``ValueError``, ``KeyError`` or ``TypeError`` for another form."""
    files = []
    for file in json.loads(content.decode("utf-8"))["files"]:
        path, reason, md5 = file["path"], file["reason"], file.get("md5")
        if not isinstance(path, str) or not isinstance(reason, str):
            raise TypeError("path and reason are strings")
        files.append((path, reason, None if md5 is None else bytes.fromhex(md5)))
    return files


def _is_payload(path: str) -> bool:
    return path.startswith(PAYLOAD)


def _refuse_tag(path: str) -> str | None:
    return None if _is_payload(path) else f"it is not under {PAYLOAD}"


def _is_safe(path: str) -> bool:
    try:
        check_path(path, UNHASHED)
    except UnsafePathError:
        return False
    return True


def _shown(value: object) -> str:
    return ascii(str(value)[:_SHOWN_CHARACTERS])
