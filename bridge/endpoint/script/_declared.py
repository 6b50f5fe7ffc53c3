"""The types that the parameters of PEP scripts declare."""

from __future__ import annotations

from enum import StrEnum

from bridge.endpoint.script._casts import type_key


class Declared(StrEnum):
    """A declared type, by PowerShell's short name. ``object`` is an undeclared one."""

    STRING = "string"
    STRINGS = "string[]"
    INT = "int"
    INTS = "int[]"
    LONG = "long"
    DOUBLE = "double"
    SWITCH = "switch"
    BOOL = "bool"
    DATETIME = "datetime"
    URI = "uri"
    PSCREDENTIAL = "pscredential"
    SECURESTRING = "securestring"
    HASHTABLE = "hashtable"
    OBJECT = "object"

    @property
    def is_secret(self) -> bool:
        """Whether its values must never be written down or stand on a command line."""
        return self in (Declared.PSCREDENTIAL, Declared.SECURESTRING)


def declared_type(name: str | None) -> Declared | None:
    """The type that a name in brackets declares; None where values of it cannot be given."""
    if name is None:
        return Declared.OBJECT
    try:
        return Declared(type_key(name))
    except ValueError:
        return None
