"""Prints commands as PowerShell that reads back as the same commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from bridge.endpoint._commands import Command, Hashtable, Int64, NumberLiteral, Parameter, Value
from bridge.endpoint.script._characters import SINGLE_QUOTES
from bridge.endpoint.script._numbers import INT32_MAX
from bridge.secrets import REDACTED, Credential, Secret

_BARE_NAME = re.compile(r"[A-Za-z]+-[A-Za-z][A-Za-z0-9]*", re.ASCII)
_MERGES = {"error": "2", "warning": "3", "verbose": "4", "debug": "5", "information": "6", "all": "*"}


def format_command(command: Command) -> str:
    """One command as PowerShell text.

    A splatted parameter is printed by name (``-Name:value``), which binds alike. Secrets and credentials are blanked;
    text with one does not read back.
    """
    words = [command.name if _BARE_NAME.fullmatch(command.name) else f"& {_quote(command.name)}"]
    words += [_format_parameter(parameter) for parameter in command.parameters]
    words += [f"{_MERGES[stream]}>&1" for stream in command.merge]
    return " ".join(words)


def format_commands(commands: Sequence[Command]) -> str:
    """Commands as PowerShell text, a statement a line."""
    pieces: list[str] = []
    for position, command in enumerate(commands):
        last = position == len(commands) - 1
        pieces.append(format_command(command) + ("" if last else "\n" if command.end_of_statement else " | "))
    return "".join(pieces)


def _format_parameter(parameter: Parameter) -> str:
    name, value = parameter.name, parameter.value
    if name is None:
        return value.text if isinstance(value, NumberLiteral) else format_value(value)
    if not name.startswith("-"):
        return f"-{name}:{format_value(value)}"
    if name.endswith((":", ": ")):
        return f"{name}{format_value(value)}"
    return name if value is None else f"{name} {format_value(value)}"


def format_value(value: Value) -> str:  # noqa: PLR0912 - one case a kind of value
    """A value as a PowerShell expression that can stand as an argument and inside another expression."""
    match value:
        case None:
            return "$null"
        case bool():
            return "$true" if value else "$false"
        case "--%":
            return "('--%')"  # alone it would make the rest of the line its argument
        case str():
            return _quote(value)
        case int():
            return str(value) if value >= 0 else f"([int]'{value}')"
        case Int64():
            return str(value.value) if value.value > INT32_MAX else f"([long]'{value.value}')"
        case float():
            return f"([double]'{value!r}')"
        case Decimal():
            return f"([decimal]'{value:f}')"
        case NumberLiteral():
            return format_value(value.value)
        case datetime():
            return f"([datetime]'{value.isoformat(timespec='microseconds')}')"
        case Secret() | Credential():
            return REDACTED
        case Hashtable():
            pairs = "; ".join(f"{format_value(key)} = {format_value(item)}" for key, item in value.items)
            return "@{" + pairs + "}"
        case _:
            return _format_list(value)


def _format_list(items: tuple[Value, ...]) -> str:
    if not items:
        return "@()"
    comma = "," if len(items) == 1 else ""
    return f"({comma}{', '.join(map(format_value, items))})"


def _quote(text: str) -> str:
    return "'" + "".join(character * 2 if character in SINGLE_QUOTES else character for character in text) + "'"
