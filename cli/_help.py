"""The help of every verb: examples first, and the same words for the terminal, the manual pages and the site."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_WIDEST = 100
_NARROWEST = 50
_NAME_COLUMN = 28
_MARKUP = re.compile(r"(?<!\\)\[/?(?:bold|italic|dim)\]")
_EXAMPLES = re.compile(r"(?<!\\)\[bold\]Examples?\[/bold\]:?")
_COMMAND = re.compile(r"(?:\w+=\S* )*pep-bridge ")
_VALUES = {"path": "FILE", "int": "N", "float": "N"}


@dataclass(frozen=True, slots=True)
class Example:
    """A command to copy, and what it is for where that does not show."""

    command: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """An argument, an option or a verb, and what it means."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """Entries under one heading."""

    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class HelpPage:
    """What there is to say about one command."""

    name: str
    """As it is typed: ``pep-bridge stamp add``."""
    summary: str
    usage: str
    examples: tuple[Example, ...]
    paragraphs: tuple[str, ...]
    sections: tuple[Section, ...]


def put_examples_first(app: typer.Typer) -> None:
    """Gives every command and group of an application the help of this module."""
    for command in app.registered_commands:
        command.cls = _with_examples(command.cls or TyperCommand)
    for group in app.registered_groups:
        own = group.typer_instance.info.cls if group.typer_instance is not None else None
        group.cls = _with_examples(own if isinstance(own, type) else TyperGroup)
        if group.typer_instance is not None:
            put_examples_first(group.typer_instance)


class ExamplesFirst:
    """Mixed into a command's class: its help is laid out here, whatever else the class does."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Called by Typer for ``--help``."""
        formatter.write(to_text(read_help(self, ctx)) + "\n")


def _with_examples(command_class: Any) -> Any:
    if issubclass(command_class, ExamplesFirst):
        return command_class
    return type(command_class.__name__, (ExamplesFirst, command_class), {})


def read_help(command: Any, ctx: Any) -> HelpPage:
    """The page of one of Typer's commands, in its context."""
    summary, paragraphs, examples = _split(command.help or "")
    arguments = [p for p in command.get_params(ctx) if p.param_type_name == "argument" and not p.hidden]
    options = [p for p in command.get_params(ctx) if p.param_type_name == "option" and not p.hidden]
    verbs = _verbs(command, ctx)
    usage = [ctx.command_path, *map(_placeholder, arguments)]
    sections = [Section("Verbs", verbs)] if verbs else []
    if arguments:
        sections.append(Section("Arguments", tuple(Entry(_metavar(p), _meaning(p, ctx)) for p in arguments)))
    panels: dict[str, list[Entry]] = {}
    for option in options:
        title = option.rich_help_panel or "Options"
        panels.setdefault(title, []).append(Entry(_option_name(option, ctx), _meaning(option, ctx)))
    panels["Options"] = panels.pop("Options", [])  # the general ones come last
    sections += [Section(title, tuple(entries)) for title, entries in panels.items() if entries]
    return HelpPage(
        name=ctx.command_path,
        summary=summary,
        usage=" ".join([*usage, "[OPTIONS]", *(["VERB ..."] if verbs else [])]),
        examples=examples or tuple(_examples_of_verbs(command, ctx)),
        paragraphs=paragraphs,
        sections=tuple(sections),
    )


def _split(text: str) -> tuple[str, tuple[str, ...], tuple[Example, ...]]:
    """Summary, paragraphs and examples of a docstring."""
    paragraphs: list[str] = []
    examples: list[Example] = []
    among_examples = False
    for block in re.split(r"\n\s*\n", text.strip()):
        if _EXAMPLES.fullmatch(block.strip()):
            among_examples = True
        elif among_examples and _COMMAND.match(_without_comments(block)):
            examples += _read_examples(block)
        else:
            among_examples = False
            paragraphs.append(_plain(block))
    summary, *rest = paragraphs or [""]
    return summary, tuple(rest), tuple(examples)


def _without_comments(block: str) -> str:
    return "\n".join(line.strip() for line in block.splitlines() if not line.lstrip().startswith("#"))


def _read_examples(block: str) -> Iterator[Example]:
    """Each command of a block, with the ``#`` lines above it; a command may go on over several lines."""
    comments: list[str] = []
    command: list[str] = []
    for line in map(str.strip, block.strip().splitlines()):
        if command and (line.startswith("#") or _COMMAND.match(line)):
            yield Example(_plain(" ".join(command)), " ".join(comments))
            comments, command = [], []
        if line.startswith("#"):
            comments.append(line.lstrip("# "))
        else:
            command.append(line)
    yield Example(_plain(" ".join(command)), " ".join(comments))


def _plain(text: str) -> str:
    """Without Rich's markup, on one line."""
    return " ".join(_MARKUP.sub("", text).replace("\\[", "[").split())


def _examples_of_verbs(command: Any, ctx: Any) -> Iterator[Example]:
    """A group without examples of its own shows the first one of each of its verbs."""
    for name in command.list_commands(ctx) if isinstance(command, TyperGroup) else ():
        verb = command.get_command(ctx, name)
        if verb is not None and not verb.hidden:
            yield from _split(verb.help or "")[2][:1]


def _verbs(command: Any, ctx: Any) -> tuple[Entry, ...]:
    if not isinstance(command, TyperGroup):
        return ()
    found = [(name, command.get_command(ctx, name)) for name in command.list_commands(ctx)]
    return tuple(Entry(name, _split(verb.help or "")[0]) for name, verb in found if verb and not verb.hidden)


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper()).strip("[]{}")


def _placeholder(argument: Any) -> str:
    name = _metavar(argument) + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _option_name(option: Any, ctx: Any) -> str:
    names = ", ".join(sorted((*option.opts, *option.secondary_opts), key=len))
    if option.is_flag or option.count:
        return names
    kind = str(option.display_type(ctx) or "").strip("<>").removeprefix("list[").partition(" ")[0].strip("[]")
    return f"{names} {option.metavar or _VALUES.get(kind, 'TEXT')}"


def _meaning(parameter: Any, ctx: Any) -> str:
    """Typer's own text with default, range and variable; a default written in words without its brackets."""
    record = parameter.get_help_record(ctx)
    text = _plain(record[1]) if record else ""
    return re.sub(r"default: \(([^)]*)\)", r"default: \1", text)


def to_text(page: HelpPage, width: int | None = None) -> str:
    """The page for a terminal. Commands to copy are never broken; the rest is wrapped."""
    columns = max(_NARROWEST, min(width or shutil.get_terminal_size().columns, _WIDEST))
    lines = [*_wrap(f"{page.name}: {page.summary}", columns)]
    if page.examples:
        lines += ["", "Examples:" if len(page.examples) > 1 else "Example:"]
        for example in page.examples:
            lines += [f"  # {example.comment}"] if example.comment else []
            lines.append(f"  {example.command}")
    lines += ["", *_wrap(f"Usage: {page.usage}", columns)]
    for paragraph in page.paragraphs:
        lines += ["", *_wrap(paragraph, columns)]
    for section in page.sections:
        lines += ["", f"{section.title}:", *_entries(section.entries, columns)]
    return "\n".join(lines)


def _entries(entries: Sequence[Entry], columns: int) -> Iterator[str]:
    column = min(_NAME_COLUMN, 4 + max(len(entry.name) for entry in entries))
    for entry in entries:
        wrapped = _wrap(entry.text, columns - column) or [""]
        if len(entry.name) + 4 > column:
            yield f"  {entry.name}"
        else:
            yield f"  {entry.name:<{column - 2}}{wrapped.pop(0)}".rstrip()
        yield from (" " * column + line for line in wrapped)


def _wrap(text: str, columns: int) -> list[str]:
    return textwrap.wrap(text, columns, break_long_words=False, break_on_hyphens=False)
