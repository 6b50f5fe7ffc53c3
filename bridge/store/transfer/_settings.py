"""How a transfer behaves on its line: connections, block sizes, checksums, rate, quiet hours."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Literal

from bridge.errors import UsageError
from bridge.store._block_limits import MAX_BLOCK_BYTES

Checksum = Literal["auto", "crc64", "md5"]

_RATE = re.compile(r"(?i)^\s*(\d+(?:\.\d+)?)\s*([kmg]?)\s*(bits?|bps|bit/s)?\s*$")
_HOURS = re.compile(r"^\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*$")


def local_now() -> datetime:
    """The time of this machine's zone, aware."""
    return datetime.now().astimezone()


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A daily span of local time in which nothing is sent; it may run over midnight."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> QuietHours:
        """Reads ``08:00-18:00``.

        Raises:
            UsageError: it is not of that form, not a time of day, or empty.
        """
        found = _HOURS.match(text)
        try:
            if found is None:
                raise ValueError(text)
            hours = [int(group) for group in found.groups()]
            quiet = cls(time(hours[0], hours[1]), time(hours[2], hours[3]))
        except ValueError:
            raise UsageError(
                detail=f"quiet hours {text!r} are not a span of a day", fix="Write them as 08:00-18:00."
            ) from None
        if quiet.start == quiet.end:
            raise UsageError(detail=f"quiet hours {text!r} are empty", fix="Write them as 08:00-18:00.")
        return quiet

    def until(self, now: datetime) -> datetime | None:
        """When the quiet hours that ``now`` lies in end, in the zone of ``now``; ``None`` outside of them."""
        clock = now.time().replace(tzinfo=None)
        if self.start < self.end:
            if not self.start <= clock < self.end:
                return None
            day = now.date()
        else:
            if self.end <= clock < self.start:
                return None
            day = now.date() + timedelta(days=1 if clock >= self.start else 0)
        return datetime.combine(day, self.end, now.tzinfo)


def parse_rate(text: str) -> int:
    """Bits per second of ``20Mbit``, ``512k``, ``1.5 Gbit`` or ``64000bit``.

    Raises:
        UsageError: it is not a rate, has no unit (``5`` is meant as 5 Mbit as a rule), or is not above zero.
    """
    found = _RATE.match(text)
    if found is None or float(found[1]) <= 0:
        raise UsageError(
            detail=f"{text!r} is not a rate", fix="Write it in bits per second, such as 20Mbit or 512kbit."
        )
    if not found[2] and not found[3]:
        raise UsageError(detail=f"the rate {text!r} has no unit", fix=f"Write {found[1]}Mbit or {found[1]}kbit.")
    return max(round(float(found[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[found[2].lower()]), 1)


@dataclass(frozen=True, slots=True)
class LinePolicy:
    """What the line may be used for at this moment; ``paused`` until somebody says otherwise, for nothing."""

    limit_rate_bits_per_s: int | None = None
    quiet_hours: QuietHours | None = None
    paused: bool = False


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """What a caller may fix; every default is chosen from what is seen on the line.

    ``policy`` may be a callable: it is asked once a second while a transfer runs, so the rate can change under way.
    ``give_up_after_s`` is how long nothing at all may get through before the delivery fails.
    """

    connections: int | None = None
    block_size_bytes: int | None = None
    checksum: Checksum = "auto"
    policy: LinePolicy | Callable[[], LinePolicy] = LinePolicy()
    io_timeout_s: float = 60.0
    give_up_after_s: float = 900.0
    connect_give_up_after_s: float = 60.0
    first_back_off_s: float = 0.5
    longest_back_off_s: float = 30.0
    now: Callable[[], datetime] = field(default=local_now, repr=False)

    def __post_init__(self) -> None:
        if self.connections is not None and not 1 <= self.connections <= 64:
            raise UsageError(detail=f"{self.connections} connections are not between 1 and 64", fix="")
        if self.block_size_bytes is not None and not 4096 <= self.block_size_bytes <= MAX_BLOCK_BYTES:
            raise UsageError(
                detail=f"a block of {self.block_size_bytes} bytes is not between 4 KiB and 100 MiB", fix=""
            )

    def current_policy(self) -> LinePolicy:
        return self.policy() if callable(self.policy) else self.policy
