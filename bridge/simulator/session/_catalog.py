"""The commands that a session knows, and how Get-Command and Import-PSSession see them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bridge.simulator._command import CommandSpec, ParameterSpec
from bridge.simulator.session._binder import COMMON_PARAMETERS, SWITCH, positions
from bridge.simulator.session._clixml import CORE_LIBRARY, OBJECT, Enum, Scalar, Thing, generic
from bridge.simulator.session._records import NAMESPACE

COMMAND_TYPES: Final = {"Alias": 1, "Function": 2, "Filter": 4, "Cmdlet": 8, "ExternalScript": 16, "Configuration": 256}
_AUTOMATION: Final = "System.Management.Automation, Version=3.0.0.0, Culture=neutral, PublicKeyToken=31bf3856ad364e35"
_SHORT_NAMES: Final = {
    "System.String": "string",
    "System.Int32": "int",
    "System.Int64": "long",
    "System.Boolean": "bool",
    "System.DateTime": "datetime",
    "System.Uri": "uri",
    "System.Version": "version",
    "System.Object": "Object",
    NAMESPACE + "PSCredential": "pscredential",
    "System.Security.SecureString": "securestring",
    SWITCH: "switch",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A command, or one of its aliases."""

    command: CommandSpec
    alias: str | None = None


class Catalog:
    """Commands by name, aliases included; names are compared without case, as everywhere in PowerShell."""

    def __init__(self, commands: Sequence[CommandSpec]) -> None:
        self._commands = {command.name.casefold(): command for command in commands}
        self._aliases = {alias.casefold(): (alias, command) for command in commands for alias in command.aliases}

    def find(self, name: str) -> CommandSpec | None:
        """The command that ``name`` calls, or None."""
        found = self._commands.get(name.casefold())
        if found is None and name.casefold() in self._aliases:
            found = self._aliases[name.casefold()][1]
        return found

    def matching(self, patterns: Iterable[str], types: int) -> list[Found]:
        """Commands and aliases whose names match, pattern by pattern: aliases, functions, cmdlets, each by name.

        Args:
            patterns: Names with ``*`` and ``?``.
            types: Flags of System.Management.Automation.CommandTypes.
        """
        return [found for pattern in patterns for found in self._matching_one(pattern.casefold(), types)]

    def _matching_one(self, pattern: str, types: int) -> list[Found]:
        def fits(name: str) -> bool:
            return fnmatch.fnmatchcase(name.casefold(), pattern)

        found: list[Found] = []
        if types & COMMAND_TYPES["Alias"]:
            found += [
                Found(command, alias) for alias, command in sorted(self._aliases.values(), key=_first) if fits(alias)
            ]
        for kind in ("Function", "Cmdlet"):
            if types & COMMAND_TYPES[kind]:
                named = sorted(self._commands.values(), key=lambda command: command.name.casefold())
                found += [Found(command) for command in named if command.command_type == kind and fits(command.name)]
        return found


def _first(pair: tuple[str, CommandSpec]) -> str:
    return pair[0]


def definition(command: CommandSpec) -> str:
    """What stands in for the text of a function: its parameters, without a body."""
    lines = ["", "    [CmdletBinding()]", "    param("]
    for spec in command.parameters:
        checks = f"[ValidateSet({', '.join(map(repr, spec.validate_set))})]" if spec.validate_set else ""
        lines.append(f"        {checks}[{_short(spec.type_name)}]${spec.name}")
    return "\n".join([*lines, "    )", ""])


def syntax(command: CommandSpec) -> str:
    """The syntax line of a command (``Get-Command -Syntax``), without its name."""
    placed = {spec.name for spec in positions(command)}
    parts = [_syntax_part(spec, positional=spec.name in placed) for spec in command.parameters]
    return " ".join([*parts, "[<CommonParameters>]"])


def _syntax_part(spec: ParameterSpec, *, positional: bool) -> str:
    name = f"[-{spec.name}]" if positional else f"-{spec.name}"
    text = name if spec.type_name == SWITCH else f"{name} <{_short(spec.type_name)}>"
    return text if spec.mandatory else f"[{text}]"


def _short(type_name: str) -> str:
    element = type_name.removesuffix("[]")
    return _SHORT_NAMES.get(element, element.rpartition(".")[2]) + type_name[len(element) :]


def short_type(type_name: str) -> str:
    """A .NET type name as PowerShell's help shows it (``string[]``)."""
    return _short(type_name)


def command_type(command: CommandSpec) -> Enum:
    """The command's System.Management.Automation.CommandTypes value."""
    return Enum(NAMESPACE + "CommandTypes", command.command_type, COMMAND_TYPES[command.command_type])


def command_info(command: CommandSpec) -> Thing:
    """A FunctionInfo or CmdletInfo as Get-Command writes it; parameters are names only, as at depth 1."""
    verb, _, noun = command.name.partition("-")
    parameters = _parameters([(spec.name, NAMESPACE + "ParameterMetadata") for spec in _all_parameters(command)])
    sets = Thing(
        (
            f"System.Collections.ObjectModel.ReadOnlyCollection`1[[{NAMESPACE}CommandParameterSetInfo, {_AUTOMATION}]]",
            OBJECT,
        ),
        items=[syntax(command)],
    )
    is_cmdlet = command.command_type == "Cmdlet"
    module = "Microsoft.PowerShell.Utility" if is_cmdlet else ""
    head: list[tuple[str, Any]]
    if is_cmdlet:
        head = [
            ("Verb", verb),
            ("Noun", noun),
            ("HelpFile", "Microsoft.PowerShell.Commands.Utility.dll-Help.xml"),
            ("PSSnapIn", None),
            ("Version", Scalar("Version", "3.1.0.0")),
            ("ImplementingType", f"Microsoft.PowerShell.Commands.{verb}{noun}Command"),
            ("Definition", f"\n{command.name} {syntax(command)}\n"),
            ("DefaultParameterSet", command.default_parameter_set),
            ("OutputType", _output_types()),
            ("Options", "ReadOnly"),
        ]
    else:
        text = definition(command)
        head = [
            ("ScriptBlock", Scalar("SBK", text)),
            ("CmdletBinding", is_advanced(command)),
            ("DefaultParameterSet", command.default_parameter_set),
            ("Definition", text),
            ("Options", "None"),
            ("Description", None),
            ("Verb", verb if noun else ""),
            ("Noun", noun),
            ("HelpFile", None),
            ("OutputType", _output_types()),
        ]
    tail: list[tuple[str, Any]] = [
        ("Name", command.name),
        ("CommandType", command.command_type),
        ("Source", module),
        *([] if is_cmdlet else [("Version", None)]),
        ("Visibility", "Public"),
        ("ModuleName", module),
        ("Module", None),
        ("RemotingCapability", "PowerShell"),
        ("Parameters", parameters),
        ("ParameterSets", sets),
    ]
    extended: list[tuple[str, Any]] = [("Namespace", module), ("HelpUri", "")]
    if is_cmdlet:
        extended.append(("DLL", ""))
    types = (NAMESPACE + ("CmdletInfo" if is_cmdlet else "FunctionInfo"), NAMESPACE + "CommandInfo", OBJECT)
    return Thing(types, text=command.name, adapted=head + tail, extended=extended)


def command_metadata(found: Found) -> Thing:
    """CommandMetadata as GET_COMMAND_METADATA answers it (MS-PSRP 2.2.3.22), with parameters in full."""
    command = found.command
    name, kind, resolved = command.name, command_type(command), None
    if found.alias is not None:
        name, kind, resolved = found.alias, Enum(NAMESPACE + "CommandTypes", "Alias", 1), command.name
    source = {"Alias": "AliasInfo", "Cmdlet": "CmdletInfo"}.get(kind.name, "FunctionInfo")
    module = "Microsoft.PowerShell.Utility" if kind.name == "Cmdlet" else ""
    entries = [(spec.name, _parameter_metadata(spec)) for spec in _all_parameters(command)]
    return Thing(
        (f"Selected.{NAMESPACE}{source}", NAMESPACE + "PSCustomObject", OBJECT),
        extended=[
            ("Name", name),
            ("Namespace", module),
            ("HelpUri", ""),
            ("CommandType", kind),
            ("ResolvedCommandName", resolved),
            ("OutputType", _output_types()),
            ("Parameters", _parameters(entries)),
        ],
    )


def metadata_count(count: int) -> Thing:
    """CommandMetadataCount, the first answer to GET_COMMAND_METADATA (MS-PSRP 2.2.3.21)."""
    types = ("Selected.Microsoft.PowerShell.Commands.GenericMeasureInfo", NAMESPACE + "PSCustomObject", OBJECT)
    return Thing(types, extended=[("Count", count)])


def _all_parameters(command: CommandSpec) -> list[ParameterSpec]:
    return [*command.parameters, *(COMMON_PARAMETERS if is_advanced(command) else ())]


def is_advanced(command: CommandSpec) -> bool:
    """Whether a command has common parameters; Clear-Host is the one plain function of a restricted session."""
    return command.name != "Clear-Host"


def _output_types() -> Thing:
    name = f"System.Collections.ObjectModel.ReadOnlyCollection`1[[{NAMESPACE}PSTypeName, {_AUTOMATION}]]"
    return Thing((name, OBJECT), items=[])


def _parameters(entries: list[tuple[str, Any]]) -> Thing:
    name = (
        f"System.Collections.Generic.Dictionary`2[[System.String, {CORE_LIBRARY}],"
        f"[{NAMESPACE}ParameterMetadata, {_AUTOMATION}]]"
    )
    return Thing((name, OBJECT), entries=list(entries))


def _parameter_metadata(spec: ParameterSpec) -> Thing:
    aliases = Thing((generic("System.Collections.ObjectModel.Collection", "System.String"), OBJECT), items=spec.aliases)
    name = NAMESPACE + "ParameterMetadata"
    return Thing(
        (name, OBJECT),
        text=name,
        adapted=[
            ("Name", spec.name),
            ("ParameterType", spec.type_name),
            ("Aliases", aliases),
            ("IsDynamic", False),
            ("SwitchParameter", spec.type_name == SWITCH),
        ],
    )
