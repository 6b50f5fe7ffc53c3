"""What a shell offers after TAB: names of the configuration, roles, shipped scripts, runs; silent where there is none.

The shell waits for the answer and would show any complaint in the middle of the typed line: what cannot be had is
simply not offered, and the files are read as they are, without the checks (and imports) of the verbs themselves.
"""

from __future__ import annotations

import os
import sqlite3
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import typer

Offer = tuple[str, str]
"""A value and what it is."""

_APP_NAME = "pep-bridge"
_MOST_RUNS = 50
_BUSY_TIMEOUT_S = 0.2


def complete_stamp(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """The stamps of the configuration."""
    return matching(_tables(ctx, "stamps"), incomplete)


def complete_destination(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """The destinations of the configuration; the shell itself offers folders."""
    return matching(_tables(ctx, "destinations"), incomplete)


def complete_bundle(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Bundles that were collected here; the shell itself offers folders."""
    found = ((str(row["bundle"] or ""), row["stamp"]) for row in _runs(ctx))
    return matching((offer for offer in found if offer[0] and not set(offer[0]) & set(" :'\"\\$`")), incomplete)


def complete_run(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """The latest runs, the newest first."""
    return matching(((row["id"], f"{row['stamp']} {row['state']}") for row in _runs(ctx)), incomplete)


def complete_role(incomplete: str) -> list[Offer]:
    """The documented roles; after a comma the rest of them."""
    from bridge.collection import DOCUMENTED_ROLES

    before, comma, _ = incomplete.rpartition(",")
    named = set(before.split(","))
    return matching(((f"{before}{comma}{role}", "role") for role in DOCUMENTED_ROLES if role not in named), incomplete)


def complete_script(incomplete: str) -> list[Offer]:
    """The shipped scripts; the shell itself offers files."""
    from importlib.resources import files

    names = (found.name for found in files("pep_scripts").iterdir())
    return matching(
        ((name.removesuffix(".ps1"), "shipped script") for name in sorted(names) if name.endswith(".ps1")), incomplete
    )


def matching(offers: Iterable[Offer], incomplete: str) -> list[Offer]:
    """Those that go on from what was typed."""
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def _tables(ctx: typer.Context, kind: str) -> list[Offer]:
    """The names of ``[stamps.NAME]`` or ``[destinations.NAME]``, with what they stand for."""
    file = _given(ctx, "config", "PEP_BRIDGE_CONFIG")
    if file is None:
        from platformdirs import user_config_path

        file = user_config_path(_APP_NAME, appauthor=False) / "config.toml"
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8-sig")).get(kind)
    except (OSError, ValueError):
        return []
    return [(name, _told(entry)) for name, entry in found.items()] if isinstance(found, Mapping) else []


def _told(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return ""
    return str(entry.get("location") or entry.get("region") or "stamp")


def _runs(ctx: typer.Context) -> list[sqlite3.Row]:
    """The latest runs of the journal, opened to read and not created."""
    folder = _given(ctx, "state_dir", "PEP_BRIDGE_STATE_DIR")
    if folder is None:
        from platformdirs import user_state_path

        folder = user_state_path(_APP_NAME, appauthor=False)
    file = folder / "journal.sqlite"
    if not file.is_file():
        return []
    query = "SELECT id, stamp, state, json_extract(facts, '$.bundle') AS bundle FROM runs ORDER BY created DESC LIMIT ?"
    try:
        address = f"{file.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT_S)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(query, (_MOST_RUNS,)).fetchall()
    except sqlite3.Error:
        return []


def _given(ctx: typer.Context, option: str, variable: str) -> Path | None:
    """A path that stands before the verb or in the environment."""
    found = ctx.find_root().params.get(option) or os.environ.get(variable)
    return Path(str(found)) if found else None
