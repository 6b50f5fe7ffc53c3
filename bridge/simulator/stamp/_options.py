"""What a simulated stamp can be told to be, and how sizes and durations are written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from bridge.errors import UsageError

_SIZE = re.compile(r"(?i)^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*$")
_DURATION = re.compile(r"(?i)^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?\s*$")
_SECONDS_IN = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

DEFAULT_SIZE_BYTES = 50_000_000
DEFAULT_DURATION_S = 20.0


def parse_size(text: str) -> int:
    """Bytes from ``50MB`` (10^6), ``2GiB`` (2^30) or a plain number.

    Raises:
        UsageError: the text is not a size.
    """
    match = _SIZE.match(text)
    if match is None:
        raise UsageError(detail=f"{text!r} is not a size", fix="Write it like 500KB, 50MB or 2GiB.")
    number, prefix, binary = match.groups()
    unit: int = (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " ")
    return round(float(number) * unit)


def parse_duration(text: str) -> float:
    """Seconds from ``20s``, ``0.5s``, ``10m``, ``4h``, ``250ms`` or a plain number of seconds.

    Raises:
        UsageError: the text is not a duration.
    """
    match = _DURATION.match(text)
    if match is None:
        raise UsageError(detail=f"{text!r} is not a duration", fix="Write it like 0.5s, 20s, 10m or 4h.")
    number, unit = match.groups()
    return float(number) * _SECONDS_IN[(unit or "s").lower()]


def parse_clock(text: str) -> datetime:
    """An aware instant from ``2026-11-20T13:00:00+01:00``.

    Raises:
        UsageError: the text is not ISO 8601, or has no offset.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise UsageError(
            detail=f"{text!r} is not a time with an offset", fix="Write it like 2026-11-20T13:00:00+01:00."
        )
    return instant


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One alert of a script: raised ``from_s`` after the start of the stamp, closed ``until_s`` after it (or never)."""

    fault_type_id: str
    from_s: float = 0.0
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class StampOptions:
    """A simulated stamp.

    ``size_bytes`` is the total of one collection, whatever the roles asked; ``duration_s`` how long one takes at
    least. Content follows from ``seed``, window and roles alone. ``output_root`` is the only folder below which
    ``-OutputPath`` may write (``None``: nowhere). ``smb_port`` and ``blob_api_version`` are what the stamp's own
    clients use (a UNC path has no port). ``faults`` are ``NAME[:ARG]`` (see ``FAULTS``). ``minute_s`` is the length
    of a minute of ``-TimeOutInMinutes``. ``client_lost_after_s`` is how long an endpoint still takes a killed
    client for connected. ``starts_at`` fixes the clock's first instant (it then runs on); ``None`` is now.
    ``clock`` is what the folder and the transcript of a collection show instead of the time of day; the transcript
    then leaves the destination out as well, so that two collections of one window have the same bytes.
    """

    name: str = "azs-sim"
    prefix: str = "AzS"
    region: str = "local"
    external_domain: str = "azurestack.external"
    domain_fqdn: str = "azurestack.local"
    domain_netbios: str = "AZURESTACK"
    timezone: str = "W. Europe Standard Time"
    version: str = "1.2311.1.22"
    node_count: int = 4
    registered: bool = True
    size_bytes: int = DEFAULT_SIZE_BYTES
    duration_s: float = DEFAULT_DURATION_S
    seed: int = 0
    faults: tuple[str, ...] = ()
    output_root: Path | None = None
    smb_port: int = 445
    blob_api_version: str = "2019-02-02"
    minute_s: float = 60.0
    client_lost_after_s: float = 60.0
    starts_at: datetime | None = None
    clock: datetime | None = None
    alerts: tuple[AlertEvent, ...] = field(default=())

    def __post_init__(self) -> None:
        checks = (
            (1 <= self.node_count <= 16, f"a stamp has 1 to 16 nodes, not {self.node_count}"),
            (self.size_bytes >= 0, f"a size is not negative: {self.size_bytes}"),
            (self.duration_s >= 0, f"a duration is not negative: {self.duration_s}"),
            (self.clock is None or self.clock.tzinfo is not None, f"a clock has an offset: {self.clock}"),
        )
        for good, detail in checks:
            if not good:
                raise UsageError(detail=detail)
