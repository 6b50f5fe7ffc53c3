"""The arrows of docs/architecture.md hold: each room imports only what lies below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOUNDATION = {"errors", "secrets", "stamp", "files"}
MAY_IMPORT = {
    "errors": set[str](),
    "secrets": set[str](),
    "stamp": {"errors"},
    "files": set[str](),
    "spans": {"errors"},
    "settings": FOUNDATION,
    "credentials": FOUNDATION,
    "stamp_information": FOUNDATION | {"settings"},
    "endpoint": FOUNDATION,
    "store": FOUNDATION,
    "bundle": FOUNDATION | {"store"},
    "scripting": FOUNDATION | {"endpoint"},
    "staging": FOUNDATION,
    "collection": FOUNDATION | {"spans", "settings", "credentials", "endpoint", "store", "bundle"},
    "doctor": FOUNDATION | {"endpoint", "store", "collection"},
    "retention": FOUNDATION | {"spans", "settings", "store", "bundle"},
    "watch": FOUNDATION
    | {"spans", "settings", "credentials", "endpoint", "store", "scripting", "retention", "collection"},
    "simulator": FOUNDATION,
}


def imported_rooms(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    parts = [name.split(".") for name in names]
    return {part[1] if part[0] == "bridge" else part[0] for part in parts if part[0] == "cli" or len(part) > 1}


def room_of(source: Path) -> str:
    return source.relative_to(ROOT / "bridge").parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "source", sorted((ROOT / "bridge").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_room_imports_only_what_lies_below_it(source: Path) -> None:
    room = room_of(source)
    if room == "__init__":
        return
    assert room in MAY_IMPORT, f"a new room: say in docs/architecture.md and here what '{room}' may import"
    rooms = imported_rooms(source) & (set(MAY_IMPORT) | {"cli"})
    assert rooms - {room} <= MAY_IMPORT[room]
