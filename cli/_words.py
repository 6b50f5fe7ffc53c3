"""Sizes, durations and times as people read them."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime

# C0 and C1 controls but tab and line feed, marks that turn the direction of writing, line separators, half characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SPECIAL_ON_WINDOWS = re.compile(r"[^\w\\/:.~@+-]")
_MOST_NAMED = 3
_UNITS = ("B", "KB", "MB", "GB", "TB")


def printable(text: str) -> str:
    """The text with what could redraw or mislead a terminal written out; the other end may have sent it.

    It is written as ``\\u001b``, so that a line of JSON stays the same JSON.
    """
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shortened(text: str, most: int = 1000) -> str:
    """The text, or its beginning and how much more there is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most:,} more characters)"


def size(count: int) -> str:
    """Bytes in decimal units, as file managers and lines of so many Mbit/s count them: ``1.4 GB``."""
    value = float(count)
    for unit in _UNITS:
        if abs(value) < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def bit_rate(bits_per_s: float) -> str:
    """``20 Mbit/s``, as lines are measured."""
    for factor, unit in ((1e9, "Gbit"), (1e6, "Mbit"), (1e3, "kbit")):
        if bits_per_s >= factor:
            return f"{bits_per_s / factor:.3g} {unit}/s"
    return f"{bits_per_s:.0f} bit/s"


def duration(seconds: float) -> str:
    """``0:07``, ``12:33`` or ``3:04:05``."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def local_time(moment: datetime | str | None, *, seconds: bool = False) -> str:
    """A moment in this machine's zone, to the minute or the second; ``-`` where there is none."""
    if moment is None:
        return "-"
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return moment.astimezone().strftime(f"%Y-%m-%d %H:%M{':%S' if seconds else ''} %Z")


def named(names: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more (--json names all)" if more > 0 else "")


def quoted(text: str) -> str:
    """A place as it can be pasted into a shell: a POSIX one, or on Windows PowerShell and cmd alike."""
    on_windows = f'"{text}"' if _SPECIAL_ON_WINDOWS.search(text) else text
    return on_windows if sys.platform == "win32" else shlex.quote(text)
