"""Reading a bundle's own files from a store in bounded pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from bridge.store import Store

CHUNK_BYTES = 1 << 20


def read_chunks(store: Store, path: str, limit_bytes: int | None = None) -> Iterator[bytes]:
    """The bytes of one file, front to back; with a limit, at most that many and one more, so that too much is seen."""
    buffer = bytearray(CHUNK_BYTES)
    left = None if limit_bytes is None else limit_bytes + 1
    with memoryview(buffer) as view, store.open_read(path) as reader:
        while left is None or left > 0:
            count = reader.readinto(view if left is None else view[: min(left, CHUNK_BYTES)])
            if count == 0:
                return
            yield bytes(view[:count])
            left = None if left is None else left - count


def read_small(store: Store, path: str, limit_bytes: int) -> bytes | None:
    """A whole file that is known to be small, or ``None`` where it has more than ``limit_bytes``."""
    content = b"".join(read_chunks(store, path, limit_bytes))
    return content if len(content) <= limit_bytes else None


def sha256_of(store: Store, path: str) -> tuple[int, str]:
    """Size in bytes and SHA-256 (hex) of one file, in one pass."""
    digest = hashlib.sha256()
    size_bytes = 0
    for chunk in read_chunks(store, path):
        digest.update(chunk)
        size_bytes += len(chunk)
    return size_bytes, digest.hexdigest()
