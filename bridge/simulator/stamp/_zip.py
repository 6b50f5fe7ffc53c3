"""Writes a planned zip to a sink front to back, never holding more than a chunk."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO, Any, cast

from bridge.simulator.stamp._destination import Sink
from bridge.simulator.stamp._plan import Member, ZipPlan

_DEFLATED_UP_TO_BYTES = 4 * 1024
_FEWEST_BYTES_A_WRITE = 1024 * 1024


class ZipSink:
    """What a zip is written through: gathers small writes, tells how far it is, and may end in the middle.

    ``advance`` is called with the bytes of each write. ``limit_bytes`` cuts the file there, as a copy that failed does.
    """

    def __init__(self, sink: Sink, advance: Callable[[int], None], limit_bytes: int | None = None) -> None:
        self._sink = sink
        self._advance = advance
        self._held = bytearray()
        self._left = limit_bytes
        self.written_bytes = 0

    def write(self, data: bytes) -> int:
        self._held += data
        if len(self._held) >= _FEWEST_BYTES_A_WRITE:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Passes on what is held."""
        data = bytes(self._held) if self._left is None else bytes(self._held[: self._left])
        self._held.clear()
        if self._left is not None:
            self._left -= len(data)
        if data:
            self._sink.write(data)
            self.written_bytes += len(data)
            self._advance(len(data))


def write_zip(sink: ZipSink, plan: ZipPlan, made_at: datetime) -> None:
    """Writes the zip, then flushes; ``made_at`` becomes the time of its members (UTC)."""
    _write(sink, plan.members, made_at)
    sink.flush()


def _write(target: Any, members: tuple[Member, ...], made_at: datetime) -> None:
    # zipfile asks only write and flush of an object without seek, and then uses data descriptors (APPNOTE 4.3.9).
    with zipfile.ZipFile(cast("IO[bytes]", target), "w", zipfile.ZIP_STORED) as archive:
        for member in members:
            with archive.open(_info(member, made_at), "w") as file:
                if member.members:
                    _write(_Nested(file), member.members, made_at)
                else:
                    for chunk in member.kind(member.source, member.span, member.size_bytes):
                        file.write(chunk)


def _info(member: Member, made_at: datetime) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(member.path, made_at.astimezone(UTC).timetuple()[:6])
    info.create_system = 0  # as a Windows machine says
    small = not member.members and member.size_bytes <= _DEFLATED_UP_TO_BYTES
    info.compress_type = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
    return info


class _Nested:
    """A member as a target: zipfile closes what it is given only if it opened it, and flushes what it does not own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        """The outer zip's sink flushes."""
