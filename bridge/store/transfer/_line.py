"""The line as all threads share it: its rate, its quiet hours, how many connections it bears, when to give up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from bridge.errors import StoreUnreachableError
from bridge.store._rate import RateLimiter
from bridge.store.transfer._events import Paused, TransferEvent, Unpaused
from bridge.store.transfer._settings import TransferSettings

DEFAULT_CONNECTIONS = 4
MOST_CONNECTIONS = 8
_GROW_AFTER_S = 3.0
_POLICY_EVERY_S = 1.0
_PIECE_S = 8.0  # a piece in flight should not be longer: it is what a cut costs
_SLOW_S = 2 * _PIECE_S  # the smallest pieces take longer where too many connections share a slow line
SMALLEST_PIECE = 256 << 10
USUAL_PIECE = 4 << 20


class Stopped(Exception):  # noqa: N818 - not an error: the way out of a worker
    """The transfer is ending; the worker lets go of what it holds."""


class Line:
    """Decides who may send, how much at once, and how long to wait after a failure."""

    def __init__(
        self,
        settings: TransferSettings,
        tell: Callable[[TransferEvent], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._monotonic = monotonic
        self._jitter = jitter
        self.stopping = threading.Event()
        self.limiter = RateLimiter(self.stopping, monotonic)
        """Of what is sent."""
        self.arriving = RateLimiter(self.stopping, monotonic)
        """Of what is asked for, where the source comes over a line too."""
        self._lock = threading.Lock()
        self._turns = threading.Condition()
        self._active = 0
        self._most = settings.connections or MOST_CONNECTIONS
        self._allowed = min(settings.connections or DEFAULT_CONNECTIONS, self._most)
        self._paused = False
        self._paused_until: datetime | None = None
        self._policy_read_at = float("-inf")
        self._failing_since: float | None = None
        self._ever_answered = False
        self._changed_at = monotonic()
        self._seen_rate: float | None = None
        self._largest_piece = settings.block_size_bytes or USUAL_PIECE
        self.refresh()

    # -- rate and quiet hours -----------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Reads the policy again; called about once a second by the thread that leads the transfer."""
        now = self._monotonic()
        if now - self._policy_read_at < _POLICY_EVERY_S:
            return
        self._policy_read_at = now
        policy = self._settings.current_policy()
        self.limiter.set_rate(policy.limit_rate_bits_per_s)
        self.arriving.set_rate(policy.limit_rate_bits_per_s)
        quiet = policy.quiet_hours
        until = quiet.until(self._settings.now()) if quiet else None
        paused = policy.paused or until is not None
        if paused and (not self._paused or until != self._paused_until):
            self._tell(Paused(until))
        elif self._paused and not paused:
            with self._lock:
                self._failing_since = None  # a night of silence is no failure
            self._tell(Unpaused())
        self._paused, self._paused_until = paused, until

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def paused_until(self) -> datetime | None:
        return self._paused_until

    # -- how many, how much -------------------------------------------------------------------------------------------

    @property
    def most_connections(self) -> int:
        return self._most

    @property
    def connections(self) -> int:
        return self._allowed

    def take_turn(self) -> None:
        """Waits until this thread may use the line: not while it is paused, and only so many at once as the line bears.

        Raises:
            Stopped: the transfer is ending.
        """
        with self._turns:
            while not self.stopping.is_set():
                if not self._paused and self._active < self._allowed:
                    self._active += 1
                    return
                self._turns.wait(0.2)
        raise Stopped

    def give_turn(self) -> None:
        with self._turns:
            self._active -= 1
            self._turns.notify()

    @contextmanager
    def turn(self) -> Iterator[None]:
        self.take_turn()
        try:
            yield
        finally:
            self.give_turn()

    def saw_rate(self, bytes_per_s: float) -> None:
        """What the line has carried lately, all connections together."""
        self._seen_rate = bytes_per_s

    def piece_bytes(self) -> int:
        """How much one request should carry: what the line takes in some seconds, within the pool's buffers."""
        rates = [rate for rate in (self.limiter.bytes_per_s, self._seen_rate) if rate]
        if self._settings.block_size_bytes is not None or not rates:
            return self._largest_piece
        share = min(rates) * _PIECE_S / max(1, self._allowed)
        return int(min(max(share, SMALLEST_PIECE), self._largest_piece)) & ~0xFFF

    def refuses(self, size_bytes: int) -> bool:
        """A request of this size was refused for its size: the next ones are smaller. Tells whether that is news."""
        with self._lock:
            before = self._largest_piece
            while self._largest_piece >= size_bytes:
                self._largest_piece //= 2
            return self._largest_piece < before

    # -- what works and what fails ------------------------------------------------------------------------------------

    def confirmed(self, took_s: float | None = None) -> None:
        """The target has acknowledged something; content came ``took_s`` after its first byte went out.

        A line that slows makes the pieces smaller first (``piece_bytes``), then the connections fewer: many that crawl
        would run into time-outs, each of which costs what it had in flight. One more is tried only where there is room.
        """
        now = self._monotonic()
        with self._lock:
            self._failing_since = None
            self._ever_answered = True
            if took_s is None:
                return
            since_change_s = now - self._changed_at
            if took_s > _SLOW_S:
                # What was under way at the last change says nothing of it; a number that was set is kept.
                if since_change_s >= took_s and self._settings.connections is None:
                    self._halve(now)
            elif took_s <= _PIECE_S and since_change_s > _GROW_AFTER_S * self._allowed and self._allowed < self._most:
                self._allowed += 1
                self._changed_at = now

    def _halve(self, now: float) -> None:
        if self._allowed > 1:
            self._allowed //= 2
            self._changed_at = now

    def answered(self) -> None:
        """The target has said something, be it no."""
        with self._lock:
            self._ever_answered = True

    def failed(self, error: Exception, attempt: int, retry_after_s: float | None = None) -> float:
        """Takes note of a failure that may pass; returns how long to wait.

        Raises:
            StoreUnreachableError: nothing has got through for so long that the transfer gives up.
        """
        now = self._monotonic()
        settings = self._settings
        with self._lock:
            if self._failing_since is None:
                self._failing_since = now
            silent_s = now - self._failing_since
            patience_s = settings.give_up_after_s
            if not self._ever_answered:
                patience_s = min(patience_s, settings.connect_give_up_after_s)
            # Several connections that drop together are one event, not several halvings.
            if now - self._changed_at > 0.5:
                self._halve(now)
        if silent_s > patience_s:
            raise StoreUnreachableError(
                store=error.fields.get("store", "") if hasattr(error, "fields") else "",
                detail=f"nothing has got through for {silent_s:.0f} s; last: {error}",
            ) from error
        back_off_s = min(settings.first_back_off_s * 2.0 ** min(attempt - 1, 16), settings.longest_back_off_s)
        back_off_s *= 0.5 + self._jitter() / 2
        return max(back_off_s, retry_after_s or 0.0)

    def wait(self, seconds: float) -> None:
        """Waits with the turn given back, so that others may use the line meanwhile.

        Raises:
            Stopped: the transfer is ending.
        """
        self.give_turn()
        try:
            self.stopping.wait(seconds)
        finally:
            self._take_back()

    def _take_back(self) -> None:
        try:
            self.take_turn()
        except Stopped:
            with self._turns:
                self._active += 1  # the turn's own end gives it back
            raise

    def pause_if_quiet(self) -> None:
        """For work that takes long in one turn.

        Raises:
            Stopped: the transfer is ending.
        """
        if self.stopping.is_set():
            raise Stopped
        if self._paused:
            self.wait(0)
