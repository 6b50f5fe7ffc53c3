"""The values of a script's parameters: given, read from a file, found where secrets are kept, or asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from bridge.endpoint import Value
from bridge.endpoint.script import Declared, Script, ScriptParameter, read_arguments, read_values
from bridge.errors import SecretOnCommandLineError, UsageError
from bridge.secrets import Credential, Secret

FindSecret = Callable[[ScriptParameter, str], Secret]
"""Finds the secret of a parameter; the text is the user name of a credential, or the address that a SAS opens."""
AskValue = Callable[[str], str | None]
"""Asks a person for a value; ``None`` where there is none to be had."""

NOT_ASKED_FOR = Secret("")
"""Stands in a dry run where a secret would be."""


def gather_arguments(
    script: Script,
    pairs: Iterable[str] = (),
    file: Path | None = None,
    *,
    find: FindSecret | None = None,
    ask: AskValue | None = None,
    tz: tzinfo | None = None,
    now: datetime | None = None,
) -> dict[str, Value]:
    """The arguments for ``Script.bind``.

    A credential's user name, and the address of a container without its SAS, are given as any value (``pairs``,
    ``file``); the secret comes from ``find``. A secure string is asked for where it is mandatory or named without a
    value (``-p Token``).

    Args:
        pairs: ``Name=Value``, as ``-p`` takes them.
        file: JSON or TOML; a pair replaces a value of it.
        find: None in a dry run, which shows where a secret would stand and needs none.
        ask: asks for mandatory values that were not given.
        tz: the zone of dates without one.
        now: what relative dates count from.

    Raises:
        ScriptArgumentError: a name is unknown or a value does not fit.
        SecretOnCommandLineError: a secret stands where it can be read.
        UsageError: the file cannot be read, or a secret cannot be found.
    """
    plain: list[str] = []
    owners: dict[str, str] = {}
    named: set[str] = set()
    for name, value in (read_values(file) if file is not None else {}).items():
        _sort_out(script.parameter(name), value, owners, named)
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not _sort_out(script.parameter(name.strip()), text if equals else None, owners, named):
            plain.append(pair)
    for parameter in script.parameters:
        if parameter.mandatory and parameter.name not in named and ask is not None and not parameter.type.is_secret:
            value = ask(f"{parameter.name} ({parameter.type})")
            plain += [f"{parameter.name}={value}"] if value else []
    wanted = (each for each in script.parameters if each.name in owners or (each.mandatory and each.type.is_secret))
    secrets = {each.name: _secret(each, owners.get(each.name, ""), find, ask) for each in wanted}
    return dict(read_arguments(script, plain, file, secrets=secrets, tz=tz, now=now))


def _sort_out(parameter: ScriptParameter, value: Any, owners: dict[str, str], named: set[str]) -> bool:
    """Notes a value; true where a secret belongs to it, which is found later."""
    named.add(parameter.name)
    text = value if isinstance(value, str) else ""
    if parameter.type is Declared.SECURESTRING and text:
        how = f"a prompt, the keyring or the variable {secret_variable(parameter)}"
        raise SecretOnCommandLineError(what=parameter.name, how=how)
    if parameter.type.is_secret or (_is_sas(parameter) and text and "?" not in text):
        owners[parameter.name] = text
        return True
    owners.pop(parameter.name, None)
    return False


def secret_variable(parameter: ScriptParameter) -> str:
    """The environment variable that holds a parameter's secret."""
    return f"PEP_BRIDGE_PARAMETER_{parameter.name.upper()}"


def _is_sas(parameter: ScriptParameter) -> bool:
    return parameter.name.lower().endswith("sasuri")


def _secret(
    parameter: ScriptParameter, owner: str, find: FindSecret | None, ask: AskValue | None
) -> Credential | Secret:
    if parameter.type is Declared.PSCREDENTIAL and not owner and find is not None:
        owner = (ask(f"User name for -{parameter.name}") if ask is not None else None) or ""
        if not owner:
            raise UsageError(
                detail=f"-{parameter.name} needs a user name.",
                fix=f"Give it with -p '{parameter.name}=DOMAIN\\user'; the password comes from a safe place.",
            )
    found = NOT_ASKED_FOR if find is None else find(parameter, owner)
    if parameter.type is Declared.PSCREDENTIAL:
        return Credential(owner, found)
    if parameter.type.is_secret:
        return found
    return Secret(f"{owner}?{found.reveal()}") if found else Secret(owner)


def known_secrets(arguments: Mapping[str, Value]) -> tuple[Secret, ...]:
    """The secrets among arguments: what is written down or shown must not hold them."""
    found = (value.password if isinstance(value, Credential) else value for value in arguments.values())
    return tuple(each for each in found if isinstance(each, Secret))
