"""The checksum that a service checks a block by on its arrival: CRC64 where it knows it, MD5 elsewhere."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from enum import IntEnum


class Algorithm(IntEnum):
    """The numbers stand in block ids and in the journal: they never change."""

    CRC64 = 1
    MD5 = 2


@dataclass(frozen=True, slots=True)
class BlockChecksum:
    algorithm: Algorithm
    digest: bytes

    @property
    def base64(self) -> bytes:
        return b64encode(self.digest)


def checksum_of(data: memoryview, algorithm: Algorithm) -> BlockChecksum:
    """The checksum of one block as the service computes it.

    CRC64 is the polynomial 0x9A6C9329AC4BC9B5, reflected, in and out inverted, little-endian on the wire
    (Put Block, ``x-ms-content-crc64``): the same function that is catalogued as CRC-64/NVME, for which awscrt has
    carry-less multiplication (40 GB/s a core, where MD5 gives 0.7).
    """
    if algorithm is Algorithm.MD5:
        return BlockChecksum(algorithm, hashlib.md5(data, usedforsecurity=False).digest())
    from awscrt.checksums import crc64nvme  # 60 ms, and only containers need it

    return BlockChecksum(algorithm, crc64nvme(data).to_bytes(8, "little"))  # type: ignore[arg-type,unused-ignore]
