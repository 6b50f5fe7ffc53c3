"""The private line between a PowerShell process and the simulator: bound parameters in, what the command says out.

A generated command connects on loopback, shows the token of its session, sees the simulator's, and only then sends its
parameters: one line, CLIXML in base64. Every line that comes back is one message (``relay.ps1`` is the other end).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as SafeTree
from defusedxml import DefusedXmlException
from psrpcore.types import PSCryptoProvider, deserialize

from bridge.simulator._command import CommandSpec, CredentialValue, SimulatedError
from bridge.simulator.session._clixml import OBJECT, SecureText, Thing, to_clixml
from bridge.simulator.session._pipeline import PipelineStoppedError
from bridge.simulator.session._values import plain

_HOST: Final = "127.0.0.1"
_NAMESPACE: Final = "{http://schemas.microsoft.com/powershell/2004/04}"
_HELLO_S: Final = 30.0
_JOIN_S: Final = 10.0
_LONGEST_TOKEN_BYTES: Final = 256
_LONGEST_CALL_BYTES: Final = 64 << 20


class ChannelError(Exception):
    """What came through the channel is not what a generated command sends."""


@dataclass(eq=False, slots=True)
class Caller:
    """Whose commands come through one token; the session's id is known once its client has opened it."""

    session_id: str
    username: str
    machine: str
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class Pass:
    """What a PowerShell process needs to reach the simulator; ``file`` is named by its environment."""

    token: str
    file: Path


class Channel:
    """Listens on loopback and runs the simulated commands that generated ones ask for, each on a thread of its own."""

    def __init__(self, commands: Sequence[CommandSpec]) -> None:
        self._commands = {command.name.casefold(): command for command in commands}
        self._callers: dict[str, Caller] = {}
        self._answer = secrets.token_urlsafe(32)
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    def start(self) -> None:
        """Listens.

        Raises:
            OSError: There is no port to listen on.
        """
        self._listener = socket.create_server((_HOST, 0))
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), name="engine-channel")
        self._acceptor.start()

    def close(self) -> None:
        """Ends every command that still runs, and every thread."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        _shut(listener)
        with contextlib.suppress(OSError):  # where shutting a listener does not wake its accept, a last caller does
            socket.create_connection(listener.getsockname(), timeout=1.0).close()
        if self._acceptor is not None:
            self._acceptor.join()
        listener.close()
        with self._lock:
            open_now = dict(self._connections)
        for connection in open_now.values():
            _shut(connection)
        for thread in open_now:
            thread.join(_JOIN_S)

    def admit(self, caller: Caller, folder: Path) -> Pass:
        """Lets one process in; writes the file that tells it how.

        Args:
            caller: Who its commands are run for.
            folder: A folder that only the simulator's user can read.
        """
        assert self._listener is not None, "the channel was not started"  # noqa: S101
        token = secrets.token_urlsafe(32)
        file = folder / f"channel-{secrets.token_hex(8)}"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii", newline="\n") as out:
            out.write(f"{self._listener.getsockname()[1]}\n{token}\n{self._answer}\n")
        self._callers[token] = caller
        return Pass(token, file)

    def dismiss(self, admitted: Pass) -> None:
        """Lets the process in no more."""
        self._callers.pop(admitted.token, None)
        admitted.file.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        while self._listener is not None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed
            thread = threading.Thread(target=self._serve, args=(connection,), name="engine-command", daemon=True)
            with self._lock:
                self._connections[thread] = connection
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                connection.settimeout(_HELLO_S)
                caller = self._callers.get(stream.readline(_LONGEST_TOKEN_BYTES).decode("ascii", "replace").strip())
                if caller is None:
                    return
                connection.sendall(f"{self._answer}\n".encode("ascii"))
                call = read_call(stream.readline(_LONGEST_CALL_BYTES), caller.zone)
                connection.settimeout(None)
                self._run(connection, caller, call)
        except (OSError, ChannelError):
            return  # whoever connected is gone, or is no generated command; PowerShell tells its client
        finally:
            with self._lock:
                self._connections.pop(threading.current_thread(), None)

    def _run(self, connection: socket.socket, caller: Caller, call: Call) -> None:
        command = self._commands.get(call.command.casefold())
        if command is None:
            raise ChannelError(f"there is no command {call.command}")
        context = ChannelContext(connection, caller, command.name)
        watcher = threading.Thread(target=context.watch, name="engine-command-watch", daemon=True)
        watcher.start()
        try:
            context.say(_last_words(command, context, call))
        except PipelineStoppedError:
            pass  # PowerShell has left: it stops the pipeline itself
        finally:
            _shut(connection)
            watcher.join(_JOIN_S)


def _last_words(command: CommandSpec, context: ChannelContext, call: Call) -> dict[str, Any]:
    declared = {spec.name.casefold(): spec.name for spec in command.parameters}
    bound = {declared[name.casefold()]: value for name, value in call.arguments.items() if name.casefold() in declared}
    try:
        command.run(context, bound)
    except SimulatedError as error:
        thrown = error.error_id == error.message
        return {"kind": "throw", "message": error.message} if thrown else _record("fail", error, command.name)
    except Exception as problem:
        defect = SimulatedError(f"{type(problem).__name__}: {problem}", "SimulatorDefect", "NotSpecified")
        return _record("fail", defect, command.name)
    return {"kind": "end"}


def _record(kind: str, error: SimulatedError, command: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "message": error.message,
        "id": error.error_id.removesuffix(f",{command}"),  # PowerShell adds it
        "category": error.category,
        "exception": error.exception_type,
        "target": error.target,
    }


@dataclass(frozen=True, slots=True)
class Call:
    """A command with its bound arguments, common parameters included."""

    command: str
    arguments: Mapping[str, Any] = field(repr=False)


class ChannelContext:
    """What a command may say (``CommandContext``); each message is one line."""

    def __init__(self, connection: socket.socket, caller: Caller, command: str) -> None:
        self.stopping = threading.Event()
        self.session_id = caller.session_id
        self.username = caller.username
        self.machine = caller.machine
        self._connection = connection
        self._command = command

    def watch(self) -> None:
        """Waits until PowerShell leaves: the command has ended, was stopped, or the process is gone."""
        with contextlib.suppress(OSError):
            while self._connection.recv(1024):
                continue
        self.stopping.set()

    def say(self, message: Mapping[str, Any]) -> None:
        """Sends one message.

        Raises:
            PipelineStoppedError: Nobody listens any more.
        """
        if self.stopping.is_set():
            raise PipelineStoppedError
        line = base64.b64encode(_document(message).encode("utf-8"))
        try:
            self._connection.sendall(line + b"\n")
        except OSError:
            self.stopping.set()
            raise PipelineStoppedError from None

    def write_output(self, value: Any) -> None:
        self.say({"kind": "output", "value": value})

    def write_error(self, error: SimulatedError) -> None:
        self.say(_record("error", error, self._command))

    def write_warning(self, message: str) -> None:
        self.say({"kind": "warning", "message": message})

    def write_verbose(self, message: str) -> None:
        self.say({"kind": "verbose", "message": message})

    def write_debug(self, message: str) -> None:
        self.say({"kind": "debug", "message": message})

    def write_information(self, message: str, *, tags: tuple[str, ...] = (), from_host: bool = False) -> None:
        if from_host:
            self.say({"kind": "host", "message": message})
        else:
            self.say({"kind": "information", "message": message, "tags": list(tags)})

    def write_progress(
        self,
        activity: str,
        status: str,
        *,
        percent: int = -1,
        activity_id: int = 0,
        parent_id: int = -1,
        operation: str | None = None,
        seconds_remaining: int = -1,
        completed: bool = False,
    ) -> None:
        self.say(
            {
                "kind": "progress",
                "activity": activity or " ",  # a ProgressRecord takes no empty text
                "status": status or " ",
                "percent": percent,
                "activity_id": activity_id,
                "parent_id": parent_id,
                "operation": operation,
                "seconds_remaining": seconds_remaining,
                "completed": completed,
            }
        )


def _document(message: Mapping[str, Any]) -> str:
    # A table, not an object: its values keep their types, and a key is found whatever its case.
    table = Thing(("System.Collections.Hashtable", OBJECT), entries=list(message.items()))
    return f'<Objs Version="1.1.0.1" xmlns="{_NAMESPACE[1:-1]}">{to_clixml(table)}</Objs>'


class _NoCipher(PSCryptoProvider):
    """There is no SecureString on the channel: credentials come apart."""

    def decrypt(self, value: str) -> str:
        raise ChannelError("an encrypted value on the channel")

    def encrypt(self, value: str) -> str:
        raise ChannelError("an encrypted value on the channel")

    def register_key(self, key: bytes) -> None:
        raise ChannelError("a key on the channel")


def read_call(line: bytes, zone: tzinfo) -> Call:
    """The call in a line of the channel.

    Args:
        line: Base64 of CLIXML: a table of command, arguments, credentials and secrets.
        zone: The zone of dates that have none.

    Raises:
        ChannelError: It is none.
    """
    try:
        root = SafeTree.fromstring(base64.b64decode(line.strip(), validate=True))
        for element in root.iter():
            element.tag = element.tag.removeprefix(_NAMESPACE)
        value = plain(deserialize(_only_child(root), _NoCipher()))
        arguments = {str(name): _with_zone(item, zone) for name, item in value["arguments"].items()}
        for name, (username, password) in value["credentials"].items():
            arguments[str(name)] = CredentialValue(str(username or ""), str(password or ""))
        for name, text in value["secrets"].items():
            arguments[str(name)] = SecureText(str(text))
        return Call(str(value["command"]), arguments)
    except (binascii.Error, ParseError, DefusedXmlException, LookupError, TypeError, ValueError) as problem:
        raise ChannelError(f"no call: {type(problem).__name__}") from None


def _only_child(root: Element) -> Element:
    [child] = root
    return child


def _with_zone(value: Any, zone: tzinfo) -> Any:
    return value.replace(tzinfo=zone) if isinstance(value, datetime) and value.tzinfo is None else value


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side has gone already
        connection.shutdown(socket.SHUT_RDWR)
