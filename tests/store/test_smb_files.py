"""What a share's server says of its files is read with care: it may be anybody's."""

from __future__ import annotations

import struct

import pytest

from bridge.store._smb_channel import ChannelLostError
from bridge.store._smb_files import _listed


def listing(size_bytes: int, written_at: int) -> memoryview:
    """One entry of FileFullDirectoryInformation (MS-FSCC 2.4.17)."""
    name = "role.zip".encode("utf-16-le")
    fixed = struct.pack("<IIqqqqqqIII", 0, 0, 0, 0, written_at, 0, size_bytes, 0, 0x20, len(name), 0)
    return memoryview(fixed + name)


@pytest.mark.parametrize("written_at", [0, 133_000_000_000_000_000, 2**63 - 1, -1])
def test_a_name_is_read_with_its_size_and_time(written_at: int) -> None:
    [found] = _listed(listing(2**63 - 1, written_at))
    assert (found.name, found.size_bytes, found.written_at) == ("role.zip", 2**63 - 1, written_at)


def test_a_size_that_no_file_has_is_refused() -> None:
    with pytest.raises(ChannelLostError, match="below zero"):
        list(_listed(listing(-1, 0)))
