"""What Get-Help says about a command that has no help file: its syntax and parameters (MAML objects)."""

from __future__ import annotations

from typing import Any

from bridge.simulator._command import CommandSpec, ParameterSpec
from bridge.simulator.session._binder import SWITCH, positions
from bridge.simulator.session._catalog import short_type
from bridge.simulator.session._clixml import Thing, array

_ROOT = "ExtendedCmdletHelpInfo"


def help_info(command: CommandSpec) -> Thing:
    """The help object of a command."""
    placed = [spec.name for spec in positions(command)]
    in_syntax = sorted(command.parameters, key=lambda spec: spec.type_name == SWITCH)
    by_name = sorted(command.parameters, key=lambda spec: spec.name)
    syntax_item = _part(
        "syntaxItem",
        ("name", command.name),
        ("CommonParameters", True),
        ("parameter", array([_parameter(spec, placed) for spec in in_syntax])),
    )
    extended: list[tuple[str, Any]] = [
        ("CommonParameters", True),
        ("details", _part("details", ("name", command.name), ("noun", ""), ("verb", ""))),
        ("Syntax", _part("syntax", ("syntaxItem", array([syntax_item])))),
        (
            "parameters",
            _part("parameters", ("parameter", array([_parameter(spec, placed, values=False) for spec in by_name]))),
        ),
        ("inputTypes", _types("inputTypes", "inputType")),
        ("returnValues", _types("returnValues", "returnValue")),
        ("aliases", "None\n"),
        ("remarks", "None\n"),
        ("alertSet", None),
        ("description", None),
        ("examples", None),
        ("Synopsis", command.synopsis or f"\n{command.name} \n"),
        ("ModuleName", ""),
        ("nonTerminatingErrors", ""),
        ("xmlns:command", "http://schemas.microsoft.com/maml/dev/command/2004/10"),
        ("xmlns:dev", "http://schemas.microsoft.com/maml/dev/2004/10"),
        ("xmlns:maml", "http://schemas.microsoft.com/maml/2004/10"),
        ("Name", command.name),
        ("Category", command.command_type),
        ("Component", None),
        ("Role", None),
        ("Functionality", None),
    ]
    return Thing((_ROOT, "CmdletHelpInfo", "HelpInfo"), extended=extended)


def _part(kind: str, *properties: tuple[str, Any]) -> Thing:
    return Thing((f"{_ROOT}#{kind}",), extended=list(properties))


def _types(outer: str, inner: str) -> Thing:
    return _part(outer, (inner, _part(inner, ("type", _part("type", ("name", "None\n"))))))


def _parameter(spec: ParameterSpec, placed: list[str], *, values: bool = True) -> Thing:
    type_name = short_type(spec.type_name)
    properties: list[tuple[str, Any]] = [
        ("name", spec.name),
        ("required", "true" if spec.mandatory else "false"),
        ("pipelineInput", "true (ByValue)" if spec.from_pipeline else "false"),
        ("isDynamic", "false"),
        ("globbing", "false"),
        ("parameterSetName", "(All)"),
    ]
    if spec.type_name != SWITCH:
        value = [("variableLength", spec.type_name.endswith("[]")), ("required", "true")]
        properties.append(("parameterValue", Thing(base=type_name, extended=list(value))))
    properties += [
        ("type", _part("type", ("name", type_name))),
        ("position", str(placed.index(spec.name)) if spec.name in placed else "Named"),
        ("aliases", ", ".join(spec.aliases) or "None"),
    ]
    if spec.validate_set and values:
        group = _part("parameterValueGroup", ("parameterValue", array(spec.validate_set)))
        properties.append(("parameterValueGroup", group))
    return _part("parameter", *properties)
