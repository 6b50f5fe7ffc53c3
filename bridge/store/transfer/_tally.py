"""Counts what a transfer has done, and says how fast it goes and how long it will take."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime

from bridge.store.transfer._events import FileFinished, FileResult, Progress, Retrying, TransferEvent, TransferResult

_SAMPLES = 30
_SAMPLE_EVERY_S = 1.0
_RECENT = 5
_RETRYING_SHOWN_S = 10.0
SILENT_S = 10.0
"""After so long without a byte nobody knows how long the rest will take."""


class Tally:
    """Counted by many threads, read by one."""

    def __init__(
        self, bytes_total: int | None, files_total: int | None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._bytes_total = bytes_total
        self._files_total = files_total
        self._started_at = monotonic()
        self._sent = self._confirmed = self._finished = self._files = self._retries = 0
        self._by_status = {"copied": 0, "resumed": 0, "skipped": 0, "repaired": 0}
        self._events: deque[TransferEvent] = deque()
        self._retrying: dict[str, float] = {}
        self._samples: deque[tuple[float, float]] = deque(maxlen=_SAMPLES)
        self._sampled_at = self._started_at
        self._sampled_bytes = 0
        self._moved = 0
        self._moved_at = self._started_at
        self._counts_from = (0, 0)
        self._is_known = False

    # -- counting -----------------------------------------------------------------------------------------------------

    def sent(self, size_bytes: int) -> None:
        with self._lock:
            self._sent += size_bytes
            if size_bytes:
                self._moved_at = self._monotonic()

    def confirmed(self, size_bytes: int, *, moved: bool = True) -> None:
        """The target has acknowledged bytes; ``moved`` tells those of this run from those it had already."""
        with self._lock:
            self._confirmed += size_bytes
            if moved and size_bytes:
                self._moved += size_bytes
                self._moved_at = self._monotonic()

    def unconfirmed(self, size_bytes: int) -> None:
        """Acknowledged bytes that turned out to be lost or wrong."""
        with self._lock:
            self._confirmed -= size_bytes

    def finished(self, results: list[FileResult]) -> None:
        with self._lock:
            for result in results:
                self._files += 1
                self._finished += result.size_bytes
                self._by_status[result.status] += 1
                self._events.append(FileFinished(result))
                self._retrying.pop(result.path, None)

    def tell(self, event: TransferEvent) -> None:
        with self._lock:
            self._events.append(event)
            if isinstance(event, Retrying):
                self._retries += 1
                self._retrying[event.path] = self._monotonic() + event.wait_s + _RETRYING_SHOWN_S

    # -- reading ------------------------------------------------------------------------------------------------------

    def take_events(self) -> list[TransferEvent]:
        with self._lock:
            taken = list(self._events)
            self._events.clear()
        return taken

    def sample(self, *, paused: bool = False) -> float | None:
        """Measures the rate of the last second; returns bytes per second when a new sample was taken.

        A pause says nothing of the line: it is left out. Of a rate that was not known yet, nothing is kept.
        """
        now = self._monotonic()
        with self._lock:
            if paused:
                self._sampled_at, self._sampled_bytes, self._moved_at = now, self._moved, now
                if not self._is_known:
                    self._samples.clear()
                    self._counts_from = self._sent, self._moved
                return None
            elapsed_s = now - self._sampled_at
            if elapsed_s < _SAMPLE_EVERY_S:
                return None
            rate = (self._moved - self._sampled_bytes) / elapsed_s
            self._samples.append((elapsed_s, rate))
            self._sampled_at, self._sampled_bytes = now, self._moved
            self._is_known = self._is_known or self._says_the_rate()
            self._retrying = {path: until for path, until in self._retrying.items() if until > now}
        return self.recent_rate()

    def _says_the_rate(self) -> bool:
        """Whether more is confirmed than is under way: before the answers to the first large pieces, what was
        confirmed, a few small files, says little of the line."""
        sent, moved = self._counts_from
        return 0 < self._moved - moved >= (self._sent - sent) / 2

    def recent_rate(self) -> float:
        """Bytes per second over the last few seconds."""
        recent = list(self._samples)[-_RECENT:]
        total_s = sum(elapsed_s for elapsed_s, _ in recent)
        return sum(elapsed_s * rate for elapsed_s, rate in recent) / total_s if total_s else 0.0

    def progress(self, connections: int, paused_until: datetime | None, *, complete: bool = False) -> Progress:
        with self._lock:
            left = None if self._bytes_total is None else max(0, self._bytes_total - self._confirmed)
            silent_s = self._monotonic() - self._moved_at
            is_known = self._is_known and silent_s < SILENT_S
            best, low, high = _time_left(left, [rate for _, rate in self._samples] if is_known else [])
            return Progress(
                bytes_total=self._bytes_total,
                bytes_sent=self._sent,
                bytes_confirmed=self._confirmed,
                bytes_there=max(0, self._confirmed - self._moved),
                bytes_finished=self._finished,
                files_total=self._files_total,
                files_finished=self._files,
                rate_bits_per_s=8 * self.recent_rate() if is_known else 0.0,
                time_left_s=0.0 if complete else best,
                time_left_low_s=0.0 if complete else low,
                time_left_high_s=0.0 if complete else high,
                silent_s=silent_s,
                connections=connections,
                paused_until=paused_until,
                retrying=tuple(sorted(self._retrying)[:8]),
                complete=complete,
            )

    def result(self) -> TransferResult:
        with self._lock:
            return TransferResult(
                files=self._files,
                size_bytes=self._finished,
                bytes_sent=self._sent,
                bytes_there=max(0, self._confirmed - self._moved),
                retries=self._retries,
                elapsed_s=self._monotonic() - self._started_at,
                **self._by_status,
            )


def _time_left(left: int | None, rates: list[float]) -> tuple[float | None, float | None, float | None]:
    """Seconds left: at the mean rate seen, and as short and as long as the fast and slow fifth of the samples say."""
    if not left or not rates or sum(rates) <= 0:  # all sent is not all confirmed: nobody knows how long that takes
        return None, None, None
    ordered = sorted(rates)
    mean = sum(ordered) / len(ordered)
    fast = ordered[min(len(ordered) - 1, len(ordered) * 4 // 5)]
    slow = ordered[len(ordered) // 5]
    # A mean of n samples wanders less than one sample does; a stall among them still widens the span.
    return left / mean, left / max(fast, mean), left / slow if slow > 0 else None
