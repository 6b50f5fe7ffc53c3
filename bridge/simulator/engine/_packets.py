"""The packets of PowerShell's transport over stdin and stdout, and what can be seen of the PSRP inside them."""

from __future__ import annotations

import base64
import binascii
import re
import struct
import uuid
from dataclasses import dataclass
from typing import Final

POOL: Final = uuid.UUID(int=0)
"""Packets of the runspace pool itself carry this id."""

_PACKET: Final = re.compile(
    rb"<(?P<kind>Data|DataAck|CommandAck|SignalAck|CloseAck)\b[^>]*?\bPSGuid=['\"](?P<id>[0-9A-Fa-f-]{36})['\"]"
    rb"[^>/]*(?:/>|>(?P<data>[^<]*)</Data>)"
)
_FRAGMENT_HEADER: Final = struct.Struct(">QQBI")
_START, _END = 1, 2
_PIPELINE_STATE_TYPE: Final = 0x00041006
_PIPELINE_STATE: Final = re.compile(rb'N="PipelineState">(\d+)<')
_ENDED_STATES: Final = (3, 4, 5)
"""Stopped, Completed, Failed (MS-PSRP 2.2.3.5)."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet; ``data`` are whole PSRP fragments."""

    kind: str
    target: uuid.UUID
    data: bytes = b""

    def to_line(self) -> bytes:
        """The packet as a line, as PowerShell's client writes it (recorded)."""
        if self.kind == "Data":
            text = base64.b64encode(self.data).decode("ascii")
            return f"<Data Stream='Default' PSGuid='{self.target}'>{text}</Data>\n".encode("ascii")
        return f"<{self.kind} PSGuid='{self.target}' />\n".encode("ascii")


def read_packet(line: bytes) -> Packet | None:
    """The packet of a server's line, or None where the line is none."""
    found = _PACKET.search(line)
    if found is None:
        return None
    try:
        data = base64.b64decode(found["data"] or b"", validate=True)
    except binascii.Error:
        return None
    return Packet(found["kind"].decode("ascii"), uuid.UUID(found["id"].decode("ascii")), data)


def split_fragments(data: bytes) -> list[bytes]:
    """Whole fragments one by one (MS-PSRP 2.2.4).

    Raises:
        ValueError: The data is not made of whole fragments.
    """
    fragments = []
    while data:
        if len(data) < _FRAGMENT_HEADER.size:
            raise ValueError("a fragment is cut off in its header")
        size = _FRAGMENT_HEADER.size + int(_FRAGMENT_HEADER.unpack_from(data)[3])
        if len(data) < size:
            raise ValueError("a fragment is cut off")
        fragments.append(data[:size])
        data = data[size:]
    return fragments


def message_ids(data: bytes) -> tuple[uuid.UUID, uuid.UUID]:
    """Ids of the runspace pool and of the pipeline in the message that ``data`` begins with (MS-PSRP 2.2.1).

    Raises:
        ValueError: It does not begin with a message.
    """
    blob = data[_FRAGMENT_HEADER.size : _FRAGMENT_HEADER.size + 40]
    if len(blob) < 40:
        raise ValueError("no PSRP message")
    return uuid.UUID(bytes_le=blob[8:24]), uuid.UUID(bytes_le=blob[24:40])


def message_type(data: bytes) -> int:
    """The type of the message that ``data`` begins with (MS-PSRP 2.2.1); 0 where it begins with none."""
    blob = data[_FRAGMENT_HEADER.size : _FRAGMENT_HEADER.size + 8]
    return int.from_bytes(blob[4:8], "little") if len(blob) == 8 and data[16] & _START else 0


def whole_message(object_id: int, kind: int, pool: uuid.UUID, clixml: str) -> bytes:
    """A message of the runspace pool to its client, as one fragment."""
    blob = struct.pack("<II16s16s", 1, kind, pool.bytes_le, POOL.bytes_le) + clixml.encode()
    return _FRAGMENT_HEADER.pack(object_id, 0, _START | _END, len(blob)) + blob


class EndOfPipeline:
    """Sees in a pipeline's fragments that it has ended, without reading anything else."""

    def __init__(self) -> None:
        self._state: bytearray | None = None

    def seen_in(self, fragment: bytes) -> bool:
        """True with the last fragment of a PIPELINE_STATE that ends the pipeline."""
        flags = fragment[16]
        blob = fragment[_FRAGMENT_HEADER.size :]
        if flags & _START:
            is_state = len(blob) >= 8 and int.from_bytes(blob[4:8], "little") == _PIPELINE_STATE_TYPE
            self._state = bytearray() if is_state else None
        if self._state is None:
            return False
        self._state += blob
        if not flags & _END:
            return False
        found = _PIPELINE_STATE.search(self._state)
        self._state = None
        return found is not None and int(found[1]) in _ENDED_STATES
