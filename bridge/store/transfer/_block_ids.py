"""Block ids that say which bytes of which content they stand for, so that a later process can go on from them."""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from dataclasses import dataclass

from bridge.store.transfer._checksum import Algorithm, BlockChecksum

_LAYOUT = struct.Struct(">BQI")  # algorithm, offset, size; then the digest, padded
_DIGEST_BYTES = 17  # 13 + 17 = 30 bytes: ids of one length (Put Block demands it), no padding in Base64


@dataclass(frozen=True, slots=True)
class BlockKey:
    """Where a block lies in its file and what the service has checked it by."""

    offset: int
    size_bytes: int
    checksum: BlockChecksum

    def encode(self) -> str:
        head = _LAYOUT.pack(self.checksum.algorithm, self.offset, self.size_bytes)
        return b64encode(head + self.checksum.digest.ljust(_DIGEST_BYTES, b"\0")).decode("ascii")

    @classmethod
    def decode(cls, block_id: str) -> BlockKey | None:
        """The key in a block id; ``None`` where another tool made it."""
        try:
            raw = b64decode(block_id, validate=True)
        except ValueError:
            return None
        if len(raw) != _LAYOUT.size + _DIGEST_BYTES or raw[0] not in {1, 2}:
            return None
        number, offset, size_bytes = _LAYOUT.unpack_from(raw)
        algorithm = Algorithm(number)
        length = 8 if algorithm is Algorithm.CRC64 else 16
        key = cls(offset, size_bytes, BlockChecksum(algorithm, raw[_LAYOUT.size : _LAYOUT.size + length]))
        return key if key.encode() == block_id else None
