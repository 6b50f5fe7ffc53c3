"""The values that expressions are computed with, and how each becomes text, true or false, or a value to send."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from bridge.endpoint._commands import Hashtable, Int64, NumberLiteral, Value
from bridge.endpoint.script._moments import checked
from bridge.endpoint.script._numeric import NotExactError, Numeric, format_number, is_numeric
from bridge.secrets import Credential, Secret


@dataclass(frozen=True, slots=True)
class Char:
    """A ``[char]``: what indexing a string gives."""

    value: str


class Nothing:
    """The output of ``$()``: no value at all, which differs from ``$null`` inside ``@()``."""


NOTHING = Nothing()
Runtime: TypeAlias = Any
"""Every member of ``Value``, and ``Char``, ``timedelta``, naive ``datetime`` and ``NOTHING``, which cannot be sent."""

_LARGEST = 100_000  # items of a computed list, characters of a computed string


def unwrap(value: Runtime) -> Runtime:
    """The value without the text it was written as, and ``$null`` for no value."""
    if isinstance(value, NumberLiteral):
        return value.value
    return None if value is NOTHING else value


def is_true(value: Runtime) -> bool:
    """PowerShell's truth (about_Booleans)."""
    match unwrap(value):
        case None:
            return False
        case bool() as known:
            return known
        case str() as text:
            return text != ""
        case tuple() as items:
            return is_true(items[0]) if len(items) == 1 else bool(items)
        case number if is_numeric(number):
            return bool(number.value if isinstance(number, Int64) else number)
        case _:
            return True


def to_text(value: Runtime) -> str:
    """The value inside an expanded string (invariant culture). Raises :class:`NotExactError`."""
    match unwrap(value):
        case None:
            return ""
        case str() as text:
            return text
        case Char(value=text):
            return text
        case bool() as known:
            return str(known)
        case datetime() as moment:
            return f"{moment:%m/%d}/{moment.year:04d} {moment:%H:%M:%S}"
        case tuple() as items:
            return " ".join(_item_text(item) for item in items)
        case Secret() | Credential():
            raise NotExactError("a credential cannot become text")
        case number if is_numeric(number):
            return format_number(number)
        case _:
            raise NotExactError("the bridge does not turn this value into text")


def _item_text(item: Runtime) -> str:
    if isinstance(item, tuple):
        raise NotExactError("the bridge does not turn nested lists into text")
    return to_text(item)


def to_value(value: Runtime) -> Value:
    """The value as it is sent. Raises :class:`NotExactError` where it cannot be sent as what it is."""
    match value:
        case None | bool() | str() | int() | float() | Decimal() | Int64() | NumberLiteral() | Secret() | Credential():
            return value
        case Nothing():
            return None
        case datetime() if value.tzinfo is None:
            raise NotExactError("this date has no time zone, so that the endpoint would read it in its own")
        case datetime():
            return checked(value) if value.fold == 0 else value
        case Hashtable(items=items):
            return Hashtable(tuple((to_value(key), to_value(item)) for key, item in items))
        case tuple():
            return tuple(to_value(item) for item in value)
        case _:
            names = {Char: "[char]", timedelta: "[timespan]"}
            raise NotExactError(f"a value of type {names.get(type(value), type(value).__name__)} cannot be sent")


def limited(value: Runtime) -> Runtime:
    """The value, unless it has grown beyond what any command takes."""
    if isinstance(value, str | tuple) and len(value) > _LARGEST:
        raise NotExactError(f"the result has more than {_LARGEST} characters or items")
    return value


def find_key(table: Hashtable, key: Runtime) -> Runtime:
    """The value of a key (text without regard to case); ``NOTHING`` where there is none."""
    for known, value in table.items:
        if same_key(known, key):
            return value
    return NOTHING


def same_key(left: Runtime, right: Runtime) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left.casefold() == right.casefold()
    return type(left) is type(right) and bool(left == right)


def numeric(value: Runtime) -> Numeric | None:
    """The value as a number, where it is one."""
    plain = unwrap(value)
    return plain if is_numeric(plain) else None
