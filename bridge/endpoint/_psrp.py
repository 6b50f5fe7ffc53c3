"""The client half of PSRP without a wire: commands in, fragments out (packed by psrpcore); answers in, messages out.

psrpcore keeps the protocol's state and packs what is sent. What comes back reaches psrpcore only where it is part of
the protocol (capability, state, session key); records are read by this room's own reader.
"""

from __future__ import annotations

import enum
import re
import struct
import uuid
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import ParseError

import psrpcore
from psrpcore.types import (
    PSCredential,
    PSDateTime,
    PSDecimal,
    PSDict,
    PSDouble,
    PSInt,
    PSInt64,
    PSList,
    PSObject,
    PSSecureString,
    PSString,
    PSType,
    RemoteStreamOptions,
    RunspacePoolState,
)

from bridge.endpoint._commands import Command, Hashtable, Int64, NumberLiteral, Value
from bridge.endpoint._messages import DamagedMessage, Defragmenter, Message, MessageType
from bridge.errors import CommandNotAllowedError, UsageError
from bridge.secrets import Credential, Secret

DEFAULT_FRAGMENT_BYTES = 32768  # what PowerShell's own clients send at a time; a WSMan client asks for its own measure
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
_PROTOCOL_MESSAGES = frozenset(
    {
        MessageType.SESSION_CAPABILITY,
        MessageType.RUNSPACEPOOL_STATE,
        MessageType.RUNSPACEPOOL_INIT_DATA,
        MessageType.ENCRYPTED_SESSION_KEY,
        MessageType.APPLICATION_PRIVATE_DATA,
    }
)
_LONGEST_PROTOCOL_MESSAGE_BYTES = 1 << 20
# What psrpcore and what it stands on raise where a message is not what it should be.
_MISREADINGS = (
    psrpcore.PSRPCoreError,
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    ParseError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
_MERGES = ("error", "warning", "verbose", "debug", "information")


class _NumericOffset(tzinfo):
    """UTC that is written ``+00:00``. With ``Z`` the command would see a DateTime of kind Utc, and one that ignores
    the kind would be wrong by the server's offset; with a numeric offset it sees the instant in the server's zone."""

    def utcoffset(self, _moment: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, _moment: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, _moment: datetime | None) -> str:
        return "+00:00"


@PSType(["System.Object[]", "System.Array", "System.Object"], skip_inheritance=True, rehydrate=False)
class _ObjectArray(PSList):
    """A PowerShell array, typed as PowerShell's own converter types it."""


@PSType(skip_inheritance=True, rehydrate=False)
class _Untyped(PSObject):
    """Lends what has no .NET type of its own an empty list of type names."""


class PsrpClient:
    """One runspace pool, seen from the client. Not thread-safe: one thread sends and reads."""

    def __init__(self, pool_id: uuid.UUID | None = None, *, fragment_bytes: int = DEFAULT_FRAGMENT_BYTES) -> None:
        self._pool = psrpcore.ClientRunspacePool(runspace_pool_id=pool_id)
        self._fragment_bytes = fragment_bytes
        self._key_arrived = False

    @property
    def pool_id(self) -> uuid.UUID:
        return self._pool.runspace_pool_id

    @property
    def has_session_key(self) -> bool:
        """Whether secure strings can be sent."""
        return self._key_arrived

    def opening(self) -> bytes:
        """The first message of a new pool: SESSION_CAPABILITY and INIT_RUNSPACEPOOL."""
        self._pool.open()
        return b"".join(self._take())

    def connecting(self) -> bytes:
        """The first message to a pool that another client opened: SESSION_CAPABILITY and CONNECT_RUNSPACEPOOL."""
        self._pool.connect()
        return b"".join(self._take())

    def connected(self) -> None:
        """The transport has connected. Windows may send the pool's state only with the next data."""
        self._pool.state = RunspacePoolState.Opened

    def asking_for_key(self) -> list[bytes]:
        """PUBLIC_KEY: the session key that secure strings are encrypted with is asked for."""
        self._pool.exchange_key()
        return list(self._take())

    def creating(self, commands: Sequence[Command]) -> tuple[uuid.UUID, list[bytes]]:
        """CREATE_PIPELINE for the commands: the pipeline's id and the fragments to send.

        No invocation information is asked for: with it every record would carry the SAS and the credential back.

        Raises:
            UsageError: A value cannot be sent (a naive datetime, a number out of range, a lone surrogate).
        """
        if not commands:
            raise UsageError(detail="there is no command to send")
        pipeline = psrpcore.ClientPowerShell(self._pool, remote_stream_options=RemoteStreamOptions.none)
        for command in commands:
            pipeline.add_command(_packed_command(command))
        pipeline.metadata.commands[-1].end_of_statement = False  # nothing follows: an empty statement would be sent
        return self._start(pipeline)

    def asking_for_metadata(self, names: Sequence[str]) -> tuple[uuid.UUID, list[bytes]]:
        """GET_COMMAND_METADATA (MS-PSRP 2.2.2.14) for commands by name or wildcard."""
        return self._start(psrpcore.ClientGetCommandMetadata(self._pool, list(names)))

    def _start(self, pipeline: Any) -> tuple[uuid.UUID, list[bytes]]:
        pipeline.start()
        return pipeline.pipeline_id, list(self._take())

    def _take(self) -> Iterator[bytes]:
        while True:
            payload = self._pool.data_to_send(self._fragment_bytes)
            if payload is None:
                return
            yield payload.data

    def read(self, data: bytes, defragmenter: Defragmenter) -> Iterator[Message | DamagedMessage]:
        """The messages that an answer completes. Those of the protocol itself have taken effect when they come out, or
        are damaged."""
        for message in defragmenter.feed(data):
            if isinstance(message, Message) and message.type in _PROTOCOL_MESSAGES:
                yield self._applied(message)
            else:
                yield message

    def _applied(self, message: Message) -> Message | DamagedMessage:
        if len(message.payload) > _LONGEST_PROTOCOL_MESSAGE_BYTES or b"<!" in message.payload:
            detail = f"a message of the protocol (type {message.type:#x}) is too long, or has a DTD"
            return DamagedMessage(message.object_id, detail)
        try:
            self._apply(message)
        except _MISREADINGS as error:
            detail = f"a message of the protocol (type {message.type:#x}) cannot be read: {error}"
            return DamagedMessage(message.object_id, detail)
        return message

    def _apply(self, message: Message) -> None:
        self._pool.receive_data(psrpcore.PSRPPayload(message.as_fragment(), psrpcore.StreamType.default, None))
        self._pool.next_event()
        if message.type == MessageType.ENCRYPTED_SESSION_KEY:
            self._key_arrived = True


def needs_session_key(commands: Sequence[Command]) -> bool:
    """Whether a parameter holds a Secret or a Credential, at any depth."""
    return any(_holds_secret(parameter.value) for command in commands for parameter in command.parameters)


def _holds_secret(value: Value) -> bool:
    match value:
        case Secret() | Credential():
            return True
        case Hashtable():
            return any(_holds_secret(key) or _holds_secret(item) for key, item in value.items)
        case tuple():
            return any(_holds_secret(item) for item in value)
        case _:
            return False


def check_allowed(commands: Sequence[Command], allow: Collection[str], verb: str) -> None:
    """Refuses a command that is not on the allow-list. Names have no case; one with a module is looked up as it is
    written, and is not the same command as the bare name (another module may define it).

    Raises:
        CommandNotAllowedError: Some command is not on the list.
    """
    allowed = {name.casefold() for name in allow}
    for command in commands:
        if command.name.casefold() not in allowed:
            raise CommandNotAllowedError(command=command.name, verb=verb)


def _packed_command(command: Command) -> psrpcore.Command:
    packed = psrpcore.Command(_sendable(command.name))
    for parameter in command.parameters:
        name = None if parameter.name is None else _sendable(parameter.name)
        packed.add_parameter(name, pack_value(parameter.value))
    for stream in _MERGES if "all" in command.merge else command.merge:
        if stream not in _MERGES:
            raise UsageError(detail=f"there is no stream '{stream}' to merge")
        getattr(packed, f"redirect_{stream}")()
    packed.end_of_statement = command.end_of_statement
    return packed


def pack_value(value: Value) -> Any:  # noqa: PLR0912 - one case a type
    """The value as psrpcore packs it: the type that PowerShell's own client would send.

    Raises:
        UsageError: A naive datetime, a number that no .NET type of its kind holds, or a float that is not finite.
    """
    match value:
        case None | bool():
            return value
        case str():
            return PSString(_sendable(value))
        case int():
            return PSInt(_within(value, _INT32, "Int32"))
        case Int64():
            return PSInt64(_within(value.value, _INT64, "Int64"))
        case NumberLiteral():
            return _packed_literal(value)
        case float():
            if value != value or abs(value) == float("inf"):  # noqa: PLR0124
                raise UsageError(detail=f"the number {value} cannot be sent")
            return PSDouble(value)
        case Decimal():
            return PSDecimal(value)
        case datetime():
            return _packed_datetime(value)
        case Secret():
            return PSSecureString(_sendable(value.reveal()))
        case Credential():
            return PSCredential(
                UserName=_sendable(value.username), Password=PSSecureString(_sendable(value.password.reveal()))
            )
        case Hashtable():
            return PSDict({pack_value(key): pack_value(item) for key, item in value.items})
        case _:
            return _ObjectArray([pack_value(item) for item in value])


def _sendable(text: str) -> str:
    if _SURROGATE.search(text):
        raise UsageError(detail="a parameter holds half of a surrogate pair, which XML cannot carry")
    return text


def _packed_literal(value: NumberLiteral) -> Any:
    """The number with the text that was written, as PowerShell sends both. psrpcore writes an enum in that form: its
    value is the number, its name the text."""
    literal = enum.Enum("_Literal", {value.text: pack_value(value.value)})  # type: ignore[misc]
    literal.PSObject = _Untyped.PSObject  # type: ignore[attr-defined]
    return literal[value.text]


def _within(value: int, bounds: range, name: str) -> int:
    if value not in bounds:
        raise UsageError(detail=f"the number {value} does not fit an {name}")
    return value


def _packed_datetime(value: datetime) -> PSDateTime:
    if value.utcoffset() is None:
        raise UsageError(detail=f"the time {value.isoformat()} has no zone: it would be read in the server's")
    moment = value.astimezone(UTC)
    return PSDateTime(
        moment.year,
        moment.month,
        moment.day,
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond,
        tzinfo=_NumericOffset(),
    )
