"""Opening a sealed bundle: its id, what bag-info says, and its documents, each within limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bridge.bundle._files import read_chunks, read_small, sha256_of
from bridge.bundle._manifest import MAX_MANIFEST_BYTES, ManifestEntry, parse_manifest, parse_sizes
from bridge.bundle._names import format_bundle_id
from bridge.bundle._tags import (
    BAG_INFO,
    DECLARATION,
    MANIFEST,
    MAX_BAG_INFO_BYTES,
    MAX_DECLARATION_BYTES,
    SIZES,
    TAG_MANIFEST,
    parse_bag_info,
    parse_oxum,
    what_is_wrong_with_declaration,
)
from bridge.errors import NoSuchPlaceError, NotABundleError, NothingThereError, StoreError, StoreNotFoundError
from bridge.store import Store

MAX_DOCUMENT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """One line of the manifest: a path relative to the bundle's root, its SHA-256 in hex, and the size that it had when
    it was sealed (``None`` in the bag of another tool, which writes no sizes)."""

    path: str
    size_bytes: int | None
    sha256: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A sealed bundle as it describes itself; only ``verify`` says whether that is true."""

    store: Store
    bundle_id: str
    info: dict[str, tuple[str, ...]]

    @property
    def spoken(self) -> str:
        """The id in groups, to be read over the phone."""
        return format_bundle_id(self.bundle_id)

    def field(self, label: str) -> str | None:
        """The first value of a label of bag-info.txt."""
        return next(iter(self.info.get(label, ())), None)

    @property
    def payload(self) -> tuple[int, int] | None:
        """Octets and files of the payload, as Payload-Oxum has them."""
        return parse_oxum(self.field("Payload-Oxum") or "")

    @property
    def unhashed_files(self) -> int:
        """How many payload files no checksum proves, as bag-info has it."""
        value = self.field("Unhashed-Files") or "0"
        return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else 0

    def files(self) -> Iterator[PayloadFile]:
        """What the manifest lists, in its order; lines that cannot be used are left to ``verify``."""
        sizes = self._sizes()
        size = next(sizes, None)
        for line in parse_manifest(read_chunks(self.store, MANIFEST, MAX_MANIFEST_BYTES)):
            if not isinstance(line, ManifestEntry):
                continue
            while size is not None and size.path < line.path:  # both lists are sorted; unhashed files have a size only
                size = next(sizes, None)
            known = size is not None and size.path == line.path
            yield PayloadFile(line.path, int(size.value) if known and size else None, line.value)

    def own_files(self) -> frozenset[str]:
        """What lies beside the payload and is part of the bundle: what the tag manifest lists, and the tag manifest."""
        lines = parse_manifest(read_chunks(self.store, TAG_MANIFEST, MAX_MANIFEST_BYTES))
        return frozenset({TAG_MANIFEST, *(line.path for line in lines if isinstance(line, ManifestEntry))})

    def _sizes(self) -> Iterator[ManifestEntry]:
        try:
            for line in parse_sizes(read_chunks(self.store, SIZES, MAX_MANIFEST_BYTES)):
                if isinstance(line, ManifestEntry):
                    yield line
        except StoreNotFoundError:
            return  # the bag of another tool

    def document(self, name: str) -> Any:
        """A JSON document (``collection.json``, ``coverage.json``), parsed; raises ``NotABundleError`` where it is
        absent, larger than 64 MiB or not JSON."""
        return read_json(self.store, name)


def read_bundle(store: Store) -> Bundle:
    """The bundle at the root of a store.

    Raises:
        NothingThereError: there is no file at all; the place is another one.
        NotABundleError: no ``bagit.txt`` (not sealed), or no declaration, tag manifest or bag-info that can be read.
        StoreError: the store cannot be read.
    """
    problem = what_is_wrong_with_declaration(_tag_file(store, DECLARATION, MAX_DECLARATION_BYTES))
    if problem:
        raise NotABundleError(where=store.location, detail=f"{DECLARATION}: {problem}")
    try:
        _, bundle_id = sha256_of(store, TAG_MANIFEST)
    except StoreNotFoundError as error:
        raise NotABundleError(where=store.location, detail=f"it has no {TAG_MANIFEST}") from error
    content = _tag_file(store, BAG_INFO, MAX_BAG_INFO_BYTES)
    if content is None:
        raise NotABundleError(where=store.location, detail=f"{BAG_INFO} has more than {MAX_BAG_INFO_BYTES} bytes")
    try:
        info = parse_bag_info(content)
    except UnicodeDecodeError as error:
        raise NotABundleError(where=store.location, detail=f"{BAG_INFO} is not UTF-8") from error
    return Bundle(store, bundle_id, info)


def not_sealed(store: Store) -> NotABundleError:
    """The error for a place without ``bagit.txt``."""
    with suppress(StoreError):  # it may be read and not listed
        if next(store.list(on_unsafe=lambda error: None), None) is None:
            return NothingThereError(where=store.location, detail="nothing is there.")
    return NotABundleError(
        where=store.location,
        detail=f"it has no {DECLARATION}: it is another folder, was never sealed, or is a delivery that has not ended",
        fix="A delivery goes on with the same 'pep-bridge deliver' command, a collection that was cut short with"
        f" 'pep-bridge attach'. Otherwise give the folder that holds {DECLARATION} ('pep-bridge history' shows where"
        " bundles are).",
    )


def read_json(store: Store, name: str) -> Any:
    """A JSON document of a bundle; see ``Bundle.document``."""
    content = _tag_file(store, name, MAX_DOCUMENT_BYTES)
    if content is None:
        raise NotABundleError(where=store.location, detail=f"{name} has more than {MAX_DOCUMENT_BYTES} bytes")
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise NotABundleError(where=store.location, detail=f"{name} is not JSON: {error}") from error


def _tag_file(store: Store, name: str, limit_bytes: int) -> bytes | None:
    try:
        return read_small(store, name, limit_bytes)
    except NoSuchPlaceError:
        raise
    except StoreNotFoundError as error:
        if name == DECLARATION:
            raise not_sealed(store) from error
        raise NotABundleError(where=store.location, detail=f"it has no {name}") from error
