"""The properties and methods that expressions may use, on types and on values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bridge.endpoint._commands import Hashtable, Int64
from bridge.endpoint.script._casts import type_key
from bridge.endpoint.script._moments import (
    add,
    checked,
    format_moment,
    local_zone,
    parse_moment,
    span_of,
    subtract,
    to_local,
    to_utc,
)
from bridge.endpoint.script._numbers import INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN
from bridge.endpoint.script._numeric import NotExactError, is_numeric, to_double, to_int
from bridge.endpoint.script._runtime import NOTHING, Char, Runtime, find_key, limited, to_text, unwrap

_UNITS = ("Days", "Hours", "Minutes", "Seconds", "Milliseconds")
_BLANKS = " \t\n\v\f\r\x85\xa0"
_CONSTANTS: dict[tuple[str, str], Callable[[], Runtime]] = {
    ("datetime", "utcnow"): lambda: datetime.now(UTC),
    ("datetime", "now"): lambda: datetime.now(local_zone()),
    ("datetime", "today"): lambda: checked(
        datetime.now(local_zone()).replace(hour=0, minute=0, second=0, microsecond=0)
    ),
    ("int", "maxvalue"): lambda: INT32_MAX,
    ("int", "minvalue"): lambda: INT32_MIN,
    ("long", "maxvalue"): lambda: Int64(INT64_MAX),
    ("long", "minvalue"): lambda: Int64(INT64_MIN),
    ("string", "empty"): lambda: "",
    ("timespan", "zero"): lambda: timedelta(0),
}


def static_member(type_name: str, name: str, arguments: tuple[Runtime, ...] | None) -> Runtime:
    """``[type]::Name`` or ``[type]::Name(...)``. Raises :class:`NotExactError` for an unknown one."""
    key = (type_key(type_name), name.lower())
    if arguments is None:
        if key not in _CONSTANTS:
            raise NotExactError(f"the bridge does not know [{type_name}]::{name}")
        return _CONSTANTS[key]()
    return _static_call(type_name, name, key, tuple(unwrap(argument) for argument in arguments))


def _static_call(type_name: str, name: str, key: tuple[str, str], arguments: tuple[Runtime, ...]) -> Runtime:
    match key, arguments:
        case ("timespan", method), (amount,) if method[4:].title() in _UNITS and method.startswith("from"):
            return span_of(method[4:].title(), _amount(amount))
        case ("datetime", "parse"), (str() as text,):
            return parse_moment(text)
        case ("datetime", "new"), numbers if len(numbers) in (3, 6) and all(type(part) is int for part in numbers):
            return _new_moment(numbers)
        case ("datetime", "specifykind"), (datetime() as moment, str() as kind):
            return _with_kind(moment, kind)
        case ("string", "join"), (str() as separator, tuple() as items):
            return separator.join(to_text(item) for item in items)
        case ("string", "concat"), parts if parts and all(isinstance(part, str) for part in parts):
            return "".join(parts)
        case _:
            raise NotExactError(f"the bridge does not know [{type_name}]::{name} with these arguments")


def _new_moment(numbers: tuple[int, ...]) -> datetime:
    try:
        return datetime(*numbers)  # type: ignore[arg-type]  # noqa: DTZ001
    except ValueError as error:
        raise NotExactError(f"there is no such date ({error})") from error


def _with_kind(moment: datetime, kind: str) -> datetime:
    naive = moment.replace(tzinfo=None)
    zones = {"utc": UTC, "local": local_zone(), "unspecified": None}
    if kind.lower() not in zones:
        raise NotExactError("the kind is Utc, Local or Unspecified")
    return checked(naive.replace(tzinfo=zones[kind.lower()]))


def _amount(value: Runtime) -> int | float:
    if not is_numeric(value):
        raise NotExactError("a number is expected here")
    return value if isinstance(value, int) else to_double(value)


def member(target: Runtime, name: str, arguments: tuple[Runtime, ...] | None) -> Runtime:
    """``value.Name`` or ``value.Name(...)``. Raises :class:`NotExactError` for one that the bridge does not know."""
    target = unwrap(target)
    plain = None if arguments is None else tuple(unwrap(argument) for argument in arguments)
    if isinstance(target, datetime):
        return _moment_member(target, name, plain)
    if isinstance(target, str):
        return limited(_string_member(target, name, plain))
    if plain is None and isinstance(target, tuple) and name.lower() in ("count", "length"):
        return len(target)
    if plain is None and isinstance(target, Hashtable):
        return _table_member(target, name)
    if plain == () and name.lower() == "tostring" and (isinstance(target, bool | Char) or is_numeric(target)):
        return to_text(target)
    raise NotExactError(f"the bridge does not know the member '{name}' of this value")


def _table_member(table: Hashtable, name: str) -> Runtime:
    found = find_key(table, name)
    if found is not NOTHING:
        return found
    if name.lower() == "count":
        return len(table.items)
    raise NotExactError(f"the table has no key '{name}'")


def _moment_member(moment: datetime, name: str, arguments: tuple[Runtime, ...] | None) -> Runtime:
    lower = name.lower()
    if arguments is None:
        if lower in ("year", "month", "day", "hour", "minute", "second"):
            return getattr(moment, lower)
        if lower == "date":
            return checked(moment.replace(hour=0, minute=0, second=0, microsecond=0))
    elif len(arguments) == 1:
        return _moment_call(moment, name, arguments[0])
    elif lower == "touniversaltime":
        return to_utc(moment)
    elif lower == "tolocaltime":
        return to_local(moment)
    raise NotExactError(f"the bridge does not know the member '{name}' of a [datetime]")


def _moment_call(moment: datetime, name: str, argument: Runtime) -> Runtime:
    lower = name.lower()
    unit = lower.removeprefix("add").title()
    if lower.startswith("add") and unit in _UNITS:
        return add(moment, span_of(unit, _amount(argument)))
    if lower == "add" and isinstance(argument, timedelta):
        return add(moment, argument)
    if lower == "subtract" and isinstance(argument, timedelta):
        return add(moment, -argument)
    if lower == "subtract" and isinstance(argument, datetime):
        return subtract(moment, argument)
    if lower == "tostring" and isinstance(argument, str):
        return format_moment(moment, argument)
    raise NotExactError(f"the bridge does not know the member '{name}' of a [datetime] with this argument")


def _string_member(text: str, name: str, arguments: tuple[Runtime, ...] | None) -> Runtime:  # noqa: PLR0912
    if any(ord(character) > 0xFFFF for character in text):
        raise NotExactError("the text holds characters outside the basic plane, which .NET counts as two")
    if arguments is None:
        if name.lower() == "length":
            return len(text)
        raise NotExactError(f"the bridge does not know the member '{name}' of a [string]")
    match name.lower(), arguments:
        case "tostring", ():
            return text
        case "toupper" | "toupperinvariant", ():
            return _ascii(text).upper()
        case "tolower" | "tolowerinvariant", ():
            return _ascii(text).lower()
        case "trim", ():
            return _ascii(text).strip(_BLANKS)
        case "trimstart", ():
            return _ascii(text).lstrip(_BLANKS)
        case "trimend", ():
            return _ascii(text).rstrip(_BLANKS)
        case "substring", (int() as start,):
            return _slice(text, start, len(text) - start)
        case "substring", (int() as start, int() as length):
            return _slice(text, start, length)
        case "replace", (str() as old, str() as new) if old:
            return text.replace(old, new)
        case "padleft", (int() as width,) if 0 <= width < INT32_MAX:
            return limited(text.rjust(min(width, 200_000)))
        case "padright", (int() as width,) if 0 <= width < INT32_MAX:
            return limited(text.ljust(min(width, 200_000)))
        case "contains", (str() as part,):
            return part in text
        case "split", (str() as separator,) if len(separator) == 1:
            return tuple(text.split(separator))
        case _:
            raise NotExactError(f"the bridge does not know the method '{name}' of a [string] with these arguments")


def _ascii(text: str) -> str:
    if not text.isascii():
        raise NotExactError("the bridge changes the case of ASCII text only")
    return text


def _slice(text: str, start: int, length: int) -> str:
    if isinstance(start, bool) or start < 0 or length < 0 or start + length > len(text):
        raise NotExactError("the start and length do not lie within the text")
    return text[start : start + length]


def index(target: Runtime, position: Runtime) -> Runtime:
    """``value[position]``. Raises :class:`NotExactError` where the bridge does not know what it gives."""
    target, position = unwrap(target), unwrap(position)
    if isinstance(target, Hashtable):
        found = find_key(target, position)
        if found is NOTHING:
            raise NotExactError("the table has no such key")
        return found
    if not isinstance(target, str | tuple):
        raise NotExactError("this value cannot be indexed")
    if isinstance(position, tuple):
        return tuple(index(target, each) for each in position)
    if isinstance(position, bool) or not is_numeric(position) or isinstance(position, float):
        raise NotExactError("the index is not a whole number")
    at = to_int(position)
    if not -len(target) <= at < len(target):
        raise NotExactError("the index lies outside the value")
    return Char(target[at]) if isinstance(target, str) else target[at]
