"""Gathers the arguments of a script from ``-p Name=Value`` and from a JSON or TOML file."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from bridge.endpoint._commands import Value
from bridge.endpoint.script._declared import Declared
from bridge.endpoint.script._script import Script
from bridge.endpoint.script._values import convert_value
from bridge.errors import ScriptArgumentError, SecretOnCommandLineError, UsageError
from bridge.secrets import Credential, Secret

_LARGEST_FILE_BYTES = 4_000_000
_SAS = re.compile(r"[?&]sig=", re.IGNORECASE)
_LISTS = (Declared.STRINGS, Declared.INTS)


def read_arguments(
    script: Script,
    pairs: Iterable[str] = (),
    file: Path | None = None,
    *,
    secrets: Mapping[str, Credential | Secret] | None = None,
    tz: tzinfo | None = None,
    now: datetime | None = None,
) -> dict[str, Value]:
    """The arguments for :meth:`Script.bind`, by parameter name.

    Args:
        pairs: ``Name=Value``; ``Name`` alone for a switch; a list takes commas, or its name again and again; a
            credential takes its user name, where ``secrets`` has the rest.
        file: JSON or TOML with a value for each name; a pair replaces it.
        secrets: credentials and secure strings, and text that is secret (a SAS) as ``Secret``.
        tz: the zone of dates without one.
        now: what relative dates count from.

    Raises:
        UsageError: the file cannot be read.
        ScriptArgumentError: a name is unknown or a value does not fit.
        SecretOnCommandLineError: a secret stands in a pair.
    """
    given: dict[str, Any] = {}
    for name, value in (read_values(file) if file is not None else {}).items():
        given[script.parameter(name).name] = value
    given.update(_read_pairs(script, pairs, secrets or {}))
    for name, secret in (secrets or {}).items():
        given[script.parameter(name).name] = secret
    return {
        name: convert_value(value, script.parameter(name).type, name=name, tz=tz, now=now)
        for name, value in given.items()
    }


def _read_pairs(script: Script, pairs: Iterable[str], secrets: Mapping[str, Credential | Secret]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for pair in pairs:
        name, has_value, text = pair.partition("=")
        parameter = script.parameter(name.strip())
        secret = secrets.get(parameter.name)
        if isinstance(secret, Credential) and text == secret.username:
            continue  # a user name alone is no secret; its password came another way
        if parameter.type.is_secret or _SAS.search(text):
            how = "a prompt, the keyring, a file of mode 0600 or an environment variable"
            raise SecretOnCommandLineError(what=parameter.name, how=how)
        if not has_value and parameter.type is not Declared.SWITCH:
            fix = f"Write -p {parameter.name}=VALUE."
            raise ScriptArgumentError(parameter=parameter.name, detail="it needs a value", fix=fix)
        if parameter.name in given and parameter.type not in _LISTS:
            raise ScriptArgumentError(parameter=parameter.name, detail="it is given twice", fix="Give it once.")
        earlier = f"{given[parameter.name]}," if parameter.name in given else ""
        given[parameter.name] = f"{earlier}{text}" if has_value else True
    return given


def read_values(path: Path) -> dict[str, Any]:
    """The names and values in a JSON or TOML file. Raises :class:`UsageError` where it cannot be read."""
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise UsageError(detail=f"The file {path} is too large.", fix="Give a smaller one.")
        text = path.read_text(encoding="utf-8-sig")
        document = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise UsageError(detail=f"The file {path} cannot be read: {error.strerror}.", fix="Check its name.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            detail=f"The file {path} is not valid: {error}.", fix="Write JSON, or TOML named .toml."
        ) from error
    if not isinstance(document, dict):
        raise UsageError(detail=f"The file {path} is not a table of names and values.", fix='Write {"Name": "value"}.')
    return document
