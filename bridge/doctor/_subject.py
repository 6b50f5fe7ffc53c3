"""What the doctor looks at: a stamp, what is asked of it, and the secrets as far as they could be found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bridge.collection import Place, Request
from bridge.errors import BridgeError
from bridge.secrets import Credential, Secret
from bridge.stamp import Stamp

DEFAULT_INTERNET_PROBE = "https://login.microsoftonline.com"
"""A host that a connected stamp and its operators need anyway (published endpoints of Azure Stack Hub)."""

Opener = Credential | Secret | BridgeError | None
"""What opens a place, or why it could not be had; ``None`` where nothing is needed."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A secret that could not be had stands as its error, so that one unreadable file stops no other check.

    ``request`` is ``None`` where no destination is named. ``portal`` and ``arm`` are addresses; without them they
    follow from the stamp's region and external FQDN (``portal_address``, ``arm_address``).
    """

    stamp: Stamp
    state_dir: Path
    credential: Credential | BridgeError
    request: Request | None = None
    destination_opener: Opener = field(default=None, repr=False)
    staging_opener: Opener = field(default=None, repr=False)
    portal: str | None = None
    arm: str | None = None
    internet_probe: str = DEFAULT_INTERNET_PROBE

    @property
    def portal_address(self) -> str | None:
        """``https://adminportal.<region>.<fqdn>`` ("Use the administrator portal")."""
        return self.portal or _address("adminportal", self.stamp)

    @property
    def arm_address(self) -> str | None:
        """``https://adminmanagement.<region>.<fqdn>`` (the alerts REST specification)."""
        return self.arm or _address("adminmanagement", self.stamp)

    @property
    def places(self) -> tuple[tuple[str, Place, Opener], ...]:
        """The places that a run would write to, each with the name of its check."""
        if self.request is None:
            return ()
        found = [("destination", self.request.destination, self.destination_opener)]
        if self.request.staging is not None:
            found.append(("staging", self.request.staging, self.staging_opener))
        return tuple(found)


def _address(name: str, stamp: Stamp) -> str | None:
    """The external FQDN is configured with or without its region in front: both forms are in use."""
    if not stamp.external_fqdn:
        return None
    domain = stamp.external_fqdn.strip(".")
    region = (stamp.region or "").strip(".")
    if region and not domain.casefold().startswith(f"{region.casefold()}."):
        domain = f"{region}.{domain}"
    return f"https://{name}.{domain}" if region else None
