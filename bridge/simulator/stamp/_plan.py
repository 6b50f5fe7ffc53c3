"""What a collection will hold, before a byte of it is made: zips by role and machine, and what is in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from bridge.simulator.stamp._content import (
    ContentKind,
    Source,
    Span,
    dump,
    etl,
    event_xml,
    evtx,
    json_log,
    text_log,
)
from bridge.simulator.stamp._inventory import Inventory, weight_of

TRACES_KEPT = timedelta(days=5)
"""pep-facts 1.8: the Trace Collector's age limit."""
LARGEST_ZIP_BYTES = 190_000_000
"""GUESS, near the 200 MB of one trace file (pep-facts 1.8): how split zips are cut is not documented."""
_SMALLEST_SPLIT_BYTES = 256 * 1024
_SPLITS_OF_ALL = 16
_SMALLEST_MEMBER_BYTES = 400


@dataclass(frozen=True, slots=True)
class LogRequest:
    """What one Get-AzureStackLog asks for, defaults filled in; times are aware."""

    roles: tuple[str, ...]
    window: Span
    nodes: frozenset[str] = frozenset()
    log_types: frozenset[str] = frozenset({"file", "share", "windowsevent"})
    resource_providers: tuple[str, ...] = ()
    dump_files: bool = False
    recover_vm_logs: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside a zip; ``members`` makes it a zip itself. Small ones are deflated, large ones stored."""

    path: str
    kind: ContentKind
    size_bytes: int
    source: Source
    span: Span
    members: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True)
class ZipPlan:
    """One zip of a collection."""

    role: str
    machine: str
    name: str
    members: tuple[Member, ...]

    @property
    def size_bytes(self) -> int:
        """Of the members, before the zip's own headers."""
        return sum(_size_of(member) for member in self.members)


def _size_of(member: Member) -> int:
    return sum(map(_size_of, member.members)) if member.members else member.size_bytes


@dataclass(frozen=True, slots=True)
class Planner:
    """Spreads a collection's bytes over roles, machines and split zips.

    ``now`` is the stamp's clock: there are no logs of the future. ``stamp_time`` is the window's end as the stamp
    writes it into names.
    """

    inventory: Inventory
    request: LogRequest
    now: datetime
    stamp_time: str
    missing: frozenset[str] = frozenset()
    vms_off: frozenset[str] = frozenset()

    def zips_of(self, role: str) -> tuple[ZipPlan, ...]:
        """The zips of a role, none where there is nothing in the window, or no machine of it is asked for."""
        machines = self.machines_of(role)
        if not machines or self._span.is_empty:
            return ()
        per_machine = self._bytes_of(role) // len(machines)
        return tuple(plan for machine in machines for plan in self._zips_of_machine(role, machine, per_machine))

    def machines_of(self, role: str) -> tuple[str, ...]:
        """The machines of a role that are asked for and not missing."""
        wanted = self.request.nodes
        return tuple(
            machine
            for machine in self.inventory.machines_of(role)
            if (not wanted or machine.casefold() in wanted) and machine.casefold() not in self.missing
        )

    @property
    def all_roles(self) -> tuple[str, ...]:
        """Roles, then resource providers, in the order of the collection."""
        return self.request.roles + self.request.resource_providers

    @property
    def _span(self) -> Span:
        return Span(self.request.window.start, min(self.request.window.end, self.now))

    @property
    def _trace_span(self) -> Span:
        return Span(max(self._span.start, self.now - TRACES_KEPT), self._span.end)

    def _bytes_of(self, role: str) -> int:
        total = sum(weight_of(each) for each in self.all_roles if self.machines_of(each))
        return self.inventory.options.size_bytes * weight_of(role) // total

    def _zips_of_machine(self, role: str, machine: str, size_bytes: int) -> Iterator[ZipPlan]:
        largest = min(
            LARGEST_ZIP_BYTES, max(_SMALLEST_SPLIT_BYTES, self.inventory.options.size_bytes // _SPLITS_OF_ALL)
        )
        parts = max(1, -(-size_bytes // largest))
        for part in range(1, parts + 1):
            members = tuple(self._members(role, machine, part, size_bytes // parts))
            if members:
                # GUESS: the name, and a number from the second part on (pep-facts 3.1 has only SeedRing-*.zip).
                suffix = f"-{part}" if part > 1 else ""
                yield ZipPlan(role, machine, f"{role}-{machine}-{self.stamp_time}{suffix}.zip", members)

    def _members(self, role: str, machine: str, part: int, size_bytes: int) -> Iterator[Member]:
        """GUESS: folders and file names inside a role's zip."""
        seed = self.inventory.options.seed
        head = f"{machine}/{role}"

        def member(path: str, kind: ContentKind, share: float, span: Span) -> Member:
            size = max(_SMALLEST_MEMBER_BYTES, int(size_bytes * share / shares))
            return Member(path, kind, size, Source(seed, role, machine, path), span)

        wanted = self.request.log_types
        parts: list[tuple[str, ContentKind, float, Span]] = []
        if "file" in wanted:
            parts += [
                (f"{head}/Logs/{role}_{part:03}.log", text_log, 30, self._span),
                (f"{head}/Logs/{role}.Health_{part:03}.jsonl", json_log, 4, self._span),
            ]
        if "share" in wanted and not self._trace_span.is_empty:
            parts.append((f"{head}/Traces/{role}_{part:06}.etl", etl, 36, self._trace_span))
        off = machine.casefold() in self.vms_off and not self.request.recover_vm_logs
        if "windowsevent" in wanted and not off:
            parts += [
                (f"{head}/WindowsEventLogs/System_{part}.evtx", evtx, 12, self._span),
                (f"{head}/WindowsEventLogs/{role}-Operational_{part}.xml", event_xml, 18, self._span),
            ]
        if self.request.dump_files and part == 1:
            parts.append((f"{head}/DumpFiles/{role}.exe.1234.dmp", dump, 40, self._span))
        shares = sum(share for _, _, share, _ in parts)
        members = [member(*each) for each in parts]
        if role == "Storage" and part == 1 and members:
            yield self._nested(members[0], f"{head}/storagediagnosticinfo_{machine}.zip")
            members = members[1:]
        yield from members
        if role == "SeedRing" and part == 1 and "file" in wanted and machine == self.machines_of(role)[0]:
            yield from self._validation_summary(machine, Source(seed, role, machine, "validation"))

    def _nested(self, member: Member, path: str) -> Member:
        half = max(1, member.size_bytes // 2)
        inner = (
            replace(member, path="ClusterLogs/Cluster.log", size_bytes=half),
            replace(member, path="HealthTest/PhysicalDisks.xml", size_bytes=half, kind=event_xml),
        )
        return replace(member, path=path, members=inner)

    def _validation_summary(self, machine: str, source: Source) -> Iterator[Member]:
        """pep-facts 8.4: the report of Test-AzureStack is found in the SeedRing zip, as HTML and JSON."""
        name = f"AzureStack_Validation_Summary_{self._span.end:%Y.%m.%d_%H.%M.%S}_MAS.INF"
        for suffix, kind in ((".HTML", validation_html), (".JSON", validation_json)):
            yield Member(f"{machine}/SeedRing/{name}{suffix}", kind, 2_000, source, self._span)


def validation_html(source: Source, span: Span, size_bytes: int) -> Iterator[bytes]:
    """The report for people, padded to its size."""
    text = (
        "<!DOCTYPE html><html><head><title>Azure Stack Validation Summary</title></head><body>"
        f"<h1>Azure Stack Validation Summary</h1><p>{span.end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}</p>"
        "<table><tr><td>AzsControlPlane</td><td>PASS</td></tr></table></body></html>"
    )
    yield text.encode().ljust(size_bytes, b"\n")


def validation_json(source: Source, span: Span, size_bytes: int) -> Iterator[bytes]:
    """The report for machines: an ``Information`` array of entries with ``fields`` and ``data`` (pep-facts 8.4).

    GUESS: what the fields are called.
    """
    text = (
        '{"Information": [{"fields": ["Test", "Result", "Time"],'
        f' "data": [["AzsControlPlane", "PASS", "{span.end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"]]}}]}}'
    )
    yield text.encode().ljust(size_bytes, b"\n")
