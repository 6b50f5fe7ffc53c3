"""Computes the expressions that PowerShell's client evaluates before it sends a command.

Only what Windows PowerShell 5.1 and PowerShell 7 compute alike is computed; everything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from bridge.endpoint._commands import Hashtable, Value
from bridge.endpoint.script._casts import cast
from bridge.endpoint.script._members import index, member, static_member
from bridge.endpoint.script._moments import add, format_moment, subtract
from bridge.endpoint.script._numeric import NotExactError, arithmetic, is_numeric, parse_number, to_double, to_int
from bridge.endpoint.script._runtime import (
    NOTHING,
    Runtime,
    is_true,
    limited,
    numeric,
    same_key,
    to_text,
    to_value,
    unwrap,
)
from bridge.endpoint.script._source import Source
from bridge.endpoint.script._syntax import (
    Array,
    Binary,
    Cast,
    Expandable,
    Expression,
    Index,
    Member,
    Number,
    Paren,
    Statements,
    Table,
    Text,
    TypeName,
    Unary,
    Variable,
)

CONSTANTS: Mapping[str, Value] = {"true": True, "false": False, "null": None}
_FIX = "Compute the value before the run and give it through a parameter, for example [datetime]$FromDate."
_FORMAT_ITEM = re.compile(r"\{\{|\}\}|\{(\d{1,3})(?::([^{}]*))?\}|[{}]")
_COMPARISONS = ("-eq", "-ne", "-lt", "-le", "-gt", "-ge")


class Evaluator:
    """Computes expressions of one source with the values of its variables (names in lower case, scope included)."""

    def __init__(self, source: Source, variables: Mapping[str, Runtime]) -> None:
        self._source = source
        self._variables = {**variables, **CONSTANTS}

    def value(self, node: Expression) -> Value:
        """The value to send. Raises :class:`ScriptRefusedError` where there is none."""
        if isinstance(node, Number) and node.literal.text != self._shortest(node):
            return node.literal
        try:
            return to_value(self.compute(node))
        except NotExactError as error:
            return self._refuse(node, error)

    @staticmethod
    def _shortest(node: Number) -> str | None:
        try:
            return to_text(node.literal.value)
        except NotExactError:
            return None

    def _refuse(self, node: Expression, error: NotExactError) -> Value:
        detail = str(error)
        fix = _FIX
        if "time zone" in detail:
            fix = (
                "Write the offset ([datetime]'2024-03-12T08:00:00Z'), or give the date through a [datetime] parameter."
            )
        self._source.refuse(node.start, node.end, "BridgeExpression", detail, fix)

    def compute(self, node: Expression) -> Runtime:
        """The value of an expression, sendable or not. Raises :class:`ScriptRefusedError`."""
        try:
            return self._compute(node)
        except NotExactError as error:
            return self._refuse(node, error)

    def _compute(self, node: Expression) -> Runtime:  # noqa: PLR0912 - one case a kind of node
        match node:
            case Text():
                return node.value
            case Number():
                return node.literal.value
            case Variable():
                return self._variables[node.name.lower()]
            case Expandable():
                return limited(
                    "".join(part if isinstance(part, str) else to_text(self.compute(part)) for part in node.parts)
                )
            case Paren():
                return self.compute(node.inner)
            case Array():
                return tuple(unwrap(self.compute(item)) for item in node.items)
            case Statements():
                return self._statements(node)
            case Table():
                return self._table(node)
            case Cast():
                return cast(node.type.name, self.compute(node.operand))
            case Unary():
                return self._unary(node)
            case Binary():
                return self._binary(node)
            case Member():
                return self._member(node)
            case Index():
                return index(self.compute(node.target), self.compute(node.index))
            case TypeName():
                raise NotExactError("a type is not a value that can be sent")
            case _:
                raise NotExactError("a splat stands only where an argument stands")

    def _statements(self, node: Statements) -> Runtime:
        found: list[Runtime] = []
        for item in node.items:
            value = self.compute(item)
            if isinstance(value, tuple):
                found.extend(value)
            elif value is not NOTHING:
                found.append(value)
        if node.always_array:
            return tuple(found)
        return NOTHING if not found else found[0] if len(found) == 1 else tuple(found)

    def _table(self, node: Table) -> Hashtable:
        pairs: list[tuple[Runtime, Runtime]] = []
        for key_node, value_node in node.pairs:
            key = unwrap(self.compute(key_node))
            if not isinstance(key, str | bool) and not is_numeric(key):
                self._source.refuse(key_node.start, key_node.end, "BridgeExpression", "this cannot be a key", _FIX)
            if any(same_key(known, key) for known, _ in pairs):
                detail = "the key is there already"
                self._source.refuse(key_node.start, key_node.end, "DuplicateKeyInHashLiteral", detail, "Remove one.")
            pairs.append((key, unwrap(self.compute(value_node))))
        return Hashtable(tuple(pairs))

    def _member(self, node: Member) -> Runtime:
        arguments = None if node.arguments is None else tuple(self.compute(argument) for argument in node.arguments)
        if isinstance(node.target, TypeName):
            if not node.static:
                raise NotExactError("a type's members follow '::'")
            return static_member(node.target.name, node.name, arguments)
        if node.static:
            raise NotExactError("'::' follows a type only")
        return member(self.compute(node.target), node.name, arguments)

    # -- operators ------------------------------------------------------------------------------------------------

    def _unary(self, node: Unary) -> Runtime:
        value = unwrap(self.compute(node.operand))
        if node.operator == "-not":
            return not is_true(value)
        number = parse_number(value) if isinstance(value, str) else numeric(value)
        if number is None:
            raise NotExactError("a sign stands before a number only")
        return arithmetic("-", 0, number) if node.operator == "-" else number

    def _binary(self, node: Binary) -> Runtime:
        left = unwrap(self.compute(node.left))
        if node.operator in ("-and", "-or"):
            decided = is_true(left) is (node.operator == "-or")
            return is_true(left) if decided else is_true(self.compute(node.right))
        right = unwrap(self.compute(node.right))
        return limited(operate(node.operator, left, right))


def operate(operator: str, left: Runtime, right: Runtime) -> Runtime:
    """A binary operator on two values. Raises :class:`NotExactError` where the bridge does not compute it."""
    match operator:
        case "-xor":
            return is_true(left) is not is_true(right)
        case "-join":
            return to_text(right).join(map(to_text, left)) if isinstance(left, tuple) else to_text(left)
        case "-f":
            return _format(left, right if isinstance(right, tuple) else (right,))
        case "..":
            return _range(left, right)
        case "+":
            return _plus(left, right)
        case "*" if isinstance(left, str | tuple) and type(right) is int:
            if right < 0 or right * len(left) > 100_000:
                raise NotExactError("the result would be too large")
            return left * right
        case _ if operator in _COMPARISONS:
            return _compare(operator, left, right)
        case _:
            return _calculate(operator, left, right)


def _plus(left: Runtime, right: Runtime) -> Runtime:
    if isinstance(left, str):
        return left + to_text(right)
    if isinstance(left, tuple):
        return left + (right if isinstance(right, tuple) else (right,))
    if left is None and not isinstance(right, tuple):
        return right
    return _calculate("+", left, right)


def _calculate(operator: str, left: Runtime, right: Runtime) -> Runtime:
    if isinstance(left, datetime) and operator in ("+", "-") and isinstance(right, timedelta):
        return add(left, right if operator == "+" else -right)
    if isinstance(left, datetime) and operator == "-" and isinstance(right, datetime):
        return subtract(left, right)
    first = parse_number(left) if isinstance(left, str) else numeric(left)
    second = parse_number(right) if isinstance(right, str) else numeric(right)
    if first is None or second is None:
        raise NotExactError(f"the bridge does not compute '{operator}' on these values")
    return arithmetic(operator, first, second)


def _compare(operator: str, left: Runtime, right: Runtime) -> bool:
    if isinstance(left, str) and isinstance(right, str) and operator in ("-eq", "-ne") and (left + right).isascii():
        return (left.lower() == right.lower()) is (operator == "-eq")
    if isinstance(left, bool) and isinstance(right, bool) and operator in ("-eq", "-ne"):
        return (left is right) is (operator == "-eq")
    if not (is_numeric(left) and is_numeric(right)):
        raise NotExactError(f"the bridge does not compute '{operator}' on these values")
    a, b = to_double(left), to_double(right)
    return {"-eq": a == b, "-ne": a != b, "-lt": a < b, "-le": a <= b, "-gt": a > b, "-ge": a >= b}[operator]


def _range(left: Runtime, right: Runtime) -> tuple[int, ...]:
    ends = [parse_number(end) if isinstance(end, str) else numeric(end) for end in (left, right)]
    if ends[0] is None or ends[1] is None:
        raise NotExactError("'..' stands between whole numbers")
    first, last = to_int(ends[0]), to_int(ends[1])
    if abs(last - first) > 100_000:
        raise NotExactError("the list would be too long")
    return tuple(range(first, last + 1)) if first <= last else tuple(range(first, last - 1, -1))


def _format(pattern: Runtime, arguments: tuple[Runtime, ...]) -> str:
    """``-f`` (composite formatting) for plain items, dates and whole numbers."""

    def replace(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None or int(found[1]) >= len(arguments):
            raise NotExactError("the format string does not fit its values")
        return _format_item(unwrap(arguments[int(found[1])]), found[2])

    return _FORMAT_ITEM.sub(replace, to_text(pattern))


def _format_item(value: Runtime, form: str | None) -> str:
    if form is None:
        if isinstance(value, datetime | tuple):
            raise NotExactError("write how the value is to be formatted, for example {0:yyyy-MM-dd}")
        return to_text(value)
    if isinstance(value, datetime):
        return format_moment(value, form)
    width = re.fullmatch(r"[dD](\d{1,2})", form)
    if type(value) is int and width is not None:
        return f"{'-' if value < 0 else ''}{abs(value):0{int(width[1]) or 1}d}"
    raise NotExactError("the bridge formats whole numbers ({0:d3}) and dates ({0:yyyy-MM-dd}) only")
