"""What a script may send: read-only and collecting commands; anything else by name, and known to the endpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from bridge.endpoint import Command, CommandInfo, ParameterInfo
from bridge.endpoint.script import Safety, classify
from bridge.errors import CommandNotAllowedError, CommandNotFoundError, ParameterRejectedError

COMMON_PARAMETERS = frozenset(
    {
        "verbose", "debug", "erroraction", "warningaction", "informationaction", "errorvariable", "warningvariable",
        "informationvariable", "outvariable", "outbuffer", "pipelinevariable", "vb", "db", "ea", "wa", "infa", "ev",
        "wv", "iv", "ov", "ob", "pv", "whatif", "wi", "confirm", "cf",
    }
)  # fmt: skip
"""about_CommonParameters; WhatIf and Confirm are only on commands that support them, which their metadata tells too."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at before a run: each command as the endpoint describes it."""

    commands: tuple[CommandInfo, ...]


def needs_naming(commands: Iterable[Command]) -> tuple[str, ...]:
    """The commands that run only when named: those that change or stop the stamp, and those nobody here knows.

    A name with a module in front is judged as unknown: which command it reaches is the endpoint's business.
    """
    harmless = {Safety.READ_ONLY, Safety.COLLECTING}
    return tuple(dict.fromkeys(command.name for command in commands if classify(command.name) not in harmless))


def require_permission(commands: Sequence[Command], allowed: Collection[str], verb: str) -> None:
    """Raises ``CommandNotAllowedError`` for the first command that needs to be allowed by name, and is not."""
    permitted = {name.lower() for name in allowed}
    for name in needs_naming(commands):
        if name.lower() not in permitted:
            known = "is not known to be harmless" if classify(name) is Safety.UNKNOWN else "changes or stops the stamp"
            raise CommandNotAllowedError(
                command=name,
                verb=verb,
                fix=f"It {known}. If this is what you want: --allow {name}, and confirm by typing the name.",
            )


def check_commands(commands: Iterable[Command], known: Sequence[CommandInfo]) -> Checked:
    """Compares commands and parameter names with what the endpoint says of itself, before anything runs.

    Raises:
        CommandNotFoundError: the endpoint has no such command.
        ParameterRejectedError: no such parameter, an ambiguous abbreviation, or one given twice.
    """
    by_name = {name.lower(): info for info in known for name in (info.name, *getattr(info, "aliases", ()))}
    used = []
    for command in commands:
        info = by_name.get(command.name.rpartition("\\")[2].lower())
        if info is None:
            raise CommandNotFoundError(command=command.name)
        _check_parameters(command, info)
        used.append(info)
    return Checked(tuple(dict.fromkeys(used)))


def _check_parameters(command: Command, info: CommandInfo) -> None:
    seen: set[str] = set()
    for parameter in command.parameters:
        if parameter.name is None:
            continue
        written = parameter.name.lstrip("-\u2013\u2014\u2015").rstrip().removesuffix(":").strip().lower()
        found = _resolve(command, written, info.parameters)
        if found in seen:
            raise ParameterRejectedError(
                command=command.name,
                error_id=f"ParameterAlreadyBound,{command.name}",
                detail=f"-{found} is given twice",
            )
        if found is not None:
            seen.add(found)


def _resolve(command: Command, written: str, parameters: Sequence[ParameterInfo]) -> str | None:
    """The parameter that a name or unique abbreviation means; ``None`` for a common parameter."""
    names = {name.lower(): parameter.name for parameter in parameters for name in (parameter.name, *parameter.aliases)}
    if written in names:
        return names[written].lower()
    if written in COMMON_PARAMETERS:
        return None
    matches = sorted({full.lower() for name, full in names.items() if name.startswith(written)})
    common = [name for name in COMMON_PARAMETERS if len(name) > 4 and name.startswith(written)]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise ParameterRejectedError(
            command=command.name,
            error_id=f"AmbiguousParameter,{command.name}",
            detail=f"-{written} could be {', '.join('-' + name for name in matches)}",
        )
    if common:
        return None
    close = ", ".join(
        f"-{parameter.name}" for parameter in parameters if parameter.name.lower() not in COMMON_PARAMETERS
    )
    raise ParameterRejectedError(
        command=command.name,
        error_id=f"NamedParameterNotFound,{command.name}",
        detail=f"there is no parameter -{written}; it has {close or 'none'}",
    )
