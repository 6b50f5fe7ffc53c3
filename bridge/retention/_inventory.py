"""What bundles a place holds, read from one listing of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge.retention._policy import Held
from bridge.store import Store

DECLARATION = "bagit.txt"
MARKERS = ".pep-bridge/removing"

_NAME = re.compile(r"(?P<stamp>[A-Za-z0-9._-]+)-(?P<started>\d{8}T\d{6}Z)-[0-9a-f]{8}")


@dataclass(slots=True)
class _Counted:
    is_sealed: bool = False
    files: int = 0
    size_bytes: int = 0


def find_bundles(store: Store, *, stamp: str | None = None) -> tuple[Held, ...]:
    """The sealed bundles directly below the root of a place, oldest first.

    Whatever has another name, or no ``bagit.txt``, is none and is never touched: a collection that is under way, other
    people's files.

    Raises:
        StoreError: the place cannot be listed.
    """
    counted: dict[str, _Counted] = {}
    for entry in store.list(on_unsafe=lambda _error: None):
        name, slash, rest = entry.path.partition("/")
        if not slash or _NAME.fullmatch(name) is None:
            continue
        one = counted.setdefault(name, _Counted())
        one.is_sealed |= rest == DECLARATION
        one.files += 1
        one.size_bytes += entry.size_bytes
    found = [_held(name, one) for name, one in counted.items() if one.is_sealed]
    wanted = (held for held in found if held and (stamp is None or held.stamp.casefold() == stamp.casefold()))
    return tuple(sorted(wanted, key=lambda held: (held.started, held.name)))


def find_half_removed(store: Store) -> tuple[str, ...]:
    """The names of bundles whose removal was begun and not finished."""
    names = (entry.path.rpartition("/")[2] for entry in store.list(MARKERS, on_unsafe=lambda _error: None))
    return tuple(name for name in names if _NAME.fullmatch(name))


def _held(name: str, counted: _Counted) -> Held | None:
    match = _NAME.fullmatch(name)
    try:
        started = datetime.strptime(match["started"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if match else None
    except ValueError:  # the 31st of February: not a name of ours
        return None
    return Held(name, match["stamp"], started, counted.files, counted.size_bytes) if match and started else None
