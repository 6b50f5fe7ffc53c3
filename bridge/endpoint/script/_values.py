"""Values that people give (``-p Name=Value``, JSON, TOML), converted by the type that the script declares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, NoReturn
from urllib.parse import urlsplit

from bridge.endpoint._commands import Hashtable, Int64, Value
from bridge.endpoint.script._declared import Declared
from bridge.endpoint.script._numbers import INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN
from bridge.errors import ScriptArgumentError, SecretOnCommandLineError
from bridge.secrets import Credential, Secret

_TRUE = ("true", "$true", "yes", "on", "1")
_FALSE = ("false", "$false", "no", "off", "0")
_RELATIVE = re.compile(r"(?P<sign>[+-])(?P<parts>(?:\d{1,6}[dhms])+)", re.IGNORECASE | re.ASCII)
_PART = re.compile(r"(\d+)([dhms])", re.IGNORECASE)
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_ISO_FIX = "Write ISO 8601 with an offset (2024-03-12T08:00:00+01:00 or ...Z), or one relative to now (-8h, -90m, -2d)."
_ZONE_FIX = "Write the offset (2024-03-12T08:00:00+01:00 or ...Z), or say which time zone is meant."


def convert_value(
    given: Any,
    declared: Declared | str,
    *,
    name: str = "value",
    tz: tzinfo | None = None,
    now: datetime | None = None,
) -> Value:
    """The value of a declared type.

    Args:
        given: text, or a value as JSON or TOML has it, or a ``Credential`` or ``Secret``.
        declared: the type, by :class:`Declared` or PowerShell's name.
        name: of the parameter, for messages.
        tz: the zone of dates without one; without it they are refused.
        now: what relative dates count from (aware; default the present).

    Raises:
        ScriptArgumentError: the value does not fit the type, or a date is ambiguous.
        SecretOnCommandLineError: text where a credential or secure string is declared.
    """
    kind = Declared(declared)
    match kind:
        case Declared.PSCREDENTIAL | Declared.SECURESTRING:
            return _secret(given, kind, name)
        case Declared.STRING:
            return _string(given, name)
        case Declared.STRINGS:
            return tuple(_string(item, name) for item in _items(given))
        case Declared.INT:
            return _whole(given, name, INT32_MIN, INT32_MAX)
        case Declared.INTS:
            return tuple(_whole(item, name, INT32_MIN, INT32_MAX) for item in _items(given))
        case Declared.LONG:
            return Int64(_whole(given, name, INT64_MIN, INT64_MAX))
        case Declared.DOUBLE:
            return _real(given, name)
        case Declared.SWITCH | Declared.BOOL:
            return _truth(given, kind, name)
        case Declared.DATETIME:
            return _moment(given, name, tz, now or datetime.now(UTC))
        case Declared.URI:
            return _uri(given, name)
        case Declared.HASHTABLE:
            return _table(given, name)
        case Declared.OBJECT:
            return _object(given, name)


def _refuse(name: str, detail: str, fix: str) -> NoReturn:
    raise ScriptArgumentError(parameter=name, detail=detail, fix=fix)


def _secret(given: Any, kind: Declared, name: str) -> Credential | Secret:
    expected = Credential if kind is Declared.PSCREDENTIAL else Secret
    if isinstance(given, expected):
        return given
    if isinstance(given, str):
        how = "a prompt, the keyring, a file of mode 0600 or an environment variable"
        raise SecretOnCommandLineError(what=name, how=how)
    return _refuse(name, f"a {kind} is expected", "Give it through a prompt, the keyring or an environment variable.")


def _string(given: Any, name: str) -> str:
    if isinstance(given, Secret):
        return given.reveal()
    if not isinstance(given, str):
        _refuse(name, "text is expected", "Put it in quotation marks.")
    if re.search("[\x00\ud800-\udfff]", given):
        _refuse(name, "the text holds a character that cannot be sent (NUL or half of a pair)", "Remove it.")
    return given


def _items(given: Any) -> list[Any]:
    """The items of a list: a JSON or TOML list, or text with commas between (``ACS,ECE``)."""
    if isinstance(given, list | tuple):
        return list(given)
    if isinstance(given, str):
        return [item.strip() for item in given.split(",") if item.strip()]
    return [given]


def _whole(given: Any, name: str, lowest: int, highest: int) -> int:
    text = str(given).strip() if isinstance(given, str | int) and not isinstance(given, bool) else ""
    if not re.fullmatch(r"[+-]?\d{1,20}", text, re.ASCII):
        _refuse(name, f"'{given}' is not a whole number", "Write digits only.")
    if not lowest <= int(text) <= highest:
        _refuse(name, f"{text} is out of range", f"Give a number from {lowest} to {highest}.")
    return int(text)


def _real(given: Any, name: str) -> float:
    text = str(given).strip() if isinstance(given, str | int | float) and not isinstance(given, bool) else ""
    if not re.fullmatch(r"[+-]?\d{1,300}(?:\.\d{1,300})?", text, re.ASCII):
        _refuse(name, f"'{given}' is not a number", "Write digits, with a point before the fraction.")
    return float(text)


def _truth(given: Any, kind: Declared, name: str) -> bool:
    if isinstance(given, bool):
        return given
    word = given.strip().lower() if isinstance(given, str) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    return _refuse(name, f"'{given}' is not a value for a {kind}", "Write true or false.")


def _uri(given: Any, name: str) -> str:
    text = _string(given, name)
    try:
        parts = urlsplit(text)
        complete = bool(parts.scheme and parts.netloc) and not re.search(r"\s", text)
    except ValueError:
        complete = False
    if not complete:
        _refuse(name, "this is not a whole address", "Write it with its scheme, for example https://server/path.")
    return text


def _table(given: Any, name: str) -> Hashtable:
    if isinstance(given, Hashtable):
        return given
    if not isinstance(given, Mapping):
        _refuse(name, "a table is expected", "Give it in a JSON or TOML file.")
    return Hashtable(tuple((str(key), _object(item, name)) for key, item in given.items()))


def _object(given: Any, name: str) -> Value:
    match given:
        case bool() | None | str() | float() | Int64() | Hashtable() | Credential() | Secret():
            return given
        case int():
            return given if INT32_MIN <= given <= INT32_MAX else Int64(_whole(given, name, INT64_MIN, INT64_MAX))
        case datetime() if given.tzinfo is not None:
            return given
        case list() | tuple():
            return tuple(_object(item, name) for item in given)
        case Mapping():
            return _table(given, name)
        case _:
            return _refuse(name, "a value of this kind cannot be sent", "Give text, a number, true, false or a list.")


# -- dates ------------------------------------------------------------------------------------------------------------


def _moment(given: Any, name: str, tz: tzinfo | None, now: datetime) -> datetime:
    if isinstance(given, datetime):
        return given if given.tzinfo is not None else _in_zone(given, name, tz)
    if isinstance(given, date):
        return _in_zone(datetime(given.year, given.month, given.day), name, tz)  # noqa: DTZ001 - the zone follows
    text = given.strip() if isinstance(given, str) else ""
    relative = _RELATIVE.fullmatch(text)
    if relative is not None:
        return _from_now(relative, name, now)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        _refuse(name, f"'{given}' is not a date", _ISO_FIX)
    return moment if moment.tzinfo is not None else _in_zone(moment, name, tz)


def _from_now(relative: re.Match[str], name: str, now: datetime) -> datetime:
    seconds = sum(int(amount) * _UNITS[unit.lower()] for amount, unit in _PART.findall(relative["parts"]))
    span = timedelta(seconds=seconds)
    try:
        return now.astimezone(UTC) + (span if relative["sign"] == "+" else -span)
    except OverflowError:
        _refuse(name, f"'{relative[0]}' lies outside the calendar", _ISO_FIX)


def _in_zone(naive: datetime, name: str, tz: tzinfo | None) -> datetime:
    if tz is None:
        _refuse(name, f"{naive.isoformat()} has no time zone", _ZONE_FIX)
    first, second = (naive.replace(tzinfo=tz, fold=fold) for fold in (0, 1))
    if first.utcoffset() != second.utcoffset():
        exists = first.astimezone(UTC).astimezone(tz).replace(tzinfo=None) == naive
        detail = "happened twice" if exists else "never happened"
        _refuse(name, f"{naive.isoformat()} {detail} in {tz}: the clocks were changed", _ZONE_FIX)
    return first
