"""How politely a line is used: the options for it, and the latest word of options, configuration and keys."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import RLock
from typing import TYPE_CHECKING

from bridge.errors import BridgeError
from cli._progress import Pace
from cli._words import bit_rate

if TYPE_CHECKING:
    from bridge.collection import Event
    from bridge.settings import TransferPreferences
    from bridge.store.transfer import LinePolicy, QuietHours, TransferSettings
    from cli._console import Globals

_SLOWEST_BITS_PER_S = 64_000


@dataclass(frozen=True, slots=True)
class LineWishes:
    """What the options say of the line."""

    limit_rate: str | None = None
    quiet_hours: str | None = None
    connections: int | None = None


class LineUse:
    """What the line may be used for now. The later word counts, and is told: an option holds until the value in the
    configuration is changed, or until somebody at the keys wants something else."""

    def __init__(
        self, options: Globals, wishes: LineWishes = LineWishes(), *, say: Callable[[str], None] | None = None
    ) -> None:
        """
        Raises:
            ConfigurationError: the configuration cannot be read.
            UsageError: a rate or a span of hours cannot be read.
        """
        self._options = options
        self._say = say or logging.getLogger(__name__).warning
        self._lock = RLock()
        self._told: str | None = None
        self._asked = self._answered = 0
        self._moving_bytes_per_s: float | None = None
        self._reading = Pace()
        self._paused = False
        self._goes_over: datetime | None = None
        self.has_keys = False
        """Whether somebody can press ``keys``."""
        self._seen = options.load().settings.transfer
        self._rate = _rate(self._seen.limit_rate)  # a mistake that is there already is told before anything starts
        self._quiet = _quiet(self._seen.quiet_hours)
        if wishes.limit_rate:
            self._rate = _rate(wishes.limit_rate)
        if wishes.quiet_hours:
            self._quiet = _quiet(wishes.quiet_hours)
        self._connections = wishes.connections or self._seen.connections

    def settings(self) -> TransferSettings:
        """The settings of a transfer that asks here, about once a second, what it may do."""
        from bridge.store.transfer import TransferSettings

        return TransferSettings(connections=self._connections, policy=self)

    def __call__(self) -> LinePolicy:
        from bridge.store.transfer import LinePolicy

        with self._lock:
            asked = self._asked
            try:
                self._read_configuration(is_asked=asked != self._answered)
                self._told = None
            except BridgeError as error:
                if self._told != str(error) or asked != self._answered:
                    self._told = str(error)
                    self._say(f"rate and quiet hours stay as they were: {error}")
            self._answered = asked
            quiet = None if self._is_gone_over(self._quiet_until) else self._quiet
            return LinePolicy(limit_rate_bits_per_s=self._rate, quiet_hours=quiet, paused=self._paused)

    def read_again(self) -> None:
        """What the configuration says counts from the next look on, whatever was said before. Safe in a signal handler:
        nothing is done here."""
        self._asked += 1

    def on_event(self, event: Event) -> None:
        """Learns from a run's events whether something is under way, and how fast."""
        from bridge.collection import DeliveryProgress, HashProgress, StateChanged

        if isinstance(event, DeliveryProgress):
            is_done = event.seconds_left == 0
            self._moving_bytes_per_s = None if is_done else event.rate_bytes_per_s
        elif isinstance(event, HashProgress) and event.over_line:
            self.reads(event.bytes_done, event.bytes_total)
        elif isinstance(event, StateChanged):
            self._moving_bytes_per_s = None

    def reads(self, bytes_done: int, bytes_total: int) -> None:
        """Learns how far something is that is read over the line."""
        self._reading.saw(bytes_done)
        self._moving_bytes_per_s = None if bytes_done >= bytes_total else self._reading.rate or 0.0

    @property
    def keys(self) -> Mapping[str, Callable[[], None]]:
        """What each key does; none of them does anything while nothing is under way."""
        actions = {"p": self._pause, "-": self._slower, "+": self._faster, "r": self.read_again}
        return {key: self._while_moving(action) for key, action in actions.items()}

    @property
    def rest(self) -> str:
        """Why nothing is sent now; empty where that is not meant."""
        if self._paused:
            return "paused"
        until = self._quiet_until
        return f"quiet hours until {until:%H:%M}" if until and not self._is_gone_over(until) else ""

    @property
    def _quiet_until(self) -> datetime | None:
        """When the quiet hours of now end."""
        return self._quiet.until(datetime.now().astimezone()) if self._quiet else None

    def _is_gone_over(self, until: datetime | None) -> bool:
        """Whether somebody at the keys goes on in spite of these quiet hours."""
        return until is not None and until == self._goes_over

    @property
    def words(self) -> str:
        """The limit and the keys, for the last line of a live view; empty while nothing is under way."""
        if self._moving_bytes_per_s is None or not self.has_keys:
            return ""
        if self.rest:
            return f"keys: p {'go on' if self._paused else 'go on now'}, r read the configuration"
        limit = "no limit" if self._rate is None else f"limit {bit_rate(self._rate)}"
        return f"{limit}; keys: p pause, - slower, + faster, r read the configuration"

    def _read_configuration(self, *, is_asked: bool) -> None:
        wanted: TransferPreferences = self._options.load().settings.transfer
        rate, quiet = _rate(wanted.limit_rate), _quiet(wanted.quiet_hours)
        before, self._seen = self._seen, wanted
        has_new_rate = wanted.limit_rate != before.limit_rate or (is_asked and rate is not None)
        has_new_quiet = wanted.quiet_hours != before.quiet_hours or (is_asked and quiet is not None)
        if has_new_rate:
            self._rate = rate
        if has_new_quiet:
            self._quiet = quiet
        if has_new_rate or has_new_quiet or is_asked:
            self._say(f"the configuration was read again: {self._now()}")

    def _now(self) -> str:
        rate = "no limit of the rate" if self._rate is None else f"at most {bit_rate(self._rate)}"
        quiet = "no quiet hours" if self._quiet is None else f"quiet {self._quiet.start:%H:%M}-{self._quiet.end:%H:%M}"
        return f"{rate}, {quiet}"

    def _while_moving(self, act: Callable[[], None]) -> Callable[[], None]:
        def acting() -> None:
            with self._lock:
                if self._moving_bytes_per_s is not None:
                    act()

        return acting

    def _pause(self) -> None:
        if not self._paused and self.rest:
            self._goes_over = self._quiet_until
            self._say("going on in spite of the quiet hours")
            return
        self._paused = not self._paused
        self._say("paused; p goes on" if self._paused else "going on")

    def _slower(self) -> None:
        basis = self._rate or 8 * (self._moving_bytes_per_s or 0.0)
        if basis > 0:
            self._rate = max(round(basis / 2), _SLOWEST_BITS_PER_S)
            self._say(f"at most {bit_rate(self._rate)} from now on")

    def _faster(self) -> None:
        if self._rate is not None:
            self._rate *= 2
            self._say(f"at most {bit_rate(self._rate)} from now on")


def _rate(text: str | None) -> int | None:
    from bridge.store.transfer import parse_rate

    return parse_rate(text) if text else None


def _quiet(text: str | None) -> QuietHours | None:
    from bridge.store.transfer import QuietHours

    return QuietHours.parse(text) if text else None
