"""The time on the stamp: what all jump boxes have in common, whatever their own clocks show."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta

_ASK_AGAIN_S = 60.0
_JUMP = timedelta(minutes=1)


class StampTime:
    """Asks the machines of an endpoint for their time, which they tell without a password, and goes on counting from
    there. It is asked anew where this machine's clock was set, or the machine slept."""

    def __init__(self, ask: Callable[[], datetime | None], now: Callable[[], datetime]) -> None:
        self._ask = ask
        self._own = now
        self._known: tuple[datetime, datetime, float] | None = None
        self._asked_at = -math.inf

    def now(self) -> datetime | None:
        """``None`` where no machine tells it; then they are asked again after a minute at the earliest."""
        if (self._known is None or self._has_jumped()) and time.monotonic() - self._asked_at >= _ASK_AGAIN_S:
            told = self._ask()
            self._asked_at = time.monotonic()
            if told is not None:
                self._known = (told, self._own(), time.monotonic())
        if self._known is None:
            return None
        told, _, at = self._known
        return told + timedelta(seconds=time.monotonic() - at)

    def ahead(self) -> timedelta | None:
        """By how much the stamp's clock is ahead of this machine's."""
        now = self.now()
        return now - self._own() if now is not None else None

    def _has_jumped(self) -> bool:
        if self._known is None:
            return False
        _, own, at = self._known
        return abs(self._own() - own - timedelta(seconds=time.monotonic() - at)) > _JUMP
