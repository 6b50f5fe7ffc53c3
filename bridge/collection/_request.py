"""What is asked of a stamp: the request, where its result goes, and the secrets that it needs but never carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bridge.collection._window import Window
from bridge.errors import UsageError
from bridge.secrets import Credential, Scrubber, Secret
from bridge.stamp import EndpointAddress, Stamp

DEFAULT_TIMEOUT_MINUTES = 240
"""The reference's default (REF2002); the operator articles say 150, so it is always passed."""

PlaceKind = Literal["folder", "share", "container"]
Trigger = Literal["manual", "proactive", "offload"]
"""``manual`` and ``proactive`` are the portal page's types; ``offload`` is the rolling one that an operator set up."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where bundles live, without any secret: it is written in the journal.

    ``text`` is what ``bridge.store.parse_destination`` reads. ``endpoint_location`` is what the endpoint calls the same
    place (a UNC path), where that differs from what this machine calls it: a folder of this machine that is shared, a
    share reached by another name or port.
    """

    text: str
    kind: PlaceKind
    location: str
    name: str | None = None
    endpoint_location: str | None = None
    api_version: str | None = None
    encrypt: bool = False
    ca_file: str | None = None

    @classmethod
    def parse(cls, text: str, **options: Any) -> Place:
        """A place from what an operator types: a path, a UNC path, ``smb://`` or ``https://``.

        Raises:
            UsageError: it is none of these.
            SecretOnCommandLineError: it carries a SAS or a password.
        """
        from bridge.store import parse_destination

        destination = parse_destination(text)
        stored = str(Path(text).expanduser().absolute()) if destination.kind == "folder" else text
        return cls(text=stored, kind=destination.kind.value, location=destination.location, **options)


@dataclass(frozen=True, slots=True)
class Consent:
    """What somebody has agreed to, once, before logs were collected without being asked each time."""

    text: str
    given_at: datetime
    given_by: str

    def to_json(self) -> dict[str, str]:
        moment = self.given_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {"text": self.text, "given_at": moment, "given_by": self.given_by}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Consent:
        """Reads what ``to_json`` wrote; raises ``KeyError`` or ``ValueError`` where it is something else."""
        return cls(document["text"], datetime.fromisoformat(document["given_at"]), document["given_by"])


@dataclass(frozen=True, slots=True)
class Request:
    """One collection as it is asked for. Names of roles are not checked: they differ by version of the stamp.

    ``shared_disk`` says that the endpoint sees this machine's folders; only the embedded simulator does.
    ``recover_vm_logs`` has the stamp read the event logs of VMs that are off or paused from their disks.
    ``remove_staging`` removes the staging copy after a delivery that was verified; otherwise it is kept, sealed.

    Raises:
        UsageError: the parts contradict each other.
    """

    stamp: Stamp
    window: Window
    destination: Place
    roles: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    log_types: tuple[str, ...] = ()
    resource_providers: tuple[str, ...] = ()
    dump_files: bool = False
    recover_vm_logs: bool = False
    timeout_minutes: int = DEFAULT_TIMEOUT_MINUTES
    staging: Place | None = None
    direct: bool = False
    remove_staging: bool = False
    shared_disk: bool = False
    trigger: Trigger = "manual"
    case_number: str | None = None
    consent: Consent | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.timeout_minutes <= 24 * 60:
            raise UsageError(detail=f"A time-out of {self.timeout_minutes} minutes is not between 1 and 1440.")
        if self.direct and self.destination.kind != "container":
            raise UsageError(
                detail="--direct is for a container: a share is always written by the endpoint itself.",
                fix="Leave --direct out, or give a container as the destination.",
            )
        if self.direct and self.staging:
            raise UsageError(detail="--direct needs no staging place.", fix="Leave one of the two out.")
        if self.staging and self.staging.kind == "container":
            raise UsageError(detail="A staging place is a share or a folder.", fix="Give a share as the staging place.")
        if self.staging and self.staging.location.rstrip("/\\") == self.destination.location.rstrip("/\\"):
            raise UsageError(
                detail=f"The staging place is the destination itself ({self.destination.location}).",
                fix="Leave --staging out: the endpoint then writes to the destination.",
            )

    def to_json(self) -> dict[str, Any]:
        """The request as it stands in the journal and in ``collection.json``."""
        document = asdict(self)
        document["stamp"] = _stamp_to_json(self.stamp)
        document["window"] = self.window.to_json()
        document["consent"] = self.consent.to_json() if self.consent else None
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Request:
        parts = dict(document)
        parts["stamp"] = _stamp_from_json(parts["stamp"])
        parts["window"] = Window(*(datetime.fromisoformat(parts["window"][end]) for end in ("since", "until")))
        parts["destination"] = Place(**parts["destination"])
        parts["staging"] = Place(**parts["staging"]) if parts["staging"] else None
        consent = parts.get("consent")  # absent in the journal of an earlier version
        parts["consent"] = Consent.from_json(consent) if consent else None
        for name in ("roles", "nodes", "log_types", "resource_providers"):
            parts[name] = tuple(parts[name])
        return cls(**parts)


def _stamp_to_json(stamp: Stamp) -> dict[str, Any]:
    document = asdict(stamp)
    document["ca_file"] = str(stamp.ca_file) if stamp.ca_file else None
    return document


def _stamp_from_json(document: Mapping[str, Any]) -> Stamp:
    parts = dict(document)
    parts["endpoints"] = tuple(EndpointAddress(**endpoint) for endpoint in parts["endpoints"])
    parts["ca_file"] = Path(parts["ca_file"]) if parts["ca_file"] else None
    return Stamp(**parts)


@dataclass(frozen=True, slots=True)
class Access:
    """The secrets of a run: held in memory, asked for again by every process that takes the run over.

    ``destination`` is a ``Credential`` for a share (or for a folder that the endpoint reaches as a share) and a
    ``Secret``, the SAS, for a container.
    """

    endpoint: Credential
    destination: Credential | Secret | None = field(default=None, repr=False)
    staging: Credential | None = field(default=None, repr=False)

    def scrubber(self) -> Scrubber:
        """Blanks every secret held here."""
        found: list[Secret] = []
        for part in (self.endpoint, self.destination, self.staging):
            if isinstance(part, Credential):
                found.append(part.password)
            elif isinstance(part, Secret):
                found.append(part)
        return Scrubber(found)
