"""Progress of bytes: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from cli._console import Console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_EVERY_S = 10.0


class Bar(Protocol):
    """Something that shows how far the bytes are."""

    def update(self, done: int, total: int | None) -> None: ...


@contextmanager
def bytes_bar(console: Console, what: str) -> Iterator[Bar]:
    """A Rich bar where a person looks at a terminal, else plain lines every ten seconds."""
    if not console.is_terminal or console.as_json:
        yield _Lines(console, what)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.rich(), transient=True) as progress:
        yield _RichBar(progress, progress.add_task(what, total=None))


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def update(self, done: int, total: int | None) -> None:
        self._progress.update(self._task, completed=done, total=total)


class _Lines:
    def __init__(self, console: Console, what: str) -> None:
        self._console, self._what, self._last = console, what, time.monotonic()

    def update(self, done: int, total: int | None) -> None:
        if time.monotonic() - self._last >= _LINE_EVERY_S:
            self._last = time.monotonic()
            self._console.say(
                f"{self._what}: {done:,} of {total:,} bytes" if total else f"{self._what}: {done:,} bytes"
            )
