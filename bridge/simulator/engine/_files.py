"""Writes the PowerShell files that make a real PowerShell show the simulated commands.

Facts: about_Session_Configuration_Files, about_Functions_Advanced_Parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from bridge.simulator._command import CommandSpec, ParameterSpec
from bridge.simulator.session._binder import SWITCH

_ALL_SETS: Final = "__AllParameterSets"
_SETTING_ID: Final = "5f3f4f0e-63a5-4a8e-9a52-6a2f6c1f7f10"


def write_session_configuration(commands: Sequence[CommandSpec], folder: Path) -> Path:
    """Writes ``session.pssc`` and the script that its commands run; returns the configuration's path.

    The parameters are the declared ones, typed, so that PowerShell's own binder judges what a client sends.

    Args:
        commands: What the session shows beside its own restricted commands.
        folder: A folder that only the simulator's user can read.
    """
    relay = folder / "relay.ps1"
    relay.write_text(
        resources.files(__package__ or "").joinpath("relay.ps1").read_text(encoding="utf-8"), encoding="utf-8"
    )
    configuration = folder / "session.pssc"
    # Windows PowerShell and PowerShell 7 both read UTF-8 for certain only behind a byte order mark.
    configuration.write_text(_configuration(commands, relay), encoding="utf-8-sig")
    return configuration


def _configuration(commands: Sequence[CommandSpec], relay: Path) -> str:
    functions = ",\n".join(_function(command, relay) for command in commands)
    lines = [
        "@{",
        "SchemaVersion = '2.0.0.0'",
        f"GUID = '{_SETTING_ID}'",
        "SessionType = 'RestrictedRemoteServer'",
        "LanguageMode = 'NoLanguage'",
    ]
    if functions:
        lines.append(f"FunctionDefinitions = @(\n{functions}\n)")
    if aliases := [_alias(alias, command) for command in commands for alias in command.aliases]:
        lines.append(f"AliasDefinitions = @({', '.join(aliases)})")
    return "\n".join([*lines, "}", ""])


def _alias(alias: str, command: CommandSpec) -> str:
    return f"@{{ Name = {_quote(alias)}; Value = {_quote(command.name)} }}"


def _function(command: CommandSpec, relay: Path) -> str:
    default = command.default_parameter_set
    binding = f"DefaultParameterSetName = {_quote(default)}" if default else ""
    declared = ",\n".join(_parameter(spec) for spec in command.parameters)
    body = (
        f"[CmdletBinding({binding})]\nparam(\n{declared}\n)\nprocess {{\n"
        # Its text, not the file: a policy may forbid to run script files.
        f"  & ([ScriptBlock]::Create([IO.File]::ReadAllText({_quote(str(relay))}))) $PSCmdlet $PSBoundParameters\n}}"
    )
    return f"@{{ Name = {_quote(command.name)}; ScriptBlock = {{\n{body}\n}} }}"


def _parameter(spec: ParameterSpec) -> str:
    sets = [None] if _ALL_SETS in spec.parameter_sets else list(spec.parameter_sets)
    attributes = [_parameter_attribute(spec, name) for name in sets]
    if spec.aliases:
        attributes.append(f"[Alias({_list(spec.aliases)})]")
    if spec.validate_set:
        attributes.append(f"[ValidateSet({_list(spec.validate_set)})]")
    kind = "switch" if spec.type_name == SWITCH else spec.type_name
    return f"  {''.join(attributes)}[{kind}]${{{spec.name}}}"


def _parameter_attribute(spec: ParameterSpec, parameter_set: str | None) -> str:
    parts = [
        f"ParameterSetName = {_quote(parameter_set)}" if parameter_set else "",
        "Mandatory" if spec.mandatory else "",
        f"Position = {spec.position}" if spec.position is not None else "",
        "ValueFromPipeline" if spec.from_pipeline else "",
    ]
    return f"[Parameter({', '.join(filter(None, parts))})]"


def _list(texts: Iterable[str]) -> str:
    return ", ".join(map(_quote, texts))


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
