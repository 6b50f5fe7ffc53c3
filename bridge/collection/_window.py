"""The window of a collection: two aware times, read from what an operator types."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from bridge.errors import WindowError

DEFAULT_SINCE = "4h"
"""The operator articles' window (GETLOG); the reference says one hour, so it is never left to the endpoint."""

_RELATIVE = re.compile(r"(?i)^-?(?:(\d{1,4})w)?(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,8})m(?:in)?)?$")


@dataclass(frozen=True, slots=True)
class Window:
    """The time span whose logs are asked for; both ends are aware.

    Raises:
        WindowError: an end is naive, or the window is reversed or empty.
    """

    since: datetime
    until: datetime

    def __post_init__(self) -> None:
        for name, moment in (("start", self.since), ("end", self.until)):
            if moment.utcoffset() is None:
                raise WindowError(detail=f"its {name} {moment.isoformat()} has no time zone")
        if self.since >= self.until:
            raise WindowError(
                detail=f"it starts at {self.since.isoformat()} and ends at {self.until.isoformat()}, not after that",
                fix="Give the earlier time as the start (--since) and the later one as the end (--until).",
            )

    @property
    def length(self) -> timedelta:
        return self.until - self.since

    def to_json(self) -> dict[str, str]:
        return {
            "since": self.since.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "until": self.until.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        }


def parse_window(since: str | None, until: str | None, *, tz: tzinfo, now: datetime) -> Window:
    """Reads a window as an operator types it.

    Args:
        since: ``4h``, ``90m``, ``2d``, ``1d12h`` (before ``now``), ``now``, or ISO 8601; without it, four hours.
        until: the same; without it, ``now``.
        tz: the zone of times that are written without an offset.
        now: the present, aware.

    Raises:
        WindowError: unreadable, in the future, reversed, or a time without offset where a clock change makes it
            mean two instants, none, or a length other than the one that was typed.
    """
    now = now.replace(microsecond=0)
    start, start_naive = _moment(since or DEFAULT_SINCE, tz=tz, now=now)
    end, end_naive = _moment(until or "now", tz=tz, now=now)
    if end > now:
        raise WindowError(
            detail=f"it ends in the future ({end.isoformat()}; it is now {now.astimezone(tz).isoformat()})",
            fix="Give an end that has passed, or none, which means now.",
        )
    window = Window(start, end)
    if (start_naive or end_naive) and start.astimezone(tz).utcoffset() != end.astimezone(tz).utcoffset():
        raise WindowError(
            detail=f"it crosses a clock change of {tz} and is written without an offset",
            fix=f"Write what is meant: from {start.astimezone(tz).isoformat()} to {end.astimezone(tz).isoformat()}.",
        )
    return window


def _moment(text: str, *, tz: tzinfo, now: datetime) -> tuple[datetime, bool]:
    """The instant, and whether it was written without an offset."""
    text = text.strip()
    if text.lower() == "now":
        return now, False
    if text and (match := _RELATIVE.match(text)) and any(match.groups()):
        weeks, days, hours, minutes = (int(part or 0) for part in match.groups())
        try:
            return now - timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes), False
        except OverflowError:
            raise WindowError(detail=f"'{text}' lies before the calendar begins") from None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WindowError(
            detail=f"'{text}' is not a time",
            fix="Write 4h, 90m, 2d, or ISO 8601 such as 2026-03-12T08:00+01:00.",
        ) from None
    if moment.utcoffset() is not None:
        return moment, False
    return _in_zone(moment, tz), True


def _in_zone(moment: datetime, tz: tzinfo) -> datetime:
    first, second = moment.replace(tzinfo=tz, fold=0), moment.replace(tzinfo=tz, fold=1)
    if first.utcoffset() == second.utcoffset():
        return first
    there = first.astimezone(UTC).astimezone(tz).replace(tzinfo=None) == moment
    detail = "comes twice" if there else "does not exist"
    raise WindowError(
        detail=f"{moment.isoformat()} {detail} in {tz}: the clock changes then",
        fix=f"Write it with its offset: {first.isoformat()} or {second.isoformat()}.",
    )
