"""A run while it happens: a view that redraws itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
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
_MOST_KEPT = 10
KEYS = "Ctrl-C: leave it running and detach; twice: stop it"
_KEYS_IN_THE_QUEUE = "Ctrl-C: leave; nothing is started"
_KEYS_FOR_THE_BUNDLE = "Ctrl-C: leave; 'pep-bridge attach' finishes the bundle"
_KEYS_WHILE_LEAVING = "leaving it running; Ctrl-C again: stop it on the endpoint"
_KEYS_WHILE_STOPPING = "stopping: waiting until nothing arrives any more; what arrived is kept"
_BEFORE_THE_STAMP = {"starting", "planned", "preflighted"}
_LEAST_PERCENT = 5
_MOST_PERCENT = 99.0  # until what was waited for has been said
_FRAME_ROWS = 18  # what the view needs besides the table of roles


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
def live_view(
    console: Console,
    title: str,
    *,
    keys: str = KEYS,
    line: Line | None = None,
    started: datetime | None = None,
    sent: datetime | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[View]:
    """The view that fits where stderr goes.

    Args:
        keys: what Ctrl-C does.
        started: when a run that is taken over began; its clock goes on from there.
        sent: when its command was sent; its pace counts from there.
        stopping: whether the collection is asked to stop.
    """
    if not console.is_terminal or console.as_json:
        yield _Lines(console, line)
        return
    from rich.live import Live

    screen = _Screen(
        title,
        console,
        keys,
        _Teller(line),
        started=_monotonic(started),
        sent=_monotonic(sent),
        stopping=stopping,
    )
    try:
        with Live(screen, console=console.rich(), refresh_per_second=4, transient=True):
            yield screen
    finally:
        screen.tell_what_was_cut()


def _monotonic(moment: datetime | None) -> float | None:
    """A moment of the past on the clock of ``time.monotonic``."""
    if moment is None:
        return None
    return time.monotonic() - max((datetime.now(UTC) - moment).total_seconds(), 0.0)


class _Lines:
    """One line an event; what comes often (bytes, progress) now and then."""

    def __init__(self, console: Console, line: Line | None = None) -> None:
        self._console = console
        self._teller = _Teller(line)
        self._run = self._said = ""
        self._last: dict[type[object], float] = {}

    def on_event(self, event: events.Event) -> None:
        if self._run != event.run_id:
            self._run = event.run_id
            self._console.say(f"run {event.run_id}")
        line = self._teller.line(event)
        if line is None:
            return
        if isinstance(event, events.Warned):
            self._console.told.add(event.text)
        if isinstance(event, events.StateChanged) and event.state is events.RunState.FAILED:
            line = str(event.state)  # the end says why, and what to do about it
        now = time.monotonic()
        if _is_frequent(event):
            if now - self._last.get(type(event), -_LINE_EVERY_S) < _LINE_EVERY_S:
                return
            self._last[type(event)] = now
        elif line == self._said:
            return
        self._said = line
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
        there = f" ({size(event.bytes_there)} from before)" if event.bytes_there else ""
        parts = [f"delivered: {done} of {total}{there}"]
        rest = self._line.rest if self._line is not None else ""
        if event.bytes_done < event.bytes_total:
            left = event.seconds_left, event.seconds_left_low, event.seconds_left_high
            rate = event.rate_bytes_per_s
            known = rate if rate or event.seconds_left is not None else None
            parts += [rest] if rest else pace_words(known, *left)
        elif not _is_complete(event):
            parts.append("waiting for the last confirmation")
        return ", ".join(parts)

    def _hashed(self, event: events.HashProgress) -> str:
        """The same of hashing; of a folder here nothing rests."""
        told = f"hashed: {size(event.bytes_done)} of {size(event.bytes_total)}"
        if event.is_paused:
            self._hashing.rest()
            return f"{told}, {(self._line.rest if self._line is not None else '') or 'paused'}"
        self._hashing.saw(event.bytes_done)
        pace = pace_words(self._hashing.rate, *self._hashing.left(event.bytes_total - event.bytes_done))
        return ", ".join([told, *pace])


def _is_complete(event: events.DeliveryProgress) -> bool:
    """Whether the service has said yes to everything."""
    return event.seconds_left == 0


def _is_frequent(event: events.Event) -> bool:
    if isinstance(event, events.RecordArrived):
        return event.record.stream is Stream.PROGRESS
    if isinstance(event, events.DeliveryProgress):
        return not _is_complete(event)
    if isinstance(event, events.HashProgress):
        return event.bytes_done < event.bytes_total
    return isinstance(event, events.Landed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What is known of the run at one moment."""

    run_id: str = ""
    state: str = "starting"
    keys: str
    is_bundle: bool = False
    is_queued: bool = False
    percent: int = -1
    working_since: float | None = None
    doing: str = ""
    landed: events.Landed | None = None
    landed_at: float = 0.0
    rate: float = 0.0
    line: str = ""
    moving: str = ""
    moved_percent: float = -1.0
    retrying: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    order: Mapping[str, float] = field(default_factory=dict)


class _Screen:
    """What is known of the run now, drawn anew by Rich whenever it likes.

    Events come one at a time, and each makes a new ``_Seen``; drawing looks at one of them. So nothing is locked: the
    thread that draws holds Rich's lock, for which whoever says something meanwhile waits.
    """

    def __init__(
        self,
        title: str,
        console: Console,
        keys: str,
        teller: _Teller | None = None,
        *,
        started: float | None = None,
        sent: float | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._title, self._console, self._teller = title, console, teller or _Teller()
        self._started = time.monotonic() if started is None else started
        self._seen = _Seen(keys=keys, working_since=sent)
        self._stopping = stopping
        self._kept: list[str] = []
        self._not_kept = 0

    def on_event(self, event: events.Event) -> None:
        seen = self._seen
        if seen.run_id and event.run_id != seen.run_id:
            seen = replace(seen, working_since=None)
        self._seen = self._after(replace(seen, run_id=event.run_id), event)

    def tell_what_was_cut(self) -> None:
        """Says whole, once the view is gone, what the endpoint said and the view had no room for."""
        for text in self._kept:
            self._console.say(text)
        if self._not_kept:
            self._console.say(f"... and {self._not_kept} more such messages; the session's log has them all")

    def _after(self, seen: _Seen, event: events.Event) -> _Seen:
        match event:
            case events.StateChanged():
                state = f"{event.state}" + (f" ({event.reason})" if event.reason else "")
                is_queued = seen.is_queued and not event.state.is_on_the_stamp
                seen = replace(
                    seen, is_queued=is_queued, state=state, percent=-1, moved_percent=-1.0, doing="", moving=""
                )
                is_bundle = event.state in {events.RunState.SEALING, events.RunState.DELIVERING}
                keys = _KEYS_FOR_THE_BUNDLE if is_bundle and seen.keys == KEYS else seen.keys
                return replace(seen, keys=keys, is_bundle=is_bundle)
            case events.RecordArrived():
                return self._after_record(seen, event.record)
            case events.Landed():
                return _after_landed(seen, event)
            case events.LineChanged():
                told = f"{event.state}: {event.detail}" if event.detail else str(event.state)
                return replace(seen, line="" if event.state == "up" else told)
            case events.Warned():
                return self._with_message(seen, "warning", event.text)
            case events.DeliveryProgress() | events.HashProgress():
                return self._after_move(seen, event)
            case events.Waiting():
                return replace(seen, moving=self._teller.line(event) or "", is_queued=seen.state in _BEFORE_THE_STAMP)

    def _after_move(self, seen: _Seen, event: events.DeliveryProgress | events.HashProgress) -> _Seen:
        done, total = event.bytes_done, event.bytes_total
        percent = min(100 * done / total, _MOST_PERCENT) if total else -1.0
        state, retrying = seen.state, ""
        if isinstance(event, events.DeliveryProgress):
            state = "delivering" if state == "starting" else state  # of a bundle: without a run
            retrying, event = event.detail, replace(event, detail="")
            if _is_complete(event):
                percent = 100.0
        moving = self._teller.line(event) or ""
        return replace(seen, state=state, moved_percent=percent, retrying=retrying, moving=moving)

    def _after_record(self, seen: _Seen, record: Record) -> _Seen:
        if record.progress is not None:
            if record.progress.completed:
                return seen
            since = time.monotonic() if seen.working_since is None else seen.working_since
            doing = record.progress.status or record.progress.activity
            return replace(seen, percent=record.progress.percent, doing=doing, working_since=since)
        if record.stream in {Stream.WARNING, Stream.ERROR}:
            self._keep(f"{record.stream} from the endpoint: {shortened(record.text)}")
            return self._with_message(seen, str(record.stream), record.text)
        return seen

    def _with_message(self, seen: _Seen, kind: str, text: str) -> _Seen:
        messages = (*seen.messages, (kind, self._clean(text)))[-_LAST_MESSAGES:]
        return replace(seen, messages=messages, counts={**seen.counts, kind: seen.counts.get(kind, 0) + 1})

    def _keep(self, text: str) -> None:
        if text in self._kept:
            return
        if len(self._kept) < _MOST_KEPT:
            self._kept.append(text)
        else:
            self._not_kept += 1

    def _clean(self, text: str) -> str:
        return shortened(printable(self._console.scrub.text(text)))

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        seen = self._seen
        stopping = self._stopping() and not seen.is_bundle
        state = f"{seen.state}, stopping" if stopping else seen.state
        elapsed = duration(time.monotonic() - self._started)
        yield Text(f"{self._title}  {state}  {elapsed}", style="bold", overflow="ellipsis", no_wrap=True)
        yield from self._draw_progress(seen, stopping=stopping)
        if seen.line:
            yield Text(f"line {seen.line}", style="yellow", overflow="ellipsis", no_wrap=True)
        if seen.moving:
            yield Text(self._clean(seen.moving))  # a narrow window wraps it: its end is the time left
        if seen.retrying:
            yield Text(self._clean(seen.retrying), style="yellow", overflow="ellipsis", no_wrap=True)
        yield from self._draw_roles(seen, (options.height or console.height) - _FRAME_ROWS)
        for kind, text in seen.messages:
            style = "red" if kind == "error" else "yellow"
            yield Text(f"{kind}: {text}", style=style, overflow="ellipsis", no_wrap=True)
        if told := self._teller.keys:
            yield Text(told, style="dim")
        yield Text(_keys(seen, stopping=stopping), style="dim")

    def _draw_progress(self, seen: _Seen, *, stopping: bool) -> Iterator[RenderableType]:
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        shown = seen.moved_percent if seen.moved_percent >= 0 else min(seen.percent, _MOST_PERCENT)
        if shown >= 0:
            yield Padding(ProgressBar(total=100, completed=shown), (0, 0))
        if seen.doing:
            told = f"the endpoint says: {seen.doing}" + (f" ({seen.percent} %)" if seen.percent >= 0 else "")
            told += "" if stopping else _time_left(seen)
            yield Text(self._clean(told), overflow="ellipsis", no_wrap=True)
        if seen.landed is not None:
            counts = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in seen.counts.items())
            told = f"landed: {seen.landed.files} files, {size(seen.landed.size_bytes)}, {size(int(seen.rate))}/s"
            yield Text(told + (f"  ({counts})" if counts else ""), overflow="ellipsis", no_wrap=True)

    def _draw_roles(self, seen: _Seen, rows: int) -> Iterator[RenderableType]:
        from rich.table import Table
        from rich.text import Text

        if seen.landed is None or rows < 1:
            return
        latest = sorted(seen.landed.roles, key=lambda role: seen.order.get(role, 0), reverse=True)
        table = Table("role", "zips", "bytes", box=None, pad_edge=False)
        for role in latest[:rows]:
            found = seen.landed.roles[role]
            table.add_row(Text(self._clean(role)), str(found.zips), size(found.size_bytes))
        yield table
        if len(latest) > rows:
            yield Text(f"... and {len(latest) - rows} more roles", style="dim")


def _keys(seen: _Seen, *, stopping: bool) -> str:
    """What Ctrl-C does now."""
    if seen.keys != KEYS:
        return seen.keys
    if stopping:
        return _KEYS_WHILE_STOPPING
    if seen.state == "detached":
        return _KEYS_WHILE_LEAVING
    return _KEYS_IN_THE_QUEUE if seen.is_queued else KEYS


def _after_landed(seen: _Seen, event: events.Landed) -> _Seen:
    now, rate, before = time.monotonic(), seen.rate, seen.landed
    if before is not None and now > seen.landed_at:
        pace = (event.size_bytes - before.size_bytes) / (now - seen.landed_at)
        rate = pace if rate == 0 else 0.7 * rate + 0.3 * pace
    changed = {role for role, value in event.roles.items() if before is None or before.roles.get(role) != value}
    order = {**seen.order, **dict.fromkeys(changed, now)}
    return replace(seen, landed=event, landed_at=now, rate=rate, order=order)


def _time_left(seen: _Seen) -> str:
    """By the endpoint's own percentage and the time it has worked, once that says something."""
    if seen.working_since is None or not _LEAST_PERCENT <= seen.percent < 100:
        return ""
    worked = time.monotonic() - seen.working_since
    return f", at this pace about {duration(worked * (100 - seen.percent) / seen.percent)} left"
