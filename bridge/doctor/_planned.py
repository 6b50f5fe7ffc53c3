"""What exactly a collection would run, and what it would bring: everything that can be said without the endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bridge.collection import Access, Plan, Request, RunRecord, Window, default_ports, plan_run
from bridge.doctor._forecast import Forecast, make_forecast
from bridge.secrets import Credential, Scrubber, Secret

BUNDLE = "<bundle>"
"""Stands for the bundle's name, which begins with the time of the start and ends with a random part."""
_NOT_SHOWN = Secret("sig=not-shown")


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with its forecast. ``free_bytes`` by location; ``None`` where nobody says."""

    request: Request
    plan: Plan
    forecast: Forecast
    stamp_zone: tzinfo | None
    rate_bits_per_s: int | None
    free_bytes: Mapping[str, int | None]
    warnings: tuple[str, ...]

    @property
    def commands(self) -> list[dict[str, Any]]:
        """The commands in the engine's form, secrets blanked."""
        return shown_commands(self.plan)

    def to_json(self) -> dict[str, Any]:
        """``data`` of ``plan --json``."""
        line = self.forecast.line_time(self.rate_bits_per_s).to_json() if self.rate_bits_per_s else None
        return {
            "stamp": self.request.stamp.name,
            "way": str(self.plan.way),
            "script": self.plan.script,
            "commands": self.commands,
            "window": show_window(self.request.window, self.stamp_zone),
            "roles": list(self.request.roles),
            "destination": self.request.destination.location,
            "staging": self.request.staging.location if self.request.staging else None,
            "expected": self.forecast.to_json(),
            "line": {"rate_bits_per_s": self.rate_bits_per_s, "seconds": line} if line else None,
            "free_bytes": dict(self.free_bytes),
            "warnings": list(self.warnings),
        }


def make_plan(
    request: Request,
    runs: Sequence[RunRecord],
    *,
    share_username: str | None = None,
    staging_username: str | None = None,
    rate_bits_per_s: int | None = None,
    free_bytes: Mapping[str, int | None] | None = None,
    now: datetime,
) -> Planned:
    """Makes a plan without any secret: where one belongs, the command shows that there will be one.

    Args:
        runs: what the journal has of this stamp.
        share_username: who writes to the destination, where that is a share.
        free_bytes: what was seen to be free, by location.

    Raises:
        PreflightError: the endpoint could not write to the destination.
    """
    access = Access(
        Credential(request.stamp.username or "", _NOT_SHOWN),
        destination=_opener(request.destination.kind, share_username),
        staging=Credential(staging_username, _NOT_SHOWN) if request.staging and staging_username else None,
    )
    plan = plan_run(request, access, BUNDLE, bind=default_ports().bind, now=now)
    forecast = make_forecast(request, runs)
    zone = find_zone(request.stamp.timezone)
    free = free_bytes or {}
    warnings = [*plan.warnings, *_warnings(request, zone, forecast, free)]
    return Planned(request, plan, forecast, zone, rate_bits_per_s, free, tuple(warnings))


def shown_commands(plan: Plan) -> list[dict[str, Any]]:
    scrubber = Scrubber([_NOT_SHOWN])
    shown: list[dict[str, Any]] = scrubber.value([command.to_json() for command in plan.commands])
    return shown


def find_zone(windows_name: str | None) -> ZoneInfo | None:
    """The zone of a Windows time-zone id (CLDR's table of Windows zones, by way of tzlocal)."""
    from tzlocal.windows_tz import win_tz

    name = win_tz.get(windows_name or "", "")
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):
        return None


def show_window(window: Window, stamp_zone: tzinfo | None) -> dict[str, Any]:
    """Both ends by three clocks, as ISO 8601 with the offset of each."""
    zones: dict[str, tzinfo | None] = {"utc": UTC, "stamp": stamp_zone}
    shown: dict[str, Any] = {name: _ends(window, zone) if zone else None for name, zone in zones.items()}
    return shown | {"local": _ends(window, None), "hours": window.length.total_seconds() / 3600}


def _ends(window: Window, zone: tzinfo | None) -> dict[str, str]:
    """Without a zone by this machine's."""
    since, until = (moment.astimezone(zone).isoformat(timespec="seconds") for moment in (window.since, window.until))
    return {"since": since, "until": until}


def _opener(kind: str, username: str | None) -> Credential | Secret | None:
    if kind == "container":
        return _NOT_SHOWN
    return Credential(username, _NOT_SHOWN) if kind == "share" and username else None


def _warnings(request: Request, zone: tzinfo | None, forecast: Forecast, free: Mapping[str, int | None]) -> list[str]:
    found = []
    if zone is None:
        known = f"'{request.stamp.timezone}'" if request.stamp.timezone else "none"
        found.append(f"the stamp's time zone is not known ({known} is configured): its own time cannot be shown")
    for location, count in free.items():
        if count is not None and count < forecast.size.high:
            found.append(f"{location}: {count:,} bytes are free, up to {forecast.size.high:,.0f} may come")
    return found
