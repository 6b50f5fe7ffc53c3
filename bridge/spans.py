"""Spans of time and sizes as people type them: ``30m``, ``4h``, ``30d``; ``500GB``, ``2TiB``."""

from __future__ import annotations

import re
from datetime import timedelta

from bridge.errors import UsageError

_SPAN = re.compile(r"(?i)\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)\s*")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE = re.compile(r"(?i)\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b\s*")
_LONGEST = timedelta(days=36500)


def parse_span(text: str) -> timedelta:
    """A span of time longer than nothing.

    Raises:
        UsageError: it is none.
    """
    match = _SPAN.fullmatch(text)
    seconds = float(match[1]) * _SECONDS[match[2].lower()] if match else 0.0
    if not 0 < seconds <= _LONGEST.total_seconds():
        raise UsageError(detail=f"{text!r} is not a span of time.", fix="Write it like 30m, 4h or 30d.")
    return timedelta(seconds=seconds)


def parse_size(text: str) -> int:
    """Bytes: ``GB`` is 10^9, ``GiB`` 2^30.

    Raises:
        UsageError: it is no size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(detail=f"{text!r} is not a size.", fix="Write it like 500GB or 2TiB.")
    unit: int = (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * unit)
