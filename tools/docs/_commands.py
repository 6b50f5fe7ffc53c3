"""The help pages of all verbs, read from the program itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from cli._help import HelpPage, read_help
from cli.main import PROGRAM, app


def read_pages() -> list[HelpPage]:
    """The page of ``pep-bridge`` itself, then of every verb in the order of its help."""
    return list(_walk(typer.main.get_command(app), PROGRAM, None))


def _walk(command: Any, name: str, parent: Any) -> Iterator[HelpPage]:
    ctx: Any = typer.Context(command, info_name=name, parent=parent, **command.context_settings)
    yield read_help(command, ctx)
    if isinstance(command, TyperGroup):
        for verb in command.list_commands(ctx):
            found = command.get_command(ctx, verb)
            if found is not None and not found.hidden:
                yield from _walk(found, verb, ctx)


def file_name(page: HelpPage) -> str:
    """``pep-bridge stamp add`` as ``pep-bridge-stamp-add``."""
    return page.name.replace(" ", "-")
