"""The WSMan service of one machine: finds the shell for a request and keeps quotas and time-outs."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from xml.etree.ElementTree import Element

from bridge.simulator.session import Session, SessionSettings
from bridge.simulator.wsman import _soap as soap
from bridge.simulator.wsman._faults import ProtocolFaults
from bridge.simulator.wsman._shells import POWERSHELL, Caller, PowerShellShell, RunspaceSession, Shell, ShellInfo
from bridge.simulator.wsman._soap import ENUMERATION, NAMES, SHELL, TRANSFER, FaultError, Reply, Request
from bridge.simulator.wsman._winrs import CmdShell, CommandLine

CMD_SHELL: Final = f"{SHELL}/cmd"
_CONFIG: Final = "http://schemas.microsoft.com/wbem/wsman/1/config"
_REAPING_S: Final = 0.5
_NOT_TWICE: Final = (f"{SHELL}/Command", f"{SHELL}/Send", f"{SHELL}/Signal")


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What a machine offers and its limits.

    GUESS: a privileged endpoint's own limits are not public. Five shells for a user is the strictest that was ever
    Windows' default (2008 R2; MS-WSMV 3.1.4.1.34.3.4 has 25 for a PowerShell plug-in, today's default is 30). How many
    operations and users there may be at once (1,500 and 10 by default) is not counted: one client never gets there.
    """

    session: SessionSettings
    configuration_names: Sequence[str] = ("PrivilegedEndpoint",)
    cmd_shell: bool | CommandLine = False
    max_shells_per_user: int = 5
    idle_timeout_s: float = 7200.0
    client_lost_after_s: float = 60.0
    """A shell without any request for so long counts as disconnected (public reports: about 60 s)."""
    max_idle_timeout_s: float | None = None
    new_session: Callable[[SessionSettings, str], RunspaceSession] = Session
    """Opens a session for a user; the simulated one, or one of a real PowerShell."""


@dataclass(eq=False)
class Service:
    """Every method runs on the network loop."""

    settings: ServiceSettings
    faults: ProtocolFaults = field(default_factory=ProtocolFaults)
    shells: dict[str, Shell] = field(default_factory=dict)
    closing: list[threading.Thread] = field(default_factory=list)
    """What waits for the pipelines of ended sessions; only those that still wait are kept."""

    async def handle(self, request: Request, caller: Caller) -> Reply:
        """Answers one request.

        Raises:
            FaultError: The answer is a fault.
        """
        action = request.action
        if action == f"{TRANSFER}/Create":
            return await self._create(request, caller)
        if action == f"{ENUMERATION}/Enumerate":
            return self._enumerate(request, caller)
        if action == f"{TRANSFER}/Get" and request.resource_uri == _CONFIG:
            return self._config(request)
        shell = self._shell(request, caller)
        handlers: dict[str, Callable[[], object]] = {
            f"{TRANSFER}/Delete": lambda: self._delete(shell, request),
            f"{TRANSFER}/Get": lambda: Reply(soap.answer(request, shell.info.to_xml())),
            f"{SHELL}/Disconnect": lambda: self._disconnect(shell, request),
            f"{SHELL}/Reconnect": lambda: self._reconnect(shell, request),
        }
        if action in handlers:
            reply = handlers[action]()
            assert isinstance(reply, Reply)  # noqa: S101
            return reply
        return await self._in_shell(shell, request)

    async def _in_shell(self, shell: Shell, request: Request) -> Reply:
        info = shell.info
        connecting = request.action == f"{SHELL}/Connect"
        handlers = {
            f"{SHELL}/Command": shell.command,
            f"{SHELL}/Send": shell.send,
            f"{SHELL}/Receive": shell.receive,
            f"{SHELL}/Signal": shell.signal,
            f"{SHELL}/Connect": shell.connect,
        }
        handler = handlers.get(request.action)
        if handler is None:
            raise soap.action_not_supported(request.action)
        whole_shell = request.body.find("rsp:Connect[@CommandId]", NAMES) is None
        if connecting and whole_shell and self._is_held(info):
            raise soap.shell_in_use()
        taking_over = connecting and whole_shell
        if info.left and not taking_over:
            raise soap.shell_disconnected()
        if not taking_over and info.connected and _is_of_another_client(info, request):
            raise soap.shell_in_use()
        if request.message_id in info.answered:
            return info.answered[request.message_id]  # it was done; only its answer was lost
        info.pending += 1
        info.last_used = time.monotonic()
        try:
            reply = await handler(request)
        except FaultError as fault:
            info.lost = info.lost or fault.code == soap.HOST_PROCESS_LOST
            raise
        finally:
            info.pending -= 1
            info.last_used = time.monotonic()
        if request.action in _NOT_TWICE:
            info.remember(request.message_id, reply)
        if taking_over or not info.connected:
            info.connected = True
            info.left = False
            info.session_id = request.session_id
            info.taken_over = info.taken_over or taking_over
            self._limit_buffers(shell)
        return reply

    async def reap(self) -> None:
        """Runs for ever: notices lost clients and ends shells whose idle time-out has passed."""
        while True:
            await asyncio.sleep(_REAPING_S)
            now = time.monotonic()
            for shell_id, shell in list(self.shells.items()):
                info = shell.info
                ends_s = self.faults.session_ends_after_s
                if info.lost or (ends_s is not None and now - info.created > ends_s):  # who waits is told
                    self._end(shell_id)
                    continue
                if info.pending:
                    continue
                if info.connected and now - info.last_used > self.settings.client_lost_after_s:
                    self._mark_disconnected(shell)
                if now - info.last_used > info.idle_timeout_s:
                    self._end(shell_id)

    def end_all(self) -> None:
        """Ends every shell."""
        for shell_id in list(self.shells):
            self._end(shell_id)

    def _is_held(self, info: ShellInfo) -> bool:
        if not info.connected:
            return False
        return bool(info.pending) or time.monotonic() - info.last_used <= self.settings.client_lost_after_s

    async def _create(self, request: Request, caller: Caller) -> Reply:
        self._check_create(request, caller)
        body = request.body.find("rsp:Shell", NAMES)
        if body is None:
            raise soap.invalid_parameter()
        shell_id = (body.get("ShellId") or soap.new_id()).upper()
        if shell_id in self.shells:
            # GUESS: which fault it is. That an id is given once is MS-WSMV's (2.2.4.37: "unique").
            raise soap.invalid_parameter()
        idle = soap.parse_duration(body.findtext("rsp:IdleTimeOut", "", NAMES))
        longest_s = self.settings.max_idle_timeout_s
        if idle is not None and longest_s is not None and idle > longest_s:
            raise soap.idle_timeout_out_of_bounds(longest_s)
        info = ShellInfo(
            shell_id=shell_id,
            resource_uri=request.resource_uri,
            owner=caller.username,
            client_ip=caller.address,
            process_id=self.settings.session.process_id,
            input_streams=body.findtext("rsp:InputStreams", "stdin pr", NAMES),
            output_streams=body.findtext("rsp:OutputStreams", "stdout", NAMES),
            idle_timeout_s=self.settings.idle_timeout_s if idle is None else idle,
            locale=request.locale,
            buffer_mode=_buffer_mode(body, "Block"),
            session_id=request.session_id,
        )
        self.shells[shell_id] = self._new_shell(info, request, body)
        created = (
            f"<x:ResourceCreated><a:Address>{request.to}</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{request.resource_uri}</w:ResourceURI><w:SelectorSet>"
            f'<w:Selector Name="ShellId">{shell_id}</w:Selector></w:SelectorSet></a:ReferenceParameters>'
            "</x:ResourceCreated>"
        )
        return Reply(soap.answer(request, created + info.to_xml()))

    def _check_create(self, request: Request, caller: Caller) -> None:
        uri = request.resource_uri
        name = uri.removeprefix(POWERSHELL)
        known = {configuration.casefold() for configuration in self.settings.configuration_names}
        offered = (
            name.casefold() in known if uri.startswith(POWERSHELL) else uri == CMD_SHELL and self.settings.cmd_shell
        )
        if self.faults.no_such_configuration or not offered:
            raise soap.no_such_configuration(name)
        if self.faults.access_denied:
            raise soap.access_denied()
        limit = self.settings.max_shells_per_user
        own = sum(shell.info.owner == caller.username for shell in self.shells.values())
        if self.faults.quota_exceeded or own >= limit:
            raise soap.too_many_shells(limit)

    def _new_shell(self, info: ShellInfo, request: Request, body: Element) -> Shell:
        if info.resource_uri == CMD_SHELL:
            run = self.settings.cmd_shell
            return CmdShell(info, body, request.options, None if isinstance(run, bool) else run)
        settings = self.settings.session
        if self.faults.clock_skew_s:
            settings = dataclasses.replace(settings, clock_offset=timedelta(seconds=self.faults.clock_skew_s))
        session = self.settings.new_session(settings, info.owner)
        info.process_id = session.process_id
        shell = PowerShellShell(info, session, self._release)
        shell.open(request.body)
        return shell

    def _release(self, session: RunspaceSession) -> None:
        session.stop_all()
        waiting = threading.Thread(target=session.close, name="session-end", daemon=True)
        waiting.start()
        self.closing = [*(thread for thread in self.closing if thread.is_alive()), waiting]

    def _shell(self, request: Request, caller: Caller) -> Shell:
        shell = self.shells.get(request.shell_id)
        if shell is None:
            raise soap.shell_not_found(request.shell_id)
        if shell.info.owner != caller.username:
            # GUESS: a host may as well say that there is no such shell.
            raise soap.access_denied()
        return shell

    def _delete(self, shell: Shell, request: Request) -> Reply:
        # GUESS: also of a shell that nobody is connected to, and by any session of its owner. Recorded are only clients
        # that connected, or reconnected, first.
        self._end(shell.info.shell_id)
        return Reply(soap.answer(request, ""))

    def _end(self, shell_id: str) -> None:
        shell = self.shells.pop(shell_id)
        shell.close()

    def _disconnect(self, shell: Shell, request: Request) -> Reply:
        asked = request.body.find("rsp:Disconnect", NAMES)
        if asked is not None:
            idle = soap.parse_duration(asked.findtext("rsp:IdleTimeOut", "", NAMES))
            shell.info.idle_timeout_s = shell.info.idle_timeout_s if idle is None else idle
            shell.info.buffer_mode = _buffer_mode(asked, shell.info.buffer_mode)
        shell.abort_receives()
        self._mark_disconnected(shell)
        shell.info.left = True
        shell.info.last_used = time.monotonic()
        return Reply(soap.answer(request, ""))

    def _mark_disconnected(self, shell: Shell) -> None:
        shell.info.connected = False
        shell.disconnect()
        self._limit_buffers(shell)

    def _limit_buffers(self, shell: Shell) -> None:
        # GUESS: the mode that was asked for with Disconnect stays the shell's after somebody has connected again.
        normal = self.settings.session.output_buffer_bytes
        blocking, dropping = self.faults.disconnected_buffer_bytes, self.faults.dropping_buffer_bytes
        if shell.info.connected:
            shell.limit_output(normal)
        elif blocking is not None:
            shell.limit_output(blocking)
        else:
            drop = shell.info.buffer_mode == "Drop"
            shell.limit_output(dropping if drop and dropping is not None else normal, drop=drop)

    def _reconnect(self, shell: Shell, request: Request) -> Reply:
        info = shell.info
        # GUESS: the client that disconnected may come back at any time; another one only to a shell nobody holds.
        if self._is_held(info) and info.session_id != request.session_id:
            raise soap.shell_in_use()
        info.connected = True
        info.left = False
        info.session_id = request.session_id
        info.last_used = time.monotonic()
        shell.reconnect()
        self._limit_buffers(shell)
        return Reply(soap.answer(request, ""))

    def _enumerate(self, request: Request, caller: Caller) -> Reply:
        # GUESS: whether a real privileged endpoint permits this to an operator, who is no administrator, is not public.
        if self.faults.no_enumeration:
            raise soap.access_denied()
        own = [shell for shell in self.shells.values() if shell.info.owner == caller.username]
        if request.resource_uri == SHELL:
            items = "".join(shell.info.to_xml() for shell in own)
        elif request.resource_uri == f"{SHELL}/Command":
            selectors = request.body.iterfind(".//w:Selector", NAMES)
            wanted = {(item.text or "").upper() for item in selectors if item.get("Name") == "ShellId"}
            items = "".join(_commands(shell) for shell in own if not wanted or shell.info.shell_id in wanted)
        else:
            raise soap.access_denied()
        body = (
            "<n:EnumerateResponse><n:EnumerationContext></n:EnumerationContext>"
            + (f"<w:Items>{items}</w:Items>" if items else "")
            + "<w:EndOfSequence/></n:EnumerateResponse>"
        )
        return Reply(soap.answer(request, body))

    def _config(self, request: Request) -> Reply:
        if not self.settings.cmd_shell:
            raise soap.access_denied()  # a JEA user is no administrator
        body = (
            f'<cfg:Config xmlns:cfg="{_CONFIG}"><cfg:MaxEnvelopeSizekb>500</cfg:MaxEnvelopeSizekb>'
            "<cfg:MaxTimeoutms>60000</cfg:MaxTimeoutms><cfg:MaxBatchItems>32000</cfg:MaxBatchItems></cfg:Config>"
        )
        return Reply(soap.answer(request, body))


def _is_of_another_client(info: ShellInfo, request: Request) -> bool:
    # GUESS: that a client whose shell was taken over gets this fault; that it may not go on receiving is MS-WSMV's.
    return info.taken_over and bool(request.session_id) and request.session_id != info.session_id


def _buffer_mode(asked: Element, default: str) -> str:
    mode = asked.findtext("rsp:BufferMode", default, NAMES).strip()
    if mode not in ("Block", "Drop"):
        raise soap.invalid_parameter()
    return mode


def _commands(shell: Shell) -> str:
    return "".join(
        f'<rsp:Command xmlns:rsp="{SHELL}" rsp:ShellId="{shell.info.shell_id}"><rsp:ShellId>{shell.info.shell_id}'
        f"</rsp:ShellId><rsp:CommandId>{command_id}</rsp:CommandId></rsp:Command>"
        for command_id in shell.commands()
    )
