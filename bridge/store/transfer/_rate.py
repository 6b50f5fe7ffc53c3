"""A token bucket that holds a rate from its first byte, shared by all threads of a transfer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_BURST_S = 0.05  # what a late wake-up may catch up; a bucket that starts full would break the limit in its first second
_SLICE_S = 0.02
_SMALLEST_SLICE = 2048
_LARGEST_SLICE = 256 << 10


class RateLimiter:
    """Bytes may be spent at the rate of the moment; without a rate everything passes at once."""

    def __init__(self, stopping: threading.Event, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stopping = stopping
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._bytes_per_s: float | None = None
        self._free_at = 0.0

    @property
    def limited(self) -> bool:
        return self._bytes_per_s is not None

    @property
    def bytes_per_s(self) -> float | None:
        return self._bytes_per_s

    def set_rate(self, bits_per_s: int | None) -> None:
        with self._lock:
            self._bytes_per_s = None if bits_per_s is None else bits_per_s / 8

    def slice_bytes(self) -> int:
        """How much to hand to the line at once, so that its bytes are spread evenly over time."""
        rate = self._bytes_per_s
        if rate is None:
            return _LARGEST_SLICE
        return int(min(max(rate * _SLICE_S, _SMALLEST_SLICE), _LARGEST_SLICE))

    def spend(self, size_bytes: int) -> None:
        """Waits until so many bytes may go out; returns early when the transfer is stopping."""
        with self._lock:
            rate = self._bytes_per_s
            if rate is None:
                return
            now = self._monotonic()
            start = max(self._free_at, now - _BURST_S)
            self._free_at = start + size_bytes / rate
            wait_s = self._free_at - now
        if wait_s > 0:
            self._stopping.wait(wait_s)
