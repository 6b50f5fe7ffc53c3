"""The coverage of a bundle as a table: what was asked against what arrived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cli._words import printable, size

if TYPE_CHECKING:
    from rich.table import Table

_MOST_COLLECTED = 20
_STYLES = {"collected": "green", "empty": "yellow", "truncated": "yellow", "skipped": "yellow"}


def coverage_table(coverage: Mapping[str, Any]) -> Table:
    """Each role asked with its zips and bytes, or why there is none; what is missing comes first.

    Where many roles were collected they share one line, so that what is missing stays on the screen.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table("role", "state", "zips", "bytes", "why", box=None, pad_edge=False)
    roles = sorted(coverage.get("roles", ()), key=lambda role: (role["state"] == "collected", role["name"]))
    collected = [role for role in roles if role["state"] == "collected"]
    if len(collected) > _MOST_COLLECTED:
        roles = roles[: -len(collected)]
    for role in roles:
        state = role["state"]
        table.add_row(
            Text(printable(role["name"])),
            Text(state, style=_STYLES.get(state, "red")),
            str(role["zip_count"]),
            size(role["size_bytes"]),
            Text("" if state == "collected" else printable(role["explanation"])),
        )
    if len(collected) > _MOST_COLLECTED:
        zips, total = (sum(role[key] for role in collected) for key in ("zip_count", "size_bytes"))
        state = Text("collected", style=_STYLES["collected"])
        table.add_row(
            f"{len(collected)} roles", state, str(zips), size(total), "each is in coverage.json and the report"
        )
    return table
