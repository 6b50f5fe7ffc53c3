"""``status``, ``history`` and ``show``: what runs and what was collected."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli._completion import complete_run, complete_stamp
from cli._console import Console, JsonOption, Report, run_verb
from cli._words import local_time, size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bridge.collection import RunRecord

StampOption = Annotated[
    str | None,
    typer.Option("--stamp", help="Only this stamp's runs.", show_default=False, autocompletion=complete_stamp),
]


def status(ctx: typer.Context, stamp: StampOption = None, as_json: JsonOption = False) -> None:
    """Show the runs that are not finished.

    [bold]Example[/bold]

    pep-bridge status --stamp east
    """

    def work(console: Console) -> Report:
        from bridge.collection import Journal

        with Journal(ctx.obj.state()) as journal:
            runs = [run for run in journal.runs(stamp=stamp) if not run.state.is_final]
        if runs:
            _show_runs(console, runs, ctx.obj.state())
            console.say(f"next: pep-bridge attach {runs[0].id}")
        else:
            console.say("No collection is under way; 'pep-bridge history' shows the finished ones.")
        return Report({"runs": [run.to_json() for run in runs]})

    run_verb(ctx, "status", as_json, work)


def history(
    ctx: typer.Context,
    stamp: StampOption = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs started after this: 7d, or ISO 8601.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was collected: time, status, window, type, size, where, id.

    [bold]Examples[/bold]

    pep-bridge history --stamp east --since 30d

    pep-bridge history --json
    """

    def work(console: Console) -> Report:
        from tzlocal import get_localzone

        from bridge.collection import Journal, parse_window

        now = datetime.now(UTC)
        first = parse_window(since, None, tz=get_localzone(), now=now).since if since else None
        with Journal(ctx.obj.state()) as journal:
            runs = [run for run in journal.runs(stamp=stamp) if first is None or run.created >= first]
        if runs:
            _show_runs(console, runs, ctx.obj.state())
        else:
            console.say("Nothing was collected yet. Start: pep-bridge collect STAMP --to DEST")
        return Report({"runs": [run.to_json() for run in runs]})

    run_verb(ctx, "history", as_json, work)


def show(
    ctx: typer.Context,
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="The run's id, or its first characters.", autocompletion=complete_run),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show one run: what was asked, each step, where the bundle is.

    [bold]Example[/bold]

    pep-bridge show 20261123T1355
    """

    def work(console: Console) -> Report:
        from bridge.collection import Journal

        with Journal(ctx.obj.state()) as journal:
            found = journal.run(run)
        document = found.to_json()
        console.show(f"run        {found.id}")
        console.show(f"stamp      {found.stamp}")
        console.show(f"state      {found.state}" + (f" ({found.reason})" if found.reason else ""))
        console.show(f"started    {local_time(found.created)}")
        console.show(f"ended      {local_time(found.ended)}")
        console.show(f"window     {local_time(found.request.window.since)} to {local_time(found.request.window.until)}")
        console.show(f"bundle     {found.facts.get('bundle') or '-'}")
        console.show(f"bundle id  {found.facts.get('bundle_id') or '-'}")
        for step in found.steps:
            told = f"{local_time(step.at)}  {step.name}: {step.status}" + (f"  {step.detail}" if step.detail else "")
            console.show(f"  {told}")
        return Report(document)

    run_verb(ctx, "show", as_json, work)


def _show_runs(console: Console, runs: Sequence[RunRecord], state_dir: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from bridge.collection import is_live

    table = Table("run", "stamp", "collected", "status", "logs start", "logs end", "type", "size", "bundle", box=None)
    for run in runs:
        window, total = run.request.window, run.facts.get("size_bytes")
        cells = (
            run.id,
            run.stamp,
            local_time(run.created),
            f"{run.state}{' (live)' if is_live(run, state_dir=state_dir) else ''}",
            local_time(window.since),
            local_time(window.until),
            run.request.trigger,
            size(total) if total is not None else "-",
            run.facts.get("bundle") or "-",
        )
        table.add_row(*(Text(cell) for cell in cells))
    console.show_table(table)
