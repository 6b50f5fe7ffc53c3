"""Sealing: the files that make a bundle of a folder with a payload, the one that makes it a bundle last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bridge.bundle._files import CHUNK_BYTES, read_small
from bridge.bundle._ledger import Ledger
from bridge.bundle._manifest import format_line
from bridge.bundle._names import format_bundle_id, name_of_unsafe
from bridge.bundle._tags import (
    BAG_INFO,
    DECLARATION,
    DECLARATION_CONTENT,
    MANIFEST,
    PAYLOAD,
    SIZES,
    TAG_MANIFEST,
    UNHASHED,
    BagInfo,
    format_bag_info,
    in_words,
)
from bridge.errors import (
    SealingError,
    StoreError,
    StoreFullError,
    StoreNotFoundError,
    UnsafePathError,
)
from bridge.store import Store, check_path

_NAMED_IN_MESSAGE = 5
OWN_FILES = frozenset({DECLARATION, BAG_INFO, MANIFEST, TAG_MANIFEST, SIZES, UNHASHED})
"""What the format itself puts beside the payload; a collection's documents come on top."""
STRANGER = "it lies beside the payload and is no part of the bundle"

_NO_DIGEST = "found_bytes IS NOT NULL AND in_manifest = 0 AND unhashed = 0"
_NOT_THERE = "found_bytes IS NULL"
_OTHER_SIZE = "found_bytes IS NOT NULL AND expected_bytes IS NOT NULL AND found_bytes <> expected_bytes"


class FileDigest(Protocol):
    """What is known of one payload file from the pass that read it; the transfer engine's results are this.

    ``path`` is relative to the bundle's root (``data/...``), ``sha256`` is in hex.
    """

    @property
    def path(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Unhashed:
    """A payload file that nobody could read, and why: the bundle says so instead of passing over it.

    ``path`` is relative to the bundle's root. ``md5`` is what the service says of the file, where it says anything.
    """

    path: str
    size_bytes: int | None
    reason: str
    md5: bytes | None = None


@dataclass(frozen=True, slots=True)
class SealedBundle:
    """What sealing made. ``bundle_id`` is the SHA-256 (hex) of ``tagmanifest-sha256.txt``; counts are of the payload,
    and ``unhashed_*`` is the part of it that no checksum proves."""

    bundle_id: str
    payload_files: int
    payload_bytes: int
    unhashed_files: int = 0
    unhashed_bytes: int = 0

    @property
    def spoken(self) -> str:
        """The id in groups, to be read over the phone."""
        return format_bundle_id(self.bundle_id)


@dataclass(frozen=True, slots=True)
class _TagFile:
    name: str
    chunks: Callable[[], Iterable[bytes]]


def seal(
    store: Store,
    *,
    digests: Iterable[FileDigest],
    documents: Mapping[str, bytes | Path],
    info: BagInfo,
    unhashed: Iterable[Unhashed] = (),
) -> SealedBundle:
    """Makes a bundle of the payload under ``data/``; reads none of it and writes ``bagit.txt`` last.

    The same arguments give the same bytes, in any store and after any crash. What lies under ``data/`` is listed once
    and must be what the digests say: a file that landed after the hashing stops the seal instead of slipping in. A
    name that no store could hold safely, and a file beside the payload that is none of the bundle's own, are recorded
    as unhashed; nothing is done with them.

    Args:
        store: rooted at the bundle.
        digests: one for each payload file that could be read.
        documents: the bundle's other files by name (``collection.json`` ...): bytes, or a local file that is streamed.
        info: what bag-info.txt says.
        unhashed: the payload files that could not be read.

    Raises:
        SealingError: the payload is not what the digests say, the bundle is sealed already with other content, or a
            file could not be written. No ``bagit.txt`` is left behind.
        StoreFullError: there is no space for the bundle's own files.
    """
    with Ledger() as ledger:
        try:
            return _seal(
                store,
                ledger,
                digests=digests,
                documents=_checked_documents(documents),
                info=info,
                unhashed=unhashed,
            )
        except (SealingError, StoreFullError):
            raise
        except StoreError as error:
            raise SealingError(detail=str(error), fix=error.advice) from error
        except OSError as error:  # a document that is a local file
            raise SealingError(detail=f"a document could not be read: {error}") from error


@dataclass(frozen=True, slots=True)
class _Payload:
    """What sealing knows of the payload beside the ledger: its size, what of it no checksum proves, and what lies
    beside it without being part of the bundle."""

    files: int
    size_bytes: int
    unhashed: tuple[Unhashed, ...]
    strangers: tuple[Unhashed, ...]

    @property
    def unproven(self) -> tuple[Unhashed, ...]:
        return tuple(sorted((*self.unhashed, *self.strangers), key=lambda file: file.path))


def _seal(
    store: Store,
    ledger: Ledger,
    *,
    digests: Iterable[FileDigest],
    documents: Mapping[str, bytes | Path],
    info: BagInfo,
    unhashed: Iterable[Unhashed],
) -> SealedBundle:
    given = _promise(ledger, digests, unhashed)
    unsafe, beside = _find(store, ledger)
    _refuse_differences(ledger)
    files, size_bytes = ledger.total("found_bytes IS NOT NULL")
    strangers = tuple(
        Unhashed(path, size, STRANGER)
        for path, size in beside.items()
        if path not in OWN_FILES and path not in documents
    )
    payload = _Payload(files + len(unsafe), size_bytes, (*given, *unsafe), strangers)
    bundle_id = _write_all(store, _tag_files(ledger, documents, info, payload), set(beside))
    unproven = payload.unproven
    return SealedBundle(
        bundle_id, payload.files, size_bytes, len(unproven), sum(file.size_bytes or 0 for file in unproven)
    )


# -- what the payload is ----------------------------------------------------------------------------------------------


def _promise(ledger: Ledger, digests: Iterable[FileDigest], unhashed: Iterable[Unhashed]) -> list[Unhashed]:
    for digest in digests:
        path = _payload_path(digest.path)
        if not ledger.promise_sha256(path, digest.sha256.lower()):
            raise SealingError(detail=f"{path} was hashed twice")
        ledger.promise_size(path, digest.size_bytes)
    unread = list(unhashed)
    for file in unread:
        ledger.promise_unhashed(_payload_path(file.path))
        if file.size_bytes is not None:
            ledger.promise_size(file.path, file.size_bytes)
    return unread


def _find(store: Store, ledger: Ledger) -> tuple[list[Unhashed], dict[str, int]]:
    """Enters what is there; returns what has an unsafe name, and the files beside the payload with their sizes."""
    unsafe: dict[str, Unhashed] = {}
    beside: dict[str, int] = {}

    def record(error: UnsafePathError) -> None:
        name = name_of_unsafe(error)
        unsafe[name] = Unhashed(name, None, f"unsafe name: {error.fields['detail']}")

    for entry in store.list(on_unsafe=record):
        if entry.path.startswith(PAYLOAD):
            ledger.find(entry)
        else:
            beside[entry.path] = entry.size_bytes
    return list(unsafe.values()), beside


def _payload_path(path: str) -> str:
    if not path.startswith(PAYLOAD):
        raise SealingError(detail=f"{path} is not under {PAYLOAD}")
    return check_path(path, "payload")


def _refuse_differences(ledger: Ledger) -> None:
    for where, what in (
        (_NO_DIGEST, "landed after the payload was hashed, or was never hashed"),
        (_NOT_THERE, "was hashed and is not there any more"),
        (_OTHER_SIZE, "changed its size after it was hashed"),
    ):
        count, _ = ledger.total(where)
        if count:
            names = [row.path for _, row in zip(range(_NAMED_IN_MESSAGE), ledger.rows(where), strict=False)]
            more = f" and {count - len(names)} more" if count > len(names) else ""
            raise SealingError(
                detail=f"the payload is not what was hashed: {', '.join(names)}{more} {what}",
                fix="Wait until nothing is written to the payload any more, and seal again.",
            )


# -- what is written --------------------------------------------------------------------------------------------------


def _checked_documents(documents: Mapping[str, bytes | Path]) -> Mapping[str, bytes | Path]:
    for name in documents:
        if name in OWN_FILES or name.startswith(PAYLOAD):
            raise SealingError(detail=f"{name} is not a name that a document may have")
        check_path(name, "documents")
    return documents


def _document(name: str, content: bytes | Path) -> _TagFile:
    return _TagFile(name, lambda: [content] if isinstance(content, bytes) else _read_local(content))


def _read_local(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _manifest_lines(ledger: Ledger) -> Iterator[bytes]:
    for row in ledger.rows("in_manifest = 1"):
        yield format_line(row.expected_sha256 or "", row.path)


def _size_lines(ledger: Ledger) -> Iterator[bytes]:
    for row in ledger.rows("found_bytes IS NOT NULL"):
        yield format_line(str(row.found_bytes), row.path)


def _batched(lines: Iterator[bytes]) -> Iterator[bytes]:
    batch = bytearray()
    for line in lines:
        batch += line
        if len(batch) >= CHUNK_BYTES:
            yield bytes(batch)
            batch.clear()
    if batch:
        yield bytes(batch)


def _unhashed_document(unread: Iterable[Unhashed]) -> bytes:
    files = [
        {
            "path": file.path,
            "size_bytes": file.size_bytes,
            "reason": file.reason,
            "md5": None if file.md5 is None else file.md5.hex(),
        }
        for file in unread
    ]
    return json.dumps({"schema_version": 1, "files": files}, indent=1, sort_keys=True).encode() + b"\n"


def _bag_info(info: BagInfo, payload: _Payload) -> bytes:
    # No Payload-Oxum beside unhashed files: a quick check by counts alone would call that bag valid.
    proven = ("Payload-Oxum", f"{payload.size_bytes}.{payload.files}")
    counts = [] if payload.unhashed else [proven]
    if payload.unproven:
        counts.append(("Unhashed-Files", str(len(payload.unproven))))
    return format_bag_info([*info.fields(), *counts, ("Bag-Size", in_words(payload.size_bytes))])


def _tag_files(
    ledger: Ledger, documents: Mapping[str, bytes | Path], info: BagInfo, payload: _Payload
) -> list[_TagFile]:
    tag_files = [_document(name, content) for name, content in sorted(documents.items())]
    if payload.unproven:
        tag_files.append(_document(UNHASHED, _unhashed_document(payload.unproven)))
    return [
        *tag_files,
        _TagFile(MANIFEST, lambda: _batched(_manifest_lines(ledger))),
        _TagFile(SIZES, lambda: _batched(_size_lines(ledger))),
        _document(BAG_INFO, _bag_info(info, payload)),
    ]


# -- the order of writing ---------------------------------------------------------------------------------------------


def _write_all(store: Store, tag_files: list[_TagFile], beside: set[str]) -> str:
    sealed = DECLARATION in beside
    digests = {tag.name: _digest(tag) if sealed else _write(store, tag) for tag in tag_files}
    digests[DECLARATION] = hashlib.sha256(DECLARATION_CONTENT).hexdigest()
    content = b"".join(format_line(digests[name], name) for name in sorted(digests))
    if sealed:
        _refuse_other_content(store, content)
    else:
        if UNHASHED in beside and UNHASHED not in digests:
            store.remove(UNHASHED)  # an earlier attempt left it
        _write(store, _document(TAG_MANIFEST, content))
        _write_declaration(store)
    return hashlib.sha256(content).hexdigest()


def _refuse_other_content(store: Store, content: bytes) -> None:
    try:
        there = read_small(store, TAG_MANIFEST, len(content))
    except StoreNotFoundError:
        there = None
    if there != content:
        raise SealingError(
            detail=f"{store.location} is sealed already, with other content",
            fix="A sealed bundle is not changed. Check it with 'pep-bridge verify'.",
        )


def _digest(tag: _TagFile) -> str:
    digest = hashlib.sha256()
    for chunk in tag.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def _write(store: Store, tag: _TagFile) -> str:
    digest = hashlib.sha256()
    with store.open_write(tag.name) as writer:
        for chunk in tag.chunks():
            digest.update(chunk)
            writer.write(chunk)
        writer.commit()
    return digest.hexdigest()


def _write_declaration(store: Store) -> None:
    try:
        _write(store, _document(DECLARATION, DECLARATION_CONTENT))
    except BaseException:
        # The answer to the commit may be what was lost: a bundle that was reported as failed must not be one.
        with suppress(StoreError):
            store.remove(DECLARATION)
        raise
