"""When to collect: a pure function of what was observed and what the clock says, so that a week can be tested exactly.

Nothing here reads a clock, a file or a line. ``WatchState`` is all that is remembered; every function gives a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from bridge.watch._alerts import Alert, AlertSelection

STATE_VERSION = 1
DAY = timedelta(days=1)
_LONGEST_RETRY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator decides once.

    Args:
        selection: which alerts count.
        persist: how long an alert must be there before logs are collected (the vendor's articles: about 30 minutes).
        cool_down: how long after a collection for an alert none is made for another one.
        daily_budget: the most collections for alerts that are begun in any 24 hours (an unhealthy stamp of the vendor:
            usually one a day, at times two or three).
        window: how much of the past a collection for an alert asks for.
        offload: the period of the rolling offload (the vendor advises every 8 to 12 hours), or ``None`` for none.
        retry: the pause after a collection that failed; it doubles with each further failure, up to an hour.
    """

    selection: AlertSelection = field(default_factory=AlertSelection)
    persist: timedelta = timedelta(minutes=30)
    cool_down: timedelta = timedelta(hours=4)
    daily_budget: int = 3
    window: timedelta = timedelta(hours=4)
    offload: timedelta | None = None
    retry: timedelta = timedelta(minutes=5)


class Kind(StrEnum):
    """Why logs are collected."""

    ALERT = "alert"
    OFFLOAD = "offload"


@dataclass(frozen=True, slots=True)
class Observation:
    """The alerts that were active at a moment, and who told."""

    at: datetime
    alerts: tuple[Alert, ...]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Tracked:
    """An alert that counts, and since when it has been there without a gap. ``handled``: logs were collected for it."""

    key: str
    fault_type_id: str
    words: str
    since: datetime
    handled: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """A collection that was decided on; it stands in the state before it is started and until its end is known."""

    kind: Kind
    at: datetime
    since: datetime
    until: datetime
    alerts: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class WatchState:
    """All that is remembered from one look to the next, and over restarts.

    ``observed`` is when health was last known and ``blind`` whether the look after that failed. ``starts`` are the
    collections for alerts of the last 24 hours, ``cooling_since`` the end of the last one. ``offloaded_until`` is the
    end of the last offload's window. ``failures`` counts those in a row.
    """

    tracked: tuple[Tracked, ...] = ()
    observed: datetime | None = None
    source: str = ""
    blind: bool = False
    starts: tuple[datetime, ...] = ()
    cooling_since: datetime | None = None
    offloaded_until: datetime | None = None
    failures: int = 0
    retry_at: datetime | None = None
    begun: Begun | None = None

    def to_json(self) -> dict[str, Any]:
        """The state as it is written down."""
        return {
            "schema_version": STATE_VERSION,
            "tracked": [
                {
                    "key": each.key,
                    "fault_type_id": each.fault_type_id,
                    "words": each.words,
                    "since": _text(each.since),
                    "handled": each.handled,
                }
                for each in self.tracked
            ],
            "observed": _text(self.observed),
            "source": self.source,
            "blind": self.blind,
            "starts": [_text(each) for each in self.starts],
            "cooling_since": _text(self.cooling_since),
            "offloaded_until": _text(self.offloaded_until),
            "failures": self.failures,
            "retry_at": _text(self.retry_at),
            "begun": _begun_to_json(self.begun) if self.begun else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> WatchState:
        """Reads what ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        if document["schema_version"] != STATE_VERSION:
            raise ValueError(f"schema version {document['schema_version']}")
        begun = document["begun"]
        return cls(
            tracked=tuple(
                Tracked(
                    str(each["key"]),
                    str(each["fault_type_id"]),
                    str(each["words"]),
                    _moment(each["since"]),
                    bool(each["handled"]),
                )
                for each in document["tracked"]
            ),
            observed=_perhaps(document["observed"]),
            source=str(document["source"]),
            blind=bool(document["blind"]),
            starts=tuple(map(_moment, document["starts"])),
            cooling_since=_perhaps(document["cooling_since"]),
            offloaded_until=_perhaps(document["offloaded_until"]),
            failures=int(document["failures"]),
            retry_at=_perhaps(document["retry_at"]),
            begun=Begun(
                kind=Kind(begun["kind"]),
                at=_moment(begun["at"]),
                since=_moment(begun["since"]),
                until=_moment(begun["until"]),
                alerts=tuple(map(str, begun["alerts"])),
                reason=str(begun["reason"]),
            )
            if begun
            else None,
        )


@dataclass(frozen=True, slots=True)
class Collect:
    """Collect now, this window, for this reason. ``alerts`` are the keys of the alerts that it answers."""

    kind: Kind
    since: datetime
    until: datetime
    alerts: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """A collection was begun and its end is not known: find out before anything else."""

    begun: Begun


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do; ``until`` is when that may change by itself, and ``reason`` says what holds a collection back."""

    reason: str
    until: datetime | None = None


Decision = Collect | Resume | Wait


class Ended(StrEnum):
    """How a collection that was begun has ended."""

    COLLECTED = "collected"
    """There is a bundle, whole or partial."""
    FAILED = "failed"
    """There is none, although the stamp has worked for it: it counts against the budget."""
    NOT_STARTED = "not started"
    """The stamp was busy, could not be reached, or a check before the start failed."""
    GOES_ON = "goes on"
    """It was left working at the endpoint."""


def observe(state: WatchState, policy: Policy, seen: Observation) -> WatchState:
    """What is known after a look at the stamp's health.

    An alert counts from the time it was raised, where that lies between the last look and this one (or this is the
    first look), else from now: one that was away and is back starts anew, so flapping does not add up.
    """
    state = _without_future(state, seen.at)
    known = {each.key: each for each in state.tracked}
    if seen.source != state.source:  # another source may give the same alert another id
        present = {alert.key for alert in seen.alerts}
        by_type = {each.fault_type_id: each for each in state.tracked if each.fault_type_id and each.key not in present}
    else:
        by_type = {}
    tracked = []
    for alert in {alert.key: alert for alert in seen.alerts if policy.selection.selects(alert)}.values():
        old = known.get(alert.key) or by_type.pop(alert.fault_type_id, None)
        since = old.since if old else _raised_at(alert, state.observed, seen.at)
        handled = old.handled if old else False
        tracked.append(Tracked(alert.key, alert.fault_type_id, alert.words, since, handled))
    return replace(state, tracked=tuple(tracked), observed=seen.at, source=seen.source, blind=False)


def observe_nothing(state: WatchState, at: datetime) -> WatchState:
    """Health could not be had: what is known stays as it is, and no alert is acted upon until it is seen again."""
    return replace(_without_future(state, at), blind=True)


def decide(state: WatchState, policy: Policy, now: datetime) -> Decision:
    """What to do now."""
    state = _without_future(state, now)
    if state.begun is not None:
        return Resume(state.begun)
    if state.retry_at is not None and now < state.retry_at <= now + _longest_pause(policy):
        return Wait(f"a collection failed ({state.failures} in a row); it is tried again", state.retry_at)
    held = _for_alerts(state, policy, now)
    if isinstance(held, Collect):
        return held
    offload = _offload(state, policy, now)
    if isinstance(offload, Collect):
        return offload
    times = [wait.until for wait in (held, offload) if wait and wait.until]
    return Wait(held.reason, min(times, default=None))


def begin(state: WatchState, decision: Collect, at: datetime) -> WatchState:
    """To be written down before the collection is started."""
    begun = Begun(decision.kind, at, decision.since, decision.until, decision.alerts, decision.reason)
    return replace(state, begun=begun)


def finish(state: WatchState, policy: Policy, ended: Ended, at: datetime) -> WatchState:
    """What is known after the collection that was begun.

    Raises:
        ValueError: none was.
    """
    begun = state.begun
    if begun is None:
        raise ValueError("no collection was begun")
    if ended is Ended.GOES_ON:
        return state
    counts = begun.kind is Kind.ALERT and ended in {Ended.COLLECTED, Ended.FAILED}
    starts = tuple(start for start in state.starts if at - start < DAY) + ((begun.at,) if counts else ())
    state = replace(state, begun=None, starts=starts)
    if ended is not Ended.COLLECTED:
        failures = state.failures + 1
        pause = min(policy.retry * 2 ** min(failures - 1, 10), _longest_pause(policy))
        return replace(state, failures=failures, retry_at=at + pause)
    state = replace(state, failures=0, retry_at=None)
    if begun.kind is Kind.OFFLOAD:
        return replace(state, offloaded_until=begun.until)
    tracked = tuple(replace(each, handled=each.handled or each.key in begun.alerts) for each in state.tracked)
    return replace(state, tracked=tracked, cooling_since=at)


def _longest_pause(policy: Policy) -> timedelta:
    return max(policy.retry, _LONGEST_RETRY)


def _for_alerts(state: WatchState, policy: Policy, now: datetime) -> Collect | Wait:
    open_alerts = [each for each in state.tracked if not each.handled]
    if state.blind or state.observed is None:
        return Wait("the stamp's health could not be had")
    if not open_alerts:
        return Wait("no alert on the list is active" if not state.tracked else "logs were collected for each alert")
    due = [each for each in open_alerts if state.observed - each.since >= policy.persist]
    if not due:
        first = min(each.since for each in open_alerts) + policy.persist
        return Wait(f"{len(open_alerts)} alert(s) on the list; not there for {_span(policy.persist)} yet", first)
    if state.cooling_since is not None and now < state.cooling_since + policy.cool_down:
        return Wait(f"{len(due)} alert(s) persist; cooling down", state.cooling_since + policy.cool_down)
    recent = sorted(start for start in state.starts if now - start < DAY)
    if len(recent) >= policy.daily_budget:
        until = recent[-policy.daily_budget] + DAY if policy.daily_budget else None
        return Wait(f"{len(due)} alert(s) persist; the budget of {policy.daily_budget} a day is used up", until)
    reason = "; ".join(f"{each.words} since {_text(each.since)}" for each in due)
    return Collect(Kind.ALERT, now - policy.window, now, tuple(each.key for each in due), reason)


def _offload(state: WatchState, policy: Policy, now: datetime) -> Collect | Wait | None:
    """The next piece of the rolling offload: from the end of the last one, but never more than two periods."""
    if policy.offload is None:
        return None
    last = state.offloaded_until
    if last is not None and now - last < policy.offload:
        return Wait("the next offload is not due", last + policy.offload)
    since = last if last is not None and now - last <= 2 * policy.offload else now - policy.offload
    return Collect(Kind.OFFLOAD, since, now, (), f"the rolling offload of every {_span(policy.offload)}")


def _raised_at(alert: Alert, looked_before: datetime | None, now: datetime) -> datetime:
    if alert.created is None or alert.created > now:
        return now
    return alert.created if looked_before is None or alert.created >= looked_before else now


def _without_future(state: WatchState, now: datetime) -> WatchState:
    """A clock that was set back must not hold everything up until the time comes round again."""

    def past(moment: datetime | None) -> datetime | None:
        return min(moment, now) if moment else moment

    moments = (state.observed, state.cooling_since, state.offloaded_until, *state.starts)
    if not any(moment and moment > now for moment in (*moments, *(each.since for each in state.tracked))):
        return state
    return replace(
        state,
        tracked=tuple(replace(each, since=min(each.since, now)) for each in state.tracked),
        observed=past(state.observed),
        starts=tuple(min(start, now) for start in state.starts),
        cooling_since=past(state.cooling_since),
        offloaded_until=past(state.offloaded_until),
    )


def _begun_to_json(begun: Begun) -> dict[str, Any]:
    return {
        "kind": str(begun.kind),
        "at": _text(begun.at),
        "since": _text(begun.since),
        "until": _text(begun.until),
        "alerts": list(begun.alerts),
        "reason": begun.reason,
    }


def _text(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


def _perhaps(text: str | None) -> datetime | None:
    return None if text is None else _moment(text)


def _span(length: timedelta) -> str:
    """``8 h``, ``30 min``, ``5 s``."""
    for unit, word in ((3600, "h"), (60, "min")):
        if length.total_seconds() >= unit and length.total_seconds() % unit == 0:
            return f"{length.total_seconds() / unit:.0f} {word}"
    return f"{length.total_seconds():g} s"
