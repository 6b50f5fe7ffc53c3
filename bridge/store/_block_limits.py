"""How many blocks a blob may have, and how large one may be."""

from __future__ import annotations

MAX_BLOCKS = 50_000
"""Committed blocks of a block blob (Put Block List, Remarks)."""
MAX_BLOCK_BYTES = 100 << 20
"""What every service takes: Put Block's limit in versions 2016-05-31 to 2019-07-07 (Put Block, Remarks)."""

_LARGE_SINCE = "2019-12-12"  # Put Block, Remarks
_MAX_LARGE_BYTES = 4000 << 20


def max_block_bytes(api_version: str) -> int:
    """What a service takes that is spoken to in this version."""
    return _MAX_LARGE_BYTES if api_version >= _LARGE_SINCE else MAX_BLOCK_BYTES
