"""The lowest layer of the reader: blanks, comments, escapes, strings and variables at a place in the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from bridge.endpoint.script._characters import (
    DASHES,
    DOUBLE_QUOTES,
    END,
    SINGLE_QUOTES,
    forces_new_token,
    is_blank,
    is_digit,
    is_identifier_part,
    is_identifier_start,
    is_newline,
)
from bridge.endpoint.script._source import Source

_ESCAPES = {"0": "\0", "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_BACKTICK_FIX = (
    "Put the backtick at the very end of the line, with nothing behind it, or write the command on one line."
)


@dataclass(frozen=True, slots=True)
class VariableName:
    """A variable as written: ``name`` with its scope, and the offset behind it."""

    name: str
    end: int


class Lexer:
    """A cursor over a source that knows PowerShell's blanks, strings and variables."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        """The character ``ahead`` of the cursor, or ``END``."""
        place = self.at + ahead
        return self.text[place] if place < len(self.text) else END

    def starts_with(self, prefix: str) -> bool:
        return self.text.startswith(prefix, self.at)

    def refuse(
        self, error_id: str, detail: str, fix: str = "", *, start: int | None = None, end: int | None = None
    ) -> NoReturn:
        """Refuse what lies between ``start`` and ``end``, or the word at the cursor."""
        begin = self.at if start is None else start
        if end is None:
            end = max(self.at, begin + 1)
            while end < len(self.text) and not forces_new_token(self.text[end]):
                end += 1
        self.source.refuse(begin, end, error_id, detail, fix)

    # -- blanks ---------------------------------------------------------------------------------------------------

    def skip_blanks(self) -> None:
        """Skip white space, comments and continued lines, but no end of line."""
        while True:
            character = self.peek()
            if character == END:
                return
            if is_blank(character):
                self.at += 1
            elif character == "#":
                self._skip_line()
            elif self.starts_with("<#"):
                self._skip_comment()
            elif character != "`" or not self._skip_continuation():
                return

    def skip_blanks_and_newlines(self) -> None:
        while True:
            self.skip_blanks()
            if not is_newline(self.peek()):
                return
            self.at += 1

    def _skip_line(self) -> None:
        while self.peek() != END and not is_newline(self.peek()):
            self.at += 1

    def _skip_comment(self) -> None:
        end = self.text.find("#>", self.at + 2)
        if end < 0:
            self.refuse("MissingTerminatorMultiLineComment", "the comment has no end '#>'")
        self.at = end + 2

    def _skip_continuation(self) -> bool:
        """Skip a backtick that continues the line, or stands before a blank; false where it begins a word."""
        after = self.peek(1)
        if after == END:
            self.refuse("IncompleteString", "the text ends after a backtick")
        if is_newline(after):
            self.at += 3 if self.text.startswith("\r\n", self.at + 1) else 2
            return True
        if not is_blank(after):
            return False
        start = self.at
        self.at += 1
        while is_blank(self.peek()):
            self.at += 1
        if is_newline(self.peek()) or self.peek() == END:
            detail = (
                "a blank follows the backtick, so that the command ends here and the next line is a command of its own"
            )
            self.refuse("BridgeBacktickBlank", detail, _BACKTICK_FIX, start=start, end=self.at)
        return True

    # -- words, strings, variables --------------------------------------------------------------------------------

    def identifier(self) -> str:
        """The identifier at the cursor; empty where none is."""
        start = self.at
        if is_identifier_start(self.peek()):
            while is_identifier_part(self.peek()):
                self.at += 1
        return self.text[start : self.at]

    def escape(self) -> str:
        """What the backtick at the cursor and the character behind it stand for."""
        start = self.at
        character = self.peek(1)
        if character == END:
            self.refuse("IncompleteString", "the text ends after a backtick")
        if character in ("e", "u"):
            fix = "Write the character itself."
            self.refuse("BridgeVersionDifference", "Windows PowerShell 5.1 reads this escape as text", fix, start=start)
        self.at += 2
        return _ESCAPES.get(character, character)

    def single_quoted(self) -> str:
        """The text of the single-quoted string at the cursor."""
        start = self.at
        self.at += 1
        found: list[str] = []
        while True:
            character = self.peek()
            if character == END:
                self.refuse("TerminatorExpectedAtEndOfString", "the string has no closing quote", start=start)
            self.at += 1
            if character in SINGLE_QUOTES:
                if self.peek() == END or self.peek() not in SINGLE_QUOTES:
                    return "".join(found)
                character = self.peek()
                self.at += 1
            found.append(character)

    def variable(self) -> VariableName | None:
        """The variable whose ``$`` or ``@`` is at the cursor, without moving it; None where none begins."""
        first = self.peek(1)
        if first == "{":
            return self._braced_variable()
        if first != END and first in "$?^":
            return VariableName(first, self.at + 2)
        end = self.at + 1
        while end < len(self.text):
            character = self.text[end]
            if character == ":":
                if self.text.startswith("::", end):
                    break
            elif not (is_identifier_part(character) or character == "?"):
                break
            end += 1
        name = self.text[self.at + 1 : end]
        if not name:
            return None
        if name.endswith(":"):
            self.refuse(
                "InvalidVariableReferenceWithDrive", "no name follows the colon", "Write ${name}: instead.", end=end
            )
        return VariableName(name, end)

    def _braced_variable(self) -> VariableName:
        end = self.text.find("}", self.at)
        name = self.text[self.at + 2 : end] if end >= 0 else ""
        if not name or name.endswith(":") or "`" in name or "{" in name:
            self.refuse("IncompleteDollarVariableReference", "this is not a whole variable name", end=end + 1)
        return VariableName(name, end + 1)

    def at_dash(self) -> bool:
        return self.peek() != END and self.peek() in DASHES

    def at_single_quote(self) -> bool:
        return self.peek() != END and self.peek() in SINGLE_QUOTES

    def at_double_quote(self) -> bool:
        return self.peek() != END and self.peek() in DOUBLE_QUOTES

    def at_number(self) -> bool:
        """A digit, or a point before one."""
        return "0" <= self.peek() <= "9" or (self.peek() == "." and "0" <= self.peek(1) <= "9")

    def at_unusual_digit(self) -> bool:
        return is_digit(self.peek()) and not "0" <= self.peek() <= "9"
