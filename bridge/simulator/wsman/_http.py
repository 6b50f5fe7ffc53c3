"""One TCP connection of the simulated endpoint: HTTP with h11, authentication, sealing, and faults on purpose."""

from __future__ import annotations

import asyncio
import base64
import binascii
import random
import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final

import h11
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from bridge.simulator.wsman import _soap as soap
from bridge.simulator.wsman._auth import ENCRYPTED_TYPE, Acceptor, Account, SealingError
from bridge.simulator.wsman._service import Service
from bridge.simulator.wsman._shells import Caller
from bridge.simulator.wsman._soap import FaultError, Reply

_LARGEST_BODY_BYTES: Final = 2 << 20
_SOAP_TYPE: Final = "application/soap+xml;charset=UTF-8"
_READ_BYTES: Final = 1 << 16


@dataclass(slots=True)
class _Response:
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class _HttpRequest:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class _GoneError(Exception):
    """The connection ended."""


class _CutError(Exception):
    """The connection is to be reset on purpose."""


@dataclass(eq=False)
class Front:
    """What every connection of a server shares."""

    service: Service
    accounts: Sequence[Account]
    machine: str
    product_version: str
    requests: int = 0
    connections: set[Connection] = field(default_factory=set)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bindings: GssChannelBindings | None
    ) -> None:
        """Serves one connection until it ends."""
        connection = Connection(self, reader, writer, bindings)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    def is_due(self, fault: str, chance: float) -> bool:
        """Whether this request meets the fault: seed, machine and number decide, so that it can be repeated."""
        if not chance:
            return False
        drawn = random.Random(f"{self.service.faults.seed}/{self.machine}/{fault}/{self.requests}")  # noqa: S311
        return drawn.random() < chance

    def reset_all(self) -> None:
        """Resets every open connection."""
        for connection in list(self.connections):
            connection.reset()


class Connection:
    """One TCP connection; who is at its other end is known to nobody else."""

    def __init__(
        self,
        front: Front,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        bindings: GssChannelBindings | None,
    ) -> None:
        self._front = front
        self._reader = reader
        self._writer = writer
        self._secure = writer.get_extra_info("ssl_object") is not None
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_READ_BYTES)
        self._bindings = bindings
        self._acceptor = Acceptor(front.accounts, bindings)
        self._reading: asyncio.Task[bytes] | None = None

    @property
    def peer(self) -> str:
        """The address at the other end."""
        name = self._writer.get_extra_info("peername")
        return str(name[0]) if name else ""

    async def run(self) -> None:
        """Answers requests one after the other."""
        try:
            if self._front.service.faults.refuse_connections:
                raise _CutError
            while True:
                request = await self._read_request()
                await self._answer(request)
                if self._http.our_state is h11.MUST_CLOSE:
                    break
                self._http.start_next_cycle()
        except _CutError:
            self.reset()
        except (_GoneError, ConnectionError, ssl.SSLError, h11.ProtocolError):
            pass  # nobody is there to be told
        finally:
            if self._reading is not None:
                self._reading.cancel()
            self._writer.close()

    def reset(self) -> None:
        """Sends RST instead of FIN, as a machine that dies or a router that forgets does."""
        raw = self._writer.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _answer(self, request: _HttpRequest) -> None:
        working = asyncio.ensure_future(self._respond(request))
        reading = self._next_read()
        patience_s = self._front.service.faults.cut_waiting_after_s
        try:
            done, _ = await asyncio.wait({working, reading}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise _GoneError  # on purpose
            if not working.done() and reading.done() and not self._take_early(reading):
                raise _GoneError  # the client left while its request was being worked on
            response = await working
        finally:
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
        await self._send(response)

    def _take_early(self, reading: asyncio.Task[bytes]) -> bool:
        """What the client sent while it should have waited; False at its end."""
        return not reading.cancelled() and reading.exception() is None and bool(reading.result())

    def _next_read(self) -> asyncio.Task[bytes]:
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._reader.read(_READ_BYTES))
        return self._reading

    async def _read_request(self) -> _HttpRequest:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await self._fill()
            elif isinstance(event, h11.Request):
                head = event
                if self._http.they_are_waiting_for_100_continue:
                    self._write(h11.InformationalResponse(status_code=100, headers=[]))
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _LARGEST_BODY_BYTES:
                    raise _CutError
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}
                return _HttpRequest(head.method.decode(), head.target.decode("latin-1"), headers, bytes(body))
            else:
                raise _GoneError

    async def _fill(self) -> None:
        reading = self._next_read()
        idle_s = self._front.service.faults.close_idle_after_s
        done, _ = await asyncio.wait({reading}, timeout=idle_s)
        if not done:
            raise _GoneError
        self._reading = None
        self._http.receive_data(reading.result())

    async def _respond(self, request: _HttpRequest) -> _Response:
        if request.path.partition("?")[0].rstrip("/") != "/wsman":
            return _Response(404)
        if request.method != "POST":
            return _Response(405, [("Allow", "POST")])
        if request.headers.get("wsmanidentify", "").casefold() == "unauthenticated" and soap.is_identify(request.body):
            return self._identify(authenticated=False)
        token_header: list[tuple[str, str]] = []
        if "authorization" in request.headers or self._acceptor.username is None:
            refusal, token_header = self._authenticate(request.headers.get("authorization", ""))
            if refusal is not None:
                return refusal
        response = await self._handle(request)
        response.headers += token_header
        return response

    def _authenticate(self, authorization: str) -> tuple[_Response | None, list[tuple[str, str]]]:
        scheme, _, text = authorization.partition(" ")
        # GUESS: WinRM offers Negotiate and Kerberos; one that starts with NTLM at once is let in too.
        if scheme.casefold() not in ("negotiate", "ntlm") or not text:
            return self._unauthorized(), []
        if self._acceptor.username is not None:
            self._acceptor = Acceptor(self._front.accounts, self._bindings)
        try:
            answer = self._acceptor.step(base64.b64decode(text, validate=True))
        except (SpnegoError, binascii.Error, ValueError, struct.error):
            return self._unauthorized(), []
        token = [("WWW-Authenticate", f"{scheme} {base64.b64encode(answer).decode()}")] if answer else []
        if self._acceptor.username is None:
            return (_Response(401, token) if token else self._unauthorized()), []
        return None, token

    def _unauthorized(self) -> _Response:
        self._acceptor = Acceptor(self._front.accounts, self._bindings)
        return _Response(401, [("WWW-Authenticate", "Negotiate"), ("WWW-Authenticate", "Kerberos")])

    async def _handle(self, request: _HttpRequest) -> _Response:
        if not request.body:
            return _Response(200)
        sealed = request.headers.get("content-type", "").casefold().startswith(ENCRYPTED_TYPE)
        if not sealed and not self._secure:
            # GUESS: AllowUnencrypted=false; clients of real hosts report a bare 500.
            return _Response(500)
        try:
            data = self._acceptor.open_sealed(request.body) if sealed else request.body
        except SealingError:
            return _Response(400)
        if soap.is_identify(data):
            return self._sealed(self._identify(authenticated=True), sealed=sealed)
        reply = await self._reply(data)
        body = reply.text.encode()
        return self._sealed(_Response(reply.status, [("Content-Type", _SOAP_TYPE)], body, reply), sealed=sealed)

    def _sealed(self, response: _Response, *, sealed: bool) -> _Response:
        if sealed:
            content_type, body = self._acceptor.seal(response.body)
            response.headers, response.body = [("Content-Type", content_type)], body
        return response

    async def _reply(self, data: bytes) -> Reply:
        message_id = ""
        try:
            request = soap.parse_request(data)
            message_id = request.message_id
            caller = Caller(self._acceptor.username or "", self.peer)
            return await self._front.service.handle(request, caller)
        except FaultError as fault:
            return Reply(fault.envelope(self._front.machine, message_id), status=500)

    def _identify(self, *, authenticated: bool) -> _Response:
        version = self._front.product_version if authenticated else "OS: 0.0.0 SP: 0.0 Stack: 3.0"
        return _Response(200, [("Content-Type", _SOAP_TYPE)], soap.identify_response(version).encode())

    async def _send(self, response: _Response) -> None:
        try:
            await self._misbehave()
            await self._write_response(response)
        except BaseException:
            if response.reply is not None and response.reply.undelivered is not None:
                response.reply.undelivered()
            raise

    async def _misbehave(self) -> None:
        front, faults = self._front, self._front.service.faults
        front.requests += 1
        cut = bool(faults.cut_every) and front.requests % faults.cut_every == 0
        cut = cut or front.is_due("cut", faults.cut_chance)
        if front.is_due("stall", faults.stall_chance):
            await asyncio.sleep(faults.stall_s)
        if cut:
            raise _CutError

    async def _write_response(self, response: _Response) -> None:
        now = datetime.now(UTC) + timedelta(seconds=self._front.service.faults.clock_skew_s)
        headers = [
            *response.headers,
            ("Server", "Microsoft-HTTPAPI/2.0"),
            ("Date", format_datetime(now, usegmt=True)),
            ("Content-Length", str(len(response.body))),
        ]
        self._write(h11.Response(status_code=response.status, headers=headers))
        if response.body:
            self._write(h11.Data(data=response.body))
        self._write(h11.EndOfMessage())
        if self._writer.is_closing():
            raise _GoneError
        await self._writer.drain()

    def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)
