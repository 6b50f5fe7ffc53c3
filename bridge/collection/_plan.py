"""What exactly a run will send, and where the output will land: decided before anything is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from bridge.collection._request import Access, Place, Request
from bridge.collection._roles import unknown_roles
from bridge.endpoint import Command, Value
from bridge.errors import PreflightError
from bridge.secrets import Credential, Secret

TRACE_AGE = timedelta(days=5)
"""How long the Trace Collector keeps its files (GETLOG-20-09)."""
TRUNCATION_AFTER = timedelta(hours=7, minutes=59)
"""From here on the vendor's script warns of truncation when all roles are asked (ERCS)."""
PAYLOAD = "data"
SCRIPT = "Get-StampLog"
"""The PEP script of a collection: the only commands that `collect` sends."""


class Way(StrEnum):
    """How the output reaches its destination."""

    IN_PLACE = "in_place"
    """The endpoint writes into the bundle; it is sealed where it stands."""
    STAGED = "staged"
    """The endpoint writes to a staging place; the bridge hashes and delivers in one pass."""
    DIRECT = "direct"
    """The endpoint gets the SAS and writes to the container; the bridge adds the bundle's own files."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A request, made exact. ``commands`` carry secrets; their ``to_json`` does not."""

    way: Way
    script: str
    arguments: Mapping[str, Value]
    commands: tuple[Command, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "way": str(self.way),
            "script": self.script,
            "commands": [command.to_json() for command in self.commands],
            "warnings": list(self.warnings),
        }


def plan_run(
    request: Request,
    access: Access,
    bundle_name: str,
    *,
    bind: Callable[[Mapping[str, Value]], tuple[Command, ...]],
    now: datetime,
) -> Plan:
    """The commands of a run, with every parameter that the vendor's documents disagree about given explicitly.

    Raises:
        PreflightError: there is no place that the endpoint itself can write to.
    """
    way = choose_way(request)
    arguments = {**_what(request), **_where(request, access, way, bundle_name)}
    return Plan(
        way=way,
        script=SCRIPT,
        arguments=arguments,
        commands=bind(arguments),
        warnings=tuple(_warnings(request, now)),
    )


def choose_way(request: Request) -> Way:
    """Raises:
    PreflightError: the endpoint cannot write to the destination, and no staging place is given.
    """
    if request.direct:
        return Way.DIRECT
    written = request.staging or request.destination
    if written.kind == "container":
        raise PreflightError(
            detail="The endpoint writes to a container only with --direct.",
            fix="Give a share that the endpoint can write to (--staging), or use --direct.",
        )
    if written.kind == "folder" and not (request.shared_disk or written.endpoint_location):
        raise PreflightError(
            detail=f"The endpoint cannot write to {written.location}: it is a folder of this machine.",
            fix="Give a share (\\\\server\\share\\folder) as the destination, or one to stage on with --staging.",
        )
    return Way.STAGED if request.staging else Way.IN_PLACE


def written_place(request: Request) -> Place:
    """The place that the endpoint writes to."""
    return request.staging or request.destination


def written_secret(request: Request, access: Access) -> Credential | Secret | None:
    return access.staging if request.staging else access.destination


def _what(request: Request) -> dict[str, Value]:
    arguments: dict[str, Value] = {
        "FromDate": request.window.since.astimezone(UTC),
        "ToDate": request.window.until.astimezone(UTC),
        "TimeOutInMinutes": request.timeout_minutes,
        "IncludeDumpFile": request.dump_files,
        "PerformVMLogRecovery": request.recover_vm_logs,
    }
    filters = {
        "FilterByRole": request.roles,
        "FilterByNode": request.nodes,
        "FilterByLogType": request.log_types,
        "FilterByResourceProvider": request.resource_providers,
    }
    return arguments | {name: values for name, values in filters.items() if values}


def _where(request: Request, access: Access, way: Way, bundle_name: str) -> dict[str, Value]:
    from bridge.store import parse_destination

    place = written_place(request)
    destination = parse_destination(place.text)
    if way is Way.DIRECT:
        if not isinstance(access.destination, Secret):
            raise PreflightError(detail="A container needs a SAS.", fix="Give one with PEP_BRIDGE_SAS or a prompt.")
        # GUESS: a path behind the container is a prefix of every name; no public document shows the layout there.
        url = f"{place.endpoint_location or destination.url}/{bundle_name}/{PAYLOAD}"
        return {"OutputSasUri": f"{url}?{access.destination.reveal().lstrip('?')}"}
    if place.kind == "folder" and place.endpoint_location is None:
        return {"OutputPath": str(destination.path / bundle_name / PAYLOAD)}
    unc = place.endpoint_location or destination.unc
    where: dict[str, Value] = {"OutputSharePath": f"{unc.rstrip(chr(92))}\\{bundle_name}\\{PAYLOAD}"}
    if isinstance(credential := written_secret(request, access), Credential):
        where["OutputShareCredential"] = credential
    return where


def _warnings(request: Request, now: datetime) -> list[str]:
    found = []
    if unknown := unknown_roles(request.roles):
        found.append(
            f"not on the vendor's list of roles: {', '.join(unknown)} (sent all the same: the list differs by version)"
        )
    if now - request.window.since > TRACE_AGE:
        found.append("the window reaches back more than five days: its oldest traces are probably gone")
    if not request.roles and request.window.length >= TRUNCATION_AFTER:
        found.append("eight hours or more of all roles: the vendor warns that logs are probably truncated")
    if request.resource_providers and request.roles:
        found.append(
            "a role and a resource provider together were refused by some versions (AmbiguousParameterSet); if so,"
            " collect them one after the other"
        )
    return found
