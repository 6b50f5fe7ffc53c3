"""The coverage of a bundle as a table: what was asked against what arrived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cli._words import printable, size

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"collected": "green", "empty": "yellow", "truncated": "yellow", "skipped": "yellow"}


def coverage_table(coverage: Mapping[str, Any]) -> Table:
    """Each role asked with its zips and bytes, or why there is none; what is missing comes first."""
    from rich.table import Table
    from rich.text import Text

    table = Table("role", "state", "zips", "bytes", "why", box=None, pad_edge=False)
    for role in sorted(coverage.get("roles", ()), key=lambda role: (role["state"] == "collected", role["name"])):
        state = role["state"]
        table.add_row(
            Text(printable(role["name"])),
            Text(state, style=_STYLES.get(state, "red")),
            str(role["zip_count"]),
            size(role["size_bytes"]),
            Text("" if state == "collected" else printable(role["explanation"])),
        )
    return table
