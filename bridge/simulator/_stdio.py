"""The simulated endpoint over stdin and stdout, as PowerShell starts it through ssh (``-s powershell`` subsystem).

The packets are those of PowerShell's out-of-process transport: one XML element a line, ``Data``, ``Command``,
``Signal`` and ``Close``, each acknowledged; what the server sends is not. Recorded in fixtures/real-powershell/stdio.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import BinaryIO, Final

from bridge.errors import EndpointError
from bridge.simulator._command import CommandSpec
from bridge.simulator.session import Outbox, ProtocolError, Session, SessionSettings

_POOL: Final = uuid.UUID(int=0)
_LONGEST_LINE_BYTES: Final = 4 << 20
_TAKE_BYTES: Final = 1 << 18
_JOIN_S: Final = 30.0
_PACKET: Final = re.compile(
    rb"<(?P<kind>Data|Command|Signal|Close)\b[^>]*?\bPSGuid=['\"](?P<id>[0-9A-Fa-f-]{36})['\"]"
    rb"[^>/]*(?:/>|>(?P<data>[^<]*)</Data>)"
)


def serve_stdio(
    commands: Sequence[CommandSpec],
    stdin: BinaryIO,
    stdout: BinaryIO,
    *,
    machine: str = "AzS-ERCS01",
    username: str = "AZURESTACK\\CloudAdmin",
    zone: tzinfo = UTC,
    output_buffer_bytes: int = 1 << 20,
) -> None:
    """Serves one restricted session until the client closes it or stdin ends.

    Nothing else may write to ``stdout`` meanwhile. Disconnect and connect do not exist on this transport.

    Raises:
        EndpointError: The client sent something that is not this protocol.
    """
    settings = SessionSettings(commands, machine=machine, zone=zone, output_buffer_bytes=output_buffer_bytes)
    _Server(Session(settings, username), stdin, stdout).run()


class _Server:
    """Reads packets on the caller's thread and writes on one of its own, so that a full pipe stalls only commands."""

    def __init__(self, session: Session, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self._session = session
        self._stdin = stdin
        self._stdout = stdout
        self._changed = threading.Condition()
        self._outboxes: dict[uuid.UUID, Outbox] = {_POOL: session.pool_output}
        self._closing: set[uuid.UUID] = set()
        self._acknowledgements: list[bytes] = []
        self._dirty = False
        self._ended = False
        self._writer = threading.Thread(target=self._write_all, name="simulated-stdio", daemon=True)
        session.pool_output.listen(self._wake)

    def run(self) -> None:
        self._writer.start()
        try:
            while line := self._stdin.readline(_LONGEST_LINE_BYTES):
                if line.strip():
                    self._take(line)
        finally:
            self._session.close()
            with self._changed:
                self._ended = self._dirty = True
                self._changed.notify()
            self._writer.join(_JOIN_S)

    def _take(self, line: bytes) -> None:
        packet = _PACKET.search(line)
        if packet is None:
            raise EndpointError(detail=f"not a packet of PowerShell's transport over stdin: {line[:60]!r}")
        identifier = uuid.UUID(packet["id"].decode())
        kind = packet["kind"].decode()
        match kind:
            case "Command":
                self._add(identifier)
            case "Data":
                self._feed(identifier, packet["data"] or b"")
            case "Signal":
                self._stop(identifier)
            case _:
                self._close(identifier)
                return  # acknowledged when everything that belongs to it was sent
        self._acknowledge(kind, identifier)

    def _add(self, identifier: uuid.UUID) -> None:
        outbox = self._session.new_outbox()
        outbox.listen(self._wake)
        self._outboxes[identifier] = outbox

    def _feed(self, identifier: uuid.UUID, text: bytes) -> None:
        try:
            data = base64.b64decode(text, validate=True)
            self._session.receive(data, self._outboxes.get(identifier))
        except (binascii.Error, ProtocolError) as problem:
            raise EndpointError(detail=f"the data of a packet is not PSRP: {problem}") from problem

    def _stop(self, identifier: uuid.UUID) -> None:
        outbox = self._outboxes.get(identifier)
        if outbox is not None:
            self._session.stop(outbox)

    def _close(self, identifier: uuid.UUID) -> None:
        if identifier == _POOL:
            self._session.stop_all()
        else:
            self._stop(identifier)
        with self._changed:
            self._closing.add(identifier)
        self._wake()

    def _acknowledge(self, kind: str, identifier: uuid.UUID) -> None:
        with self._changed:
            self._acknowledgements.append(f"<{kind}Ack PSGuid='{identifier}' />\n".encode())
        self._wake()

    def _wake(self) -> None:
        with self._changed:
            self._dirty = True
            self._changed.notify()

    def _write_all(self) -> None:
        try:
            ended = False
            while not ended:
                with self._changed:
                    while not self._dirty:
                        self._changed.wait()
                    self._dirty, ended = False, self._ended
                # The session calls back with its own lock held, so it is asked without ours.
                while lines := self._next_lines():
                    self._stdout.write(b"".join(lines))
                    self._stdout.flush()
        except (BrokenPipeError, ValueError):
            self._session.stop_all()  # the client has gone; stdin ends too

    def _next_lines(self) -> list[bytes]:
        with self._changed:
            lines, self._acknowledgements = self._acknowledgements, []
        pipelines = [identifier for identifier in self._outboxes if identifier != _POOL]
        for identifier in (*pipelines, _POOL):
            lines += self._data_lines(identifier)
            with self._changed:
                closing = identifier in self._closing
            if closing and self._may_be_closed(identifier):
                lines += self._close_lines(identifier)
        return lines

    def _data_lines(self, identifier: uuid.UUID) -> list[bytes]:
        head = f"<Data Stream='Default' PSGuid='{identifier}'>".encode()
        fragments = self._outboxes[identifier].take(_TAKE_BYTES)
        return [head + base64.b64encode(fragment) + b"</Data>\n" for fragment in fragments]

    def _may_be_closed(self, identifier: uuid.UUID) -> bool:
        if identifier == _POOL:  # waits for the pipelines
            with self._changed:
                pipelines = self._closing - {_POOL}
            return not pipelines and not self._session.running
        outbox = self._outboxes.get(identifier)
        return outbox is None or outbox.finished or not (outbox.size_bytes or self._session.writes_to(outbox))

    def _close_lines(self, identifier: uuid.UUID) -> list[bytes]:
        with self._changed:
            self._closing.discard(identifier)
        lines: list[bytes] = []
        if identifier == _POOL:
            self._session.announce_close()
            lines += self._data_lines(_POOL)
        else:
            del self._outboxes[identifier]
        return [*lines, f"<CloseAck PSGuid='{identifier}' />\n".encode()]
