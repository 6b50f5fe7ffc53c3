"""A PowerShell text with its name, and the one way to refuse a place in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from bridge.errors import ScriptRefusedError

_LONGEST_EXCERPT = 60


@dataclass(frozen=True, slots=True)
class Source:
    """A text and the name of the file it came from."""

    text: str
    file: str = "<text>"

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column (from 1) of an offset."""
        before = self.text[:offset].replace("\r\n", "\n").replace("\r", "\n")
        return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1

    def refuse(self, start: int, end: int, error_id: str, detail: str, fix: str = "") -> NoReturn:
        """Raise :class:`ScriptRefusedError` for ``text[start:end]``.

        ``error_id`` is PowerShell's own where its parser or converter refuses too, else ``Bridge...``.
        """
        line, column = self.position(start)
        excerpt = self.text[start : max(end, start + 1)].replace("\x00", "\\0")
        if len(excerpt) > _LONGEST_EXCERPT:
            excerpt = excerpt[:_LONGEST_EXCERPT] + "..."
        raise ScriptRefusedError(
            file=self.file,
            line=line,
            column=column,
            text=excerpt or "end of the text",
            detail=detail,
            fix=fix or "Write a plain command with constants, or give the value through a parameter of param().",
            error_id=error_id,
        )
