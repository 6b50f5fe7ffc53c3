"""What a run tells while it works: typed events from which a live view or plain lines are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from bridge.collection._states import RunState
from bridge.endpoint import Record, Stream


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """What all events have in common."""

    run_id: str
    at: datetime = field(default_factory=_now)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(RunEvent):
    """The run is in another state; the journal has it already."""

    state: RunState
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordArrived(RunEvent):
    """The endpoint sent a record; ``text`` is scrubbed."""

    record: Record


@dataclass(frozen=True, slots=True)
class RoleLanded:
    """What has landed of one role so far."""

    zips: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed(RunEvent):
    """What stands in the output folder now; sent when it has changed."""

    files: int
    size_bytes: int
    roles: Mapping[str, RoleLanded]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChanged(RunEvent):
    """The state of the line to the endpoint."""

    state: Literal["up", "down", "retrying", "lost"]
    detail: str = ""
    attempt: int = 0
    retry_in_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(RunEvent):
    """Something that the operator should know and that does not end the run."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(RunEvent):
    """The run waits, and for how long at most."""

    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HashProgress(RunEvent):
    """Bytes of the payload that were hashed where they stand; told also while none come. ``over_line``: they are read
    from a share or a container, at the rate of the line, and ``is_paused`` while that rests."""

    bytes_done: int
    bytes_total: int
    over_line: bool = False
    is_paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryProgress(RunEvent):
    """How far a delivery is; nothing counts before the service has said yes."""

    bytes_done: int
    bytes_total: int
    rate_bytes_per_s: float = 0.0
    seconds_left: float | None = None
    seconds_left_low: float | None = None
    seconds_left_high: float | None = None
    bytes_there: int = 0
    """Of ``bytes_done``: what was there before."""
    detail: str = ""


Event: TypeAlias = (
    StateChanged | RecordArrived | Landed | LineChanged | Warned | Waiting | HashProgress | DeliveryProgress
)


def plain_line(event: Event) -> str | None:
    """The event as one plain line for people; ``None`` where a line would only be noise."""
    match event:
        case StateChanged(state=state, reason=reason):
            return f"{state}: {reason}" if reason else str(state)
        case RecordArrived(record=record):
            return _record_line(record)
        case Landed(files=files, size_bytes=size_bytes, roles=roles):
            return f"landed: {files} files, {size_bytes:,} bytes, {len(roles)} roles"
        case LineChanged(state=state, detail=detail):
            return f"line {state}: {detail}" if detail else f"line {state}"
        case Warned(text=text):
            return f"warning: {text}"
        case Waiting(reason=reason, until=until):
            clock = f"{until.astimezone(UTC):%H:%M:%SZ}" if until else ""
            if until is None or clock in reason or f"{until:%H:%M}" in reason:  # it says itself until when
                return f"waiting: {reason}"
            return f"waiting: {reason} (until {until.astimezone(UTC):%Y-%m-%d} {clock})"
        case HashProgress(bytes_done=done, bytes_total=total):
            return f"hashed: {done:,} of {total:,} bytes"
        case DeliveryProgress(bytes_done=done, bytes_total=total, detail=detail):
            return f"delivered: {done:,} of {total:,} bytes" + (f" ({detail})" if detail else "")


def _record_line(record: Record) -> str | None:
    match record.stream:
        case Stream.ERROR | Stream.WARNING:
            return f"{record.stream} from the endpoint: {record.text}"
        case Stream.PROGRESS if record.progress is not None and not record.progress.completed:
            percent = f" {record.progress.percent}%" if record.progress.percent >= 0 else ""
            return f"endpoint: {record.progress.activity}: {record.progress.status}{percent}"
        case _:
            return None
