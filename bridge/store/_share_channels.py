"""The connections of one share: those that nobody uses just now are kept for whoever is next."""

from __future__ import annotations

import threading
import time
import weakref

from bridge.store._rate import RateLimiter
from bridge.store._smb_channel import Channel, ChannelOptions

_IDLE_CHANNELS = 8
_TRUSTED_IDLE_S = 60.0  # a firewall may have forgotten what was silent for longer, and tells nobody


class Channels:
    """The connections of one store: those that nobody uses just now are kept."""

    def __init__(self, options: ChannelOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._idle: list[tuple[Channel, float]] = []  # and since when, by the monotonic clock
        self._busy: weakref.WeakSet[Channel] = weakref.WeakSet()
        self.is_closed = False
        self.interrupts = 0
        self.limiter = RateLimiter(threading.Event())
        """What paces the asking; without a rate it lets everything pass."""

    def idle(self) -> Channel | None:
        with self._lock:
            if not self._idle:
                return None
            channel, since = self._idle.pop()
            self._busy.add(channel)
        if time.monotonic() - since <= _TRUSTED_IDLE_S:
            return channel
        channel.abort()
        self.forget_idle()  # it was the one used last
        return None

    def forget_idle(self) -> None:
        """Cuts the connections that nobody uses, without a word to a server that may not hear it."""
        with self._lock:
            idle, self._idle = self._idle, []
        for channel, _ in idle:
            channel.abort()

    def new(self) -> Channel:
        channel = Channel(self._options)
        with self._lock:
            self._busy.add(channel)  # before it is connected: a server may fall silent in the middle of that
        channel.establish()
        return channel

    def interrupt(self) -> None:
        """Wakes every thread that waits for the server, and fails what it waits for."""
        with self._lock:
            self.interrupts += 1
            busy = list(self._busy)
        for channel in busy:
            channel.interrupt()
        self.forget_idle()  # whoever closes the store would wait for the server's good-bye

    def give_back(self, channel: Channel) -> None:
        with self._lock:
            self._busy.discard(channel)
        if channel.is_lost:
            return
        if channel.asked:
            channel.abort()  # somebody left in the middle; what is still to come is nobody's
            return
        with self._lock:
            if not self.is_closed and len(self._idle) < _IDLE_CHANNELS:
                self._idle.append((channel, time.monotonic()))
                return
        channel.log_off()

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
            idle, self._idle = self._idle, []
        for channel, since in idle:
            if time.monotonic() - since <= _TRUSTED_IDLE_S:
                channel.log_off()
            else:
                channel.abort()
