"""Get-AzureStackLog: collects role by role and writes its output itself, as the ERCS machine does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bridge.secrets import Scrubber
from bridge.simulator._command import CommandContext, SimulatedError
from bridge.simulator.stamp._content import Source, Span, text_log
from bridge.simulator.stamp._destination import (
    DISK_FULL,
    ContainerDestination,
    Destination,
    FolderDestination,
    NoDestination,
    ShareDestination,
    Sink,
)
from bridge.simulator.stamp._hostile import FILE_NAMES, MEMBER_NAMES, RECORD_NAMES, RECORD_TEXTS
from bridge.simulator.stamp._inventory import ROLES, canonical_role
from bridge.simulator.stamp._plan import LogRequest, Member, Planner, ZipPlan
from bridge.simulator.stamp._relay import Relay, Silent
from bridge.simulator.stamp._state import CollectionRecord, StampState, as_typed
from bridge.simulator.stamp._zip import ZipSink, write_zip

COMMAND = "Get-AzureStackLog"
_SAYS_WHERE = "output"  # what the names of the parameters that name a destination begin with
OUTPUT_LOG = "Get-AzureStackLog_Output.log"
_DEFAULT_WINDOW = timedelta(hours=4)  # pep-facts 1.11: the operator articles; the reference says one hour
_DEFAULT_TIMEOUT_MINUTES = 240  # pep-facts 1.11: the reference; the operator articles say 150
_PROGRESS_EVERY_S = 0.25
_KEPT_OF_A_TRUNCATED_ZIP = 0.6


class CollectionStoppedError(Exception):
    """The pipeline is to stop."""


def collect_logs(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    """Runs the command; what it may raise and write are error records of it."""
    request = read_request(state, ctx, arguments)
    if state.is_cooling_down():
        ctx.write_warning("A log collection was cancelled less than 5 minutes ago.")  # INVENTED
    if state.faults.has("collection-outlives-session"):
        relay = Relay(ctx, state)
        relay.wait_for(lambda: _perform(state, relay, request, arguments))
    else:
        _perform(state, ctx, request, arguments)


def _perform(state: StampState, ctx: CommandContext, request: LogRequest, arguments: Mapping[str, Any]) -> None:
    with contextlib.ExitStack() as stack:
        destination = open_destination(state, arguments)
        stack.callback(destination.close)
        roles = request.roles + request.resource_providers
        late_s = state.faults.value("output-late")
        with state.collecting(ctx, destination.location, roles) as record:
            run = _Run(
                state,
                ctx,
                record=record,
                request=request,
                destination=destination,
                timeout_s=_timeout_s(state, arguments),
                typed=shown_line(state, arguments),
            )
            try:
                run.collect() if late_s is None else run.pretend()
            except CollectionStoppedError:
                record.outcome = "stopped"
                return
        if late_s is not None:
            stack.pop_all()
            state.run_later(late_s, lambda: _write_late(run.as_silent(), destination))


def _write_late(run: _Run, destination: Destination) -> None:
    try:
        run.collect()
    except (SimulatedError, CollectionStoppedError):
        return  # nobody is left to tell: the share was lost, or the stamp is closed
    finally:
        destination.close()


def _timeout_s(state: StampState, arguments: Mapping[str, Any]) -> float:
    return float(arguments.get("TimeOutInMinutes", _DEFAULT_TIMEOUT_MINUTES)) * state.options.minute_s


def shown_line(state: StampState, arguments: Mapping[str, Any]) -> str:
    """The command as the output log shows it; without secrets unless the fault ``leaky-logs`` is on."""
    shown = {
        name: value
        for name, value in arguments.items()
        if state.options.clock is None or not name.casefold().startswith(_SAYS_WHERE)
    }
    line = " ".join([COMMAND, *(f"-{name} {as_typed(value)}" for name, value in shown.items())])
    if state.faults.has("leaky-logs"):
        return line
    return Scrubber().text(line)


# -- what is asked ---------------------------------------------------------------------------------------------------


def read_request(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> LogRequest:
    """The request with the command's defaults.

    Raises:
        SimulatedError: a reversed window (INVENTED text).
    """
    now = state.now()
    end = _stamp_time(state, arguments.get("ToDate")) or now
    start = _stamp_time(state, arguments.get("FromDate")) or end - _DEFAULT_WINDOW
    if start >= end:
        raise SimulatedError(
            f"The value of FromDate ({start.isoformat()}) must be earlier than ToDate ({end.isoformat()}).",
            f"InvalidDateRange,{COMMAND}",
            "InvalidArgument",
            "System.ArgumentException",
        )
    if start >= now:
        ctx.write_warning(f"FromDate is later than the current time of this machine ({now.isoformat()}).")  # INVENTED
    providers = tuple(arguments.get("FilterByResourceProvider") or ())
    asked = arguments.get("FilterByRole")
    # GUESS: with a resource provider alone, only its logs are collected.
    roles = _known_roles(ctx, asked) if asked else (() if providers else ROLES)
    return LogRequest(
        roles=roles,
        window=Span(start, end),
        nodes=_known_nodes(state, ctx, arguments.get("FilterByNode") or ()),
        log_types=frozenset(
            each.casefold() for each in arguments.get("FilterByLogType") or ("File", "Share", "WindowsEvent")
        ),
        resource_providers=providers,
        dump_files=bool(arguments.get("IncludeDumpFile")),
        recover_vm_logs=bool(arguments.get("PerformVMLogRecovery")),
    )


def _stamp_time(state: StampState, value: datetime | None) -> datetime | None:
    # GUESS: the command takes the hours that it sees for the stamp's own, whatever the date's Kind: the one public
    # script that thinks of it converts to the stamp's time first (pep-facts 4.13). So a date sent as UTC is wrong here.
    return None if value is None else value.replace(tzinfo=state.zone)


def _known_roles(ctx: CommandContext, names: list[str]) -> tuple[str, ...]:
    roles: dict[str, None] = {}
    for name in names:
        role = canonical_role(name)
        if role is None:
            # GUESS: a warning, and the others are collected. The list of roles differs by version (pep-facts 1.9).
            ctx.write_warning(f"The role '{name}' was not found on this stamp and is skipped.")
        else:
            roles[role] = None
    return tuple(roles)


def _known_nodes(state: StampState, ctx: CommandContext, names: list[str] | tuple[str, ...]) -> frozenset[str]:
    for name in names:
        if state.inventory.machine_named(name) is None:
            ctx.write_warning(f"The computer '{name}' was not found on this stamp and is skipped.")  # INVENTED
    return frozenset((state.inventory.machine_named(name) or name).casefold() for name in names)


def open_destination(state: StampState, arguments: Mapping[str, Any]) -> Destination:
    """Where the command is told to write.

    Raises:
        SimulatedError: the place may not be used, or is not one.
    """
    options = state.options
    if (path := arguments.get("OutputPath")) is not None:
        return FolderDestination(path, options.output_root, COMMAND)
    if (unc := arguments.get("OutputSharePath")) is not None:
        return ShareDestination(unc, arguments.get("OutputShareCredential"), options.smb_port, COMMAND)
    if (sas := arguments.get("OutputSasUri")) is not None:
        return ContainerDestination(sas, options.blob_api_version, COMMAND)
    return NoDestination()  # GUESS: without a place the logs stay on the stamp


# -- one collection --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _RoleFailedError(Exception):
    detail: str


class _Run:
    def __init__(
        self,
        state: StampState,
        ctx: CommandContext,
        *,
        record: CollectionRecord,
        request: LogRequest,
        destination: Destination,
        timeout_s: float | None,
        typed: str,
        duration_s: float | None = None,
    ) -> None:
        self._state = state
        self._ctx = ctx
        self._record = record
        self._request = request
        self._destination = destination
        self._typed = typed
        self._planner = Planner(
            state.inventory,
            request,
            state.options.clock or state.now(),  # how far back traces are kept is seen from here
            f"{state.local(request.window.end):%Y%m%d%H%M%S}",
            missing=state.faults.values("node-missing"),
            vms_off=state.faults.values("vm-off"),
        )
        self._plans = {role: self._planner.zips_of(role) for role in self._planner.all_roles}
        self._total_bytes = sum(plan.size_bytes for plans in self._plans.values() for plan in plans)
        self._done_bytes = 0
        self._position = 0
        self._where = ""
        self._duration_s = state.options.duration_s if duration_s is None else duration_s
        self._began = time.monotonic()
        self._timeout_s = timeout_s
        self._told_at = 0.0
        full_at = state.faults.value("staging-disk-full")
        self._disk_bytes = None if full_at is None else int(self._total_bytes * full_at / 100)

    def as_silent(self) -> _Run:
        """The same collection, at once and with nobody listening."""
        return _Run(
            self._state,
            Silent(self._ctx, self._state),
            record=self._record,
            request=self._request,
            destination=self._destination,
            timeout_s=None,
            typed=self._typed,
            duration_s=0.0,
        )

    def collect(self) -> None:
        """Writes everything; raises ``CollectionStoppedError`` when the pipeline is to stop."""
        folder = self._record.folder
        self._ctx.write_verbose(
            f"Collecting logs of {len(self._planner.all_roles)} roles to {self._destination.location}."
        )
        self._destination.make_folder(folder)
        with self._destination.open(f"{folder}/{OUTPUT_LOG}") as sink:
            log = _OutputLog(sink, self._state, self._ctx)
            log.start(self._typed)
            self._all_roles(log)
            if self._state.faults.has("hostile-names"):
                self._hostile_files()
            log.end()
        self._say_hostile()
        self._ctx.write_progress(COMMAND, "Completed", percent=-1, completed=True)
        self._ctx.write_verbose(f"Log collection finished: {folder}.")

    def pretend(self) -> None:
        """Takes the time of a collection and reports its progress, but writes nothing yet."""
        for role in self._planner.all_roles:
            self._enter(role, "")
            for plan in self._plans[role]:
                self._advance(plan.size_bytes)
        self._advance(0, whole=True)
        self._ctx.write_progress(COMMAND, "Completed", percent=-1, completed=True)

    def _all_roles(self, log: _OutputLog) -> None:
        for role in self._planner.all_roles:
            self._enter(role, "")
            try:
                zips, size_bytes = self._role(role, log)
            except _RoleFailedError as failure:
                log.terminating(failure.detail)
                log.line("ERROR", f"Role '{role}': {failure.detail}")
                self._ctx.write_error(_role_error(role, failure.detail))
            else:
                text = f"{zips} zip files, {size_bytes} bytes" if zips else "no log files found in the given time range"
                log.line("INFO", f"Role '{role}': {text}")
                self._ctx.write_verbose(f"Role '{role}': {text}")
        self._advance(0, whole=True)

    def _role(self, role: str, log: _OutputLog) -> tuple[int, int]:
        roles = self._planner.all_roles
        plans = self._plans[role]
        skipped_bytes = sum(plan.size_bytes for plan in plans)
        log.line("INFO", f"Role '{role}': collecting from {', '.join(self._planner.machines_of(role)) or 'no machine'}")
        self._missing_machines(role, log)
        if self._state.role_has("role-hangs", role, roles):
            self._hang()
        if self._state.role_has("role-fails", role, roles):
            self._advance(skipped_bytes)
            raise _RoleFailedError("The remote operation on the role's machines failed.")  # INVENTED
        if self._state.role_has("role-empty", role, roles):
            self._advance(skipped_bytes)
            return 0, 0
        truncated = self._state.role_has("role-truncated", role, roles)
        size_bytes = 0
        for plan in plans:
            cut = truncated and plan is plans[-1]
            size_bytes += self._zip(plan, int(plan.size_bytes * _KEPT_OF_A_TRUNCATED_ZIP) if cut else None)
        if plans and len(role) % 3 == 0:
            # GETLOG: such lines may be ignored unless expected files are missing; real ones are seen in good runs.
            log.terminating("Cannot find path 'C:\\Temp\\Staging' because it does not exist.", "Get-Item")
        return len(plans), size_bytes

    def _missing_machines(self, role: str, log: _OutputLog) -> None:
        missing = self._state.faults.values("node-missing")
        wanted = self._request.nodes
        for machine in self._state.inventory.machines_of(role):
            if machine.casefold() in missing and (not wanted or machine.casefold() in wanted):
                text = f"Role '{role}': the computer {machine} could not be contacted."  # INVENTED
                log.line("WARNING", text)
                self._ctx.write_warning(text)

    def _zip(self, plan: ZipPlan, limit_bytes: int | None) -> int:
        self._enter(plan.role, plan.machine)
        room = None if self._disk_bytes is None else self._disk_bytes - self._done_bytes
        full = room is not None and room < plan.size_bytes
        if full and room is not None and room <= 0:
            raise _RoleFailedError(DISK_FULL)
        with self._destination.open(f"{self._record.folder}/{plan.name}") as file:
            sink = ZipSink(file, self._advance, room if full else limit_bytes)
            write_zip(sink, plan, self._request.window.end)
        if full:
            raise _RoleFailedError(DISK_FULL)
        return sink.written_bytes

    def _hang(self) -> None:
        while True:
            self._wait(_PROGRESS_EVERY_S)
            self._tell()

    # -- time

    def _enter(self, role: str, machine: str) -> None:
        if not machine:
            self._position += 1
        self._where = role if not machine else f"{role} on {machine}"
        self._tell(now=not machine)

    def _advance(self, size_bytes: int, *, whole: bool = False) -> None:
        """Counts bytes, then waits until the collection may be so far."""
        self._done_bytes += size_bytes
        fraction = 1.0 if whole or not self._total_bytes else min(1.0, self._done_bytes / self._total_bytes)
        target = self._began + self._duration_s * fraction
        self._wait(0.0)
        while (left_s := target - time.monotonic()) > 0:
            self._wait(min(left_s, _PROGRESS_EVERY_S))
            self._tell()

    def _wait(self, seconds: float) -> None:
        if self._ctx.stopping.wait(seconds) if seconds else self._ctx.stopping.is_set():
            raise CollectionStoppedError
        if self._timeout_s is not None and time.monotonic() - self._began > self._timeout_s:
            # INVENTED text (pep-facts 7: not public).
            raise SimulatedError(
                "The log collection did not complete within the time given by TimeOutInMinutes.",
                f"LogCollectionTimeout,{COMMAND}",
                "OperationTimeout",
                "System.TimeoutException",
            )

    def _tell(self, *, now: bool = False) -> None:
        """GUESS: what the progress records say; no public document shows one."""
        if not now and time.monotonic() - self._told_at < _PROGRESS_EVERY_S:
            return
        self._told_at = time.monotonic()
        count = len(self._planner.all_roles)
        self._ctx.write_progress(
            COMMAND,
            f"Role {self._position} of {count}",
            percent=min(99, self._done_bytes * 100 // max(1, self._total_bytes)),
            operation=self._where,
        )

    # -- hostile

    def _hostile_files(self) -> None:
        source = Source(self._state.options.seed, "Hostile", self._ctx.machine)
        members = tuple(Member(name, text_log, 200, source, self._request.window) for name in MEMBER_NAMES)
        plan = ZipPlan("Hostile", self._ctx.machine, "hostile.zip", members)
        for name in ("Hostile-members.zip", *FILE_NAMES):
            try:
                with self._destination.open(f"{self._record.folder}/{name}") as file:
                    write_zip(ZipSink(file, lambda _: None), plan, self._request.window.end)
            except SimulatedError:
                continue  # this destination does not permit the name

    def _say_hostile(self) -> None:
        if self._state.faults.has("hostile-names"):
            for name in RECORD_NAMES:
                self._ctx.write_warning(f"Skipped {name}")
                self._ctx.write_progress(name, name, operation=name)
                self._ctx.write_error(_role_error(name, f"{name} could not be read."))
        if self._state.faults.has("hostile-records"):
            for text in RECORD_TEXTS:
                self._ctx.write_warning(text)
                self._ctx.write_output(text)


def _role_error(role: str, detail: str) -> SimulatedError:
    """INVENTED, but for the text of a full disk."""
    return SimulatedError(
        f"Log collection for role '{role}' failed: {detail}",
        f"RoleLogCollectionFailed,{COMMAND}",
        "WriteError" if detail == DISK_FULL else "OperationStopped",
        "System.IO.IOException" if detail == DISK_FULL else "System.Management.Automation.RemoteException",
        role,
    )


class _OutputLog:
    """Get-AzureStackLog_Output.log: a transcript. GUESS: its lines; only its name and the strings that people look
    for in it (``TerminatingError``, the text of a full disk) are public (pep-facts 3.1, 7)."""

    def __init__(self, sink: Sink, state: StampState, ctx: CommandContext) -> None:
        self._sink = sink
        self._state = state
        self._ctx = ctx
        self._times_told = 0

    def start(self, typed: str) -> None:
        self._block("Windows PowerShell transcript start", "Start time")
        self._raw(f"PS>{typed}")

    def end(self) -> None:
        self._block("Windows PowerShell transcript end", "End time")

    def line(self, level: str, text: str) -> None:
        self._raw(f"{self._now():%Y-%m-%d %H:%M:%S} [{level}] {text}")

    def terminating(self, text: str, command: str = "Invoke-Command") -> None:
        self._raw(f'PS>TerminatingError({command}): "{text}"')

    def _block(self, title: str, time_name: str) -> None:
        stars = "*" * 22
        lines = (stars, title, f"{time_name}: {self._now():%Y%m%d%H%M%S}", f"Username: {self._ctx.username}")
        for line in (*lines, f"Machine: {self._ctx.machine} (Microsoft Windows NT 10.0.17763.0)", stars):
            self._raw(line)

    def _now(self) -> datetime:
        clock = self._state.options.clock
        if clock is None:
            return self._state.local(self._state.now())
        self._times_told += 1
        return self._state.local(clock + timedelta(seconds=self._times_told - 1))

    def _raw(self, line: str) -> None:
        self._sink.write(f"{line}\r\n".encode("utf-8", "backslashreplace"))
