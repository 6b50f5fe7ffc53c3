"""Visits every node of a parsed script, in the order of the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from bridge.endpoint.script._syntax import Expression, Node, Program


def walk(node: Node) -> Iterator[Node]:
    """The node and everything inside it."""
    yield node
    for field in fields(node):
        yield from _walk_value(getattr(node, field.name))


def _walk_value(value: object) -> Iterator[Node]:
    if isinstance(value, Node):
        yield from walk(value)
    elif isinstance(value, tuple):
        for item in value:
            yield from _walk_value(item)


def walk_statements(program: Program) -> Iterator[Node]:
    """Every node of the commands that the program sends; what an uninvoked name holds is never expanded."""
    for statement in program.statements:
        for call in statement:
            if call.invoked:
                yield from walk(call.name)
            yield from _walk_value(call.arguments)


def walk_defaults(program: Program) -> Iterator[Node]:
    """Every node of the defaults of the program's parameters."""
    for declaration in program.parameters or ():
        default: Expression | None = declaration.default
        yield from _walk_value(default)
