"""Shells and their commands: what Create, Command, Send, Receive, Signal, Disconnect and the others do."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

from bridge.simulator.session import Outbox
from bridge.simulator.session._session import ProtocolError
from bridge.simulator.wsman import _soap as soap
from bridge.simulator.wsman._soap import NAMES, SHELL, FaultError, Reply, Request

POWERSHELL: Final = "http://schemas.microsoft.com/powershell/"
_ENVELOPE_OVERHEAD_BYTES: Final = 4096
_DONE: Final = f"{SHELL}/CommandState/Done"
_POOL: Final = ""
_REMEMBERED_ANSWERS: Final = 4
"""Streams whose last answer is kept for a client that repeats its request."""
_REMEMBERED_REQUESTS: Final = 16
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, and over what."""

    username: str
    address: str


class RunspaceSession(Protocol):
    """A runspace pool behind a shell: the simulated one, or a real PowerShell's."""

    @property
    def process_id(self) -> int: ...
    @property
    def pool_output(self) -> Outbox: ...
    def new_outbox(self) -> Outbox: ...
    def receive(self, data: bytes, outbox: Outbox | None = None) -> None: ...
    def stop(self, outbox: Outbox) -> None: ...
    def stop_all(self) -> object: ...
    def close(self) -> None: ...
    def disconnect(self) -> None: ...
    def reconnect(self) -> None: ...
    def connect(self, data: bytes) -> bytes: ...


class Shell(Protocol):
    """A shell of any kind, as the service sees it."""

    info: ShellInfo

    async def command(self, request: Request) -> Reply: ...
    async def send(self, request: Request) -> Reply: ...
    async def receive(self, request: Request) -> Reply: ...
    async def signal(self, request: Request) -> Reply: ...
    async def connect(self, request: Request) -> Reply: ...
    def disconnect(self) -> None: ...
    def reconnect(self) -> None: ...
    def abort_receives(self) -> None: ...
    def limit_output(self, limit_bytes: int, *, drop: bool = False) -> None: ...
    def close(self) -> None: ...
    def commands(self) -> list[str]: ...


@dataclass(eq=False)
class ShellInfo:
    """What Windows tells about a shell, and whether somebody is connected to it."""

    shell_id: str
    resource_uri: str
    owner: str
    client_ip: str
    process_id: int
    input_streams: str
    output_streams: str
    idle_timeout_s: float
    locale: str
    connected: bool = True
    buffer_mode: str = "Block"
    """What becomes of output that nobody takes: ``Block`` or ``Drop`` (MS-WSMV 2.2.5.10)."""
    session_id: str = ""
    """The WSMan session of the client that holds it."""
    taken_over: bool = False
    """True once another client has connected to it: the one before it may then do nothing more."""
    pending: int = 0
    lost: bool = False
    """True once the process behind it has gone."""
    left: bool = False
    """True after a Disconnect; a client that merely vanished has not left."""
    answered: dict[str, Reply] = field(default_factory=dict)
    """The last answers by MessageID, for a request that comes again (MS-WSMV 3.1.4.1.39)."""
    created: float = field(default_factory=time.monotonic)
    last_used: float = field(default_factory=time.monotonic)

    def remember(self, message_id: str, reply: Reply) -> None:
        """Keeps the last answers."""
        self.answered[message_id] = reply
        while len(self.answered) > _REMEMBERED_REQUESTS:
            del self.answered[next(iter(self.answered))]

    def to_xml(self) -> str:
        """The ``rsp:Shell`` element (recorded)."""
        seconds = int(time.monotonic() - self.created)
        idle = int(time.monotonic() - self.last_used)
        return (
            f'<rsp:Shell xmlns:rsp="{SHELL}"><rsp:ShellId>{self.shell_id}</rsp:ShellId>'
            f"<rsp:ResourceUri>{escape(self.resource_uri)}</rsp:ResourceUri><rsp:Owner>{escape(self.owner)}</rsp:Owner>"
            f"<rsp:ClientIP>{escape(self.client_ip)}</rsp:ClientIP><rsp:ProcessId>{self.process_id}</rsp:ProcessId>"
            f"<rsp:IdleTimeOut>PT{self.idle_timeout_s:.3f}S</rsp:IdleTimeOut>"
            f"<rsp:InputStreams>{escape(self.input_streams)}</rsp:InputStreams>"
            f"<rsp:OutputStreams>{escape(self.output_streams)}</rsp:OutputStreams>"
            "<rsp:MaxIdleTimeOut>PT2147483.647S</rsp:MaxIdleTimeOut>"
            f"<rsp:Locale>{escape(self.locale)}</rsp:Locale><rsp:DataLocale>{escape(self.locale)}</rsp:DataLocale>"
            "<rsp:CompressionMode>NoCompression</rsp:CompressionMode><rsp:ProfileLoaded>Yes</rsp:ProfileLoaded>"
            f"<rsp:Encoding>UTF8</rsp:Encoding><rsp:BufferMode>{self.buffer_mode}</rsp:BufferMode>"
            f"<rsp:State>{'Connected' if self.connected else 'Disconnected'}</rsp:State>"
            f"<rsp:ShellRunTime>{_period(seconds)}</rsp:ShellRunTime>"
            f"<rsp:ShellInactivity>{_period(idle)}</rsp:ShellInactivity></rsp:Shell>"
        )


def _period(seconds: int) -> str:
    return f"P{seconds // 86400}DT{seconds % 86400 // 3600}H{seconds % 3600 // 60}M{seconds % 60}S"


class Waiter:
    """Lets a coroutine wait for an outbox that is filled by threads; a newer one on the same stream takes over."""

    def __init__(self, outbox: Outbox) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self.failure: FaultError | None = None
        outbox.listen(self._wake_from_any_thread)

    def _wake_from_any_thread(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    def fail(self, fault: FaultError) -> None:
        """Ends the wait with a fault."""
        self.failure = fault
        self._event.set()

    async def wait(self, timeout_s: float) -> bool:
        """False if nothing happened in time."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return False
        self._event.clear()
        return True


class PowerShellShell:
    """A shell of a PowerShell session configuration: one runspace pool, one command a pipeline."""

    def __init__(self, info: ShellInfo, session: RunspaceSession, release: Callable[[RunspaceSession], None]) -> None:
        self.info = info
        self._session = session
        self._release = release
        self._outboxes: dict[str, Outbox] = {_POOL: session.pool_output}
        self._waiters: dict[str, Waiter] = {}
        self._delivered: dict[str, tuple[str, Reply]] = {}

    def open(self, body: Element) -> None:
        """Takes the opening messages out of Create's body."""
        self._feed(body.findtext(".//ps:creationXml", "", NAMES))

    async def command(self, request: Request) -> Reply:
        line = request.body.find("rsp:CommandLine", NAMES)
        if line is None:
            raise soap.invalid_parameter()
        command_id = (line.get("CommandId") or soap.new_id()).upper()
        outbox = self._session.new_outbox()
        self._outboxes[command_id] = outbox
        self._feed("".join(line.itertext()), outbox)
        return Reply(
            soap.answer(
                request, f"<rsp:CommandResponse><rsp:CommandId>{command_id}</rsp:CommandId></rsp:CommandResponse>"
            )
        )

    async def send(self, request: Request) -> Reply:
        for stream in request.body.iterfind("rsp:Send/rsp:Stream", NAMES):
            outbox = self._outbox(stream.get("CommandId"))
            self._feed(stream.text or "", outbox)
        return Reply(soap.answer(request, "<rsp:SendResponse/>"))

    async def receive(self, request: Request) -> Reply:
        desired = request.body.find("rsp:Receive/rsp:DesiredStream", NAMES)
        command_id = ("" if desired is None else desired.get("CommandId") or "").upper()
        outbox = self._outbox(command_id)
        earlier_id, earlier = self._delivered.get(command_id, ("", None))
        if earlier is not None and earlier_id == request.message_id:
            return earlier  # the same request again: a client that did not get the answer
        fragments = await self._wait_for_data(command_id, outbox, request)
        done = command_id != _POOL and outbox.finished
        text = soap.answer(request, _receive_response(command_id, fragments, done=done))

        def undelivered() -> None:
            self._delivered.pop(command_id, None)
            outbox.give_back(fragments)

        reply = Reply(text, undelivered=undelivered)
        self._remember(command_id, request.message_id, reply)
        return reply

    def _remember(self, command_id: str, message_id: str, reply: Reply) -> None:
        self._delivered.pop(command_id, None)
        self._delivered[command_id] = (message_id, reply)
        while len(self._delivered) > _REMEMBERED_ANSWERS:
            del self._delivered[next(iter(self._delivered))]

    async def _wait_for_data(self, command_id: str, outbox: Outbox, request: Request) -> list[bytes]:
        budget = (request.max_envelope_bytes - _ENVELOPE_OVERHEAD_BYTES) * 3 // 4
        previous = self._waiters.get(command_id)
        if previous is not None:
            previous.fail(soap.timed_out())
        waiter = self._waiters[command_id] = Waiter(outbox)
        deadline = time.monotonic() + request.timeout_s
        try:
            while True:
                if waiter.failure is not None:
                    raise waiter.failure
                fragments = outbox.take(budget)
                if fragments or outbox.finished:
                    return fragments
                if not await waiter.wait(max(deadline - time.monotonic(), 0)):
                    raise soap.timed_out()
        finally:
            if self._waiters.get(command_id) is waiter:
                del self._waiters[command_id]
                outbox.listen(None)

    async def signal(self, request: Request) -> Reply:
        signal = request.body.find("rsp:Signal", NAMES)
        command_id = "" if signal is None else (signal.get("CommandId") or "").upper()
        code = "" if signal is None else signal.findtext("rsp:Code", "", NAMES)
        outbox = self._outbox(command_id)
        if command_id:
            self._session.stop(outbox)
            if code.casefold().endswith("/terminate"):  # "Terminate" on the wire (wsman.h)
                self._forget(command_id)
        return Reply(soap.answer(request, "<rsp:SignalResponse/>"))

    async def connect(self, request: Request) -> Reply:
        connect = request.body.find("rsp:Connect", NAMES)
        command_id = "" if connect is None else (connect.get("CommandId") or "").upper()
        if command_id:
            self._outbox(command_id)
            return Reply(soap.answer(request, "<rsp:ConnectResponse/>"))
        data = _decode(request.body.findtext(".//ps:connectXml", "", NAMES))
        answer = base64.b64encode(self._guard(lambda: self._session.connect(data))).decode()
        info = self.info
        body = (
            f"<rsp:ConnectResponse><rsp:InputStreams>{info.input_streams}</rsp:InputStreams>"
            f"<rsp:OutputStreams>{info.output_streams}</rsp:OutputStreams>"
            f'<connectResponseXml xmlns="http://schemas.microsoft.com/powershell">{answer}</connectResponseXml>'
            "</rsp:ConnectResponse>"
        )
        return Reply(soap.answer(request, body))

    def disconnect(self) -> None:
        self._session.disconnect()

    def reconnect(self) -> None:
        self._session.reconnect()

    def abort_receives(self) -> None:
        for waiter in self._waiters.values():
            waiter.fail(soap.aborted())

    def limit_output(self, limit_bytes: int, *, drop: bool = False) -> None:
        for outbox in self._outboxes.values():
            outbox.limit(limit_bytes, drop=drop)

    def close(self) -> None:
        self.abort_receives()
        self._release(self._session)

    def commands(self) -> list[str]:
        return [name for name, outbox in self._outboxes.items() if name != _POOL and not outbox.finished]

    def _forget(self, command_id: str) -> None:
        self._outboxes.pop(command_id, None)
        self._delivered.pop(command_id, None)
        waiter = self._waiters.get(command_id)
        if waiter is not None:
            waiter.fail(soap.aborted())

    def _outbox(self, command_id: str | None) -> Outbox:
        found = self._outboxes.get((command_id or _POOL).upper())
        if found is None:
            raise soap.command_not_found()
        return found

    def _feed(self, text: str, outbox: Outbox | None = None) -> None:
        data = _decode(text)
        self._guard(lambda: self._session.receive(data, outbox))

    def _guard(self, action: Callable[[], _T]) -> _T:
        try:
            return action()
        except ProtocolError as problem:
            # GUESS: a real host ends the shell's process; its clients see an internal error.
            raise FaultError(2147943485, f"The data is invalid: {problem} ") from problem


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise soap.invalid_parameter() from problem


def _receive_response(command_id: str, fragments: list[bytes], *, done: bool) -> str:
    attribute = f" CommandId={quoteattr(command_id)}" if command_id else ""
    streams = "".join(
        f'<rsp:Stream Name="stdout"{attribute}>{base64.b64encode(fragment).decode()}</rsp:Stream>'
        for fragment in fragments
    )
    state = (
        f'<rsp:CommandState{attribute} State="{_DONE}"><rsp:ExitCode>0</rsp:ExitCode></rsp:CommandState>'
        if done
        else ""
    )
    return f"<rsp:ReceiveResponse>{streams}{state}</rsp:ReceiveResponse>"
