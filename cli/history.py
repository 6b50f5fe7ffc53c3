"""``status``, ``history`` and ``show``: what runs and what was collected."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.errors import UsageError
from bridge.files import replace_file
from cli._completion import complete_run, complete_stamp
from cli._console import Console, JsonOption, Report, run_verb
from cli._words import local_time, printable, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.collection import HistoryRow, Place, RunRecord

StampOption = Annotated[
    str | None,
    typer.Option("--stamp", help="Only this stamp's runs.", show_default=False, autocompletion=complete_stamp),
]


def status(ctx: typer.Context, stamp: StampOption = None, as_json: JsonOption = False) -> None:
    """Show the runs that are not finished, as this machine remembers them; the endpoint is not asked.

    [bold]Example[/bold]

    pep-bridge status --stamp east
    """

    def work(console: Console) -> Report:
        from bridge.collection import Journal

        with Journal(ctx.obj.state()) as journal:
            runs = [run for run in journal.runs(stamp=stamp) if not run.state.is_final]
        if runs:
            _show_runs(console, runs, ctx.obj.state())
            for run in runs:
                console.say(_what_next(run, ctx.obj.state()))
        else:
            console.say("No collection is under way; 'pep-bridge history' shows the finished ones.")
        return Report({"runs": [run.to_json() for run in runs]})

    run_verb(ctx, "status", as_json, work)


def _what_next(run: RunRecord, state_dir: Path) -> str:
    """Where an unfinished run stands, and the command that goes on with it."""
    from bridge.collection import is_live

    if is_live(run, state_dir=state_dir):
        return f"run {run.id}: a process of this machine is at it; to end it: pep-bridge stop {run.id}"
    if run.state.is_on_the_stamp:
        stands = "nobody follows it from here; it may go on at the endpoint"
    elif run.state in {"sealing", "delivering"}:
        stands = "nothing runs at the endpoint any more, but its bundle is not finished"
    else:
        stands = "it was cut short before anything was sent to the endpoint"
    return f"run {run.id}: {stands}; next: pep-bridge attach {run.id}"


def history(
    ctx: typer.Context,
    stamp: StampOption = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs started after this: 7d, or ISO 8601.", show_default=False)
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", help="Only this state: done, partial, failed, stopped, ...; repeatable."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only this type: manual, proactive, offload; repeatable."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write them to FILE, a .csv or a .json.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was collected: time, status, window, type, size, coverage, where, id, deliveries.

    [bold]Examples[/bold]

    pep-bridge history --stamp east --since 30d

    pep-bridge history --status partial --status failed --type proactive

    pep-bridge history --export history.csv
    """

    def work(console: Console) -> Report:
        from typing import get_args

        from tzlocal import get_localzone

        from bridge.collection import Journal, RunState, Trigger, parse_window, read_history
        from cli._request import split

        wanted = _known("status", split(status), [str(state) for state in RunState])
        types = _known("type", split(kind), list(get_args(Trigger)))
        first = parse_window(since, None, tz=get_localzone(), now=datetime.now(UTC)).since if since else None
        with Journal(ctx.obj.state()) as journal:
            rows = read_history(journal, stamp=stamp, since=first, states=wanted, kinds=types)
        if export is not None:
            _export(export, rows)
            console.say(f"{len(rows)} runs written to {export}")
        elif rows:
            _show_history(console, rows, ctx.obj.state())
            console.say(f"next: pep-bridge show {rows[0].run.id}")
        elif stamp or since or wanted or types:
            console.say("No run is like that; 'pep-bridge history' shows all.")
        else:
            console.say("Nothing was collected yet. Start: pep-bridge collect STAMP --to DEST")
        return Report({"runs": [row.to_json() for row in rows]})

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
        from bridge.collection import Journal, RunState

        with Journal(ctx.obj.state()) as journal:
            found = journal.run(run)
        document = found.to_json()
        console.show(f"run        {found.id}")
        console.show(f"stamp      {found.stamp}")
        console.show(f"state      {found.state}" + (f" ({found.reason})" if found.reason else ""))
        if found.state is RunState.FAILED and (fix := (found.facts.get("error") or {}).get("fix")):
            console.show(f"fix        {fix}")
        console.show(f"started    {local_time(found.created, seconds=True)}")
        console.show(f"ended      {local_time(found.ended, seconds=True)}")
        console.show(f"window     {local_time(found.request.window.since)} to {local_time(found.request.window.until)}")
        console.show(f"to         {_place(found.request.destination)}")
        if found.request.staging is not None:
            console.show(f"staging    {_place(found.request.staging)}")
        console.show(f"bundle     {found.facts.get('bundle') or '-'}")
        console.show(f"bundle id  {found.facts.get('bundle_id') or '-'}")
        console.show(f"type       {found.request.trigger}; roles {', '.join(found.request.roles) or 'all'}")
        consent = found.request.consent
        if consent is not None:
            console.show(f"consent    {consent.given_by}, {local_time(consent.given_at)}: {consent.text}")
        for delivery in found.deliveries:
            console.show(f"delivery   {delivery.words}")
        for step in found.steps:
            told = f"{local_time(step.at, seconds=True)}  {step.name}: {step.status}"
            console.show(f"  {told}" + (f"  {step.detail}" if step.detail else ""))
        return Report(document)

    run_verb(ctx, "show", as_json, work)


def _place(place: Place) -> str:
    return f"{place.location} ('{place.name}')" if place.name else place.location


_Cells = dict[str, str]


def _cells(run: RunRecord, state_dir: Path) -> _Cells:
    from bridge.collection import is_live

    window = run.request.window
    return {
        "run": run.id,
        "stamp": run.stamp,
        "time collected": local_time(run.created),
        "status": f"{run.state}{' (live)' if is_live(run, state_dir=state_dir) else ''}",
        "logs start": local_time(window.since),
        "logs end": local_time(window.until),
        "type": run.request.trigger,
    }


def _show_runs(console: Console, runs: Sequence[RunRecord], state_dir: Path) -> None:
    rows = []
    for run in runs:
        total = run.facts.get("size_bytes")
        told = {"size": size(total) if total is not None else "-", "bundle": run.facts.get("bundle") or "-"}
        rows.append(_cells(run, state_dir) | told)
    _show_table(console, rows)


def _show_history(console: Console, found: Sequence[HistoryRow], state_dir: Path) -> None:
    rows = []
    for row in found:
        run = row.run
        where = [run.facts.get("bundle") or "-"]
        where += [f"id {run.facts['bundle_id']}"] if run.facts.get("bundle_id") else []
        where += [f"-> {delivery.words}" for delivery in row.deliveries]
        where += [run.reason] if run.reason else []
        told = {
            "size": size(row.size_bytes) if row.size_bytes is not None else "-",
            "coverage": row.coverage_words or "-",
            "bundle, id, deliveries": "\n".join(where),
        }
        rows.append(_cells(run, state_dir) | told)
    _show_table(console, rows)


def _show_table(console: Console, rows: Sequence[_Cells]) -> None:
    """As a table where it fits; else each run by itself: an id or a place that is cut off is of no use to anybody."""
    columns = list(rows[0])
    lines = {name: [name, *(line for row in rows for line in row[name].splitlines())] for name in columns}
    needed = sum(max(map(len, found)) + 2 for found in lines.values())
    if needed <= console.rich(stderr=False).width:
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None)
        for row in rows:
            table.add_row(*(Text(printable(console.scrub.text(row[name]))) for name in columns))
        console.show_table(table)
        return
    *short, last = columns[4:]
    for row in rows:
        console.show("  ".join(row[name] for name in columns[:4]))
        console.show("    " + ", ".join(f"{name} {row[name]}" for name in short))
        for line in row[last].splitlines():
            console.show(f"    {line}")


def _known(what: str, given: tuple[str, ...], known: Sequence[str]) -> tuple[str, ...]:
    for each in given:
        if each not in known:
            raise UsageError(detail=f"There is no {what} '{each}'.", fix=f"Give one of {', '.join(known)}.")
    return given


def _export(file: Path, rows: Sequence[HistoryRow]) -> None:
    """Writes the rows for their owner alone, whole or not at all; the name says in which form."""
    from bridge.collection import export_csv, export_json

    form = file.suffix.lower()
    if form not in {".csv", ".json"}:
        raise UsageError(detail=f"{file} is neither a .csv nor a .json.", fix="Name it so.")
    # A spreadsheet takes UTF-8 for the machine's old code page unless a byte order mark stands first.
    text, encoding = (export_csv(rows), "utf-8-sig") if form == ".csv" else (export_json(rows), "utf-8")
    try:
        replace_file(file, text.encode(encoding))
    except OSError as error:
        raise UsageError(detail=f"{file} cannot be written: {error.strerror}.", fix="Give another file.") from error
