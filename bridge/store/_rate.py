"""A token bucket that holds a rate from its first byte, shared by all threads of a transfer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_BURST_S = 0.05  # what a late wake-up may catch up; a bucket that starts full would break the limit in its first second
_SLICE_S = 0.02
_SMALLEST_SLICE = 2048
_LARGEST_SLICE = 256 << 10
_ASK_S = 0.1
_SMALLEST_ASK = 32 << 10
_LOOK_S = 0.2  # how soon a waiting thread sees that the transfer is stopping


class RateLimiter:
    """Bytes may be spent at the rate of the moment; without a rate everything passes at once.

    A change of the rate counts for what is waiting already, not only for what comes after it.
    """

    def __init__(self, stopping: threading.Event, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stopping = stopping
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._bytes_per_s: float | None = None
        # How many bytes the line has been free for since it began, as of a moment; and how many of them are given away.
        self._free = 0.0
        self._free_as_of = 0.0
        self._given = 0.0

    @property
    def limited(self) -> bool:
        return self._bytes_per_s is not None

    @property
    def bytes_per_s(self) -> float | None:
        return self._bytes_per_s

    def set_rate(self, bits_per_s: int | None) -> None:
        rate = None if bits_per_s is None else bits_per_s / 8
        with self._changed:
            if rate == self._bytes_per_s:
                return
            now = self._monotonic()
            if self._bytes_per_s is None:
                self._given = self._free  # what passed without a limit is not paid for afterwards
            else:
                self._free += (now - self._free_as_of) * self._bytes_per_s
            self._free_as_of = now
            self._bytes_per_s = rate
            self._changed.notify_all()

    def slice_bytes(self) -> int:
        """How much to hand to the line at once, so that its bytes are spread evenly over time."""
        rate = self._bytes_per_s
        if rate is None:
            return _LARGEST_SLICE
        return int(min(max(rate * _SLICE_S, _SMALLEST_SLICE), _LARGEST_SLICE))

    def ask_bytes(self, most: int) -> int:
        """How much to ask the other side for at once: it comes as fast as the line bears."""
        rate = self._bytes_per_s
        return most if rate is None else int(min(max(rate * _ASK_S, _SMALLEST_ASK), most))

    def spend(self, size_bytes: int) -> None:
        """Waits until so many bytes may go out; returns early when the transfer is stopping."""
        if not self.limited:
            return
        with self._changed:
            rate = self._bytes_per_s
            if rate is None:
                return
            self._given = max(self._given, self._free_now(rate) - _BURST_S * rate) + size_bytes
            mine = self._given
            while (rate := self._bytes_per_s) is not None and not self._stopping.is_set():
                wait_s = (mine - self._free_now(rate)) / rate
                if wait_s <= 0:
                    return
                self._changed.wait(min(wait_s, _LOOK_S))

    def _free_now(self, rate: float) -> float:
        return self._free + (self._monotonic() - self._free_as_of) * rate
