"""Reads what was said of a collection, the output log and the session's records, for what it says of roles."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.collection.coverage._known_failures import KNOWN_FAILURES, KnownFailure
from bridge.collection.coverage._text import (
    SAYS_EMPTY,
    SAYS_SKIPPED,
    SAYS_TRUNCATED,
    Names,
    is_command,
    says_failed,
    zip_count_in,
    zips_in,
)
from bridge.errors import StoreAccessError
from bridge.store import ReadableStore

OUTPUT_LOG_PREFIX = "get-azurestacklog_output"
"""ERCS looks for ``Get-AzureStackLog_Output*``."""
MAX_LOG_BYTES = 256 << 20
MAX_LINE_BYTES = 64 << 10
MAX_EVIDENCE = 20
_MAX_TEXT_CHARACTERS = 500
_MAX_KNOWN_EVIDENCE = 5
_CHUNK_BYTES = 1 << 20
_TERMINATING = "PS>TerminatingError"
_MAX_ZIPS_NAMED = 5_000
_MAX_MACHINES = 2_000
_MAX_EVIDENCE_OF_A_MACHINE = 5
_STARTED = re.compile(r"(?i)^Start time: (\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$")  # of a PowerShell transcript


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a statement comes from: a zip, a line of the output log, or a record of the session."""

    kind: str
    text: str
    file: str | None = None
    size_bytes: int | None = None
    line: int | None = None
    at: str | None = None

    def to_json(self) -> dict[str, Any]:
        parts = {name: getattr(self, name) for name in ("kind", "text", "file", "size_bytes", "line", "at")}
        return {name: value for name, value in parts.items() if value is not None}


@dataclass(slots=True)
class Said:
    """What was said of one role.

    ``firmly``: by an error record that names the role as one, so that it counts against a role with output too.
    ``zip_count``: the most zips of it that were told of at once, by ``counted``. ``missing_zips``: zips of it that an
    error names and that are not there, from ``short_machines``.
    """

    skipped: list[Evidence] = field(default_factory=list)
    failed: list[Evidence] = field(default_factory=list)
    failed_firmly: list[Evidence] = field(default_factory=list)
    truncated: list[Evidence] = field(default_factory=list)
    empty: list[Evidence] = field(default_factory=list)
    machines: dict[str, list[Evidence]] = field(default_factory=dict)
    mentioned: bool = False
    zip_count: int = 0
    counted: list[Evidence] = field(default_factory=list)
    missing_zips: dict[str, Evidence] = field(default_factory=dict)
    short_machines: set[str] = field(default_factory=set)


@dataclass(slots=True)
class KnownSeen:
    """A known failure, how often it was seen, and where first.

    ``costs_output``: it means lost output. Where it was said of zips by name, these are there or are not: that counts.
    """

    failure: KnownFailure
    count: int = 0
    costs_output: bool = False
    evidence: list[Evidence] = field(default_factory=list)


@dataclass(slots=True)
class OutputLog:
    """One output log of the command."""

    path: str
    size_bytes: int
    lines: int = 0
    terminating_errors: int = 0
    problem: str | None = None
    started: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "lines": self.lines,
            "terminating_errors": self.terminating_errors,
            "problem": self.problem,
        }


class Testimony:
    """Gathers, by role, what the output logs and the records say."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.roles: dict[str, Said] = {}
        self.machines: dict[str, list[Evidence]] = {}
        self.known: dict[str, KnownSeen] = {}
        self.logs: list[OutputLog] = []
        self.ended_by: Evidence | None = None
        self.errors = 0
        self.machines_left_out = False
        self._zips_named: dict[str, tuple[str, Evidence]] = {}

    def hear_records(self, records: Iterable[Mapping[str, Any]]) -> None:
        """The lines of ``session.jsonl``."""
        for record in records:
            self._hear_record(record)

    def read_log(self, store: ReadableStore, path: str, size_bytes: int) -> None:
        """One output log, line by line.

        Raises:
            StoreError: it could not be read now; that it may not be read is noted.
        """
        log = OutputLog(path, size_bytes)
        self.logs.append(log)
        try:
            for number, line in enumerate(_lines(store, path), start=1):
                log.lines = number
                log.terminating_errors += _TERMINATING in line
                if log.started is None and (match := _STARTED.match(line)):
                    log.started = "{}-{}-{} {}:{}:{}".format(*match.groups())
                self._hear_line(Evidence("output-log", _cut(line), file=path, line=number), line)
        except StoreAccessError as error:
            log.problem = str(error)
        else:
            if size_bytes > MAX_LOG_BYTES:
                log.problem = f"only its first {MAX_LOG_BYTES} bytes were read"

    def charge_missing_zips(self, there: Container[str]) -> None:
        """Counts a zip that an error names against its role and machine, unless it arrived all the same.

        Args:
            there: base names of the zips that arrived, in lower case.
        """
        for folded, (base, evidence) in self._zips_named.items():
            name = self._names.of_zip(base)
            if name.role is None or folded in there:
                continue
            said = self._of(name.role)
            said.missing_zips[base] = evidence
            if name.machine is not None:
                said.short_machines.add(name.machine.casefold())
                self._blame(name.machine, {name.role}, evidence)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _hear_line(self, evidence: Evidence, line: str) -> None:
        self._look_for_known(evidence, line)
        if is_command(line):
            return
        said = self._names.said_roles(line)
        failed = says_failed(line)
        self._note(said, line, evidence)
        if failed:
            self._note_zips(line, evidence)
            for role in self._names.worded_roles(line) - said:
                _keep(self._of(role).failed, evidence)
        if said or failed:
            self._note_machines(said, line, evidence, failed=failed)

    def _hear_record(self, record: Mapping[str, Any]) -> None:
        stream, text = record.get("stream"), str(record.get("text") or "")
        at = record.get("at")
        evidence = Evidence(f"{stream}-record", _cut(text), at=at if isinstance(at, str) else None)
        if stream == "progress":
            progress = record.get("progress")
            shown = str(progress.get("operation") or "") if isinstance(progress, Mapping) else text
            for role in self._names.worded_roles(shown[:_MAX_TEXT_CHARACTERS]):
                self._of(role).mentioned = True
            return
        self._look_for_known(evidence, text)
        if stream == "error":
            self._hear_error(record, text, evidence)
            return
        said = self._names.said_roles(text)
        self._note(said, text, evidence)
        if says_failed(text):
            self._note_zips(text, evidence)
        if stream == "warning":
            self._note_machines(said, text, evidence, failed=says_failed(text))

    def _hear_error(self, record: Mapping[str, Any], text: str, evidence: Evidence) -> None:
        self.errors += 1
        error = record.get("error")
        detail: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
        if detail.get("terminating") and self.ended_by is None:
            self.ended_by = evidence
        target = str(detail.get("target") or "")
        firm = self._names.said_roles(text) | self._names.said_roles(f"role {target}")
        for role in firm:
            _keep(self._of(role).failed_firmly, evidence)
        for role in self._names.worded_roles(text) - firm:
            _keep(self._of(role).failed, evidence)
        self._note_zips(text, evidence)
        self._note_machines(firm, text, evidence, failed=True)

    def _note(self, roles: set[str], text: str, evidence: Evidence) -> None:
        for role in roles:
            said = self._of(role)
            said.mentioned = True
            if len(roles) == 1 and (count := zip_count_in(text)) > said.zip_count:
                said.zip_count, said.counted = count, [evidence]
            if SAYS_TRUNCATED.search(text):
                _keep(said.truncated, evidence)
            elif SAYS_EMPTY.search(text):
                _keep(said.empty, evidence)
            elif SAYS_SKIPPED.search(text):
                _keep(said.skipped, evidence)
            elif says_failed(text):
                _keep(said.failed, evidence)

    def _note_zips(self, text: str, evidence: Evidence) -> None:
        for base in zips_in(text):
            if len(self._zips_named) < _MAX_ZIPS_NAMED:
                self._zips_named.setdefault(base.casefold(), (base, evidence))

    def _note_machines(self, roles: set[str], text: str, evidence: Evidence, *, failed: bool) -> None:
        if not failed and not SAYS_SKIPPED.search(text):
            return
        for machine in self._names.machines(text):
            self._blame(machine, roles, evidence)

    def _blame(self, machine: str, roles: set[str], evidence: Evidence) -> None:
        for machines in (self.machines, *(self._of(role).machines for role in roles)):
            if machine not in machines and len(machines) >= _MAX_MACHINES:
                self.machines_left_out = True
                continue
            found = machines.setdefault(machine, [])
            if len(found) < _MAX_EVIDENCE_OF_A_MACHINE:
                found.append(evidence)

    def _look_for_known(self, evidence: Evidence, text: str) -> None:
        lowered = text.casefold()
        for failure in KNOWN_FAILURES:
            if failure.is_in(text, lowered):
                seen = self.known.setdefault(failure.name, KnownSeen(failure))
                seen.count += 1
                seen.costs_output |= failure.costs_output and next(zips_in(text), None) is None
                if len(seen.evidence) < _MAX_KNOWN_EVIDENCE:
                    seen.evidence.append(evidence)

    def _of(self, role: str) -> Said:
        return self.roles.setdefault(role, Said())


def _keep(list_: list[Evidence], evidence: Evidence) -> None:
    if len(list_) < MAX_EVIDENCE:
        list_.append(evidence)


def _lines(store: ReadableStore, path: str) -> Iterator[str]:
    """Lines of a log in UTF-8 or, with its mark, UTF-16 (as Windows PowerShell redirects); long ones are cut."""
    pending = b""
    encoding = "utf-8"
    for number, chunk in enumerate(_read(store, path)):
        if number == 0 and chunk[:2] in {b"\xff\xfe", b"\xfe\xff"}:
            encoding = "utf-16-le" if chunk[:2] == b"\xff\xfe" else "utf-16-be"
        end = "\n".encode(encoding)
        *lines, pending = (pending + chunk).split(end)
        for line in lines:
            yield _decoded(line, encoding)
        pending = pending[:MAX_LINE_BYTES]
    if pending:
        yield _decoded(pending, encoding)


def _read(store: ReadableStore, path: str) -> Iterator[bytes]:
    buffer = bytearray(_CHUNK_BYTES)
    left = MAX_LOG_BYTES
    with memoryview(buffer) as view, store.open_read(path) as reader:
        while left > 0 and (count := reader.readinto(view[: min(left, _CHUNK_BYTES)])):
            yield bytes(view[:count])
            left -= count


def _decoded(line: bytes, encoding: str) -> str:
    return line[:MAX_LINE_BYTES].decode(encoding, "replace").strip("\r\n\ufeff\0")


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT_CHARACTERS else f"{text[:_MAX_TEXT_CHARACTERS]}..."
