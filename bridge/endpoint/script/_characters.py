"""The classes of characters that PowerShell's tokenizer tells apart."""

from __future__ import annotations

import unicodedata

DASHES = "-\u2013\u2014\u2015"
SINGLE_QUOTES = "'\u2018\u2019\u201a\u201b"
DOUBLE_QUOTES = '"\u201c\u201d\u201e'
END = ""  # what a cursor reads behind the last character

_FORCES_NEW_TOKEN = frozenset("{}();,|&\r\n")
_CONTROL_BLANKS = frozenset("\t\v\f \x85")
_BEYOND_UTF16_UNIT = 0xFFFF  # .NET looks at UTF-16 units: half a pair is neither letter nor digit


def is_blank(character: str) -> bool:
    """White space that does not end a line; every Unicode separator counts."""
    return character in _CONTROL_BLANKS or (character > "\x7f" and unicodedata.category(character)[0] == "Z")


def is_newline(character: str) -> bool:
    return character in ("\r", "\n")


def forces_new_token(character: str) -> bool:
    """Whether a bare word ends before this character (the end of the text included)."""
    return character == END or character in _FORCES_NEW_TOKEN or is_blank(character)


def is_letter(character: str) -> bool:
    return character != END and ord(character) <= _BEYOND_UTF16_UNIT and character.isalpha()


def is_identifier_start(character: str) -> bool:
    return character == "_" or is_letter(character)


def is_identifier_part(character: str) -> bool:
    return is_identifier_start(character) or is_digit(character)


def is_digit(character: str) -> bool:
    """A decimal digit of any script (.NET ``Char.IsDigit``)."""
    return character != END and ord(character) <= _BEYOND_UTF16_UNIT and unicodedata.category(character) == "Nd"
