"""The tree that a PEP script parses to: statements of commands, and the expressions inside their arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bridge.endpoint._commands import NumberLiteral


@dataclass(frozen=True, slots=True)
class Node:
    """``start`` and ``end`` are offsets into the source."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Text(Node):
    """A constant string; ``bare`` where it was written without quotes."""

    value: str
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Number(Node):
    literal: NumberLiteral


@dataclass(frozen=True, slots=True)
class Expandable(Node):
    """A string with values inside; ``raw`` is its text with escapes resolved and nothing expanded."""

    parts: tuple[str | Expression, ...]
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """``name`` as written, scope included (``using:since``)."""

    name: str


@dataclass(frozen=True, slots=True)
class Splat(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Array(Node):
    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Paren(Node):
    inner: Expression


@dataclass(frozen=True, slots=True)
class Statements(Node):
    """``$( )`` or, with ``always_array``, ``@( )``."""

    items: tuple[Expression, ...]
    always_array: bool


@dataclass(frozen=True, slots=True)
class Table(Node):
    """``@{ }``"""

    pairs: tuple[tuple[Expression, Expression], ...]


@dataclass(frozen=True, slots=True)
class TypeName(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Cast(Node):
    type: TypeName
    operand: Expression


@dataclass(frozen=True, slots=True)
class Unary(Node):
    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary(Node):
    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Member(Node):
    """A property, or, where ``arguments`` is not None, a method call; ``static`` after ``::``."""

    target: Expression
    name: str
    static: bool
    arguments: tuple[Expression, ...] | None = None


@dataclass(frozen=True, slots=True)
class Index(Node):
    target: Expression
    index: Expression


Expression: TypeAlias = (
    Text
    | Number
    | Expandable
    | Variable
    | Splat
    | Array
    | Paren
    | Statements
    | Table
    | TypeName
    | Cast
    | Unary
    | Binary
    | Member
    | Index
)


@dataclass(frozen=True, slots=True)
class Argument(Node):
    """A positional value, or a parameter: its ``name`` as it is sent (dash and colon included) and the value behind
    its colon, if any."""

    name: str | None
    value: Expression | None


@dataclass(frozen=True, slots=True)
class CommandCall(Node):
    """``invoked`` where ``&`` stands before the name, which is then a value."""

    invoked: bool
    name: Expression
    arguments: tuple[Argument, ...]
    merge: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attribute(Node):
    name: str
    positional: tuple[Expression, ...]
    named: tuple[tuple[str, Expression | None], ...]


@dataclass(frozen=True, slots=True)
class ParameterDeclaration(Node):
    name: str
    type: str | None
    attributes: tuple[Attribute, ...]
    default: Expression | None


@dataclass(frozen=True, slots=True)
class Program:
    """A parsed text: ``parameters`` is None where there is no ``param()``; a statement is a pipeline of commands."""

    attributes: tuple[Attribute, ...]
    parameters: tuple[ParameterDeclaration, ...] | None
    statements: tuple[tuple[CommandCall, ...], ...]
