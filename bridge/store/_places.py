"""Whether two places are one, as far as their names tell."""

from __future__ import annotations

import os
import re

_ROOTED = re.compile(r"^(?:[\\/]{2}|[A-Za-z][A-Za-z0-9+.-]+://)")


def lies_within(inner: str, outer: str) -> bool:
    """Whether a location (``Store.location``) is another one or lies below it.

    Local folders are compared by where links lead; shares and containers without regard to case and kind of slash. Two
    names of one server are two places here.
    """
    below, above = _plain(inner), _plain(outer)
    return below == above or below.startswith(f"{above}/")


def _plain(location: str) -> str:
    is_local = not _ROOTED.match(location)
    found = os.path.normcase(os.path.realpath(location)) if is_local else location.casefold()
    return re.sub(r"[\\/]+", "/", found).rstrip("/")
