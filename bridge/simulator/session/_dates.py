"""Dates as a .NET host reads them from CLIXML (psrp-facts, Dates; compared with the engine in tests/simulator).

One with a numeric offset becomes the machine's local time (``Kind`` Local), one that ends in Z stays UTC (``Kind``
Utc), one without either has no zone (``Kind`` Unspecified). A command that ignores ``Kind`` therefore sees the wrong
hour where a client sent Z.
"""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from typing import Final

_WITH_OFFSET: Final = re.compile(
    rb"(?P<tag><DT\b[^>]*>)(?P<date>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?P<fraction>\.\d+)?(?P<offset>[+-]\d\d:\d\d)(?=</DT>)"
)


def to_machine_time(clixml: bytes, zone: tzinfo) -> bytes:
    """The same payload with every date that has a numeric offset told in the machine's zone."""

    def convert(match: re.Match[bytes]) -> bytes:
        try:
            instant = datetime.fromisoformat((match["date"] + match["offset"]).decode("ascii")).astimezone(zone)
        except (ValueError, OverflowError):  # no date, or out of range there: whoever reads it says so
            return match[0]
        text = instant.isoformat(timespec="seconds")
        return match["tag"] + text[:19].encode() + (match["fraction"] or b"") + text[19:25].encode()

    return _WITH_OFFSET.sub(convert, clixml) if b"<DT" in clixml else clixml
