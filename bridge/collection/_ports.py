"""What a run needs from other rooms, as ports: tests give fakes, ``default_ports`` the real parts (``_parts``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from bridge.collection._journal import RunRecord
from bridge.collection._request import Place
from bridge.endpoint import Command, ErrorDetail, Record, Value
from bridge.errors import BridgeError
from bridge.secrets import Credential, Secret
from bridge.stamp import Stamp
from bridge.store import ReadableStore, Store

LineWord = Literal["up", "down", "retrying", "lost"]
EndState = Literal["completed", "failed", "stopped", "disconnected"]
SessionIdsJson = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LineNews:
    """What the session tells of its line."""

    state: LineWord
    detail: str = ""
    attempt: int = 0
    retry_in_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How the command on the endpoint ended. ``failure`` is its terminating error as an error of this tool."""

    state: EndState
    error: ErrorDetail | None = None
    failure: BridgeError | None = None


class RunningCommand(Protocol):
    """A command that works on an endpoint, and the session that it lives in."""

    @property
    def endpoint(self) -> str:
        """The ERCS machine that runs it."""
        ...

    @property
    def ids(self) -> SessionIdsJson:
        """What to attach with; once it was left they tell how far its records have come."""
        ...

    def records(self) -> Iterator[Record]:
        """Records as they arrive, until the command ends, is stopped or is disconnected.

        Raises:
            SessionLostError: the line could not be had back in time.
            SessionGoneError: the endpoint answers, and no longer has the session.
        """
        ...

    def end(self) -> CommandEnd | None:
        """How it ended; ``None`` while it runs."""
        ...

    def stop(self) -> None:
        """Stops the pipeline; any thread may ask. ``records`` then ends."""
        ...

    def disconnect(self) -> None:
        """Leaves it running without this process; any thread may ask. ``records`` then ends."""
        ...

    def abandon(self) -> None:
        """Waits no longer for a line that is down; any thread may ask. ``records`` then raises ``SessionLostError``."""
        ...

    def close(self) -> bool:
        """Ends the session on the endpoint, unless it was disconnected or abandoned: then it may be there still, also
        where its command has ended meanwhile, and the answer is false. A line that is down is told as news of it."""
        ...


class EndpointPort(Protocol):
    """The privileged endpoint as a run uses it."""

    def start(
        self,
        stamp: Stamp,
        credential: Credential,
        commands: Sequence[Command],
        *,
        line_deadline_s: float,
        idle_timeout_s: int,
        before_open: Callable[[SessionIdsJson], None],
        not_opened: Callable[[SessionIdsJson], None],
        before_send: Callable[[SessionIdsJson, str], None],
        on_line: Callable[[LineNews], None],
    ) -> RunningCommand:
        """Opens a session on the first machine that answers and sends the commands.

        ``before_open`` gets the ids that the session will have, before a machine is asked for it; ``not_opened`` the
        same ids, where the machine surely has no such session; ``before_send`` those to attach with, and the machine's
        name, before the commands are sent.

        Raises:
            CommandUncertainError: the line broke in the middle; they may run, and the session is left to them.
            EndpointError: they do not run.
        """
        ...

    def attach(
        self,
        stamp: Stamp,
        credential: Credential,
        ids: SessionIdsJson,
        *,
        deadline_s: float,
        line_deadline_s: float,
        on_line: Callable[[LineNews], None],
    ) -> RunningCommand:
        """Takes over a running command.

        Raises:
            SessionGoneError: the endpoint answers, and no longer has the session.
            EndpointError: it cannot be had in time.
        """
        ...

    def end(self, stamp: Stamp, credential: Credential, ids: SessionIdsJson) -> None:
        """Ends a session that a killed process left open, with what may still run in it.

        Raises:
            EndpointError: the machine is not to be had.
        """
        ...

    def answering(self, stamp: Stamp) -> tuple[str, ...]:
        """The machines of the endpoint that answer now (no credential is sent)."""
        ...

    def clock(self, stamp: Stamp) -> datetime | None:
        """The time now as the first machine that answers tells it, which needs no credential; ``None``: none does."""
        ...


class Assess(Protocol):
    """Coverage: what was asked against what is in ``data/`` of the store."""

    def __call__(self, bundle: ReadableStore, run: RunRecord, session_log: Path) -> tuple[bool, Mapping[str, Any]]:
        """Whether all that was asked was collected, and ``coverage.json``."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """The other rooms, as a run sees them."""

    endpoint: EndpointPort
    open_store: Callable[[Place, Credential | Secret | None], Store]
    bind: Callable[[Mapping[str, Value]], tuple[Command, ...]]
    assess: Assess
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
