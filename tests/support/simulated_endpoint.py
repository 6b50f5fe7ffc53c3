"""A simulated endpoint with a Get-AzureStackLog of many moods, and a stamp that points at it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.secrets import Credential
from bridge.simulator import CommandContext, CommandSpec, EndpointServer, ParameterSpec, SimulatedError
from bridge.stamp import EndpointAddress, Stamp

ALLOWED = frozenset(
    {"Get-AzureStackLog", "Write-Many", "Get-Command", "Get-NoSuchThing", "Measure-Object", "Select-Object"}
)


@dataclass(frozen=True)
class SimulatedEndpoint:
    """The running server and how a client reaches it."""

    server: EndpointServer
    stamp: Stamp
    credential: Credential


@contextmanager
def simulated_endpoint(**options: Any) -> Iterator[SimulatedEndpoint]:
    """One endpoint on loopback; ``options`` go to the server."""
    with EndpointServer((GET_AZURE_STACK_LOG, WRITE_MANY), **options) as server:
        yield SimulatedEndpoint(server, stamp_of(server), credential_of(server))


def stamp_of(*servers: EndpointServer, https: bool = False) -> Stamp:
    """A stamp whose machines are these servers."""
    endpoints = tuple(
        EndpointAddress(f"AzS-ERCS0{number}", server.host, server.port, server.https_port)
        for number, server in enumerate(servers, 1)
    )
    return Stamp("test-stamp", endpoints, use_https=https)


def credential_of(server: EndpointServer) -> Credential:
    return Credential(server.account.username, server.account.password)


def _log(context: CommandContext, bound: Mapping[str, Any]) -> None:
    mode = bound.get("Mode", "ok")
    context.write_verbose("Starting collection")
    if mode == "ok":
        for number in range(1, 4):
            context.write_progress("Collecting", f"role {number} of 3", percent=33 * number, activity_id=1)
        context.write_progress("Collecting", "Processing", activity_id=1, completed=True)
        context.write_warning("One node did not answer")
        context.write_information("an information record", tags=("tag1",))
        context.write_output("done")
    elif mode == "types":
        for name in ("OutputSharePath", "FilterByRole", "FromDate", "IncludeDumpFile"):
            value = bound.get(name)
            context.write_output(f"{name}={value.isoformat() if isinstance(value, datetime) else value}")
    elif mode == "cred":
        credential = bound["OutputShareCredential"]
        context.write_output(f"user={credential.username} pwlen={len(credential.password)}")
    elif mode == "nonterm":
        context.write_error(SimulatedError("Role X failed", "RoleFailed", "ResourceUnavailable", target="X"))
        context.write_output("after")
    elif mode == "term":
        context.write_output("before")
        raise SimulatedError("cannot reach share", "ShareUnreachable", "OpenError", "System.InvalidOperationException")
    elif mode == "surrogate":
        context.write_output("broken \ud800 name")
        context.write_output("after")
    elif mode == "big":
        for number in range(int(bound.get("Count", 10))):
            context.write_output(f"{number} " + "x" * 100_000)
        context.write_output("finished")
    elif mode == "ticks":
        _tick(context, int(bound.get("Count", 10)), float(bound.get("PauseMs", 20)) / 1000)


def _tick(context: CommandContext, count: int, pause_s: float) -> None:
    for number in range(count):
        if context.stopping.wait(pause_s):
            return
        context.write_output(f"tick {number}")
    context.write_output("finished")


def _many(context: CommandContext, bound: Mapping[str, Any]) -> None:
    for number in range(1, int(bound.get("Count", 1000)) + 1):
        context.write_output({"Role": f"R{number}", "Bytes": number, "Path": f"\\\\nas\\drop\\{number}"})


GET_AZURE_STACK_LOG = CommandSpec(
    "Get-AzureStackLog",
    _log,
    (
        ParameterSpec("OutputSharePath", "System.String", position=0),
        ParameterSpec("OutputShareCredential", "System.Management.Automation.PSCredential", position=1),
        ParameterSpec("OutputSasUri", "System.Uri"),
        ParameterSpec("FilterByRole", "System.String[]"),
        ParameterSpec("FromDate", "System.DateTime"),
        ParameterSpec("IncludeDumpFile", "System.Management.Automation.SwitchParameter"),
        ParameterSpec("Mode", "System.String"),
        ParameterSpec("Count", "System.Int32"),
        ParameterSpec("PauseMs", "System.Int32"),
    ),
)
WRITE_MANY = CommandSpec("Write-Many", _many, (ParameterSpec("Count", "System.Int32", mandatory=True, position=0),))
