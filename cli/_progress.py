"""Progress of bytes in words and bars: how much is done, how fast it goes now, and how long it will take."""

from __future__ import annotations

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

    def rest(self) -> None:
        """What comes next, after a pause, is compared with nothing before it: a pause says nothing of the pace."""
        self._last = None

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
    """Something that shows how far the bytes are; it wants to be told now and then, also while none come.
    ``rest`` says why they are not meant to."""

    def update(self, done: int, total: int | None, rest: str = "") -> None: ...


@contextmanager
def bytes_bar(console: Console, what: str) -> Iterator[Bar]:
    """A Rich bar where a person looks at a terminal, else plain lines every ten seconds."""
    if not console.is_terminal or console.as_json:
        yield _Lines(console, what)
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(BarColumn(), TextColumn("{task.description}"), console=console.rich(), transient=True) as progress:
        yield _RichBar(progress, progress.add_task(what, total=None), what)


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID, what: str) -> None:
        self._progress, self._task, self._what, self._pace = progress, task, what, Pace()

    def update(self, done: int, total: int | None, rest: str = "") -> None:
        told = _told(self._what, self._pace, done, total, rest)
        self._progress.update(self._task, completed=done, total=total, description=told)


class _Lines:
    def __init__(self, console: Console, what: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._console, self._what, self._monotonic = console, what, monotonic
        self._last, self._pace, self._rest = monotonic(), Pace(monotonic), ""

    def update(self, done: int, total: int | None, rest: str = "") -> None:
        told = _told(self._what, self._pace, done, total, rest)
        is_due = not rest and self._monotonic() - self._last >= _LINE_EVERY_S
        if is_due or rest != self._rest:  # a rest of hours is said once
            self._last, self._rest = self._monotonic(), rest
            self._console.say(told)


def _told(what: str, pace: Pace, done: int, total: int | None, rest: str) -> str:
    if rest:
        pace.rest()
    else:
        pace.saw(done)
    if not total:
        return f"{what}: {size(done)}" + (f", {rest}" if rest else "")
    words = [rest] if rest else pace_words(pace.rate, *pace.left(total - done))
    return ", ".join([f"{what}: {size(done)} of {size(total)}", *words])
