"""What a script may send: read-only and collecting commands; anything else by name, and known to the endpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bridge.endpoint import Command, CommandInfo, ParameterInfo
from bridge.endpoint.script import Safety, classify
from bridge.errors import CommandNotAllowedError, CommandNotFoundError, ParameterRejectedError

_COMMON_SWITCHES = frozenset({"verbose", "debug", "whatif", "confirm"})
_COMMON_ALIASES: Mapping[str, str] = {
    "vb": "verbose",
    "db": "debug",
    "wi": "whatif",
    "cf": "confirm",
    "ea": "erroraction",
    "wa": "warningaction",
    "infa": "informationaction",
    "ev": "errorvariable",
    "wv": "warningvariable",
    "iv": "informationvariable",
    "ov": "outvariable",
    "ob": "outbuffer",
    "pv": "pipelinevariable",
}
COMMON_PARAMETERS = frozenset(_COMMON_ALIASES.values())
"""about_CommonParameters; WhatIf and Confirm are only on commands that support them, which their metadata tells too."""

_HARMLESS = frozenset({Safety.READ_ONLY, Safety.COLLECTING})
_CHANGING_SWITCHES: Mapping[str, str] = {"test-azurestack": "repair"}
"""Switches that make a harmless command change the stamp ("Validate system state": -Repair)."""

_DASHES = "-\u2013\u2014\u2015"


def safety_of(command: Command) -> Safety:
    """What running a command, with these parameters, does to the stamp."""
    switch = _CHANGING_SWITCHES.get(command.name.lower())
    if switch and any(_could_be(parameter.name, switch) for parameter in command.parameters):
        return Safety.CHANGING
    return classify(command.name)


def needs_naming(commands: Iterable[Command]) -> tuple[str, ...]:
    """The commands that run only when named: those that change or stop the stamp, and those nobody here knows.

    A name with a module in front is judged as unknown: which command it reaches is the endpoint's business.
    """
    return tuple(dict.fromkeys(command.name for command in commands if safety_of(command) not in _HARMLESS))


def require_permission(commands: Iterable[Command], allowed: Collection[str], verb: str) -> None:
    """Raises ``CommandNotAllowedError`` for the first command that is known to change or stop the stamp, and is not
    allowed by name. One that nobody here knows is first looked up on the endpoint (``require_known``)."""
    permitted = {name.lower() for name in allowed}
    for command in commands:
        safety = safety_of(command)
        if safety not in _HARMLESS | {Safety.UNKNOWN} and command.name.lower() not in permitted:
            raise _not_allowed(command.name, verb, "changes or stops the stamp")


def require_known(
    commands: Sequence[Command], known: Sequence[CommandInfo], allowed: Collection[str], verb: str
) -> None:
    """The second look, with what the endpoint says of itself; what it does not have, or would refuse, comes first.

    Raises:
        CommandNotFoundError, ParameterRejectedError: as ``check_commands`` raises them.
        CommandNotAllowedError: the endpoint has a command of which nobody here knows what it does, or a harmless name
            turns out to be an alias of another one; and it is not allowed by name.
    """
    checked = check_commands(commands, known)
    permitted = {name.lower() for name in allowed}
    for command, info in zip(commands, checked, strict=True):
        if safety_of(command) is Safety.UNKNOWN and command.name.lower() not in permitted:
            raise _not_allowed(command.name, verb, "is on the endpoint, but not known to be harmless")
        if classify(info.name) not in _HARMLESS and not permitted & {info.name.lower(), command.name.lower()}:
            raise _not_allowed(info.name, verb, f"is what {command.name} stands for on the endpoint")


def check_commands(commands: Sequence[Command], known: Sequence[CommandInfo]) -> tuple[CommandInfo, ...]:
    """Compares commands and parameters with what the endpoint says of itself, before anything runs.

    Returns:
        What each command is on the endpoint, in their order.

    Raises:
        CommandNotFoundError: the endpoint has no such command.
        ParameterRejectedError: no such parameter, an ambiguous abbreviation, one given twice, a mandatory one missing,
            or a value too many.
    """
    by_name = {name.lower(): info for info in known for name in (*info.aliases, info.name)}
    found = []
    from_pipeline = False
    for command in commands:
        info = by_name.get(bare_name(command))
        if info is None:
            raise CommandNotFoundError(command=command.name)
        _check_parameters(command, info, from_pipeline=from_pipeline)
        from_pipeline = not command.end_of_statement
        found.append(info)
    return tuple(found)


def bare_name(command: Command) -> str:
    """The name without a module before it, in lower case."""
    return command.name.rpartition("\\")[2].lower()


@dataclass(slots=True)
class _Binding:
    """What is bound as the parameters of one command are read; a name without a value takes the next one."""

    command: Command
    names: set[str] = field(default_factory=set)
    values: int = 0
    waiting: str = ""

    def name(self, name: str) -> None:
        if name in self.names:
            raise _rejected(self.command, "ParameterAlreadyBound", f"-{name} is given twice")
        self.names.add(name)


def _check_parameters(command: Command, info: CommandInfo, *, from_pipeline: bool) -> None:
    bound = _Binding(command)
    for parameter in command.parameters:
        if parameter.name is None:
            bound.values += not bound.waiting
            bound.waiting = ""
            continue
        if bound.waiting:
            raise _rejected(command, "MissingArgument", f"{bound.waiting} has no value")
        name, is_switch = _resolve(command, _bare_parameter(parameter.name), info.parameters)
        bound.name(name)
        has_value = parameter.value is not None or parameter.name[:1] not in _DASHES or parameter.name.endswith(":")
        bound.waiting = "" if has_value or is_switch else f"-{name}"
    if bound.waiting:
        raise _rejected(command, "MissingArgument", f"{bound.waiting} has no value")
    _check_positions(bound, info)
    if not from_pipeline:
        _check_mandatory(bound, info)


def _bare_parameter(name: str) -> str:
    return name.strip().lstrip(_DASHES).removesuffix(":").strip().lower()


def _could_be(name: str | None, full: str) -> bool:
    written = _bare_parameter(name or "")
    return bool(written) and full.startswith(written)


def _check_positions(bound: _Binding, info: CommandInfo) -> None:
    """A list in the last place may take whatever is left: metadata does not say whether it does."""
    free = [each for each in info.parameters if each.position is not None and each.name.lower() not in bound.names]
    last = max(free, key=lambda each: each.position or 0, default=None)
    if info.syntax and bound.values > len(free) and not (last and last.type_name.endswith("[]")):
        raise _rejected(
            bound.command, "PositionalParameterNotFound", f"it takes {len(free)} values without a name here"
        )


def _check_mandatory(bound: _Binding, info: CommandInfo) -> None:
    for parameter in info.parameters:
        by_position = parameter.position is not None and bound.values > 0
        if parameter.mandatory and parameter.name.lower() not in bound.names and not by_position:
            raise _rejected(bound.command, "MissingMandatoryParameter", f"-{parameter.name} is missing")


def _resolve(command: Command, written: str, parameters: Sequence[ParameterInfo]) -> tuple[str, bool]:
    """The full name of the parameter that a name or unique abbreviation means, and whether it is a switch.

    Where an abbreviation fits one own parameter and common ones, PowerShell takes the own one.
    """
    names = {name.lower(): each for each in parameters for name in (*each.aliases, each.name)}
    common_name = _COMMON_ALIASES.get(written, written)
    if written in names:
        return names[written].name.lower(), names[written].switch
    if common_name in COMMON_PARAMETERS:
        return common_name, common_name in _COMMON_SWITCHES
    fitting = {each.name.lower(): each for name, each in names.items() if written and name.startswith(written)}
    own = [name for name in fitting if name not in COMMON_PARAMETERS]
    common = [name for name in COMMON_PARAMETERS if written and name.startswith(written)]
    choices = own or common
    if len(choices) == 1:
        [name] = choices
        return name, fitting[name].switch if own else name in _COMMON_SWITCHES
    if choices:
        listed = ", ".join(f"-{name}" for name in sorted(choices))
        raise _rejected(command, "AmbiguousParameter", f"-{written} could be {listed}")
    known = ", ".join(f"-{each.name}" for each in parameters if each.name.lower() not in COMMON_PARAMETERS)
    raise _rejected(command, "NamedParameterNotFound", f"there is no parameter -{written}; it has {known or 'none'}")


def _rejected(command: Command, error_id: str, detail: str) -> ParameterRejectedError:
    return ParameterRejectedError(command=command.name, error_id=f"{error_id},{command.name}", detail=detail)


def _not_allowed(name: str, verb: str, why: str) -> CommandNotAllowedError:
    return CommandNotAllowedError(
        command=name,
        verb=verb,
        fix=f"{name} {why}. If this is what you want: --allow {name}, and confirm by typing the name.",
    )
