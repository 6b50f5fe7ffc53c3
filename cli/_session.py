"""What the verbs that run a script in a session share: results, progress, and what is said at the end."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from cli._console import Console
from cli._words import printable

if TYPE_CHECKING:
    from bridge.endpoint import LineEvent, Record
    from bridge.scripting import ScriptOutcome

FORMS = ("table", "jsonl", "clixml")
_CLIXML_BEGIN = '<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
_CLIXML_END = "</Objs>"
_ROWS_AT_ONCE = 500
_MOST_KEPT = 10_000
"""Of one stream, in the --json document; the session's record has all."""
_PROGRESS_EVERY_S = 10.0
_VIEWS: tuple[tuple[str, ...], ...] = (("CommandType", "Name", "Version", "Source"),)
"""Columns by which PowerShell itself shows objects that have many more."""


class Results:
    """Output on stdout as it comes, every other stream on stderr; all of them apart in the ``--json`` document."""

    def __init__(self, console: Console, form: str) -> None:
        self._console, self._form = console, form
        self._rows: list[dict[str, Any]] = []
        self._output: list[Any] = []
        self._said: dict[str, list[str]] = {}
        self._left_out = 0
        self._progress = ("", 0.0)
        if form == "clixml":
            console.show(_CLIXML_BEGIN)

    def take(self, record: Record) -> None:
        """Shows one record, and keeps it for the JSON document."""
        from bridge.endpoint import Stream

        if record.stream is Stream.PROGRESS:
            self._show_progress(record)
        elif record.stream is not Stream.OUTPUT:
            self._console.say(f"{record.stream}: {record.text}")
            self._keep(self._said.setdefault(str(record.stream), []), record.text)
        elif self._console.as_json:
            self._keep(self._output, _value(record))
        else:
            self._show(record)

    def finish(self) -> None:
        """Shows what is left."""
        self._flush()
        if self._form == "clixml":
            self._console.show(_CLIXML_END)
        if self._left_out:
            self._console.warn(f"{self._left_out} records are left out here; the session's record has them all")

    def to_json(self) -> dict[str, Any]:
        return {"output": self._output, "streams": self._said, "left_out": self._left_out}

    def _keep(self, items: list[Any], item: Any) -> None:
        if len(items) < _MOST_KEPT:
            items.append(item)
        else:
            self._left_out += 1

    def _show(self, record: Record) -> None:
        if self._form == "clixml":
            self._console.show(record.clixml or "")
        elif self._form == "jsonl":
            self._console.show(json.dumps(_value(record), ensure_ascii=False, default=str))
        elif isinstance(record.data, dict):
            self._rows.append(record.data)
            if len(self._rows) >= _ROWS_AT_ONCE:
                self._flush()
        else:
            self._flush()
            self._console.show(record.text)

    def _show_progress(self, record: Record) -> None:
        """A line when it says something new, or now and then."""
        found = record.progress
        if found is None or found.completed:
            return
        text = f"progress: {found.activity}: {found.status}"
        last, at = self._progress
        if text != last or time.monotonic() - at >= _PROGRESS_EVERY_S:
            self._progress = (text, time.monotonic())
            self._console.say(text + (f" ({found.percent} %)" if found.percent >= 0 else ""))

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        columns = _columns(rows)
        cells = [{name: self._console.scrub.text(_cell(row.get(name))) for name in columns} for row in rows]
        if not _fits(cells, columns, self._console.rich(stderr=False).width):
            self._show_list(cells, columns)
            return
        from rich.table import Column, Table
        from rich.text import Text

        table = Table(*(Column(Text(name)) for name in columns), box=None)
        for row in cells:
            table.add_row(*(Text(row[name]) for name in columns))
        self._console.show_table(table)

    def _show_list(self, cells: list[dict[str, str]], columns: list[str]) -> None:
        width = max(map(len, columns))
        for row in cells:
            for name in columns:
                if row[name]:
                    self._console.show(f"{name:{width}} : {row[name]}")
            self._console.show()


def _value(record: Record) -> Any:
    return record.data if record.data is not None else record.text or None


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """The properties that any row has a value for, in their order; or those of PowerShell's own view of them."""
    present = dict.fromkeys(key for row in rows for key in row)
    filled = {key for row in rows for key, value in row.items() if value not in (None, "", [], {})}
    view = next((view for view in _VIEWS if set(view) <= set(present) and len(filled) > len(view)), tuple(present))
    return [key for key in view if key in filled] or list(present)


def _fits(cells: list[dict[str, str]], columns: list[str], width: int) -> bool:
    needed = sum(max(len(name), *(len(row[name]) for row in cells)) + 2 for name in columns)
    return needed <= width and not any("\n" in text for row in cells for text in row.values())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def tell_line(console: Console, event: LineEvent) -> None:
    """A change of the line to the endpoint, unless it is merely up."""
    if str(event.state) != "up" or event.detail:
        console.say(f"line: {event.state} {event.detail}".rstrip())


def tell_outcome(console: Console, outcome: ScriptOutcome) -> None:
    """How the session ended, where its record is, and what became of its transcripts."""
    counts = ", ".join(f"{count} {stream}" for stream, count in outcome.counts.items() if count)
    console.say(f"{outcome.state} on {outcome.endpoint}: {counts or 'no records'}")
    if outcome.unreadable:
        console.warn(f"{outcome.unreadable} records could not be read; the session's record has them as they came")
    console.say(f"record of the session: {outcome.record}")
    if outcome.closed:
        console.say("the session's transcripts were taken to the share")
    else:
        console.say(
            f"the transcripts of this session stay on {outcome.endpoint}: --close SHARE takes them (or, later,"
            " pep-bridge run Close-PepSession)"
        )
