"""Progress of bytes in words and bars: how much is done, how fast it goes now, and how long it will take."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from cli._console import Console
from cli._words import duration, size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_EVERY_S = 10.0
_SAMPLE_EVERY_S = 1.0
_SAMPLES = 30
_RECENT = 5
_TICK_S = 1.0


class Pace:
    """How fast bytes come by, and how long the rest takes at that pace."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._rates: deque[float] = deque(maxlen=_SAMPLES)
        self._last: tuple[float, int] | None = None

    def saw(self, done: int) -> None:
        """So many bytes are done now; what was done before the first look says nothing of the pace."""
        now = self._monotonic()
        at, before = self._last or (now, done)
        if now - at >= _SAMPLE_EVERY_S:
            self._rates.append((done - before) / (now - at))
            at, before = now, done
        self._last = at, before

    @property
    def rate(self) -> float | None:
        """Bytes a second over the last few looks, which are to be a second apart; ``None`` before it is known."""
        recent = list(self._rates)[-_RECENT:]
        return sum(recent) / len(recent) if recent else None

    def left(self, size_bytes: int) -> tuple[float | None, float | None, float | None]:
        """Seconds for so many more bytes: at the mean rate seen, and at the rate of its fast and its slow fifth."""
        ordered = sorted(self._rates)
        mean = sum(ordered) / len(ordered) if ordered else 0.0
        if size_bytes <= 0 or mean <= 0:
            return None, None, None
        fast, slow = ordered[len(ordered) * 4 // 5], ordered[len(ordered) // 5]
        return size_bytes / mean, size_bytes / max(fast, mean), size_bytes / slow if slow > 0 else None


def pace_words(rate: float | None, left: float | None, low: float | None, high: float | None) -> list[str]:
    """``2.5 MB/s now`` and ``about 2:05 left (1:50 to 4:10)``, as far as they are known."""
    words = []
    if rate is not None:
        words.append(f"{size(int(rate))}/s now")
    if left is not None:
        words.append(f"about {duration(left)} left{_spread(low, high)}")
    return words


def _spread(low: float | None, high: float | None) -> str:
    if low is None:
        return ""
    if high is None:
        return f" ({duration(low)} or more)"
    shortest, longest = duration(low), duration(high)
    return f" ({shortest} to {longest})" if shortest != longest else ""  # after one look there is none yet


class Bar(Protocol):
    """Something that shows how far the bytes are."""

    def update(self, done: int, total: int | None) -> None: ...


@contextmanager
def bytes_bar(console: Console, what: str) -> Iterator[Bar]:
    """A Rich bar where a person looks at a terminal, else plain lines every ten seconds."""
    if not console.is_terminal or console.as_json:
        with _ticking(_Lines(console, what)) as bar:
            yield bar
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with (
        Progress(BarColumn(), TextColumn("{task.description}"), console=console.rich(), transient=True) as progress,
        _ticking(_RichBar(progress, progress.add_task(what, total=None), what)) as bar,
    ):
        yield bar


@contextmanager
def _ticking(bar: Bar) -> Iterator[Bar]:
    """Shows the bar anew every second: whoever waits for a line that fell silent is told of no bytes."""
    ticking = _Ticking(bar)
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(_TICK_S):
            ticking.tick()

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield ticking
    finally:
        ended.set()
        thread.join()


class _Ticking:
    """A bar that remembers what it showed; for several threads."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._lock = bar, threading.Lock()
        self._shown: tuple[int, int | None] | None = None

    def update(self, done: int, total: int | None) -> None:
        with self._lock:
            self._shown = done, total
            self._bar.update(done, total)

    def tick(self) -> None:
        with self._lock:
            if self._shown is not None and self._shown[0] != self._shown[1]:
                self._bar.update(*self._shown)


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID, what: str) -> None:
        self._progress, self._task, self._what, self._pace = progress, task, what, Pace()

    def update(self, done: int, total: int | None) -> None:
        told = _told(self._what, self._pace, done, total)
        self._progress.update(self._task, completed=done, total=total, description=told)


class _Lines:
    def __init__(self, console: Console, what: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._console, self._what, self._monotonic = console, what, monotonic
        self._last, self._pace = monotonic(), Pace(monotonic)

    def update(self, done: int, total: int | None) -> None:
        told = _told(self._what, self._pace, done, total)
        if self._monotonic() - self._last >= _LINE_EVERY_S:
            self._last = self._monotonic()
            self._console.say(told)


def _told(what: str, pace: Pace, done: int, total: int | None) -> str:
    pace.saw(done)
    if not total:
        return f"{what}: {size(done)}"
    return ", ".join([f"{what}: {size(done)} of {size(total)}", *pace_words(pace.rate, *pace.left(total - done))])
