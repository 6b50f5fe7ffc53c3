"""``prune``: removes bundles that are over the limits; a dry run unless it is told otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli._console import Console, Globals, JsonOption, Report, run_verb
from cli._options import FormerShareUsernameOption, ShareUsernameOption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from bridge.retention import Pruned
    from bridge.settings import Settings
    from bridge.store import Store


def prune(
    ctx: typer.Context,
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE",
            help="The folder, share, container or configured name whose bundles are looked at.",
            show_default=False,
        ),
    ],
    older_than: Annotated[
        str | None, typer.Option(help="Bundles that are older go: 30d, 12w.", show_default=False)
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="All but the newest so many of each stamp go.", show_default=False)
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(help="The oldest go until the rest is no larger: 500GB.", show_default=False)
    ] = None,
    stamp: Annotated[str | None, typer.Option(help="Only bundles of this stamp.", show_default=False)] = None,
    copy_at: Annotated[
        list[str] | None,
        typer.Option(
            "--copy-at",
            metavar="DEST",
            help="Where copies lie, beside what the journal of deliveries knows; repeatable.",
            show_default=False,
        ),
    ] = None,
    every_byte: Annotated[
        bool, typer.Option("--every-byte", help="Read every byte of a copy before its original goes.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Bundles go although no verified copy is known elsewhere.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this nothing is removed.")] = False,
    share_username: ShareUsernameOption = None,
    username: FormerShareUsernameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove bundles that are over the limits: by age, by count, by size. Shows what would go; --yes removes it.

    The last good bundle of a stamp always stays. Another one goes only if a copy of it was delivered elsewhere and is
    found there and verified now, or with --force.

    [bold]Examples[/bold]

    pep-bridge prune nas --older-than 30d

    pep-bridge prune nas --keep 10 --max-size 500GB --copy-at support --yes
    """

    def work(console: Console) -> Report:
        return _prune(
            console,
            ctx.obj,
            place,
            older_than=older_than,
            keep=keep,
            max_size=max_size,
            stamp=stamp,
            copy_at=tuple(copy_at or ()),
            every_byte=every_byte,
            force=force,
            yes=yes,
            username=share_username or username,
        )

    run_verb(ctx, "prune", as_json, work)


def _prune(
    console: Console,
    options: Globals,
    text: str,
    *,
    older_than: str | None,
    keep: int | None,
    max_size: str | None,
    stamp: str | None,
    copy_at: tuple[str, ...],
    every_byte: bool,
    force: bool,
    yes: bool,
    username: str | None,
) -> Report:
    from bridge.collection import default_ports
    from bridge.retention import Elsewhere, prune, read_limits
    from cli._places import open_place

    settings = options.load().settings
    limits = read_limits(settings.retention, older_than=older_than, keep=keep, max_size=max_size)
    sources = console.sources()

    def open_other(where: str) -> Store:
        found = open_place(_configured(where, settings), settings, sources, console, username=username)
        return default_ports().open_store(found.place, found.access)

    known = _known_copies(options.state(), copy_at)
    store = open_other(text)
    try:
        done = prune(
            store,
            limits,
            now=datetime.now(UTC),
            elsewhere=Elsewhere(known, open_other, every_byte),
            stamp=stamp,
            force=force,
            act=yes,
        )
    finally:
        store.close()
    _show(console, done, dry=not yes)
    code = done.errors[0].exit_code if done.errors else None
    data = done.to_json() | {"place": store.location, "dry_run": not yes}
    return Report(data, code, list(done.errors)) if code else Report(data)


def _known_copies(state_dir: Path, copy_at: tuple[str, ...]) -> Callable[[str], Iterable[str]]:
    """Of a bundle's name, the places that may have it: given ones, deliveries that were finished, its run's own."""
    from bridge.collection import Journal

    with Journal(state_dir) as journal:
        delivered: dict[str, list[str]] = {}
        for delivery in journal.deliveries():
            if delivery.state == "done":
                delivered.setdefault(delivery.bundle_name, []).append(_parent(delivery.destination))
        for run in journal.runs():
            for fact in ("bundle", "staging"):
                if run.facts.get("bundle_id") and (where := run.facts.get(fact)):
                    delivered.setdefault(run.bundle_name, []).append(_parent(where))
    return lambda name: dict.fromkeys([*copy_at, *delivered.get(name, ())])


def _parent(location: str) -> str:
    """The place that a bundle lies in; a bundle's name has no separator in it."""
    trimmed = location.rstrip("/\\")
    return trimmed[: max(trimmed.rfind("/"), trimmed.rfind("\\"))] or trimmed


def _configured(where: str, settings: Settings) -> str:
    """The name of the destination that a place lies in, so that its secret is found; else the place as it is."""
    for name, known in settings.destinations.items():
        location = known.location.rstrip("/\\")
        if where == location:
            return name
        if where.startswith((location + "/", location + "\\")):
            return name + "/" + where[len(location) + 1 :].replace("\\", "/")
    return where


def _show(console: Console, done: Pruned, *, dry: bool) -> None:
    from cli._words import local_time, size

    for verdict in done.verdicts:
        held = verdict.held
        if verdict.goes:
            word, why = ("would go" if dry else "went" if held.name in done.removed else "not removed"), verdict.over
        else:
            word, why = "stays", f"{verdict.over}, but {verdict.kept_because}" if verdict.over else "within the limits"
        console.show(f"{word:<11} {held.name}  {size(held.size_bytes):>9}  {local_time(held.started)}  {why}")
    for name in done.finished:
        console.show(f"finished    {name}: its removal was cut short before")
    total = size(sum(verdict.held.size_bytes for verdict in done.going))
    console.show(f"{len(done.going)} of {len(done.verdicts)} bundles, {total}" + (" (dry run)" if dry else ""))
    if dry and done.going:
        console.say("next: the same command with --yes removes them")
