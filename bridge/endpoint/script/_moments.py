"""[datetime] and [timespan] as PowerShell computes with them.

A ``datetime`` with tzinfo UTC is one of Kind Utc, one in the client's zone is of Kind Local, a naive one of Kind
Unspecified (.NET, "Choosing between DateTime, DateTimeOffset, TimeSpan, and TimeZoneInfo").
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal

from tzlocal import get_localzone

from bridge.endpoint.script._numeric import NotExactError

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6})\d?)?)?(Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)
_TIMESPAN = re.compile(r"(-)?(?:(\d{1,7})\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?", re.ASCII)
_FORMAT = re.compile(r"yyyy(?!y)|MM(?!M)|dd(?!d)|HH(?!H)|mm(?!m)|ss(?!s)|fff(?!f)|'[^']*'|[-:/_. TZ]")
_STANDARD_FORMATS = {"s": "yyyy-MM-ddTHH:mm:ss", "u": "yyyy-MM-dd HH:mm:ssZ"}
_MILLISECONDS = {"Days": 86_400_000, "Hours": 3_600_000, "Minutes": 60_000, "Seconds": 1000, "Milliseconds": 1}


def local_zone() -> tzinfo:
    """The zone of this machine, with its rules."""
    return get_localzone()


def parse_moment(text: str) -> datetime:
    """A date in ISO 8601 as ``[datetime]'...'`` reads it: with an offset Kind Local, without one Unspecified.

    Raises:
        NotExactError: another form, which depends on the culture, or no such date.
    """
    found = _ISO.fullmatch(text.strip(" "))
    if found is None:
        raise NotExactError("the bridge reads dates in ISO 8601 only, such as 2024-03-12T08:00:00Z")
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    micro = int((fraction or "0").ljust(6, "0"))
    try:
        naive = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micro)  # noqa: DTZ001
        if zone is None:
            return naive
        return _with_offset(naive, zone).astimezone(local_zone())
    except (ValueError, OverflowError) as error:
        raise NotExactError(f"there is no such date ({error})") from error


def _with_offset(naive: datetime, zone: str) -> datetime:
    if zone.upper() == "Z":
        return naive.replace(tzinfo=UTC)
    digits = zone[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return (naive - offset if zone[0] == "+" else naive + offset).replace(tzinfo=UTC)


def parse_span(text: str) -> timedelta:
    """A ``[timespan]'d.hh:mm:ss'``. Raises :class:`NotExactError`."""
    found = _TIMESPAN.fullmatch(text)
    if found is None:
        raise NotExactError("the bridge reads time spans as hh:mm:ss or d.hh:mm:ss only")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups()[1:])
    if hours > 23 or minutes > 59 or seconds > 59:
        raise NotExactError("there is no such time span")
    span = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    return -span if found[1] else span


def span_of(unit: str, amount: int | float) -> timedelta:
    """``[timespan]::FromHours(amount)`` and the like; ``unit`` is ``Hours`` and so on."""
    milliseconds = Decimal(repr(amount)) * _MILLISECONDS[unit]
    if milliseconds != milliseconds.to_integral_value():
        raise NotExactError("Windows PowerShell 5.1 rounds this to a millisecond and PowerShell 7 does not")
    try:
        return timedelta(milliseconds=int(milliseconds))
    except OverflowError as error:
        raise NotExactError("the time span is too long") from error


def add(moment: datetime, span: timedelta) -> datetime:
    """The moment plus the span, on the clock of its own zone, as .NET adds."""
    try:
        return checked(moment + span)
    except OverflowError as error:
        raise NotExactError("there is no such date") from error


def checked(moment: datetime) -> datetime:
    """The moment, unless a change of clocks makes it mean two instants or none."""
    if moment.tzinfo is None or moment.tzinfo is UTC:
        return moment
    if moment.replace(fold=0).utcoffset() != moment.replace(fold=1).utcoffset():
        raise NotExactError("a change of clocks makes this local time ambiguous: use [datetime]::UtcNow")
    return moment


def subtract(left: datetime, right: datetime) -> timedelta:
    """The difference of the two clock readings: .NET ignores Kind here."""
    return left.replace(tzinfo=None) - right.replace(tzinfo=None)


def to_utc(moment: datetime) -> datetime:
    """``ToUniversalTime()``: a moment of Kind Unspecified is taken as local."""
    local = checked(moment.replace(tzinfo=local_zone())) if moment.tzinfo is None else moment
    return local.astimezone(UTC)


def to_local(moment: datetime) -> datetime:
    """``ToLocalTime()``: a moment of Kind Unspecified is taken as UTC."""
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(local_zone())


def format_moment(moment: datetime, pattern: str) -> str:
    """``ToString(pattern)`` in en-US, for the patterns that mean the same in both versions."""
    pattern = _STANDARD_FORMATS.get(pattern, pattern)
    pieces: list[str] = []
    at = 0
    while at < len(pattern):
        found = _FORMAT.match(pattern, at)
        if found is None or len(pattern) == 1:
            raise NotExactError("the bridge knows the patterns yyyy MM dd HH mm ss fff, 's' and 'u' only")
        pieces.append(_format_piece(moment, found[0]))
        at = found.end()
    return "".join(pieces)


def _format_piece(moment: datetime, piece: str) -> str:
    match piece:
        case "yyyy":
            return f"{moment.year:04d}"
        case "MM":
            return f"{moment.month:02d}"
        case "dd":
            return f"{moment.day:02d}"
        case "HH":
            return f"{moment.hour:02d}"
        case "mm":
            return f"{moment.minute:02d}"
        case "ss":
            return f"{moment.second:02d}"
        case "fff":
            return f"{moment.microsecond // 1000:03d}"
        case _:
            return piece.strip("'")
