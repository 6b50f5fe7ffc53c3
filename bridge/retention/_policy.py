"""Which bundles are over the limits, and which of those may go: a pure function of what a place holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bridge.errors import UsageError
from bridge.settings import RetentionPreferences
from bridge.spans import parse_size, parse_span


@dataclass(frozen=True, slots=True)
class Held:
    """A sealed bundle in a place.

    ``size_bytes`` and ``files`` count everything below it, its own documents too. ``stamp`` and ``started`` are from
    its name. ``etag`` of ``bagit.txt`` tells whether it is still the same one when it is removed.
    """

    name: str
    stamp: str
    started: datetime
    files: int
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        return {
            "bundle": self.name,
            "stamp": self.stamp,
            "started": self.started.isoformat().replace("+00:00", "Z"),
            "files": self.files,
            "size_bytes": self.size_bytes,
        }


@dataclass(frozen=True, slots=True)
class Limits:
    """What may stay: bundles younger than ``age``, the newest ``count`` of each stamp, ``size_bytes`` in all.

    A bundle that is over any of them is over the limits.

    Raises:
        UsageError: there is no limit, or one that nothing can meet.
    """

    age: timedelta | None = None
    count: int | None = None
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.age is None and self.count is None and self.size_bytes is None:
            raise UsageError(
                detail="There is no limit to keep to.", fix="Give --older-than 30d, --keep 10 or --max-size 500GB."
            )
        if (self.age is not None and self.age < timedelta(0)) or any(
            number is not None and number < 1 for number in (self.count, self.size_bytes)
        ):
            raise UsageError(detail="A limit is at least one bundle, one byte, and not in the future.")


def read_limits(
    wanted: RetentionPreferences,
    *,
    older_than: str | None = None,
    keep: int | None = None,
    max_size: str | None = None,
) -> Limits:
    """The limits that are given (``30d``, a count, ``500GB``); where none is, those of ``[retention]``.

    Raises:
        UsageError: there is none, or one cannot be read.
    """
    if not (older_than or keep or max_size):
        older_than, keep, max_size = wanted.older_than, wanted.keep, wanted.max_size
    return Limits(
        age=parse_span(older_than) if older_than else None,
        count=keep,
        size_bytes=parse_size(max_size) if max_size else None,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a bundle. ``over`` says which limit it exceeds, ``kept_because`` why it stays all the same."""

    held: Held
    over: str | None
    kept_because: str | None

    @property
    def goes(self) -> bool:
        return self.over is not None and self.kept_because is None

    def to_json(self) -> dict[str, Any]:
        return self.held.to_json() | {
            "goes": self.goes,
            "over": self.over,
            "kept_because": self.kept_because,
        }


def judge(
    held: Sequence[Held],
    limits: Limits,
    *,
    now: datetime,
    last_good: Mapping[str, str],
    kept_because: Callable[[Held], str | None],
) -> tuple[Verdict, ...]:
    """Says of each bundle whether it goes, oldest first.

    Args:
        last_good: of each stamp, the name of the bundle that stays whatever the limits say.
        kept_because: why a bundle that is over the limits stays, or ``None``. It is asked of as few as possible,
            because it may look at another store.
    """
    oldest_first = sorted(held, key=lambda bundle: (bundle.started, bundle.name))
    newest: dict[str, list[str]] = {}
    for bundle in reversed(oldest_first):
        newest.setdefault(bundle.stamp, []).append(bundle.name)
    over = {bundle.name: _over(bundle, newest[bundle.stamp].index(bundle.name), limits, now) for bundle in held}
    left_bytes = sum(bundle.size_bytes for bundle in held)
    verdicts = {}
    for too_large in (False, True):  # first what age and count say, then the oldest of the rest until the size fits
        for bundle in oldest_first:
            if too_large and limits.size_bytes is not None and left_bytes > limits.size_bytes:
                over[bundle.name] = over[bundle.name] or "all bundles together are too large"
            if over[bundle.name] is None or bundle.name in verdicts:
                continue
            is_last = last_good.get(bundle.stamp) == bundle.name
            why = f"it is the last good one of {bundle.stamp}" if is_last else kept_because(bundle)
            verdicts[bundle.name] = Verdict(bundle, over[bundle.name], why)
            left_bytes -= 0 if why else bundle.size_bytes
    return tuple(verdicts.get(bundle.name, Verdict(bundle, None, None)) for bundle in oldest_first)


def _over(bundle: Held, newer: int, limits: Limits, now: datetime) -> str | None:
    if limits.age is not None and now - bundle.started > limits.age:
        return f"it is older than {limits.age.total_seconds() / 86400:g} days"
    if limits.count is not None and newer >= limits.count:
        return f"{bundle.stamp} has {newer} newer ones"
    return None
