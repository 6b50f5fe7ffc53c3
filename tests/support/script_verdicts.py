"""Puts the engine's verdict on a line beside the bridge's, in one form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.endpoint import Command, Hashtable
from bridge.endpoint.script import convert_text
from bridge.errors import ScriptRefusedError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "powershell"


@dataclass(frozen=True)
class Verdict:
    """``reason`` is None where the line is accepted."""

    commands: list[Any] | None
    reason: str | None


def load_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / name).read_text(encoding="utf-8").splitlines()]


def as_value(given: Any) -> Any:
    """A JSON value as the library takes it."""
    if isinstance(given, list):
        return tuple(map(as_value, given))
    if isinstance(given, dict):
        return Hashtable(tuple((key, as_value(item)) for key, item in given.items()))
    return given


def judge(text: str, variables: Mapping[str, Any], arguments: Sequence[Any]) -> Verdict:
    given = {name: as_value(value) for name, value in variables.items()}
    try:
        commands = convert_text(text, variables=given, arguments=tuple(map(as_value, arguments)))
    except ScriptRefusedError as error:
        return Verdict(None, error.fields["error_id"])
    return Verdict(comparable([command.to_json() for command in commands]), None)


def comparable(commands: Sequence[Any]) -> list[Any]:
    """Commands without what carries no meaning: order of keys, spelling of a real number, a moving date."""
    return [
        [
            command["name"],
            command["end_of_statement"],
            [[name, _plain(value)] for name, value in command["parameters"]],
            command.get("merge"),
        ]
        for command in commands
    ]


def _plain(value: Any) -> Any:
    match value:
        case {"double": number}:
            return ("double", float(number))
        case {"hashtable": pairs}:
            return ("hashtable", sorted((repr(_plain(key)), repr(_plain(item))) for key, item in pairs))
        case {"type": "System.DateTime"}:
            return ("date",)
        case {"type": "System.Management.Automation.SwitchParameter", "text": text}:
            return text == "True"
        case list():
            return [_plain(item) for item in value]
        case _:
            return value


def printed(commands: Sequence[Command]) -> list[Any]:
    """Commands as they must read back once printed: a splatted name gets its dash and colon."""
    found = []
    for command in commands:
        parameters: list[Any] = []
        for parameter in command.parameters:
            name = parameter.name
            if name is not None and not name.startswith("-"):
                name = f"-{name}:"
            parameters.append((name, parameter.value))
        found.append((command.name, tuple(parameters), command.end_of_statement, command.merge))
    return found
