"""Turns what psrpcore read from the wire into the plain Python values that commands are written with."""

from __future__ import annotations

import decimal
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from psrpcore.types import PSCredential, PSInt64, PSObject, PSSecureString, PSUri, PSVersion

from bridge.simulator._command import CredentialValue, Int64
from bridge.simulator.session._clixml import Scalar, SecureText, Thing


def plain(value: Any) -> Any:  # noqa: PLR0912 - one case a type
    """The value without psrpcore's types; an object of an unknown type becomes a ``Thing``."""
    match value:
        case None | bool():
            return value
        case PSSecureString():
            return SecureText(str(value.decrypt()))
        case PSCredential():
            return CredentialValue(str(value.UserName), str(value.Password.decrypt()))
        case PSUri():
            return str(value)
        case PSVersion():
            return Scalar("Version", str(value))
        case str():
            return str(value)
        case PSInt64():
            return Int64(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case decimal.Decimal():
            return decimal.Decimal(value)
        case datetime():
            # PSDateTime is a subclass with a nanosecond; commands get the standard type.
            return datetime.combine(value.date(), value.timetz())
        case timedelta():
            return timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)
        case uuid.UUID():
            return uuid.UUID(int=value.int)
        case Mapping():
            return {plain(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case PSObject():
            return _object(value)
        case _:
            return value


def _object(value: PSObject) -> Any:
    kind = (value.PSObject.type_names or [""])[0].removeprefix("Deserialized.")
    if kind == "System.Management.Automation.PSCredential":
        return CredentialValue(str(value.UserName), str(value.Password.decrypt()))
    if kind == "System.Management.Automation.SwitchParameter":
        return bool(value.IsPresent)  # Import-PSSession's proxies send the structure, not a boolean
    parts: dict[str, list[tuple[str, Any]]] = {}
    for name in ("adapted_properties", "extended_properties"):
        properties = getattr(value.PSObject, name)
        parts[name] = [(item.name, plain(item.get_value(value))) for item in properties]
    return Thing(
        tuple(value.PSObject.type_names),
        text=value.PSObject.to_string,
        adapted=parts["adapted_properties"] or None,
        extended=parts["extended_properties"] or None,
    )


def type_name(value: Any) -> str:  # noqa: PLR0912 - one case a type
    """The .NET name of a value's type, as error messages show it."""
    match value:
        case None:
            return ""
        case bool():
            return "System.Boolean"
        case str():
            return "System.String"
        case Int64():
            return "System.Int64"
        case int():
            return "System.Int32"
        case float():
            return "System.Double"
        case decimal.Decimal():
            return "System.Decimal"
        case datetime():
            return "System.DateTime"
        case CredentialValue():
            return "System.Management.Automation.PSCredential"
        case Mapping():
            return "System.Collections.Hashtable"
        case list() | tuple():
            return "System.Collections.ArrayList"
        case Thing() if value.types:
            return value.types[0].removeprefix("Deserialized.")
        case _:
            return "System.Management.Automation.PSObject"


def text_of(value: Any) -> str:
    """A value as PowerShell's ``[string]`` conversion gives it."""
    match value:
        case None:
            return ""
        case bool():
            return "True" if value else "False"
        case Thing():
            return value.text if value.text is not None else (value.types[0] if value.types else "")
        case Scalar():
            return value.text
        case datetime():
            return value.strftime("%m/%d/%Y %H:%M:%S")
        case list() | tuple():
            return " ".join(map(text_of, value))
        case Mapping():
            return "@{" + "; ".join(f"{key}={text_of(item)}" for key, item in value.items()) + "}"
        case CredentialValue():
            return "System.Management.Automation.PSCredential"
        case _:
            return str(value)
