"""Casts: ``[int]'5'``, ``[datetime]'2024-03-12T08:00:00Z'``, and the types that parameters may declare."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

from bridge.endpoint._commands import Hashtable, Int64
from bridge.endpoint.script._moments import parse_moment, parse_span
from bridge.endpoint.script._numbers import INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN
from bridge.endpoint.script._numeric import NotExactError, is_numeric, parse_number, to_double, to_int
from bridge.endpoint.script._runtime import Char, Runtime, is_true, to_text, unwrap
from bridge.secrets import Credential, Secret

_ALIASES = {
    "int32": "int",
    "int64": "long",
    "boolean": "bool",
    "switchparameter": "switch",
    "management.automation.switchparameter": "switch",
    "management.automation.pscredential": "pscredential",
    "security.securestring": "securestring",
    "collections.hashtable": "hashtable",
}
_LONGEST_ISO = 19  # digits of the largest long


def type_key(name: str) -> str:
    """The bridge's name of a type: ``[System.Int32]`` and ``[INT]`` are ``int``."""
    base, brackets, _ = name.lower().partition("[")
    base = base.removeprefix("system.")
    return _ALIASES.get(base, base) + ("[]" if brackets else "")


def cast(name: str, value: Runtime) -> Runtime:
    """The value cast to the type. Raises :class:`NotExactError` for a type or value that the bridge does not cast."""
    key = type_key(name)
    value = unwrap(value)
    if key.endswith("[]"):
        return _to_list(key.removesuffix("[]"), value)
    if key not in _CASTS:
        raise NotExactError(f"the bridge does not cast to [{name}]")
    return _CASTS[key](value)


def _to_list(item_type: str, value: Runtime) -> Runtime:
    if value is None:
        return None
    items = value if isinstance(value, tuple) else (value,)
    return tuple(cast(item_type, item) for item in items)


def _to_string(value: Runtime) -> str:
    return to_text(value)


def _whole(value: Runtime, lowest: int, highest: int) -> int:
    if value is None:
        return 0
    if isinstance(value, bool):
        return int(value)
    number = _number_in(value)
    result = to_int(number)
    if not lowest <= result <= highest:
        raise NotExactError("the number is too large for its type")
    return result


def _number_in(value: Runtime) -> int | Int64 | float | Decimal:
    if isinstance(value, str):
        text = value.strip(" \t\r\n")
        if re.fullmatch(r"0[xX][0-9a-fA-F]{1,7}", text):
            return int(text, 16)
        if len(text) > _LONGEST_ISO and text.isdigit():
            raise NotExactError("the number is too large for its type")
        return parse_number(value)
    if not is_numeric(value):
        raise NotExactError("this cannot be cast to a number")
    number: int | Int64 | float | Decimal = value
    return number


def _to_int(value: Runtime) -> int:
    return _whole(value, INT32_MIN, INT32_MAX)


def _to_long(value: Runtime) -> Int64:
    return Int64(_whole(value, INT64_MIN, INT64_MAX))


def _to_double(value: Runtime) -> float:
    return 0.0 if value is None else to_double(_number_in(value))


def _to_decimal(value: Runtime) -> Decimal:
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?\d{1,28}(?:\.\d{1,28})?", value, re.ASCII):
            raise NotExactError("the bridge does not read this as a [decimal]")
        return Decimal(value)
    number = _number_in(value)
    return (
        Decimal(repr(number))
        if isinstance(number, float)
        else number
        if isinstance(number, Decimal)
        else Decimal(to_int(number))
    )


def _to_bool(value: Runtime) -> bool:
    return is_true(value)


def _to_moment(value: Runtime) -> datetime:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise NotExactError("only text in ISO 8601 is cast to [datetime]")
    return parse_moment(value)


def _to_span(value: Runtime) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise NotExactError("only text (hh:mm:ss) is cast to [timespan]")
    return parse_span(value)


def _to_char(value: Runtime) -> Char:
    if isinstance(value, str) and len(value) == 1:
        return Char(value)
    if isinstance(value, Char):
        return value
    raise NotExactError("only one character of text is cast to [char]")


def _only(kind: type, name: str) -> Callable[[Runtime], Runtime]:
    def keep(value: Runtime) -> Runtime:
        if value is None or isinstance(value, kind):
            return value
        raise NotExactError(f"this cannot be cast to [{name}]")

    return keep


_CASTS: dict[str, Callable[[Runtime], Runtime]] = {
    "string": _to_string,
    "int": _to_int,
    "long": _to_long,
    "double": _to_double,
    "decimal": _to_decimal,
    "bool": _to_bool,
    "switch": _to_bool,
    "char": _to_char,
    "datetime": _to_moment,
    "timespan": _to_span,
    "object": lambda value: value,
    "psobject": lambda value: value,
    "array": lambda value: value if value is None or isinstance(value, tuple) else (value,),
    "hashtable": _only(Hashtable, "hashtable"),
    "pscredential": _only(Credential, "pscredential"),
    "securestring": _only(Secret, "securestring"),
    "uri": _only(str, "uri"),
}
