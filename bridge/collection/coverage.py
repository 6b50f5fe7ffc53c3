"""Coverage: what was asked against what arrived, role by role and node by node, each statement with its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from bridge.collection._coverage_log import MAX_EVIDENCE, OUTPUT_LOG_PREFIX, Evidence, KnownSeen, Said, Testimony
from bridge.collection._coverage_text import Names, times_in
from bridge.collection._coverage_zip import Member, ZipLook, ZipState, look_into, read_sample
from bridge.collection._documents import BUNDLE_FILES
from bridge.collection._roles import DOCUMENTED_ROLES
from bridge.collection._window import Window
from bridge.errors import UnsafePathError
from bridge.store import Entry, Store

COVERAGE_SCHEMA_VERSION = 1
TRACES_KEPT = timedelta(days=5)
"""Age limit of the Trace Collector (GETLOG 09/2020)."""

_PAYLOAD = "data"
_MAX_ZIPS_LISTED = 2_000
_MAX_OTHERS_LISTED = 200
_MAX_SAMPLES_OF_A_ROLE = 12
_MAX_SAMPLES = 600
_FOREIGN_TIME = timedelta(days=400)  # a time this far from the window is no time of this log
_MAY_BE_SHORT_BY = timedelta(minutes=15)


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

    @property
    def all_asked(self) -> tuple[str, ...]:
        """Roles and resource providers, each once, whatever its case."""
        return tuple({name.casefold(): name for name in reversed((*self.roles, *self.resource_providers))}.values())[
            ::-1
        ]


@dataclass(slots=True)
class Span:
    """The first and last time found in logs. ``zone_assumed``: no zone was written with them, and UTC is assumed."""

    first: datetime | None = None
    last: datetime | None = None
    zone_assumed: bool = True

    def add(self, moment: datetime, *, zoned: bool) -> None:
        if self.zone_assumed and zoned:
            self.first = self.last = None  # times with a zone are worth more than all without
            self.zone_assumed = False
        if zoned or self.zone_assumed:
            self.first = moment if self.first is None else min(self.first, moment)
            self.last = moment if self.last is None else max(self.last, moment)

    def join(self, other: Span) -> None:
        for moment in (other.first, other.last):
            if moment is not None:
                self.add(moment, zoned=not other.zone_assumed)

    def to_json(self) -> dict[str, Any] | None:
        if self.first is None or self.last is None:
            return None
        return {"first": _utc(self.first), "last": _utc(self.last), "zone_assumed": self.zone_assumed}


@dataclass(frozen=True, slots=True)
class ZipCoverage:
    """One zip of a role. ``inside`` is the zip that holds it, where the stamp put role zips into one."""

    path: str
    size_bytes: int
    state: ZipState
    machine: str | None
    members: int
    content_bytes: int
    problems: tuple[str, ...] = ()
    inside: str | None = None

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
    """One role (or resource provider): its state, why, and what there is of it."""

    name: str
    asked: bool
    state: RoleState = RoleState.UNKNOWN
    explanation: str = ""
    zips: list[ZipCoverage] = field(default_factory=list)
    span: Span = field(default_factory=Span)
    nodes: dict[str, RoleState] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)

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


def assess(
    store: Store,
    request: CoverageRequest,
    records: Iterable[Mapping[str, Any]],
    *,
    known_nodes: Iterable[str] = (),
    ended: bool = True,
) -> Coverage:
    """Compares what was asked with what is under ``data/``.

    Args:
        store: rooted at the bundle, sealed or not.
        request: what was asked.
        records: the lines of ``session.jsonl``, as dicts.
        known_nodes: computer names that are known of the stamp.
        ended: false where the collection was never seen to end.

    Raises:
        StoreError: the store cannot be listed. What a file is, or that one cannot be read, never raises.
    """
    return _Assessment(store, request, known_nodes, ended=ended).run(records)


class _Assessment:
    def __init__(self, store: Store, request: CoverageRequest, known_nodes: Iterable[str], *, ended: bool) -> None:
        self._store = store
        self._request = request
        self._ended = ended
        self._names = Names(request.all_asked, (*request.nodes, *known_nodes))
        self._testimony = Testimony(self._names)
        self._roles = {name.casefold(): RoleCoverage(name, asked=True) for name in request.all_asked}
        self._unmatched: list[ZipCoverage] = []
        self._others: list[Entry] = []
        self._other_count = 0
        self._unsafe: list[str] = []
        self._beside: list[str] = []
        self._samples_left = _MAX_SAMPLES
        self._sampled: dict[str, int] = {}
        self._totals = [0, 0]

    def run(self, records: Iterable[Mapping[str, Any]]) -> Coverage:
        self._testimony.hear_records(records)
        for entry in self._store.list(on_unsafe=self._meet_unsafe):
            if entry.path.startswith(f"{_PAYLOAD}/"):
                self._take(entry)
            elif entry.path not in BUNDLE_FILES and len(self._beside) < _MAX_OTHERS_LISTED:
                self._beside.append(entry.path)
        self._add_roles_spoken_of()
        nodes = self._nodes()
        for role in self._roles.values():
            _judge(role, self._testimony, ended=self._ended)
        roles = tuple(sorted(self._roles.values(), key=lambda role: (not role.asked, role.name.casefold())))
        missing = any(role.state is not RoleState.COLLECTED for role in roles)
        known = [seen for seen in self._testimony.known.values() if missing or not seen.failure.only_where_missing]
        warnings = self._warnings(roles, nodes, known)
        complete = not missing and not warnings.incomplete
        return Coverage(complete, roles, self._document(roles, nodes, known, warnings, complete=complete))

    # -- what is there ------------------------------------------------------------------------------------------------

    def _meet_unsafe(self, error: UnsafePathError) -> None:
        if len(self._unsafe) < _MAX_OTHERS_LISTED:
            self._unsafe.append(str(error.fields["path"]))

    def _take(self, entry: Entry) -> None:
        self._totals[0] += 1
        self._totals[1] += entry.size_bytes
        base = entry.path.rsplit("/", 1)[-1]
        if base.casefold().startswith(OUTPUT_LOG_PREFIX):
            self._testimony.read_log(self._store, entry.path, entry.size_bytes)
        elif base.casefold().endswith(".zip"):
            self._take_zip(entry, base)
        else:
            self._other_count += 1
            if len(self._others) < _MAX_OTHERS_LISTED:
                self._others.append(entry)

    def _take_zip(self, entry: Entry, base: str) -> None:
        name = self._names.of_zip(base)
        look = look_into(self._store, entry.path, entry.size_bytes)
        file = ZipCoverage(
            entry.path,
            entry.size_bytes,
            look.state,
            name.machine,
            look.members,
            look.content_bytes,
            tuple(look.problems),
        )
        if name.role is None:
            self._take_unmatched(file, look)
            return
        role = self._role(name.role)
        role.zips.append(file)
        self._sample(role, entry.path, look)

    def _take_unmatched(self, file: ZipCoverage, look: ZipLook) -> None:
        """A zip that is named after no role may hold zips that are (newer stamps: one outer zip, pep-facts 3.1)."""
        self._unmatched.append(file)
        for member in look.nested:
            name = self._names.of_zip(member.base_name)
            if name.role is not None:
                self._role(name.role).zips.append(_nested(file, member, name.machine))

    def _role(self, name: str) -> RoleCoverage:
        return self._roles.setdefault(name.casefold(), RoleCoverage(name, asked=not self._request.all_asked))

    def _sample(self, role: RoleCoverage, path: str, look: ZipLook) -> None:
        window = self._request.window
        for member in look.samples:
            taken = self._sampled.get(role.name, 0)
            if taken >= _MAX_SAMPLES_OF_A_ROLE or self._samples_left <= 0:
                return
            self._sampled[role.name] = taken + 1
            self._samples_left -= 1
            for piece in read_sample(self._store, path, member):
                for moment, zoned in times_in(piece):
                    if window.since - _FOREIGN_TIME < moment < window.until + _FOREIGN_TIME:
                        role.span.add(moment, zoned=zoned)

    # -- what was said ------------------------------------------------------------------------------------------------

    def _add_roles_spoken_of(self) -> None:
        """With all roles asked, a role that the endpoint worked on and that left nothing is missing too."""
        if self._request.all_asked:
            return
        for name, said in self._testimony.roles.items():
            if said.mentioned or said.failed_firmly:
                self._role(name)

    def _nodes(self) -> dict[str, str]:
        """Every node known: asked for, named by a zip, or named by a failure; by folded name."""
        found: dict[str, str] = {}
        zips = (file.machine for role in self._roles.values() for file in role.zips)
        for name in (*self._request.nodes, *zips, *self._testimony.machines):
            if name is not None:
                found.setdefault(name.casefold(), name)
        return found

    # -- what it says -------------------------------------------------------------------------------------------------

    def _warnings(self, roles: tuple[RoleCoverage, ...], nodes: Mapping[str, str], known: list[KnownSeen]) -> _Warnings:
        found = _Warnings()
        if not self._ended:
            found.add("The collection was never seen to end; more may have been to come.", incomplete=True)
        if self._testimony.ended_by is not None:
            found.add(f"The command ended with an error: {self._testimony.ended_by.text}", incomplete=True)
        if not self._testimony.logs:
            found.add("Get-AzureStackLog_Output.log is absent: log files are likely missing.", incomplete=True)
        found.texts += [f"{log.path}: {log.problem}" for log in self._testimony.logs if log.problem]
        if not self._request.all_asked and not roles:
            found.add("All roles were asked for and none arrived.", incomplete=True)
        for seen in known:
            if seen.failure.costs_output:
                found.add(f"{seen.failure.meaning} {seen.failure.fix}", incomplete=True)
        with_output = {file.machine.casefold() for role in roles for file in role.zips if file.machine}
        for node in self._request.nodes:
            if node.casefold() not in with_output and any(file.machine for role in roles for file in role.zips):
                found.add(f"The node {node} was asked for, and nothing names it.", incomplete=True)
        found.texts += self._window_warnings(roles)
        unread = sum(file.state is ZipState.UNREAD for role in roles for file in role.zips)
        if unread:
            found.add(f"{unread} zips could not be opened: their presence and size are all that is known of them.")
        if self._beside:
            found.add(
                f"{len(self._beside)} files lie beside the payload and are no part of the bundle, such as"
                f" {self._beside[0]}: what the stamp wrote there was left alone.",
                incomplete=True,
            )
        if self._unsafe:
            found.add(f"{len(self._unsafe)} names in the payload are not safe to use and were left alone.")
        return found

    def _window_warnings(self, roles: tuple[RoleCoverage, ...]) -> list[str]:
        window = self._request.window
        texts = []
        kept_from = self._request.made_at - TRACES_KEPT
        if window.since < kept_from:
            texts.append(f"Traces from before {_utc(kept_from)} are probably gone: the stamp keeps them for five days.")
        for role in roles:
            first, last = role.span.first, role.span.last
            if first is None or last is None or role.span.zone_assumed:
                continue
            if last < window.since or first > window.until:
                texts.append(f"{role.name}: the times found in its logs lie outside the window.")
            elif first > window.since + _allowance(window) or last < window.until - _allowance(window):
                found = f"{_utc(first)} to {_utc(last)}"
                texts.append(f"{role.name}: times were found from {found} only (a sample of its logs was read).")
        return texts

    def _document(
        self,
        roles: tuple[RoleCoverage, ...],
        nodes: Mapping[str, str],
        known: list[KnownSeen],
        warnings: _Warnings,
        *,
        complete: bool,
    ) -> dict[str, Any]:
        window = self._request.window
        whole = Span()
        for role in roles:
            whole.join(role.span)
        present = {role.name.casefold() for role in roles}
        return {
            "schema_version": COVERAGE_SCHEMA_VERSION,
            "complete": complete,
            "asked": {
                "roles": list(self._request.roles),
                "resource_providers": list(self._request.resource_providers),
                "nodes": list(self._request.nodes),
                "all_roles": not self._request.all_asked,
            },
            "window": {
                "asked": {"since": _utc(window.since), "until": _utc(window.until)},
                "found": whole.to_json(),
                "traces_kept_from": _utc(self._request.made_at - TRACES_KEPT),
            },
            "counts": {str(state): sum(role.state is state for role in roles) for state in RoleState},
            "roles": [role.to_json() for role in roles],
            "roles_not_seen": (
                [] if self._request.all_asked else [role for role in DOCUMENTED_ROLES if role.casefold() not in present]
            ),
            "nodes": [self._node(name, roles) for _, name in sorted(nodes.items())],
            "other_zips": [file.to_json() for file in self._unmatched[:_MAX_OTHERS_LISTED]],
            "other_files": [{"path": entry.path, "size_bytes": entry.size_bytes} for entry in self._others],
            "other_files_count": self._other_count,
            "unsafe_names": self._unsafe,
            **({"beside_payload": self._beside} if self._beside else {}),
            "output_logs": [log.to_json() for log in self._testimony.logs],
            "error_records": self._testimony.errors,
            "known_failures": [_known_to_json(seen) for seen in known],
            "warnings": warnings.texts,
            "totals": {"files": self._totals[0], "size_bytes": self._totals[1]},
        }

    def _node(self, name: str, roles: tuple[RoleCoverage, ...]) -> dict[str, Any]:
        zips = [
            file for role in roles for file in role.zips if file.machine and file.machine.casefold() == name.casefold()
        ]
        return {
            "name": name,
            "asked": name.casefold() in {node.casefold() for node in self._request.nodes},
            "zip_count": len(zips),
            "size_bytes": sum(file.size_bytes for file in zips),
            "evidence": [evidence.to_json() for evidence in self._testimony.machines.get(name, [])[:MAX_EVIDENCE]],
        }


@dataclass(slots=True)
class _Warnings:
    texts: list[str] = field(default_factory=list)
    incomplete: bool = False

    def add(self, text: str, *, incomplete: bool = False) -> None:
        self.texts.append(text)
        self.incomplete = self.incomplete or incomplete


# -- judging a role ---------------------------------------------------------------------------------------------------


def _judge(role: RoleCoverage, testimony: Testimony, *, ended: bool) -> None:
    said = testimony.roles.get(role.name, Said())
    role.evidence = [_zip_evidence(file) for file in role.zips[: MAX_EVIDENCE // 2]]
    if role.zips:
        _judge_output(role, said)
    else:
        _judge_absence(role, said, testimony, ended=ended)
    _judge_nodes(role, said)


def _judge_output(role: RoleCoverage, said: Said) -> None:
    broken = [file for file in role.zips if file.state in {ZipState.CUT, ZipState.DAMAGED}]
    with_output = {file.machine.casefold() for file in role.zips if file.machine}
    lost = {node for node in said.machines if node.casefold() not in with_output}
    if broken:
        role.state = RoleState.TRUNCATED
        role.explanation = f"{len(broken)} of {len(role.zips)} zips are not whole: {broken[0].problems[0]}."
        role.evidence = [_zip_evidence(file) for file in broken[: MAX_EVIDENCE // 2]] + said.failed_firmly + said.failed
    elif said.failed_firmly or said.truncated:
        role.state = RoleState.TRUNCATED
        role.explanation = "The endpoint reported an error for the role after part of its output was there."
        role.evidence = said.failed_firmly + said.truncated + role.evidence
    elif all(file.state is ZipState.EMPTY for file in role.zips):
        role.state = RoleState.EMPTY
        role.explanation = "There are zips, and nothing is in them."
        role.evidence += said.empty
    elif lost:
        role.state = RoleState.TRUNCATED
        role.explanation = f"Nothing came from {', '.join(sorted(lost))}."
        role.evidence = [evidence for node in sorted(lost) for evidence in said.machines[node]] + role.evidence
    else:
        role.state = RoleState.COLLECTED
        role.explanation = f"{len(role.zips)} zips arrived."


def _judge_absence(role: RoleCoverage, said: Said, testimony: Testimony, *, ended: bool) -> None:
    for state, evidence, explanation in (
        (RoleState.FAILED, said.failed_firmly, "The endpoint reported an error for the role, and no zip arrived."),
        (RoleState.SKIPPED, said.skipped, "The endpoint skipped the role: it may not know it."),
        (RoleState.EMPTY, said.empty, "The endpoint found nothing to collect in the window."),
        (RoleState.FAILED, said.failed, "Errors mention the role, and no zip arrived."),
    ):
        if evidence:
            role.state, role.evidence, role.explanation = state, list(evidence), explanation
            return
    if testimony.ended_by is not None:
        role.state, role.evidence = RoleState.FAILED, [testimony.ended_by]
        role.explanation = "The command ended with an error before any zip of the role arrived."
    elif not ended:
        role.explanation = "No zip arrived, and the collection was never seen to end."
    else:
        role.explanation = "No zip arrived, and nothing says why."


def _judge_nodes(role: RoleCoverage, said: Said) -> None:
    for node in said.machines:
        role.nodes[node] = RoleState.FAILED
    for node in {file.machine for file in role.zips if file.machine is not None}:
        states = {file.state for file in role.zips if file.machine == node}
        if states & {ZipState.CUT, ZipState.DAMAGED}:
            role.nodes[node] = RoleState.TRUNCATED
        else:
            role.nodes[node] = RoleState.EMPTY if states == {ZipState.EMPTY} else RoleState.COLLECTED


# -- small helpers ----------------------------------------------------------------------------------------------------


def _nested(outer: ZipCoverage, member: Member, machine: str | None) -> ZipCoverage:
    state = ZipState.EMPTY if member.size_bytes == 0 else outer.state
    return ZipCoverage(member.name, member.size_bytes, state, machine, 0, 0, inside=outer.path)


def _zip_evidence(file: ZipCoverage) -> Evidence:
    text = "; ".join(file.problems) or f"{file.state} zip with {file.members} members"
    return Evidence("zip", text, file=file.path, size_bytes=file.size_bytes)


def _known_to_json(seen: KnownSeen) -> dict[str, Any]:
    return {
        "name": seen.failure.name,
        "meaning": seen.failure.meaning,
        "fix": seen.failure.fix,
        "source": seen.failure.source,
        "count": seen.count,
        "evidence": [evidence.to_json() for evidence in seen.evidence],
    }


def _allowance(window: Window) -> timedelta:
    return max(_MAY_BE_SHORT_BY, window.length / 5)


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
