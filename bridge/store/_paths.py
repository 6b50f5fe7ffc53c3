"""Which names from outside may be used: what a stamp, share, container or bundle gives is hostile until checked."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bridge.errors import UnsafePathError

MAX_PATH_CHARACTERS = 880
"""A blob name on a stamp's own storage may have 880 characters (Azure Stack Hub storage differences)."""
MAX_PART_CHARACTERS = 255
"""What NTFS, SMB servers and the common Linux file systems take."""

_RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$")
# Most names are of these characters alone: one look is enough for them. A part's last character is no dot or blank.
_PLAIN_PART = r"(?!(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|/|\Z))[A-Za-z0-9_.()+ -]{0,199}[A-Za-z0-9_()+-]"
_PLAIN = re.compile(rf"{_PLAIN_PART}(?:/{_PLAIN_PART})*")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\\ud800-\udfff]')


def check_path(path: str, store: str = "store") -> str:
    """Returns a relative ``/``-separated path unchanged, or says why it is not safe on every system.

    Raises:
        UnsafePathError: empty, absolute, ``..`` or ``.``, a drive letter or stream, a NUL or control character, a
            backslash, a reserved Windows name, a trailing dot or blank, a lone surrogate, or too long.
    """
    if len(path) <= MAX_PATH_CHARACTERS and _PLAIN.fullmatch(path):
        return path
    detail = _what_is_wrong(path)
    if detail is not None:
        raise UnsafePathError(store=store, path=ascii(path[:200]), detail=detail)
    return path


def _what_is_wrong(path: str) -> str | None:
    if not path:
        return "it is empty"
    if len(path) > MAX_PATH_CHARACTERS:
        return f"it has {len(path)} characters, more than {MAX_PATH_CHARACTERS}"
    for part in path.split("/"):
        if detail := _what_is_wrong_with_part(part):
            return detail
    return None


def _what_is_wrong_with_part(part: str) -> str | None:
    checks: Iterable[tuple[bool, str]] = (
        (part == "", "it starts or ends with a slash, or has two in a row"),
        (part in {".", ".."}, "it leaves its folder ('.' or '..')"),
        (_FORBIDDEN.search(part) is not None, "it has a character that Windows does not allow in a name"),
        (part.endswith((" ", ".")), "a part ends with a dot or a blank, which Windows drops"),
        (_RESERVED.match(part) is not None, "a part is a reserved Windows device name"),
        (
            len(part.encode("utf-8", "surrogatepass")) > MAX_PART_CHARACTERS,
            f"a part is longer than {MAX_PART_CHARACTERS} bytes",
        ),
    )
    return next((detail for wrong, detail in checks if wrong), None)
