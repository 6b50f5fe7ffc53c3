"""A pipeline on the endpoint: its records as they arrive, how it ended, and how it is stopped or left."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol
from xml.etree.ElementTree import ParseError

import requests
from pypsrp.exceptions import WinRMError, WSManFaultError
from pypsrp.shell import CommandState, SignalCode, WinRS

from bridge.endpoint._answers import UnusableAnswerError
from bridge.endpoint._clixml import UnreadableCliXmlError
from bridge.endpoint._faults import (
    OPERATION_TIMED_OUT,
    SHELL_DISCONNECTED,
    SHELL_NOT_FOUND,
    STREAM_DISCONNECTED,
    error_for,
)
from bridge.endpoint._line import RequestLostError
from bridge.endpoint._messages import (
    DamagedMessage,
    Defragmenter,
    HostCall,
    InvocationState,
    Message,
    MessageType,
    StateChange,
    read_message,
    unreadable_record,
)
from bridge.endpoint._numbers import MessageNumbers
from bridge.endpoint._records import ErrorDetail, Record, Stream
from bridge.errors import BridgeError, SessionLostError

THIRD_PARTY = (
    WinRMError,
    requests.exceptions.RequestException,
    RequestLostError,
    UnusableAnswerError,
    OSError,
    ParseError,
    KeyError,
)
"""What may come out of a request to the endpoint beside an error of the bridge."""


_MAY_LACK = (
    "nobody was connected for a while, and it was not written down how far the records had come by then: where the"
    " endpoint's buffer was full meanwhile, the oldest records of that time are missing here (the output log beside the"
    " logs has their text)"
)


class PipelineState(StrEnum):
    """How a pipeline ended for this client; DISCONNECTED goes on without it."""

    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class SessionIds:
    """Everything that another process needs to take a session up again; no secrets.

    ``host`` and ``port`` are what was used; the address of a stamp's endpoint of the same name wins over them.
    ``pipeline_id`` is None as long as no command was prepared. ``received`` is the number of the last message that came
    to a client that has left the pipeline; None while it has one, and where the numbers do not tell.
    """

    endpoint: str
    host: str
    port: int
    https: bool
    configuration: str
    shell_id: str
    pool_id: str
    pipeline_id: str | None
    idle_timeout_s: int
    received: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SessionIds:
        """The ids as ``to_json`` wrote them; fields of a newer version are ignored, and one of an older version has no
        ``received``.

        Raises:
            KeyError: A field is missing.
        """
        return cls(**{name: document[name] for name in cls.__slots__ if name != "received" or name in document})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pipeline ended.

    ``counts`` are the records that this client got, by stream; ``unreadable`` how many of them could not be read or
    came in pieces. A completed pipeline may have written errors: look at ``counts``.
    """

    state: PipelineState
    error: ErrorDetail | None = None
    counts: Mapping[Stream, int] = field(default_factory=dict)
    unreadable: int = 0
    command: str | None = None

    def raise_for_failure(self) -> None:
        """Raises the error of ``bridge.errors`` that the terminating error stands for, if the pipeline failed."""
        if self.state is PipelineState.FAILED:
            detail = self.error or ErrorDetail("no reason given", "", "NotSpecified", "", terminating=True)
            raise error_for(detail, self.command)


class PipelineSession(Protocol):
    """What a pipeline needs of the session that it runs in."""

    def receive(self, command_id: str, timeout_s: int | None = None) -> tuple[str, bytes]: ...
    def read(self, data: bytes, defragmenter: Defragmenter) -> Iterator[Message | DamagedMessage]: ...
    def reconnect(self) -> None: ...
    def second_shell(self) -> AbstractContextManager[WinRS]: ...
    def finished(self, command_id: str) -> None: ...
    def disconnect(self) -> None: ...
    def error(self, error: Exception) -> BridgeError: ...


class RunningPipeline:
    """One or more statements that run on the endpoint. ``records`` is for one thread; the rest for any."""

    def __init__(self, session: PipelineSession, ids: SessionIds, command: str | None) -> None:
        self._session = session
        self._ids = ids
        self._command = command
        self._numbers = MessageNumbers()
        self._may_lack_records = False
        self._ended: tuple[PipelineState, ErrorDetail | None] | None = None
        self._defragmenter = Defragmenter()
        self._counts: Counter[Stream] = Counter()
        self._unreadable = 0
        self._early = b""  # what came with the question whether the command runs
        self._stopping = threading.Event()
        self._leaving = threading.Event()

    @property
    def outcome(self) -> Outcome | None:
        """How the pipeline ended; None while it runs."""
        if self._ended is None:
            return None
        state, error = self._ended
        return Outcome(state, error, dict(self._counts), self._unreadable, self._command)

    @property
    def ids(self) -> SessionIds:
        """What to attach with; once the pipeline was left, with how far its records had come."""
        was_left = self._ended is not None and self._ended[0] is PipelineState.DISCONNECTED
        return replace(self._ids, received=self._numbers.received if was_left else None)

    @property
    def command_id(self) -> str:
        return self._ids.pipeline_id or ""

    def records(self) -> Iterator[Record]:
        """The records as they arrive, until the pipeline has ended or this client has left it.

        The error that ends a pipeline comes as the last record (stream ``error``, ``terminating``). Where the endpoint
        has dropped some, because the session had been left on purpose, a warning of ours comes in their place; where it
        cannot be known whether it has, the first record is one that says so.

        Raises:
            SessionLostError: The session could not be had back in time; the command may go on. ``attach`` with
                ``ids`` takes it up again.
            SessionGoneError: The endpoint no longer has the session.
        """
        if self._may_lack_records:
            self._may_lack_records = False
            yield self._counted(Record(Stream.WARNING, _MAY_LACK, datetime.now(UTC)))
        while self._ended is None:
            if self._leaving.is_set():  # what the endpoint still holds is for the one who attaches
                self._end(PipelineState.DISCONNECTED)
                break
            try:
                state, data = self._early_or_next()
            except THIRD_PARTY as error:
                self._after_failure(error)
                continue
            except SessionLostError:
                if not self._leaving.is_set():
                    raise
                self._end(PipelineState.DISCONNECTED)
                return
            yield from self._read(data)
            if self._ended is None and state == CommandState.DONE:
                self._end(PipelineState.FAILED, _ended_without_a_word())
        self._session.finished(self.command_id)

    def wait(self) -> Outcome:
        """Reads what is left and returns how the pipeline ended."""
        for _ in self.records():
            pass
        outcome = self.outcome
        if outcome is None:
            raise SessionLostError(host=self.ids.host, detail="the pipeline has another reader")
        return outcome

    def stop(self) -> None:
        """Asks the endpoint to stop the pipeline; ``records`` then ends with state STOPPED.

        The signal goes over a connection of its own: the other one may be waiting for records.

        Raises:
            SessionLostError: The signal could not be sent.
        """
        if self._ended is not None:
            return
        self._stopping.set()
        with self._session.second_shell() as shell:
            try:
                shell.signal(SignalCode.PS_CTRL_C, self.command_id)
            except BridgeError:
                self._stopping.clear()  # a session that ends now was not ended by us
                raise
            except THIRD_PARTY as error:
                if isinstance(error, WSManFaultError) and error.code == SHELL_NOT_FOUND:
                    return  # it ended by itself meanwhile
                self._stopping.clear()
                raise self._session.error(error) from error

    def disconnect(self) -> None:
        """Leaves the pipeline running on the endpoint; ``records`` then ends with state DISCONNECTED.

        The endpoint keeps what the command writes, and drops the oldest of it once its buffer is full: the command
        goes on (see ``EndpointSession.disconnect``).

        Raises:
            SessionLostError: The endpoint could not be told. It notices by itself after a while.
        """
        if self._ended is None:
            self._leaving.set()
            self._session.disconnect()

    def was_taken_up(self, in_answer: Collection[int], *, drops: bool) -> None:
        """Says that another client had the pipeline before.

        Args:
            in_answer: The numbers of the messages in the answer to Connect.
            drops: Whether the endpoint may have dropped what nobody took.
        """
        self._numbers = MessageNumbers(self._ids.received, in_answer)
        self._may_lack_records = drops and self._ids.received is None

    def came_early(self, data: bytes) -> None:
        """Keeps fragments that came before ``records`` was called."""
        self._early += data

    def _early_or_next(self) -> tuple[str, bytes]:
        if self._early:
            data, self._early = self._early, b""
            return CommandState.RUNNING, data
        return self._session.receive(self.command_id)

    def _after_failure(self, error: Exception) -> None:
        """What a failed poll means: nothing new yet, the end that was asked for, or the end of the session."""
        code = error.code if isinstance(error, WSManFaultError) else None
        if code == OPERATION_TIMED_OUT:
            return
        if self._leaving.is_set():
            self._end(PipelineState.DISCONNECTED)
        elif code in (SHELL_DISCONNECTED, STREAM_DISCONNECTED):
            self._session.reconnect()
        elif self._stopping.is_set() and code == SHELL_NOT_FOUND:
            self._end(PipelineState.STOPPED)
        else:
            raise self._session.error(error) from error

    def _read(self, data: bytes) -> Iterator[Record]:
        for message in self._session.read(data, self._defragmenter):
            now = datetime.now(UTC)
            missing = self._numbers.missing_before(message.object_id)
            if missing:
                yield self._counted(Record(Stream.WARNING, _lacking(missing), now))
            if isinstance(message, DamagedMessage):
                record = unreadable_record(Stream.OUTPUT, b"", message.detail, now)
            else:
                found = self._record_of(message, now)
                if found is None:
                    continue
                record = found
            yield self._counted(record)

    def _counted(self, record: Record) -> Record:
        self._counts[record.stream] += 1
        self._unreadable += record.raw is not None
        return record

    def _record_of(self, message: Message, now: datetime) -> Record | None:
        try:
            said = read_message(message, now)
        except UnreadableCliXmlError as error:
            if message.type == MessageType.PIPELINE_STATE:
                self._end(PipelineState.FAILED, _unreadable_state(str(error)))
            return unreadable_record(Stream.OUTPUT, message.payload, str(error), now)
        if isinstance(said, Record):
            return said
        if isinstance(said, StateChange):
            return self._changed(said)
        if isinstance(said, HostCall) and said.call_id != -100:
            # No host was offered, so none may be asked; an answer is impossible and the person must know.
            return Record(Stream.WARNING, f"the endpoint asked a question ({said.method}): {said.text}", now)
        return None

    def _changed(self, change: StateChange) -> Record | None:
        if change.state is InvocationState.COMPLETED:
            self._end(PipelineState.COMPLETED)
        elif change.state is InvocationState.STOPPED:
            self._end(PipelineState.STOPPED)
        elif change.state is InvocationState.FAILED:
            self._end(PipelineState.FAILED, change.error)
            return change.record
        return None

    def _end(self, state: PipelineState, error: ErrorDetail | None = None) -> None:
        self._ended = (state, error)


def _lacking(count: int) -> str:
    records = "1 record is" if count == 1 else f"{count:,} records are"
    return (
        f"{records} missing here: nobody was connected, and the endpoint's buffer was full (the output log beside the"
        " logs has their text)"
    )


def _ended_without_a_word() -> ErrorDetail:
    return ErrorDetail(
        message="the command ended without saying how (its process on the endpoint may have died)",
        error_id="PipelineEndedWithoutState",
        category="ConnectionError",
        exception_type="",
        terminating=True,
    )


def _unreadable_state(why: str) -> ErrorDetail:
    return ErrorDetail(
        message=f"the endpoint said how the command ended in a form that could not be read: {why}",
        error_id="UnreadablePipelineState",
        category="InvalidData",
        exception_type="",
        terminating=True,
    )
