"""The restricted session's own commands (about_Session_Configurations, SessionType RestrictedRemoteServer)."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from bridge.simulator._command import CommandContext, CommandSpec, ParameterSpec, SimulatedError
from bridge.simulator.session import _help as help_text
from bridge.simulator.session._binder import SWITCH
from bridge.simulator.session._catalog import COMMAND_TYPES, Catalog, command_info
from bridge.simulator.session._clixml import OBJECT, Thing
from bridge.simulator.session._records import NAMESPACE
from bridge.simulator.session._values import text_of

_SELECTABLE: Final = (
    "ModuleName",
    "Namespace",
    "OutputType",
    "Count",
    "HelpUri",
    "Name",
    "CommandType",
    "ResolvedCommandName",
    "DefaultParameterSet",
    "CmdletBinding",
    "Parameters",
)


class Stage(Protocol):
    """One command of a pipeline while it runs."""

    def process(self, value: Any) -> None:
        """One value from the command before."""
        ...

    def end(self) -> None:
        """No more values come."""
        ...


class StageHost(CommandContext, abc.ABC):
    """What the session's own commands may do beyond a declared command."""

    catalog: Catalog
    has_host: bool

    @abc.abstractmethod
    def call_host(self, method: str, number: int, parameters: Sequence[Any]) -> None: ...

    @abc.abstractmethod
    def always_call_host(self, method: str, number: int, parameters: Sequence[Any]) -> None: ...


class _OnEnd:
    """A command that ignores its input and does something once."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action

    def process(self, value: Any) -> None:
        """Input is ignored."""

    def end(self) -> None:
        self._action()


class _Measure:
    def __init__(self, context: StageHost, bound: Mapping[str, Any]) -> None:
        self._context = context
        self._count = 1 if bound.get("InputObject") is not None else 0

    def process(self, value: Any) -> None:
        self._count += 1

    def end(self) -> None:
        name = "Microsoft.PowerShell.Commands.GenericMeasureInfo"
        empty = ("Average", "Sum", "Maximum", "Minimum", "Property")
        self._context.write_output(
            Thing(
                (name, "Microsoft.PowerShell.Commands.MeasureInfo", OBJECT),
                text=name,
                adapted=[("Count", self._count), *((key, None) for key in empty)],
            )
        )


class _Select:
    def __init__(self, context: StageHost, bound: Mapping[str, Any]) -> None:
        self._context = context
        self._names: Sequence[str] = bound.get("Property") or ()
        self._single = bound.get("InputObject")

    def process(self, value: Any) -> None:
        self._context.write_output(select(value, self._names) if self._names else value)

    def end(self) -> None:
        if self._single is not None:
            self.process(self._single)


class _OutDefault:
    """Shows values on the client's host; without one, what is shown is lost, as it is on a real endpoint."""

    def __init__(self, context: StageHost, bound: Mapping[str, Any]) -> None:
        self._context = context
        self._single = bound.get("InputObject")

    def process(self, value: Any) -> None:
        for line in shown_lines(value):
            self._context.call_host("WriteLine2", 16, (line,))

    def end(self) -> None:
        if self._single is not None:
            self.process(self._single)


def select(value: Any, names: Sequence[str]) -> Thing:
    """An object with the named properties only, as Select-Object makes it."""
    known = _properties(value)
    source = value.types[0] if isinstance(value, Thing) and value.types else NAMESPACE + "PSCustomObject"
    return Thing(
        (f"Selected.{source}", NAMESPACE + "PSCustomObject", OBJECT),
        extended=[(name, known.get(name.casefold())) for name in names],
    )


def shown_lines(value: Any) -> list[str]:
    """The lines in which a person sees a value; a short stand-in for PowerShell's formatting."""
    if isinstance(value, Thing) and any(name.endswith(NAMESPACE + "ErrorRecord") for name in value.types):
        return [f"Error: {value.text}"]
    properties = {} if isinstance(value, (str, int, float, datetime)) else _properties(value, keep_case=True)
    if not properties:
        return text_of(value).splitlines() or [""]
    width = max(map(len, properties))
    return ["", *(f"{name:<{width}} : {text_of(item)}" for name, item in properties.items()), ""]


def _properties(value: Any, *, keep_case: bool = False) -> dict[str, Any]:
    if isinstance(value, Mapping):
        pairs = [(str(key), item) for key, item in value.items() if key != "PSTypeName"]
    elif isinstance(value, Thing):
        pairs = [*(value.adapted or ()), *(value.extended or ())]
    else:
        pairs = []
    return {(name if keep_case else name.casefold()): item for name, item in pairs}


def _get_command(context: StageHost, bound: Mapping[str, Any]) -> Stage:
    def write() -> None:
        names = bound.get("Name")
        wanted = names or ["*"]
        kinds = _command_types(bound.get("CommandType"))
        if bound.get("Module"):
            return  # no command of this session comes from a module
        for name in wanted:
            # Without a name Get-Command lists functions and cmdlets; aliases only when asked for by name or type.
            types = kinds or (COMMAND_TYPES["Function"] | COMMAND_TYPES["Cmdlet"])
            found = context.catalog.matching([name], types)
            if not found and "*" not in name and "?" not in name:
                context.write_error(_no_such_command(name))
            for command in found:
                context.write_output(command_info(command.command))

    return _OnEnd(write)


def _command_types(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    names = text_of(value).replace(",", " ").split()
    flags = {name.casefold(): flag for name, flag in COMMAND_TYPES.items()}
    if any(name.casefold() == "all" for name in names):
        return sum(COMMAND_TYPES.values())
    return sum(flags.get(name.casefold(), 0) for name in names)


def _no_such_command(name: str) -> SimulatedError:
    return SimulatedError(
        f"The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program."
        " Check the spelling of the name, or if a path was included, verify that the path is correct and try again.",
        "CommandNotFoundException,Microsoft.PowerShell.Commands.GetCommandCommand",
        "ObjectNotFound",
        NAMESPACE + "CommandNotFoundException",
        name,
    )


def _get_help(context: StageHost, bound: Mapping[str, Any]) -> Stage:
    def write() -> None:
        name = bound.get("Name") or "default"
        command = context.catalog.find(name)
        if command is None:
            raise SimulatedError(
                f"Get-Help could not find {name} in a help file in this session. To download updated help topics"
                ' type: "Update-Help". To get help online, search for the help topic in the TechNet library at'
                " https:/go.microsoft.com/fwlink/?LinkID=107116.",
                "HelpNotFound,Microsoft.PowerShell.Commands.GetHelpCommand",
                "ResourceUnavailable",
                "Microsoft.PowerShell.Commands.HelpNotFoundException",
            )
        context.write_output(help_text.help_info(command))
        context.write_progress("Get-Help", "Completed", completed=True)

    return _OnEnd(write)


def _exit(context: StageHost, _: Mapping[str, Any]) -> Stage:
    return _OnEnd(lambda: context.always_call_host("PopRunspace", 53, ()))


def _nothing(_: StageHost, __: Mapping[str, Any]) -> Stage:
    return _OnEnd(lambda: None)


BUILT_IN: Final[dict[str, Callable[[StageHost, Mapping[str, Any]], Stage]]] = {
    "Clear-Host": _nothing,
    "Exit-PSSession": _exit,
    "Get-Command": _get_command,
    "Get-FormatData": _nothing,
    "Get-Help": _get_help,
    "Measure-Object": _Measure,
    "Out-Default": _OutDefault,
    "Select-Object": _Select,
}


def _never_run(context: CommandContext, parameters: Mapping[str, Any]) -> None:
    raise AssertionError("the session's own commands run as stages")


def built_in_commands() -> tuple[CommandSpec, ...]:
    """The restricted commands with the parameters that their proxies allow."""
    strings, text, thing = "System.String[]", "System.String", "System.Object"
    piped = ParameterSpec("InputObject", thing, from_pipeline=True)

    def spec(
        name: str, *parameters: ParameterSpec, aliases: tuple[str, ...] = (), kind: str = "Function"
    ) -> CommandSpec:
        return CommandSpec(name, _never_run, parameters, aliases=aliases, command_type=kind)

    return (
        spec("Clear-Host", aliases=("cls",)),
        spec("Exit-PSSession", aliases=("exsn",)),
        spec(
            "Get-Command",
            ParameterSpec("Name", strings, position=0),
            ParameterSpec("Module", strings),
            ParameterSpec("ArgumentList", "System.Object[]", position=1, aliases=("Args",)),
            ParameterSpec("CommandType", NAMESPACE + "CommandTypes", aliases=("Type",)),
            ParameterSpec("ListImported", SWITCH),
            ParameterSpec("ShowCommandInfo", SWITCH),
            aliases=("gcm",),
        ),
        spec(
            "Get-FormatData",
            ParameterSpec("TypeName", strings, position=0),
            ParameterSpec("PowerShellVersion", "System.Version"),
        ),
        spec("Get-Help", ParameterSpec("Name", text, position=0), ParameterSpec("Category", strings)),
        spec("Measure-Object", piped, aliases=("measure",)),
        spec("Out-Default", piped),
        spec(
            "Select-Object",
            piped,
            ParameterSpec("Property", strings, position=0, validate_set=_SELECTABLE),
            aliases=("select",),
        ),
    )
