"""The faults that a simulated stamp can be given by name: one registry for the help text, the parser and the stamp."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bridge.errors import UsageError
from bridge.simulator.stamp._inventory import canonical_role
from bridge.simulator.stamp._options import parse_duration, parse_size

ANY = "any"
"""As a role or machine: one that the seed chooses."""


def _role(text: str) -> str:
    if text.casefold() == ANY:
        return ANY
    role = canonical_role(text)
    if role is None:
        raise UsageError(detail=f"{text!r} is not a documented role", fix="Give a role such as Storage, or 'any'.")
    return role


def _seconds(text: str) -> float:
    sign = -1.0 if text.startswith("-") else 1.0
    return sign * parse_duration(text.lstrip("+-"))


def _percent(text: str) -> float:
    try:
        value = float(text.rstrip("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise UsageError(detail=f"{text!r} is not a percentage from 0 to 100")
    return value


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One fault that can be asked for: ``NAME`` or ``NAME:ARG``; a ``default`` makes the argument optional."""

    name: str
    meaning: str
    argument: str | None = None
    read: Callable[[str], Any] = str
    default: str | None = None

    @property
    def usage(self) -> str:
        if self.argument is None:
            return self.name
        return f"{self.name}[:{self.argument}]" if self.default is not None else f"{self.name}:{self.argument}"


@dataclass(frozen=True, slots=True)
class MachineOutage:
    """An ERCS machine that dies ``from_s`` after the stamp's start and comes back ``until_s`` after it, or never."""

    machine: str
    from_s: float
    until_s: float | None = None


def _outage(text: str) -> MachineOutage:
    machine, _, times = text.partition("@")
    start, _, end = times.partition("-")
    return MachineOutage(machine, parse_duration(start) if start else 0.0, parse_duration(end) if end else None)


_KINDS = (
    FaultKind("role-fails", "the role's collection ends with an error record and leaves no zip", "ROLE", _role),
    FaultKind("role-empty", "the role has nothing: no zip and no error", "ROLE", _role),
    FaultKind("role-hangs", "the collection stays at this role until it is stopped or times out", "ROLE", _role),
    FaultKind("role-truncated", "the role's last zip ends in the middle", "ROLE", _role),
    FaultKind("node-missing", "no logs of this machine arrive (it is offline)", "MACHINE"),
    FaultKind("vm-off", "the VM is off: its event logs are missing without -PerformVMLogRecovery", "MACHINE"),
    FaultKind(
        "staging-disk-full", "the ERCS machine's disk is full after this part of the output", "PERCENT", _percent, "50"
    ),
    FaultKind(
        "other-collection-running", "somebody else's collection is under way, for so long", "DURATION", _seconds, "4h"
    ),
    FaultKind("output-late", "the command ends, and its files arrive so much later", "DURATION", _seconds),
    FaultKind(
        "collection-outlives-session", "a collection goes on when its pipeline, session or WinRM service is lost"
    ),
    FaultKind("wrong-clock", "the stamp's clock is ahead (or, with '-', behind) by so much", "DURATION", _seconds),
    FaultKind(
        "hostile-names",
        "names with '..', drive letters, NUL, reserved names, 300 characters; in files, zips and records",
    ),
    FaultKind("hostile-records", "records with control characters, a lone surrogate and a megabyte of text"),
    FaultKind("leaky-logs", "transcripts and the output log hold the SAS in clear, as typed"),
    FaultKind("not-registered", "the stamp is not registered: no support configuration, no sending to the vendor"),
    FaultKind("test-fails", "Test-AzureStack reports FAIL for this category", "CATEGORY"),
    FaultKind("portal-down", "portal and administrator ARM endpoint do not answer"),
)
_SESSION_KINDS = (
    FaultKind("ercs-dies", "the ERCS machine dies, and may come back", "MACHINE[@FROM[-UNTIL]]", _outage),
    FaultKind("ercs-refuses", "the ERCS machine resets every new connection", "MACHINE"),
    FaultKind("connection-cut", "so many requests in a hundred end in a reset connection", "PERCENT", _percent),
    FaultKind("connection-stalls", "so many answers in a hundred wait three seconds", "PERCENT", _percent),
    FaultKind("idle-close", "connections that were silent so long are closed", "DURATION", _seconds, "120s"),
    FaultKind("receive-cut", "a request that waits so long for its answer is cut off", "DURATION", _seconds, "15s"),
    FaultKind("session-ends", "every session ends so long after it was opened: its process dies", "DURATION", _seconds),
    FaultKind("disconnected-buffer", "a command stalls after so much output with nobody connected", "SIZE", parse_size),
    FaultKind("disconnected-drop", "of a command that was left only so much output is kept", "SIZE", parse_size),
    FaultKind("quota-exceeded", "no further session is allowed"),
    FaultKind("access-denied", "the account may not open a session"),
    FaultKind("no-such-configuration", "the machines are no ERCS machines"),
    FaultKind("no-enumeration", "the account may not ask which sessions it has"),
)
FAULTS: dict[str, FaultKind] = {kind.name: kind for kind in (*_KINDS, *_SESSION_KINDS)}
"""Every fault by name: of the stamp, then of its sessions."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that was asked for, with its argument read."""

    kind: FaultKind
    value: Any = None


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one stamp."""

    chosen: tuple[Fault, ...] = ()

    def has(self, name: str) -> bool:
        return any(fault.kind.name == name for fault in self.chosen)

    def value(self, name: str) -> Any:
        """The argument of the last fault of that name, or ``None`` without one."""
        return next((fault.value for fault in reversed(self.chosen) if fault.kind.name == name), None)

    def values(self, name: str) -> frozenset[str]:
        """The arguments of all faults of that name, in lower case."""
        return frozenset(str(fault.value).casefold() for fault in self.chosen if fault.kind.name == name)

    def outages(self) -> tuple[MachineOutage, ...]:
        """When which ERCS machine is dead."""
        return tuple(fault.value for fault in self.chosen if isinstance(fault.value, MachineOutage))


def parse_faults(texts: Iterable[str]) -> Faults:
    """Reads ``NAME`` and ``NAME:ARG``.

    Raises:
        UsageError: an unknown name, or an argument that is missing, not wanted or not readable.
    """
    return Faults(tuple(_parse_fault(text) for text in texts))


def _parse_fault(text: str) -> Fault:
    name, colon, argument = text.partition(":")
    kind = FAULTS.get(name)
    if kind is None:
        raise UsageError(detail=f"there is no fault {name!r}", fix=f"Known: {', '.join(sorted(FAULTS))}.")
    if kind.argument is None:
        if colon:
            raise UsageError(detail=f"the fault {name} takes no argument, but got {argument!r}")
        return Fault(kind)
    given = argument or kind.default
    if not given:
        raise UsageError(detail=f"the fault {name} needs an argument", fix=f"Write it as {kind.usage}.")
    return Fault(kind, kind.read(given))
