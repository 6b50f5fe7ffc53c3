"""The names under which a file lies while it is being written, and how they are told from everybody else's."""

from __future__ import annotations

import hashlib
import re
import secrets

_HIDDEN = re.compile(r"^\.pep-[0-9a-f]{16}(-[0-9a-f]{16})?\.partial$")


def is_hidden(name: str) -> bool:
    """Whether a file's last part is one that this module gave: ``list`` does not show it."""
    return _HIDDEN.match(name) is not None


def temporary_name(path: str) -> str:
    """A path beside ``path`` that nobody else has, for one attempt."""
    return _beside(path, f".pep-{_tag(path)}-{secrets.token_hex(8)}.partial")


def partial_name(path: str) -> str:
    """The path beside ``path`` that every attempt to write it finds again."""
    return _beside(path, f".pep-{_tag(path)}.partial")


def _tag(path: str) -> str:
    # Of the last part alone: the same file is found through a store that is rooted deeper.
    return hashlib.sha256(path.rpartition("/")[2].encode()).hexdigest()[:16]


def _beside(path: str, name: str) -> str:
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}{name}"
