"""A stamp's week without a stamp: alerts come and go, time passes, and the core of the watch decides."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bridge.watch import (
    Alert,
    Collect,
    Ended,
    Kind,
    Observation,
    Policy,
    Resume,
    WatchState,
    begin,
    decide,
    finish,
    observe,
    observe_nothing,
)

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
NODE = "FRP.Heartbeat.PhysicalNode"
VM = "FRP.Heartbeat.InfraVM"
DISK = "Microsoft.Health.FaultType.PhysicalDisk.LostCommunication"
CERTIFICATE = "CertificateExpiration.ExternalCert.Warning"
UNLISTED = "ServiceFabricClusterUnhealthy"
WEEK = timedelta(days=7)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LOOK = timedelta(minutes=5)


@dataclass(frozen=True)
class Open:
    """An alert that is there from one moment to another (hours after Monday's beginning)."""

    fault: str
    from_h: float
    until_h: float
    id: str = ""
    severity: str = "Critical"
    raised_h: float | None = None

    @property
    def key(self) -> str:
        return self.id or f"{self.fault}@{self.from_h}"

    def is_there(self, at: datetime) -> bool:
        return hours(self.from_h) <= at < hours(self.until_h)

    def alert(self) -> Alert:
        return Alert(
            self.key,
            self.fault,
            self.fault,
            self.severity,
            hours(self.from_h if self.raised_h is None else self.raised_h),
        )


@dataclass(frozen=True)
class Started:
    """A collection that the week brought."""

    at: datetime
    kind: Kind
    alerts: tuple[str, ...]
    since: datetime
    until: datetime


@dataclass
class Week:
    """Looks every five minutes; a collection takes ``takes``, during which nobody looks.

    ``blind`` tells when health cannot be had, ``restarts`` at which looks the process is a new one (its state went
    through JSON), ``fate`` how the n-th collection ends.
    """

    policy: Policy
    alerts: Sequence[Open]
    takes: timedelta = timedelta(minutes=20)
    blind: Callable[[datetime], bool] = lambda _at: False
    restarts: Collection[int] | None = None
    fate: Callable[[int], Ended] = lambda _number: Ended.COLLECTED
    length: timedelta = WEEK
    started: list[Started] = field(default_factory=list)
    resumed: int = 0

    def run(self) -> list[Started]:
        state, now, look = WatchState(), MONDAY, 0
        while now < MONDAY + self.length:
            state = self._restart(state, look)
            decision = decide(state, self.policy, now)
            if isinstance(decision, Resume):
                self.resumed += 1
                state = finish(state, self.policy, Ended.COLLECTED, now)
            state = self._look(state, now)
            decision = decide(state, self.policy, now)
            if isinstance(decision, Collect):
                self.started.append(Started(now, decision.kind, decision.alerts, decision.since, decision.until))
                state = self._restart(begin(state, decision, now), look)
                now += self.takes
                state = self._restart(finish(state, self.policy, self.fate(len(self.started)), now), look)
            else:
                now += LOOK
            look += 1
        return self.started

    def _look(self, state: WatchState, now: datetime) -> WatchState:
        if self.blind(now):
            return observe_nothing(state, now)
        there = tuple(each.alert() for each in self.alerts if each.is_there(now))
        return observe(state, self.policy, Observation(now, there, "arm"))

    def _restart(self, state: WatchState, look: int) -> WatchState:
        if self.restarts is None or look not in self.restarts:
            return state
        return WatchState.from_json(json.loads(json.dumps(state.to_json())))


def hours(number: float) -> datetime:
    return MONDAY + timedelta(hours=number)


def clock(text: str) -> datetime:
    """``Tue 14:35`` of the week."""
    day, _, time = text.partition(" ")
    hour, minute = map(int, time.split(":"))
    return MONDAY + timedelta(days=DAYS.index(day), hours=hour, minutes=minute)
