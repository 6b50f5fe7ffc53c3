"""The border between the simulated session and the simulated stamp: how a command is declared and what it may say.

The session (WSMan, PSRP, the NoLanguage binder) knows nothing of stamps; the stamp's commands know nothing of PSRP. A
command's ``run`` is called on a thread of its own, after binding, and may take hours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One parameter of a simulated command.

    ``type_name`` is the .NET type as ``Get-Command`` shows it (``System.String[]``, ``System.DateTime``,
    ``System.Management.Automation.SwitchParameter``, ``System.Management.Automation.PSCredential``, ``System.Object``).
    """

    name: str
    type_name: str = "System.Object"
    mandatory: bool = False
    position: int | None = None
    validate_set: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    from_pipeline: bool = False
    parameter_sets: tuple[str, ...] = ("__AllParameterSets",)


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One command that the simulated endpoint shows."""

    name: str
    run: Callable[[CommandContext, Mapping[str, Any]], None]
    parameters: tuple[ParameterSpec, ...] = ()
    synopsis: str = ""
    aliases: tuple[str, ...] = ()
    default_parameter_set: str | None = None
    command_type: str = "Function"


class Int64(int):
    """A whole number that is written as ``[long]`` whatever its size (a plain ``int`` is ``[int]`` while it fits)."""


@dataclass(frozen=True, slots=True)
class CredentialValue:
    """A PSCredential that arrived through the session key."""

    username: str
    password: str = field(repr=False)


@dataclass(eq=False)
class SimulatedError(Exception):
    """An ErrorRecord to be: raised by ``run`` it is terminating, given to ``write_error`` it is not."""

    message: str
    error_id: str
    category: str = "NotSpecified"  # a name of System.Management.Automation.ErrorCategory
    exception_type: str = "System.Management.Automation.RuntimeException"
    target: Any = None


class CommandContext(Protocol):
    """What a running command may do. All methods may be called from the command's thread only.

    Bound arguments arrive as Python values: ``str``, ``bool`` for a switch, ``int``, aware ``datetime``, ``list[str]``,
    ``CredentialValue``. ``username`` is who opened the session, ``machine`` the ERCS machine that runs it.
    """

    stopping: threading.Event
    """Set when the pipeline is to stop: ``run`` returns, or raises, soon after."""
    session_id: str
    username: str
    machine: str

    def write_output(self, value: Any) -> None:
        """A value for the next command or the client: ``str``, number, ``bool``, ``datetime``, list, or a mapping,
        which becomes an object with those properties (key ``PSTypeName`` names its type)."""
        ...

    def write_error(self, error: SimulatedError) -> None: ...

    def write_warning(self, message: str) -> None: ...

    def write_verbose(self, message: str) -> None:
        """Written whether or not ``-Verbose`` was given, as after ``Write-Verbose -Verbose``; not with
        ``-Verbose:$false``."""
        ...

    def write_debug(self, message: str) -> None: ...

    def write_information(self, message: str, *, tags: tuple[str, ...] = (), from_host: bool = False) -> None:
        """An information record; ``from_host`` is what Write-Host writes (tag ``PSHOST``, and a host call)."""
        ...

    def write_progress(
        self,
        activity: str,
        status: str,
        *,
        percent: int = -1,
        activity_id: int = 0,
        parent_id: int = -1,
        operation: str | None = None,
        seconds_remaining: int = -1,
        completed: bool = False,
    ) -> None: ...
