"""What the three endpoints of a stamp share: clock, one collection at a time, alerts, transcripts and calls."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from bridge.errors import UsageError
from bridge.secrets import REDACTED
from bridge.simulator._command import CommandContext, CredentialValue, SimulatedError
from bridge.simulator.stamp._alerts import AlertBoard
from bridge.simulator.stamp._faults import ANY, Faults, parse_faults
from bridge.simulator.stamp._inventory import Inventory
from bridge.simulator.stamp._options import StampOptions

COOL_DOWN = timedelta(minutes=5)
"""GETLOG-20-02: wait so long after cancelling a collection before a new one."""


@dataclass(frozen=True, slots=True)
class CommandCall:
    """One call of a command; passwords and SAS signatures are blanked in ``parameters``."""

    name: str
    parameters: Mapping[str, Any]
    machine: str
    username: str
    at: datetime
    dangerous: bool = False


@dataclass(slots=True)
class CollectionRecord:
    """One Get-AzureStackLog; ``outcome`` is running, finished, stopped or failed. Times are the stamp's."""

    machine: str
    folder: str
    location: str
    roles: tuple[str, ...]
    started: datetime
    ended: datetime | None = None
    outcome: str = "running"


@dataclass(slots=True)
class Transcript:
    """The record that an ERCS machine keeps of one session (pep-facts 4.8)."""

    session_id: str
    machine: str
    username: str
    started: datetime
    lines: list[str] = field(default_factory=list)


class StampState:
    """One simulated stamp behind its endpoints. Thread-safe."""

    def __init__(self, options: StampOptions) -> None:
        self.options = options
        self.inventory = Inventory(options)
        self.faults: Faults = parse_faults(options.faults)
        self.zone = _zone(options.timezone)
        self.ercs_addresses: tuple[str, ...] = ("127.0.0.1",) * 3
        self._began = time.monotonic()
        self._starts_at = options.starts_at or datetime.now(UTC)
        self.alerts = AlertBoard(options.alerts, self.now)
        self._lock = threading.Lock()
        self._calls: list[CommandCall] = []
        self._collections: list[CollectionRecord] = []
        self._transcripts: dict[str, Transcript] = {}
        self._late: list[threading.Thread] = []
        self.closing = threading.Event()

    # -- clock

    def now(self) -> datetime:
        """The stamp's clock (UTC); wrong by as much as the fault ``wrong-clock`` says."""
        skew = self.faults.value("wrong-clock") or 0.0
        return self._starts_at + timedelta(seconds=time.monotonic() - self._began + skew)

    def local(self, instant: datetime) -> datetime:
        """An instant in the stamp's time zone."""
        return instant.astimezone(self.zone)

    # -- faults

    def role_has(self, fault: str, role: str, roles: tuple[str, ...]) -> bool:
        """Whether the fault meets this role; ``any`` is one of the roles asked, chosen by the seed."""
        values = self.faults.values(fault)
        if role.casefold() in values:
            return True
        return ANY in values and bool(roles) and role == random.Random(f"{self.options.seed}/{fault}").choice(roles)  # noqa: S311

    @property
    def registered(self) -> bool:
        return self.options.registered and not self.faults.has("not-registered")

    # -- what was called

    @property
    def calls(self) -> tuple[CommandCall, ...]:
        with self._lock:
            return tuple(self._calls)

    @property
    def dangerous_calls(self) -> tuple[CommandCall, ...]:
        """Calls of commands that would have changed or stopped a real stamp."""
        return tuple(call for call in self.calls if call.dangerous)

    def record_call(self, name: str, ctx: CommandContext, arguments: Mapping[str, Any], *, dangerous: bool) -> None:
        """Notes a call, in the list of calls and in the session's transcript."""
        blank = {key: _blank(value) for key, value in arguments.items()}
        with self._lock:
            self._calls.append(CommandCall(name, blank, ctx.machine, ctx.username, self.now(), dangerous))
            transcript = self._transcript_of(ctx)
            transcript.lines.append(f'PS>CommandInvocation({name}): "{name}"')
            shown = arguments if self.faults.has("leaky-logs") else blank
            for key, value in shown.items():
                transcript.lines.append(f'>> ParameterBinding({name}): name="{key}"; value="{as_typed(value)}"')

    # -- transcripts

    def transcript_line(self, ctx: CommandContext, line: str) -> None:
        with self._lock:
            self._transcript_of(ctx).lines.append(line)

    def transcripts_of(self, machine: str) -> tuple[Transcript, ...]:
        """The transcripts that a machine holds: of this session and of earlier ones that were not closed properly."""
        with self._lock:
            return tuple(each for each in self._transcripts.values() if each.machine == machine)

    def drop_transcripts(self, transcripts: tuple[Transcript, ...]) -> None:
        with self._lock:
            for transcript in transcripts:
                self._transcripts.pop(transcript.session_id, None)

    def _transcript_of(self, ctx: CommandContext) -> Transcript:
        return self._transcripts.setdefault(
            ctx.session_id, Transcript(ctx.session_id, ctx.machine, ctx.username, self.now())
        )

    # -- collections

    @property
    def collections(self) -> tuple[CollectionRecord, ...]:
        """Every collection that was begun, oldest first."""
        with self._lock:
            return tuple(self._collections)

    @contextmanager
    def collecting(self, ctx: CommandContext, location: str, roles: tuple[str, ...]) -> Iterator[CollectionRecord]:
        """Holds the stamp's one collection while the context is open.

        Raises:
            SimulatedError: another one is running.
        """
        record = self._begin(ctx, location, roles)
        try:
            yield record
        except BaseException:
            record.outcome = "stopped" if ctx.stopping.is_set() else "failed"
            raise
        finally:
            if record.outcome == "running":
                record.outcome = "finished"
            record.ended = self.now()

    def _begin(self, ctx: CommandContext, location: str, roles: tuple[str, ...]) -> CollectionRecord:
        busy_s = self.faults.value("other-collection-running") or 0.0
        with self._lock:
            others_run = time.monotonic() - self._began < busy_s
            if others_run or any(each.outcome == "running" for each in self._collections):
                # INVENTED text: what two collections at once do on a real stamp is not public (pep-facts 12).
                raise SimulatedError(
                    "Another log collection is already in progress on this stamp. Wait for it to finish and try again.",
                    "LogCollectionInProgress,Get-AzureStackLog",
                    "ResourceBusy",
                    "System.InvalidOperationException",
                )
            started = self._unused_second()
            folder = f"AzureStackLogs-{self.local(started):%Y%m%d%H%M%S}"  # GUESS: in the stamp's own time
            record = CollectionRecord(ctx.machine, folder, location, roles, started)
            self._collections.append(record)
            return record

    def _unused_second(self) -> datetime:
        if self.options.clock is not None:
            return self.options.clock
        started = self.now().replace(microsecond=0)
        if self._collections:
            started = max(started, self._collections[-1].started + timedelta(seconds=1))
        return started

    def is_cooling_down(self) -> bool:
        """Whether a collection was stopped less than five minutes ago."""
        last = self.collections[-1] if self.collections else None
        return last is not None and last.outcome == "stopped" and self.now() - (last.ended or self.now()) < COOL_DOWN

    # -- work that outlives its command

    def run_later(self, delay_s: float, work: Callable[[], None]) -> None:
        """Does ``work`` on a thread after a while, unless the stamp is closed before."""

        def wait_and_work() -> None:
            if not self.closing.wait(delay_s):
                work()

        thread = threading.Thread(target=wait_and_work, name=f"late-output-{uuid.uuid4().hex[:8]}")
        with self._lock:
            self._late.append(thread)
        thread.start()

    def close(self) -> None:
        """Ends what still runs."""
        self.closing.set()
        for thread in self._late:
            thread.join()


def _zone(windows_id: str) -> ZoneInfo:
    from tzlocal.windows_tz import win_tz

    name = win_tz.get(windows_id)
    if name is None:
        raise UsageError(
            detail=f"{windows_id!r} is not a Windows time-zone id", fix="Write it like 'W. Europe Standard Time'."
        )
    return ZoneInfo(name)


def _blank(value: Any) -> Any:
    if isinstance(value, CredentialValue):
        return f"{value.username} {REDACTED}"
    if isinstance(value, str) and "sig=" in value.casefold():
        return f"{value.split('?', maxsplit=1)[0]}?{REDACTED}"
    return value


def as_typed(value: Any) -> str:
    """An argument as PowerShell shows it in a transcript (culture en-US)."""
    if isinstance(value, CredentialValue):
        return "System.Management.Automation.PSCredential"
    if isinstance(value, datetime):
        return f"{value:%m/%d/%Y %H:%M:%S}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
