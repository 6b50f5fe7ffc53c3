"""Numbers as PowerShell writes them, typed as PowerShell types them, in 5.1 and 7 alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from math import isinf

from bridge.endpoint._commands import Int64, NumberLiteral

INT32_MAX = 2**31 - 1
INT32_MIN = -(2**31)
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
_DECIMAL_MAX = 2**96 - 1
_DECIMAL_DIGITS = 28

_NUMBER = re.compile(
    r"(?:(?P<hex>0x[0-9a-f]*)|(?P<binary>0b[01]+)|(?P<real>(?:[0-9]+(?:\.(?!\.)[0-9]*)?|\.[0-9]+)(?:e[-\u2013\u2014\u2015+]?[0-9]+)?))"
    r"(?P<suffix>u?[lsy]|u|n|d)?(?P<multiplier>[kmgtp]b)?",
    re.IGNORECASE,
)
_MULTIPLIERS = {"kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40, "pb": 2**50}


@dataclass(frozen=True, slots=True)
class NumberForm:
    """What a number at some place is: ``value`` is None where the two PowerShells do not agree on it."""

    end: int
    value: NumberLiteral | None


def match_number(text: str, start: int) -> NumberForm | None:
    """The number that begins at ``start``, or None where none does."""
    found = _NUMBER.match(text, start)
    if found is None:
        return None
    return NumberForm(found.end(), _literal(found))


def _literal(found: re.Match[str]) -> NumberLiteral | None:
    suffix = (found["suffix"] or "").lower()
    multiplier = _MULTIPLIERS[found["multiplier"].lower()] if found["multiplier"] else 1
    if found["binary"] or suffix not in ("", "l", "d"):
        return None  # text in Windows PowerShell 5.1
    value: int | float | Decimal | Int64 | None
    if found["hex"]:
        value = _hexadecimal(found["hex"], suffix, multiplier)
    else:
        value = _decimal(re.sub("[\u2013\u2014\u2015]", "-", found["real"]), suffix, multiplier)
    return None if value is None else NumberLiteral(value, found[0])


def _hexadecimal(digits: str, suffix: str, multiplier: int) -> int | Int64 | None:
    if len(digits) == 10 and not suffix and multiplier == 1:
        value = int(digits, 16)
        return value if value <= INT32_MAX else value - 2**32  # eight digits are the bits of an [int]
    significant = digits[2:].lstrip("0")
    if suffix == "d" or len(digits) == 2 or len(significant) > 7:
        return None  # no digits, a sign bit elsewhere and a trailing d are read differently by version
    return _whole(int(digits, 16) * multiplier, long=suffix == "l")


def _decimal(digits: str, suffix: str, multiplier: int) -> int | float | Decimal | Int64 | None:
    is_whole = digits.isdigit()
    if suffix == "d":
        exact = Decimal(digits)
        in_range = abs(exact) <= _DECIMAL_MAX and len(exact.as_tuple().digits) <= _DECIMAL_DIGITS
        return exact if multiplier == 1 and in_range and "e" not in digits.lower() else None
    if is_whole:
        value = int(digits)
        if (
            multiplier == 1
            and not suffix
            and INT64_MAX < value <= _DECIMAL_MAX
            and len(digits.lstrip("0")) <= _DECIMAL_DIGITS
        ):
            return Decimal(value)
        return _whole(value * multiplier, long=suffix == "l")
    if suffix:
        return None  # a real number with L is rounded differently by version
    real = float(digits) * multiplier
    return None if isinf(real) else real


def _whole(value: int, *, long: bool) -> int | Int64 | None:
    if value > INT64_MAX:
        return None
    return Int64(value) if long or value > INT32_MAX else value
