"""What is sent to an endpoint: commands and typed parameters, in the form that PowerShell's own converter produces."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from bridge.secrets import REDACTED, Credential, Secret


@dataclass(frozen=True, slots=True)
class Int64:
    """A whole number that PowerShell types as ``[long]`` (``10GB``, ``5L``); a plain ``int`` is an ``[int]``."""

    value: int


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    """A number written directly as an argument in another than its shortest form (``0x1F``, ``007``, ``1KB``, ``5L``).

    PowerShell sends the text beside the number (``<Obj><ToString>007</ToString><I32>7</I32></Obj>``): a parameter of
    type string then gets ``007``, one of type int gets 7. Seen on the wire of PowerShell's own client.
    """

    value: int | float | Decimal | Int64
    text: str


@dataclass(frozen=True, slots=True)
class Hashtable:
    """A ``@{}`` constant; pairs keep their order."""

    items: tuple[tuple[Any, Any], ...]


Value: TypeAlias = (
    str
    | bool
    | int
    | float
    | Decimal
    | Int64
    | NumberLiteral
    | datetime
    | Secret
    | Credential
    | Hashtable
    | tuple["Value", ...]
    | None
)
"""What a parameter can carry. A ``datetime`` must be aware; a tuple is a PowerShell array; a ``Secret`` is a
SecureString; a ``Credential`` is a PSCredential."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One name and value as they go into the command object.

    ``name`` is as written, dash and colon included (``-FilterByRole``, ``-IncludeDumpFile:``), and ``None`` for a
    positional value. ``value`` is ``None`` where a name stands alone; the value then follows as a positional one and
    the endpoint's binder decides, as it does for PowerShell's own clients (``("-Name", nil), (nil, value)``).
    """

    name: str | None
    value: Value = None


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a pipeline.

    ``end_of_statement`` marks the last command of a statement that another statement follows. ``merge`` names the
    streams (``error``, ``warning``, ``verbose``, ``debug``, ``information``, ``all``) merged into output.
    """

    name: str
    parameters: tuple[Parameter, ...] = ()
    end_of_statement: bool = False
    merge: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The command as ``--dry-run`` prints it; secrets are blanked."""
        document: dict[str, Any] = {
            "name": self.name,
            "parameters": [[parameter.name, value_to_json(parameter.value)] for parameter in self.parameters],
            "end_of_statement": self.end_of_statement,
        }
        if self.merge:
            merged = _MERGEABLE if "all" in self.merge else self.merge
            document["merge"] = ["Output" if stream in merged else "None" for stream in _MERGEABLE]
        return document


_MERGEABLE = ("error", "warning", "verbose", "debug", "information")


def value_to_json(value: Value) -> Any:
    """A value in the engine's JSON form (``{"double": ...}``, ``{"type": ..., "text": ...}``); secrets are blanked."""
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return {"double": value}
        case Decimal():
            return {"type": "System.Decimal", "text": str(value)}
        case Int64():
            return {"type": "System.Int64", "text": str(value.value)}
        case NumberLiteral(value=Int64() | Decimal(), text=text):
            return {**value_to_json(value.value), "text": text}
        case NumberLiteral():
            return value_to_json(value.value)
        case datetime():
            return {"type": "System.DateTime", "text": value.isoformat()}
        case Secret():
            return {"type": "System.Security.SecureString", "text": REDACTED}
        case Credential():
            return {
                "type": "System.Management.Automation.PSCredential",
                "text": f"{value.username} {REDACTED}",
            }
        case Hashtable():
            return {"hashtable": [[value_to_json(key), value_to_json(item)] for key, item in value.items]}
        case _:
            return [value_to_json(item) for item in value]
