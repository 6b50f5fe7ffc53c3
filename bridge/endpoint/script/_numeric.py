"""PowerShell's arithmetic on constants, where Windows PowerShell 5.1 and PowerShell 7 give the same result."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation, Overflow
from math import isfinite
from typing import TypeAlias

from bridge.endpoint._commands import Int64
from bridge.endpoint.script._numbers import INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN

Numeric: TypeAlias = int | Int64 | float | Decimal

_DIGITS_ALIKE = 15  # digits of a double that both versions print alike
_EXACT = Context(prec=28, traps=[Inexact, InvalidOperation, Overflow])
_NUMBER_TEXT = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


class NotExactError(ValueError):
    """The bridge cannot compute this exactly as PowerShell does; the message says why."""


def is_numeric(value: object) -> bool:
    return isinstance(value, int | Int64 | float | Decimal) and not isinstance(value, bool)


def format_double(value: float) -> str:
    """A double as .NET writes it (shortest form that reads back; about numeric format strings, "R")."""
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    if len(text) > _DIGITS_ALIKE or not isinstance(exponent, int):
        raise NotExactError("Windows PowerShell 5.1 and PowerShell 7 write this number differently")
    point = exponent + len(digits)
    minus = "-" if sign else ""
    if not -5 < point <= _DIGITS_ALIKE:
        fraction = f".{text[1:]}" if len(text) > 1 else ""
        return f"{minus}{text[0]}{fraction}E{point - 1:+03d}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    return f"{minus}{text[:point].ljust(point, '0')}" + (f".{text[point:]}" if len(text) > point else "")


def format_number(value: Numeric) -> str:
    """A number as it stands in an expanded string."""
    if isinstance(value, float):
        return format_double(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value.value if isinstance(value, Int64) else value)


def parse_number(text: str) -> Numeric:
    """A number in a string, as arithmetic and casts read it. Raises :class:`NotExactError` where it is none."""
    stripped = text.strip(" \t\r\n")
    if not stripped:
        return 0
    if not _NUMBER_TEXT.fullmatch(stripped):
        raise NotExactError(f"'{text}' is not a number that the bridge reads")
    if re.fullmatch(r"[+-]?\d+", stripped, re.ASCII):
        return fit(int(stripped), wide=False)
    return float(stripped)


def fit(value: int, *, wide: bool) -> Numeric:
    """A whole number in the type that PowerShell gives it: ``[int]``, ``[long]`` or ``[double]``."""
    if not wide and INT32_MIN <= value <= INT32_MAX:
        return value
    return Int64(value) if INT64_MIN <= value <= INT64_MAX else float(value)


def to_int(value: Numeric) -> int:
    """The number as a Python int, rounded to even as a cast to ``[int]`` rounds."""
    if isinstance(value, Int64):
        return value.value
    if isinstance(value, int):
        return value
    return int(Decimal(value).to_integral_value(rounding=ROUND_HALF_EVEN))


def to_double(value: Numeric) -> float:
    return float(value.value if isinstance(value, Int64) else value)


def arithmetic(operator: str, left: Numeric, right: Numeric) -> Numeric:
    """``+ - * / %`` on two numbers. Raises :class:`NotExactError`."""
    if operator in "/%" and to_double(right) == 0:
        raise NotExactError("this divides by zero")
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        return _decimal_arithmetic(operator, left, right)
    if isinstance(left, float) or isinstance(right, float):
        return _double_arithmetic(operator, to_double(left), to_double(right))
    return _whole_arithmetic(operator, left, right)


def _whole_arithmetic(operator: str, left: int | Int64, right: int | Int64) -> Numeric:
    a, b = to_int(left), to_int(right)
    wide = isinstance(left, Int64) or isinstance(right, Int64)
    if operator == "/":
        return _fit_or_double(a // b, wide=wide) if a % b == 0 else _double_arithmetic("/", float(a), float(b))
    if operator == "%":
        remainder = abs(a) % abs(b)
        return _fit_or_double(-remainder if a < 0 else remainder, wide=wide)
    result = {"+": a + b, "-": a - b, "*": a * b}[operator]
    return _fit_or_double(result, wide=wide)


def _fit_or_double(value: int, *, wide: bool) -> Numeric:
    """Arithmetic on ``[int]`` that overflows becomes a ``[double]``, never a ``[long]``."""
    lowest, highest = (INT64_MIN, INT64_MAX) if wide else (INT32_MIN, INT32_MAX)
    if not lowest <= value <= highest:
        return float(value)
    return Int64(value) if wide else value


def _double_arithmetic(operator: str, left: float, right: float) -> float:
    try:
        if operator == "%":
            raise NotExactError("the bridge does not compute the remainder of real numbers")
        result = {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__}[operator](right)
    except OverflowError as error:
        raise NotExactError("the result is too large") from error
    if not isfinite(result):
        raise NotExactError("the result is too large")
    return result


def _decimal_arithmetic(operator: str, left: Numeric, right: Numeric) -> Decimal:
    if isinstance(left, float) or isinstance(right, float):
        raise NotExactError("the bridge does not mix [decimal] and [double]")
    a, b = (side if isinstance(side, Decimal) else Decimal(to_int(side)) for side in (left, right))
    if operator in "/%":
        raise NotExactError("the bridge does not divide [decimal] numbers")
    try:
        return {"+": _EXACT.add, "-": _EXACT.subtract, "*": _EXACT.multiply}[operator](a, b)
    except (Inexact, InvalidOperation, Overflow) as error:
        raise NotExactError("the result has more digits than the bridge computes") from error
