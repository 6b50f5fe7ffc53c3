"""A run while it happens: a view that redraws itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import TYPE_CHECKING, Protocol

from bridge import collection as events
from bridge.endpoint import Record, Stream
from cli._console import Console
from cli._progress import Pace, pace_words
from cli._words import duration, printable, shortened, size

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import ConsoleOptions, RenderableType, RenderResult

_LINE_EVERY_S = 15.0
_LAST_MESSAGES = 4
KEYS = "Ctrl-C: leave it running and detach; twice: stop it"
_KEYS_FOR_THE_BUNDLE = "Ctrl-C: leave; 'pep-bridge attach' finishes the bundle"
_LEAST_PERCENT = 5
_MOST_PERCENT = 99.0  # until what was waited for has been said
_FRAME_ROWS = 16  # what the view needs besides the table of roles


class View(Protocol):
    """Something that is shown every event of a run."""

    def on_event(self, event: events.Event) -> None: ...


class Line(Protocol):
    """What the view asks of the line that is used: why it rests, its limit and its keys, empty where there is none."""

    @property
    def rest(self) -> str: ...

    @property
    def words(self) -> str: ...


@contextmanager
def live_view(console: Console, title: str, *, keys: str = KEYS, line: Line | None = None) -> Iterator[View]:
    """The view that fits where stderr goes; ``keys`` says what Ctrl-C does."""
    if not console.is_terminal or console.as_json:
        yield _Lines(console, line)
        return
    from rich.live import Live

    screen = _Screen(title, console, keys, _Teller(line))
    with Live(screen, console=console.rich(), refresh_per_second=4, transient=True):
        yield screen


class _Lines:
    """One line an event; what comes often (bytes, progress) now and then."""

    def __init__(self, console: Console, line: Line | None = None) -> None:
        self._console = console
        self._teller = _Teller(line)
        self._run = ""
        self._last: dict[type[object], float] = {}

    def on_event(self, event: events.Event) -> None:
        if self._run != event.run_id:
            self._run = event.run_id
            self._console.say(f"run {event.run_id}")
        line = self._teller.line(event)
        if line is None:
            return
        now = time.monotonic()
        if _is_frequent(event):
            if now - self._last.get(type(event), -_LINE_EVERY_S) < _LINE_EVERY_S:
                return
            self._last[type(event)] = now
        self._console.say(shortened(line))


class _Teller:
    """Events in words, with what only several of them together tell."""

    def __init__(self, line: Line | None = None) -> None:
        self._line = line
        self._hashing = Pace()

    @property
    def keys(self) -> str:
        return self._line.words if self._line is not None else ""

    def line(self, event: events.Event) -> str | None:
        match event:
            case events.DeliveryProgress():
                told = self._delivery(event)
                return f"{told}, {event.detail}" if event.detail else told
            case events.HashProgress():
                return self._hashed(event)
            case _:
                return events.plain_line(event)

    def _delivery(self, event: events.DeliveryProgress) -> str:
        """How far a delivery is, how fast it goes now, and how long it will take; or why it rests."""
        done, total = size(event.bytes_done), size(event.bytes_total)
        if done == total and event.bytes_done < event.bytes_total:  # rounded, it would look finished
            done = f"all but {size(event.bytes_total - event.bytes_done)}"
        parts = [f"delivered: {done} of {total}"]
        rest = self._line.rest if self._line is not None else ""
        if event.bytes_done < event.bytes_total:
            left = event.seconds_left, event.seconds_left_low, event.seconds_left_high
            parts += [rest] if rest else pace_words(event.rate_bytes_per_s, *left)
        elif not _is_complete(event):
            parts.append("waiting for the last confirmation")
        return ", ".join(parts)

    def _hashed(self, event: events.HashProgress) -> str:
        self._hashing.saw(event.bytes_done)
        pace = pace_words(self._hashing.rate, *self._hashing.left(event.bytes_total - event.bytes_done))
        return ", ".join([f"hashed: {size(event.bytes_done)} of {size(event.bytes_total)}", *pace])


def _is_complete(event: events.DeliveryProgress) -> bool:
    """Whether the service has said yes to everything."""
    return event.seconds_left == 0


def _is_frequent(event: events.Event) -> bool:
    if isinstance(event, events.RecordArrived):
        return event.record.stream is Stream.PROGRESS
    if isinstance(event, events.DeliveryProgress):
        return not _is_complete(event)
    return isinstance(event, (events.Landed, events.HashProgress))


@dataclass
class _Screen:
    """What is known of the run now, drawn anew by Rich whenever it likes."""

    title: str
    console: Console
    keys: str
    teller: _Teller = field(default_factory=_Teller)
    state: str = "starting"
    started: float = field(default_factory=time.monotonic)
    percent: int = -1
    working_since: float = 0.0
    doing: str = ""
    landed: events.Landed | None = None
    rate: float = 0.0
    line: str = ""
    moving: str = ""
    moved_percent: float = -1.0
    retrying: str = ""
    messages: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_LAST_MESSAGES))
    counts: dict[str, int] = field(default_factory=dict)
    order: dict[str, float] = field(default_factory=dict)
    _landed_at: float = 0.0
    _lock: RLock = field(default_factory=RLock)  # a signal handler may come by while it is held

    def on_event(self, event: events.Event) -> None:
        with self._lock:
            self._take(event)

    def _take(self, event: events.Event) -> None:
        match event:
            case events.StateChanged():
                self.state = f"{event.state}" + (f" ({event.reason})" if event.reason else "")
                self.percent, self.moved_percent, self.doing, self.moving = -1, -1.0, "", ""
                if self.keys == KEYS and event.state in {events.RunState.SEALING, events.RunState.DELIVERING}:
                    self.keys = _KEYS_FOR_THE_BUNDLE
            case events.RecordArrived():
                self._take_record(event.record)
            case events.Landed():
                self._take_landed(event)
            case events.LineChanged():
                self.line = f"{event.state} {event.detail}".strip()
            case events.Warned():
                self._message("warning", event.text)
            case events.DeliveryProgress() | events.HashProgress():
                self._take_moved(event)
            case events.Waiting():
                self.moving = self.teller.line(event) or ""

    def _take_moved(self, event: events.DeliveryProgress | events.HashProgress) -> None:
        done, total = event.bytes_done, event.bytes_total
        self.moved_percent = min(100 * done / total, _MOST_PERCENT) if total else -1.0
        self.retrying = ""
        if isinstance(event, events.DeliveryProgress):
            self.state = "delivering" if self.state == "starting" else self.state  # of a bundle: without a run
            self.retrying, event = event.detail, replace(event, detail="")
            if _is_complete(event):
                self.moved_percent = 100.0
        self.moving = self.teller.line(event) or ""

    def _take_record(self, record: Record) -> None:
        if record.progress is not None:
            if not record.progress.completed:
                if self.percent < 0:
                    self.working_since = time.monotonic()
                self.percent = record.progress.percent
                self.doing = record.progress.status or record.progress.activity
        elif record.stream in {Stream.WARNING, Stream.ERROR}:
            self._message(str(record.stream), record.text)

    def _take_landed(self, event: events.Landed) -> None:
        now = time.monotonic()
        if self.landed is not None and now > self._landed_at:
            seen = (event.size_bytes - self.landed.size_bytes) / (now - self._landed_at)
            self.rate = seen if self.rate == 0 else 0.7 * self.rate + 0.3 * seen
        for role, value in event.roles.items():
            if self.landed is None or self.landed.roles.get(role) != value:
                self.order[role] = now
        self.landed, self._landed_at = event, now

    def _message(self, kind: str, text: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.messages.append((kind, self._clean(text)))

    def _clean(self, text: str) -> str:
        return shortened(printable(self.console.scrub.text(text)))

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        with self._lock:
            elapsed = duration(time.monotonic() - self.started)
            yield Text(f"{self.title}  {self.state}  {elapsed}", style="bold", overflow="ellipsis", no_wrap=True)
            yield from self._draw_progress()
            if self.line:
                line_style = "" if self.line.startswith("up") else "yellow"
                yield Text(f"line: {self.line}", style=line_style, overflow="ellipsis", no_wrap=True)
            if self.moving:
                yield Text(self._clean(self.moving), overflow="ellipsis", no_wrap=True)
            if self.retrying:
                yield Text(self._clean(self.retrying), style="yellow", overflow="ellipsis", no_wrap=True)
            yield from self._draw_roles((options.height or console.height) - _FRAME_ROWS)
            for kind, text in self.messages:
                style = "red" if kind == "error" else "yellow"
                yield Text(f"{kind}: {text}", style=style, overflow="ellipsis", no_wrap=True)
            if told := self.teller.keys:
                yield Text(told, style="dim", overflow="ellipsis", no_wrap=True)
            yield Text(self.keys, style="dim")

    def _draw_progress(self) -> Iterator[RenderableType]:
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        shown = self.moved_percent if self.moved_percent >= 0 else min(self.percent, _MOST_PERCENT)
        if shown >= 0:
            yield Padding(ProgressBar(total=100, completed=shown), (0, 0))
        if self.doing:
            told = f"the endpoint says: {self.doing}" + (f" ({self.percent} %)" if self.percent >= 0 else "")
            told += self._time_left()
            yield Text(self._clean(told), overflow="ellipsis", no_wrap=True)
        if self.landed is not None:
            counts = ", ".join(f"{count} {kind}s" for kind, count in self.counts.items())
            told = f"landed: {self.landed.files} files, {size(self.landed.size_bytes)}, {size(int(self.rate))}/s"
            yield Text(told + (f"  ({counts})" if counts else ""), overflow="ellipsis", no_wrap=True)

    def _time_left(self) -> str:
        """By the endpoint's own percentage and the time it has worked, once that says something."""
        if not _LEAST_PERCENT <= self.percent < 100:
            return ""
        worked = time.monotonic() - self.working_since
        return f", at this pace about {duration(worked * (100 - self.percent) / self.percent)} left"

    def _draw_roles(self, rows: int) -> Iterator[RenderableType]:
        from rich.table import Table
        from rich.text import Text

        if self.landed is None or rows < 1:
            return
        latest = sorted(self.landed.roles, key=lambda role: self.order.get(role, 0), reverse=True)
        table = Table("role", "zips", "bytes", box=None, pad_edge=False)
        for role in latest[:rows]:
            found = self.landed.roles[role]
            table.add_row(Text(self._clean(role)), str(found.zips), size(found.size_bytes))
        yield table
        if len(latest) > rows:
            yield Text(f"... and {len(latest) - rows} more roles", style="dim")
