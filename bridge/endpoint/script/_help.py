"""Comment-based help of a script (about_Comment_Based_Help)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_BLOCK = re.compile(r"<#(.*?)#>", re.DOTALL)
_LINES = re.compile(r"(?:^[ \t]*#(?![<>]|requires\b)[^\n]*\n?)+", re.MULTILINE | re.IGNORECASE)
_SECTION = re.compile(r"^[ \t]*\.([A-Za-z]+)[ \t]*([^\r\n]*)$")
_KNOWN = {"SYNOPSIS", "DESCRIPTION", "PARAMETER", "EXAMPLE", "NOTES", "INPUTS", "OUTPUTS", "LINK", "COMPONENT", "ROLE"}


@dataclass(frozen=True, slots=True)
class Help:
    """What a script says about itself; ``parameters`` by name in lower case."""

    synopsis: str = ""
    description: str = ""
    notes: str = ""
    examples: tuple[str, ...] = ()
    parameters: dict[str, str] = field(default_factory=dict)


def read_help(text: str) -> Help:
    """The help of a script; an empty one where it has none."""
    for comment in _comments(text):
        sections = _sections(comment)
        if sections:
            return _help_of(sections)
    return Help()


def _comments(text: str) -> list[str]:
    blocks = [found[1] for found in _BLOCK.finditer(text)]
    lines = [
        "\n".join(line.strip().removeprefix("#") for line in found[0].splitlines()) for found in _LINES.finditer(text)
    ]
    return blocks + lines


def _sections(comment: str) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, list[str]]] = []
    for line in comment.splitlines():
        head = _SECTION.match(line)
        if head is not None and head[1].upper() in _KNOWN:
            found.append((head[1].upper(), head[2].strip(), []))
        elif found:
            found[-1][2].append(line)
    return [(name, argument, _dedent(body)) for name, argument, body in found]


def _dedent(lines: list[str]) -> str:
    return "\n".join(line.strip() for line in lines).strip()


def _help_of(sections: list[tuple[str, str, str]]) -> Help:
    def first(wanted: str) -> str:
        return next((body for name, _, body in sections if name == wanted), "")

    return Help(
        synopsis=first("SYNOPSIS"),
        description=first("DESCRIPTION"),
        notes=first("NOTES"),
        examples=tuple(body for name, _, body in sections if name == "EXAMPLE"),
        parameters={argument.lower(): body for name, argument, body in sections if name == "PARAMETER"},
    )
