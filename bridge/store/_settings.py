"""How a store is to be reached: time limits, versions and protection on the line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What may be set for one destination; every default is the safe one."""

    connect_timeout_s: float = 15.0
    io_timeout_s: float = 60.0
    """How long one answer may take before the other side counts as lost."""
    retries: int = 2
    """How often the plain methods of a container ask again; an engine with its own retries sets 0."""
    api_version: str | None = None
    """Of a container, ``YYYY-MM-DD``. ``None``: what every stamp since 2005 takes, an older one on refusal."""
    ca_file: str | None = None
    """Of a container: the authority of a stamp's own certificates, as a PEM file."""
    share_encryption: bool = False
    """Of a share: encrypt even where the server does not ask for it."""
    share_signing: bool = True
    """Of a share: refuse a server whose answers are not signed."""
