"""Holds what was asked against what arrived and what was said of it, and writes ``coverage.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bridge.collection._documents import BUNDLE_FILES
from bridge.collection._roles import DOCUMENTED_ROLES
from bridge.collection._window import Window
from bridge.collection.coverage._judge import judge, without_event_logs
from bridge.collection.coverage._known_failures import KNOWN_FAILURES, VM_OFF
from bridge.collection.coverage._output_log import MAX_EVIDENCE, OUTPUT_LOG_PREFIX, KnownSeen, Testimony
from bridge.collection.coverage._result import (
    Coverage,
    CoverageRequest,
    RoleCoverage,
    RoleState,
    Span,
    ZipCoverage,
    in_utc,
)
from bridge.collection.coverage._text import Names, times_in
from bridge.collection.coverage._zip import Extent, Member, ZipLook, ZipState, look_inside, look_into, read_sample
from bridge.errors import UnsafePathError
from bridge.store import Entry, ReadableStore

COVERAGE_SCHEMA_VERSION = 1
TRACES_KEPT = timedelta(days=5)
"""Age limit of the Trace Collector (GETLOG 09/2020)."""

_KNOWN_VM_OFF = next(failure for failure in KNOWN_FAILURES if failure.name == VM_OFF)
_PAYLOAD = "data"
_MAX_ZIPS_LISTED = 2_000
_MAX_OTHERS_LISTED = 200
_MAX_SAMPLES_OF_A_ROLE = 12
_MAX_SAMPLES = 600
_FOREIGN_TIME = timedelta(days=400)  # a time this far from the window is no time of this log
_MAY_BE_SHORT_BY = timedelta(minutes=15)
_ENOUGH_TIMES = 10  # GUESS: fewer may be those of a settings file, and no log
_ROLE_OF_EVENT_LOGS = "virtualmachines"  # GETLOG: System and event logs of the infrastructure's VMs


def assess(
    store: ReadableStore,
    request: CoverageRequest,
    records: Iterable[Mapping[str, Any]],
    *,
    known_nodes: Iterable[str] = (),
    ended: bool = True,
    records_lost: int = 0,
) -> Coverage:
    """Compares what was asked with what is under ``data/``.

    Args:
        store: rooted at the bundle, sealed or not.
        request: what was asked.
        records: the lines of ``session.jsonl``, as dicts.
        known_nodes: computer names that are known of the stamp.
        ended: false where the collection was never seen to end.
        records_lost: how many records are known to be missing from those given.

    Raises:
        StoreError: the store cannot be listed, or a file could not be read now. What a file is, or that it may not be
            read, never raises.
    """
    return _Assessment(store, request, known_nodes, ended=ended, records_lost=records_lost).run(records)


class _Assessment:
    def __init__(
        self,
        store: ReadableStore,
        request: CoverageRequest,
        known_nodes: Iterable[str],
        *,
        ended: bool,
        records_lost: int,
    ) -> None:
        self._store = store
        self._request = request
        self._ended = ended
        self._records_lost = records_lost
        self._names = Names(request.all_asked, (*request.nodes, *known_nodes))
        self._testimony = Testimony(self._names)
        self._roles = {name.casefold(): RoleCoverage(name, asked=True) for name in request.all_asked}
        self._unmatched: list[ZipCoverage] = []
        self._zip_names: set[str] = set()
        self._machines: dict[str, str] = {}
        self._limits: list[str] = []
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
        self._testimony.charge_missing_zips(self._zip_names)
        self._add_roles_spoken_of()
        self._miss_event_logs()
        for role in self._roles.values():
            role.outside_window = self._is_outside(role.span)
        nodes = self._nodes()
        for role in self._roles.values():
            judge(role, self._testimony, ended=self._ended)
        roles = tuple(sorted(self._roles.values(), key=lambda role: (not role.asked, role.name.casefold())))
        missing = any(role.state is not RoleState.COLLECTED for role in roles)
        known = [seen for seen in self._testimony.known.values() if missing or not seen.failure.only_where_missing]
        warnings = self._warnings(roles, known)
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
        zip_ = Extent(self._store, entry.path, entry.size_bytes)
        look = look_into(zip_)
        machine = self._spelt(name.machine or self._names.machine_in(look.folders))
        file = _covered(entry.path, entry.size_bytes, look, machine)
        self._zip_names.add(base.casefold())
        if name.role is None:
            self._take_unmatched(file, look, zip_)
            return
        role = self._role(name.role)
        role.zips.append(file)
        self._sample(role, zip_, look)

    def _take_unmatched(self, file: ZipCoverage, look: ZipLook, zip_: Extent) -> None:
        """A zip that is named after no role may hold zips that are (newer stamps: one outer zip, pep-facts 3.1)."""
        self._unmatched.append(file)
        for member in look.nested:
            name = self._names.of_zip(member.base_name)
            self._zip_names.add(member.base_name.casefold())
            if name.role is not None:
                self._take_nested(self._role(name.role), member, zip_, name.machine)
        if look.nested_count > len(look.nested):
            self._limits.append(
                f"{file.path} holds {look.nested_count} zips, and the first {len(look.nested)} were looked at."
            )

    def _take_nested(self, role: RoleCoverage, member: Member, outer: Extent, machine: str | None) -> None:
        look, zip_ = look_inside(outer, member)
        machine = self._spelt(machine or self._names.machine_in(look.folders))
        role.zips.append(_covered(member.name, member.size_bytes, look, machine, inside=outer.path))
        if zip_ is not None:
            self._sample(role, zip_, look)

    def _spelt(self, machine: str | None) -> str | None:
        """A machine's name as it was first met: Windows tells no upper case from lower."""
        return self._machines.setdefault(machine.casefold(), machine) if machine is not None else None

    def _role(self, name: str) -> RoleCoverage:
        return self._roles.setdefault(name.casefold(), RoleCoverage(name, asked=not self._request.all_asked))

    def _sample(self, role: RoleCoverage, zip_: Extent, look: ZipLook) -> None:
        window = self._request.window
        for member in look.samples:
            taken = self._sampled.get(role.name, 0)
            if taken >= _MAX_SAMPLES_OF_A_ROLE or self._samples_left <= 0:
                return
            self._sampled[role.name] = taken + 1
            self._samples_left -= 1
            sample = read_sample(zip_, member)
            before = role.span.count
            for piece in sample.pieces:
                for moment, zoned in times_in(piece):
                    if window.since - _FOREIGN_TIME < moment < window.until + _FOREIGN_TIME:
                        role.span.add(moment, zoned=zoned)
            if role.span.count != before and not sample.has_end:
                role.span.ends_seen = False

    # -- what should have been there ----------------------------------------------------------------------------------

    def _miss_event_logs(self) -> None:
        """A VM that is off leaves its zips without Windows event logs (REF, PerformVMLogRecovery).

        GUESS: how that looks is not public. A machine is charged where none of its zips, of any role, holds one, and
        others of the same role have some; and in the role of event logs, where there are none at all.
        """
        zips = [file for role in self._roles.values() for file in role.zips if file.machine]
        with_some = {file.machine for file in zips if file.event_logs}
        unsure = {file.machine for file in zips if file.state not in {ZipState.GOOD, ZipState.EMPTY}}
        for role in self._roles.values():
            machines = {file.machine for file in role.zips if file.machine}
            silent = machines - with_some - unsure
            if machines.isdisjoint(with_some):
                sure = not any(file.may_hold_more for file in role.zips) and self._request.event_logs_asked
                silent = silent if sure and role.name.casefold() == _ROLE_OF_EVENT_LOGS else set()
            role.without_event_logs = frozenset(silent)
            if silent:
                seen = self._testimony.known.setdefault(VM_OFF, KnownSeen(_KNOWN_VM_OFF))
                seen.count += len(silent)
                seen.evidence = (seen.evidence + without_event_logs(role))[:MAX_EVIDENCE]

    def _is_outside(self, span: Span) -> bool:
        if span.first is None or span.last is None or span.zone_assumed or span.count < _ENOUGH_TIMES:
            return False
        window = self._request.window
        return span.first > window.until or (span.ends_seen and span.last < window.since)

    # -- what was said ------------------------------------------------------------------------------------------------

    def _add_roles_spoken_of(self) -> None:
        """With all roles asked, a role that the endpoint worked on and that left nothing is missing too."""
        if self._request.all_asked:
            return
        for name, said in self._testimony.roles.items():
            if said.mentioned or said.failed_firmly or said.missing_zips:
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

    def _warnings(self, roles: tuple[RoleCoverage, ...], known: list[KnownSeen]) -> _Warnings:
        found = _Warnings()
        self._add_what_was_said(found, known)
        if not self._request.all_asked and not roles:
            found.add("All roles were asked for and none arrived.", incomplete=True)
        with_output = {file.machine.casefold() for role in roles for file in role.zips if file.machine}
        for node in self._request.nodes:
            if node.casefold() not in with_output:
                found.add(f"The node {node} was asked for, and no zip names it.", incomplete=True)
        self._add_window_warnings(found, roles)
        self._add_what_was_not_looked_at(found, roles)
        return found

    def _add_what_was_said(self, found: _Warnings, known: list[KnownSeen]) -> None:
        if not self._ended:
            found.add("The collection was never seen to end; more may have been to come.", incomplete=True)
        if self._testimony.ended_by is not None:
            found.add(f"The command ended with an error: {self._testimony.ended_by.text}", incomplete=True)
        if self._records_lost:
            text = f"{self._records_lost} records of the endpoint were lost: what they said of errors is not known."
            found.add(text, incomplete=True)
        if not self._testimony.logs:
            found.add("Get-AzureStackLog_Output.log is absent: log files are likely missing.", incomplete=True)
        found.texts += [f"{log.path}: {log.problem}" for log in self._testimony.logs if log.problem]
        for seen in known:
            if seen.costs_output:
                found.add(f"{seen.failure.meaning} {seen.failure.fix}", incomplete=True)
        if self._testimony.machines_left_out:
            found.add("More computers are named in errors than are listed here.")

    def _add_what_was_not_looked_at(self, found: _Warnings, roles: tuple[RoleCoverage, ...]) -> None:
        for text in self._limits:
            found.add(text, incomplete=True)
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

    def _add_window_warnings(self, found: _Warnings, roles: tuple[RoleCoverage, ...]) -> None:
        window = self._request.window
        until = min(window.until, self._request.made_at)
        kept_from = self._request.made_at - TRACES_KEPT
        if window.since < kept_from:
            found.add(f"Traces from before {in_utc(kept_from)} are probably gone: the stamp keeps them for five days.")
        late, early, sure = [], [], 0
        for role in roles:
            first, last = role.span.first, role.span.last
            if first is None or last is None or role.span.zone_assumed:
                continue
            starts_late = first > window.since + _allowance(window)
            ends_early = role.span.ends_seen and last < until - _allowance(window)
            if role.span.count >= _ENOUGH_TIMES:
                sure += 1
                late += [first] if starts_late else []
                early += [last] if ends_early else []
            if first > window.until or (role.span.ends_seen and last < window.since):
                found.add(f"{role.name}: the times found in its logs lie outside the window.")
            elif starts_late or ends_early:
                times = f"{in_utc(first)} to {in_utc(last)}"
                found.add(f"{role.name}: times were found from {times} only (a sample of its logs was read).")
        # One role may have had nothing to write; that none of several had is most likely the stamp's clock.
        if sure > 1 and len(early) == sure:
            text = f"The logs of every role end before the window does, the last at {in_utc(max(early))}."
            found.add(f"{text} {self._clock()}", incomplete=True)
        if sure > 1 and len(late) == sure and window.since >= kept_from:
            text = f"The logs of every role begin after the window does, the first at {in_utc(min(late))}."
            found.add(f"{text} {self._clock()}", incomplete=True)
        if roles and all(role.state is RoleState.EMPTY for role in roles):
            found.add(f"No role has anything of the window. {self._clock()}", incomplete=True)

    def _clock(self) -> str:
        started = next((log.started for log in self._testimony.logs if log.started), None)
        asked = in_utc(self._request.made_at)
        own = f" Its output log begins at {started} (the stamp's own time); it was asked at {asked}." if started else ""
        return f"Is the stamp's clock right, and the client's?{own}"

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
                "asked": {"since": in_utc(window.since), "until": in_utc(window.until)},
                "found": whole.to_json(),
                "traces_kept_from": in_utc(self._request.made_at - TRACES_KEPT),
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


# -- small helpers ----------------------------------------------------------------------------------------------------


def _covered(
    path: str, size_bytes: int, look: ZipLook, machine: str | None, *, inside: str | None = None
) -> ZipCoverage:
    return ZipCoverage(
        path,
        size_bytes,
        look.state,
        machine,
        look.members,
        look.content_bytes,
        tuple(look.problems),
        inside=inside,
        event_logs=look.event_logs,
        may_hold_more=look.nested_count > 0 or look.state is ZipState.UNREAD,
    )


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
