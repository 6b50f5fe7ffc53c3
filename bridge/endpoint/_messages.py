"""PSRP messages as they come off the wire: fragments put together (MS-PSRP 2.2.4) and messages read into records."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, TypeVar

from bridge.endpoint._clixml import CliObject, UnreadableCliXmlError, decode_text, one_line, read_clixml, to_json
from bridge.endpoint._records import ErrorDetail, Progress, Record, Stream

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Of one message, and of all those together of which a part is still to come."""
_MAX_OPEN_MESSAGES = 64
_MAX_REMEMBERED = 256
_PART_BYTES = 64  # what a fragment costs beside its content
_FRAGMENT_HEADER = struct.Struct(">QQBI")
_MESSAGE_HEADER = struct.Struct("<II16s16s")
_START, _END = 1, 2
_NO_PIPELINE = uuid.UUID(int=0)
_BOM = b"\xef\xbb\xbf"
_V = TypeVar("_V")


class MessageType(IntEnum):
    """The messages a server sends (MS-PSRP 2.2.1)."""

    SESSION_CAPABILITY = 0x00010002
    PUBLIC_KEY_REQUEST = 0x00010007
    ENCRYPTED_SESSION_KEY = 0x00010006
    RUNSPACEPOOL_INIT_DATA = 0x0002100B
    RUNSPACEPOOL_STATE = 0x00021005
    RUNSPACE_AVAILABILITY = 0x00021007
    USER_EVENT = 0x00021008
    APPLICATION_PRIVATE_DATA = 0x00021009
    RUNSPACEPOOL_HOST_CALL = 0x00021100
    PIPELINE_OUTPUT = 0x00041004
    ERROR_RECORD = 0x00041005
    PIPELINE_STATE = 0x00041006
    DEBUG_RECORD = 0x00041007
    VERBOSE_RECORD = 0x00041008
    WARNING_RECORD = 0x00041009
    PROGRESS_RECORD = 0x00041010
    INFORMATION_RECORD = 0x00041011
    PIPELINE_HOST_CALL = 0x00041100


class InvocationState(IntEnum):
    """PSInvocationState (MS-PSRP 2.2.3.5)."""

    NOT_STARTED = 0
    RUNNING = 1
    STOPPING = 2
    STOPPED = 3
    COMPLETED = 4
    FAILED = 5
    DISCONNECTED = 6


class PoolState(IntEnum):
    """RunspacePoolState (MS-PSRP 2.2.3.4)."""

    BEFORE_OPEN = 0
    OPENING = 1
    OPENED = 2
    CLOSED = 3
    CLOSING = 4
    BROKEN = 5


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message: its type (any number a server may send), whom it is for, its CLIXML, and its number."""

    type: int
    pool_id: uuid.UUID
    pipeline_id: uuid.UUID | None
    payload: bytes
    object_id: int = 0

    def as_fragment(self) -> bytes:
        """The message as one whole fragment, for a reader that takes only those."""
        pipeline = (self.pipeline_id or _NO_PIPELINE).bytes_le
        body = _MESSAGE_HEADER.pack(1, self.type, self.pool_id.bytes_le, pipeline) + self.payload
        return _FRAGMENT_HEADER.pack(self.object_id, 0, _START | _END, len(body)) + body


@dataclass(frozen=True, slots=True)
class DamagedMessage:
    """A message of which a part never came; nothing else is lost with it."""

    object_id: int
    detail: str


class Defragmenter:
    """Puts the fragments of one stream together. What cannot be put together is told, and the next is read; what comes
    a second time, fragment or message, is passed over (an object id is given once, MS-PSRP 2.2.4)."""

    def __init__(self) -> None:
        self._rest = b""
        self._open: dict[int, list[bytes]] = {}
        self._held_bytes = 0
        self._skipped: dict[int, None] = {}
        self._seen: dict[int, int] = {}

    def feed(self, data: bytes) -> Iterator[Message | DamagedMessage]:
        """Takes the bytes of one answer and yields what they complete."""
        buffer = self._rest + data
        at = 0
        while len(buffer) - at >= _FRAGMENT_HEADER.size:
            object_id, fragment_id, flags, length = _FRAGMENT_HEADER.unpack_from(buffer, at)
            start = at + _FRAGMENT_HEADER.size
            if length > MAX_MESSAGE_BYTES:
                self._rest = b""
                yield DamagedMessage(object_id, f"a fragment claims {length} bytes")
                return
            if len(buffer) - start < length:
                break
            at = start + length
            yield from self._take(object_id, fragment_id, flags, buffer[start:at])
        self._rest = buffer[at:]

    def _take(self, object_id: int, fragment_id: int, flags: int, part: bytes) -> Iterator[Message | DamagedMessage]:
        if flags & _START:
            self._skipped.pop(object_id, None)
            self._close(object_id)
            self._open[object_id] = []
        parts = self._open.get(object_id)
        if parts and fragment_id == len(parts) - 1 and parts[-1] == part:
            return
        if parts is None or len(parts) != fragment_id:
            yield from self._skip(object_id, f"fragment {fragment_id} came without the one before it")
            return
        parts.append(part)
        self._held_bytes += len(part) + _PART_BYTES
        if flags & _END:
            whole = b"".join(self._close(object_id))
            if not self._is_repeated(object_id, whole):
                yield _message(object_id, whole)
        elif len(self._open) > _MAX_OPEN_MESSAGES or self._held_bytes > MAX_MESSAGE_BYTES:
            yield from self._skip(object_id, "the message is larger than what is kept in memory")

    def _close(self, object_id: int) -> list[bytes]:
        parts = self._open.pop(object_id, [])
        self._held_bytes -= sum(len(part) + _PART_BYTES for part in parts)
        return parts

    def _skip(self, object_id: int, why: str) -> Iterator[DamagedMessage]:
        self._close(object_id)
        if object_id not in self._skipped and object_id not in self._seen:
            yield DamagedMessage(object_id, why)
        _remember(self._skipped, object_id, None)

    def _is_repeated(self, object_id: int, whole: bytes) -> bool:
        content = hash(whole)
        repeated = self._seen.get(object_id) == content
        _remember(self._seen, object_id, content)
        return repeated


def _remember(kept: dict[int, _V], key: int, value: _V) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > _MAX_REMEMBERED:
        del kept[next(iter(kept))]


def _message(object_id: int, data: bytes) -> Message | DamagedMessage:
    if len(data) < _MESSAGE_HEADER.size:
        return DamagedMessage(object_id, f"{len(data)} bytes are no message")
    _, kind, pool, pipeline = _MESSAGE_HEADER.unpack_from(data)
    pipeline_id = uuid.UUID(bytes_le=pipeline)
    return Message(
        type=kind,
        pool_id=uuid.UUID(bytes_le=pool),
        pipeline_id=None if pipeline_id == _NO_PIPELINE else pipeline_id,
        payload=data[_MESSAGE_HEADER.size :].removeprefix(_BOM),
        object_id=object_id,
    )


@dataclass(frozen=True, slots=True)
class StateChange:
    """PIPELINE_STATE: how the pipeline stands, and the error that ended it."""

    state: InvocationState
    error: ErrorDetail | None
    record: Record | None


@dataclass(frozen=True, slots=True)
class HostCall:
    """A call to the person's host (MS-PSRP 2.2.3.17). ``call_id`` -100 expects no answer and repeats a record."""

    call_id: int
    method: str
    text: str


_STREAMS: dict[int, Stream] = {
    MessageType.PIPELINE_OUTPUT: Stream.OUTPUT,
    MessageType.ERROR_RECORD: Stream.ERROR,
    MessageType.WARNING_RECORD: Stream.WARNING,
    MessageType.VERBOSE_RECORD: Stream.VERBOSE,
    MessageType.DEBUG_RECORD: Stream.DEBUG,
    MessageType.INFORMATION_RECORD: Stream.INFORMATION,
    MessageType.PROGRESS_RECORD: Stream.PROGRESS,
}

# System.Management.Automation.ErrorCategory by number (MS-PSRP 2.2.3.9).
_CATEGORIES = (
    "NotSpecified",
    "OpenError",
    "CloseError",
    "DeviceError",
    "DeadlockDetected",
    "InvalidArgument",
    "InvalidData",
    "InvalidOperation",
    "InvalidResult",
    "InvalidType",
    "MetadataError",
    "NotImplemented",
    "NotInstalled",
    "ObjectNotFound",
    "OperationStopped",
    "OperationTimeout",
    "SyntaxError",
    "ParserError",
    "PermissionDenied",
    "ResourceBusy",
    "ResourceExists",
    "ResourceUnavailable",
    "ReadError",
    "WriteError",
    "FromStdErr",
    "SecurityError",
    "ProtocolError",
    "ConnectionError",
    "AuthenticationError",
    "LimitsExceeded",
    "QuotaExceeded",
    "NotEnabled",
)

_ERROR_RECORD = "System.Management.Automation.ErrorRecord"
# What an error record says beside the parts of ErrorDetail. Its invocation information is left out: it may hold
# the parameters of the command.
_ERROR_DATA = (
    "ErrorCategory_Activity",
    "ErrorCategory_Reason",
    "ErrorCategory_TargetName",
    "ErrorCategory_TargetType",
    "ErrorCategory_Message",
    "ErrorDetails_Message",
    "ErrorDetails_RecommendedAction",
    "ErrorDetails_ScriptStackTrace",
)
_INFORMATION_DATA = ("Source", "TimeGenerated", "Tags", "Computer")


def read_message(message: Message, at: datetime | None = None) -> Record | StateChange | HostCall | CliObject | None:
    """What a message of a pipeline says: a record, a change of state, a call to the host, or its bare object.

    A record that cannot be read becomes a record with its ``raw`` payload; a state that cannot be read is the only
    thing that raises, for without it the pipeline would seem to run for ever.

    Raises:
        UnreadableCliXmlError: The payload of a state or of a message that is no record is unreadable.
    """
    now = at or datetime.now(UTC)
    stream = _STREAMS.get(message.type)
    if stream is None:
        return _read_control(message, now)
    if stream is Stream.OUTPUT and not message.payload:
        return Record(stream=stream, text="", at=now)  # $null is sent as no payload at all
    try:
        record = _read_record(stream, read_clixml(message.payload), now)
    except UnreadableCliXmlError as error:
        return unreadable_record(stream, message.payload, str(error), now)
    return replace(record, clixml=message.payload.decode("utf-8", "backslashreplace"))


def unreadable_record(stream: Stream, payload: bytes, why: str, at: datetime) -> Record:
    """The record that stands for one that could not be read; ``raw`` is what came."""
    raw = payload.decode("utf-8", "backslashreplace")
    return Record(
        stream=stream, text=f"(a record of {len(payload)} bytes could not be read: {why})", at=at, raw=raw, clixml=raw
    )


def _read_control(message: Message, at: datetime) -> StateChange | HostCall | CliObject | None:
    if not message.payload:
        return None
    item = read_clixml(message.payload)
    if message.type == MessageType.PIPELINE_STATE:
        return _read_state(item, at)
    if message.type in (MessageType.PIPELINE_HOST_CALL, MessageType.RUNSPACEPOOL_HOST_CALL):
        call_id = item.get("ci")
        parameters = item.get("mp")
        shown = parameters[-1] if isinstance(parameters, list) and parameters else ""
        return HostCall(call_id if isinstance(call_id, int) else -100, item.text("mi"), str(shown))
    return item


def _read_state(item: CliObject, at: datetime) -> StateChange:
    number = item.get("PipelineState")
    if number not in list(InvocationState):
        raise UnreadableCliXmlError(f"unknown pipeline state {number!r}")
    part = item.parts.get("ExceptionAsErrorRecord")
    state = InvocationState(number)
    if part is None:
        return StateChange(state, None, None)
    detail = read_error(part, terminating=True)
    record = Record(stream=Stream.ERROR, text=detail.message, at=at, data=_error_data(part), error=detail)
    return StateChange(state, detail, record)


def _read_record(stream: Stream, item: CliObject, at: datetime) -> Record:
    if stream is Stream.OUTPUT:
        if item.is_a(_ERROR_RECORD):  # merged into output (2>&1)
            detail = read_error(item, terminating=False)
            return Record(stream=stream, text=detail.message, at=at, data=_error_data(item), error=detail)
        return Record(stream=stream, text=one_line(item), at=at, data=to_json(item))
    if stream is Stream.ERROR:
        detail = read_error(item, terminating=False)
        return Record(stream=stream, text=detail.message, at=at, data=_error_data(item), error=detail)
    if stream is Stream.PROGRESS:
        progress = _read_progress(item)
        return Record(stream=stream, text=_progress_text(progress), at=at, progress=progress)
    if stream is Stream.INFORMATION:
        return _read_information(item, at)
    text = item.get("InformationalRecord_Message")
    return Record(stream=stream, text=text if isinstance(text, str) else one_line(item), at=at)


def read_error(item: CliObject, *, terminating: bool) -> ErrorDetail:
    """An ErrorRecord (MS-PSRP 2.2.3.15). ``ErrorDetails_Message`` is the one meant for people where there is one."""
    exception = item.parts.get("Exception")
    message = item.text("ErrorDetails_Message")
    if not message and exception is not None:
        message = exception.text("Message")
    category = item.get("ErrorCategory_Category")
    known = isinstance(category, int) and 0 <= category < len(_CATEGORIES)
    target = item.get("TargetObject")
    part = item.parts.get("TargetObject")
    return ErrorDetail(
        message=message or item.to_string or item.text("ErrorCategory_Message"),
        error_id=item.text("FullyQualifiedErrorId"),
        category=_CATEGORIES[category] if known and isinstance(category, int) else str(category),
        exception_type=_first_type(exception) or item.text("ErrorCategory_Reason"),
        target=None if target is None else one_line(part) if part is not None else str(target),
        terminating=terminating,
    )


def _first_type(item: CliObject | None) -> str:
    return item.type_names[0].removeprefix("Deserialized.") if item is not None and item.type_names else ""


def _error_data(item: CliObject) -> dict[str, Any]:
    return {name: item.get(name) for name in _ERROR_DATA if item.get(name) is not None}


def _read_information(item: CliObject, at: datetime) -> Record:
    """An InformationRecord (MS-PSRP 2.2.2.26); what Write-Host wrote has the tag PSHOST and its text in Message."""
    part = item.parts.get("MessageData")
    data = item.get("MessageData")
    if part is not None and isinstance(part.get("Message"), str):
        text = part.text("Message")
    else:
        text = one_line(part) if part is not None else "" if data is None else str(data)
    kept = {name: item.get(name) for name in _INFORMATION_DATA if item.get(name) is not None}
    if part is not None:
        kept["MessageData"] = data
    return Record(stream=Stream.INFORMATION, text=text, at=at, data=kept)


def _read_progress(item: CliObject) -> Progress:
    def number(name: str, default: int) -> int:
        value = item.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    operation = item.get("CurrentOperation")
    return Progress(
        activity=item.text("Activity"),
        activity_id=number("ActivityId", 0),
        status=item.text("StatusDescription"),
        percent=number("PercentComplete", -1),
        operation=decode_text(str(operation)) if operation is not None else None,
        parent_id=number("ParentActivityId", -1),
        seconds_remaining=number("SecondsRemaining", -1),
        completed=item.get("Type") in ("Completed", 1),
    )


def _progress_text(progress: Progress) -> str:
    percent = f" ({progress.percent}%)" if progress.percent >= 0 else ""
    return ": ".join(filter(None, (progress.activity, progress.status.strip()))) + percent
