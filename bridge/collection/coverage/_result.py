"""What coverage is made of: the request, and what became of each role, each zip and the time in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from bridge.collection._window import Window
from bridge.collection.coverage._output_log import MAX_EVIDENCE, Evidence
from bridge.collection.coverage._zip import ZipState

_MAX_ZIPS_LISTED = 2_000


class RoleState(StrEnum):
    """What became of a role. The values are an interface: they stand in ``coverage.json``."""

    COLLECTED = "collected"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CoverageRequest:
    """What was asked. No roles means all of the stamp's, whichever those are; no nodes means all of them.

    ``made_at`` is when it was asked, which decides whether traces of the window were still kept.
    """

    window: Window
    made_at: datetime
    roles: tuple[str, ...] = ()
    resource_providers: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    log_types: tuple[str, ...] = ()

    @property
    def event_logs_asked(self) -> bool:
        """Whether Windows event logs are among what was asked for (GETLOG: ``File``, ``Share``, ``WindowsEvent``)."""
        return not self.log_types or "windowsevent" in {kind.casefold() for kind in self.log_types}

    @property
    def all_asked(self) -> tuple[str, ...]:
        """Roles and resource providers, each once, whatever its case."""
        return tuple({name.casefold(): name for name in reversed((*self.roles, *self.resource_providers))}.values())[
            ::-1
        ]


@dataclass(slots=True)
class Span:
    """The first and last time found in logs.

    ``zone_assumed``: no zone was written with them, and UTC is assumed. ``count``: how many times they were taken from.
    ``ends_seen``: false where a log was read only in its beginning, so that it may go on after the last time.
    """

    first: datetime | None = None
    last: datetime | None = None
    zone_assumed: bool = True
    count: int = 0
    ends_seen: bool = True

    def add(self, moment: datetime, *, zoned: bool) -> None:
        if self.zone_assumed and zoned:
            self.first = self.last = None  # times with a zone are worth more than all without
            self.zone_assumed = False
            self.count = 0
        if zoned or self.zone_assumed:
            self.first = moment if self.first is None else min(self.first, moment)
            self.last = moment if self.last is None else max(self.last, moment)
            self.count += 1

    def join(self, other: Span) -> None:
        for moment in (other.first, other.last):
            if moment is not None:
                self.add(moment, zoned=not other.zone_assumed)

    def to_json(self) -> dict[str, Any] | None:
        if self.first is None or self.last is None:
            return None
        return {"first": in_utc(self.first), "last": in_utc(self.last), "zone_assumed": self.zone_assumed}


@dataclass(frozen=True, slots=True)
class ZipCoverage:
    """One zip of a role.

    ``inside`` is the zip that holds it, where the stamp put role zips into one. ``event_logs`` counts the Windows event
    logs in it; ``may_hold_more`` says that there may be others, in zips inside or where it could not be read.
    """

    path: str
    size_bytes: int
    state: ZipState
    machine: str | None
    members: int
    content_bytes: int
    problems: tuple[str, ...] = ()
    inside: str | None = None
    event_logs: int = 0
    may_hold_more: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "inside": self.inside,
            "size_bytes": self.size_bytes,
            "state": str(self.state),
            "node": self.machine,
            "members": self.members,
            "content_bytes": self.content_bytes,
            "problems": list(self.problems),
        }


@dataclass(slots=True)
class RoleCoverage:
    """One role (or resource provider): its state, why, and what there is of it.

    ``without_event_logs`` names the machines of its zips that should have given Windows event logs and gave none;
    ``outside_window`` says that none of the times found in its logs lies in the window.
    """

    name: str
    asked: bool
    state: RoleState = RoleState.UNKNOWN
    explanation: str = ""
    zips: list[ZipCoverage] = field(default_factory=list)
    span: Span = field(default_factory=Span)
    nodes: dict[str, RoleState] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)
    without_event_logs: frozenset[str] = frozenset()
    outside_window: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.zips)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "asked": self.asked,
            "state": str(self.state),
            "explanation": self.explanation,
            "zip_count": len(self.zips),
            "size_bytes": self.size_bytes,
            "zips": [file.to_json() for file in self.zips[:_MAX_ZIPS_LISTED]],
            "nodes": {node: str(state) for node, state in sorted(self.nodes.items())},
            "found": self.span.to_json(),
            "evidence": [evidence.to_json() for evidence in self.evidence[:MAX_EVIDENCE]],
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """What ``coverage.json`` says; ``complete`` decides between exit code 0 and 8."""

    complete: bool
    roles: tuple[RoleCoverage, ...]
    document: Mapping[str, Any]

    def to_json(self) -> Mapping[str, Any]:
        return self.document


def in_utc(moment: datetime) -> str:
    """As ``coverage.json`` writes a time: ISO 8601, UTC, whole seconds."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
