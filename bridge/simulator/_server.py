"""A simulated endpoint on loopback, with its own network thread, for tests and rehearsals."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from types import TracebackType
from typing import Any, Final, Self

from spnego.channel_bindings import GssChannelBindings

from bridge.simulator._command import CommandSpec
from bridge.simulator._tls import TlsOptions, server_identity
from bridge.simulator.engine import PowerShellEngine
from bridge.simulator.session import Session, SessionSettings
from bridge.simulator.wsman._auth import Account, credential_file, throw_away_account
from bridge.simulator.wsman._faults import ProtocolFaults
from bridge.simulator.wsman._http import Front
from bridge.simulator.wsman._service import Service, ServiceSettings
from bridge.simulator.wsman._winrs import CommandLine

_START_S: Final = 30.0
_TURNS_OF_A_NEW_CONNECTION: Final = 5


@dataclass(frozen=True, slots=True)
class ShellSnapshot:
    """What a shell of the endpoint is doing."""

    shell_id: str
    owner: str
    resource_uri: str
    connected: bool
    commands: tuple[str, ...]
    process_id: int
    idle_timeout_s: float
    buffer_mode: str


class EndpointServer:
    """One ERCS machine: WSMan over HTTP (NTLM, always sealed) and, with ``tls``, over HTTPS.

    Use it as a context manager, or call ``start`` and ``stop``.

    Args:
        commands: What the endpoint shows beside the session's own restricted commands.
        machine: The computer's name in faults and records.
        accounts: Who may open sessions (``DOMAIN\\user``); without any, a throw-away account is made.
        configuration_names: Session configurations that are offered, all restricted.
        host: Address to listen on.
        port: HTTP port; 0 takes a free one.
        tls: Adds HTTPS; ``TlsOptions()`` makes a self-signed certificate.
        tls_port: HTTPS port; 0 takes a free one.
        cmd_shell: Also offers the WinRS cmd shell, which no privileged endpoint has; True plays a few commands, a
            callable gets the command line and gives standard output, standard error and exit code.
        faults: What goes wrong on purpose; may be set again at any time.
        zone: The machine's time zone.
        output_buffer_bytes: What a command may write ahead of its reader.
        max_shells_per_user: Create is refused above it.
        client_lost_after_s: After so long without a request a client counts as lost and Connect is let in.
        idle_timeout_s: A shell nobody uses ends after so long, unless its client asked otherwise.
        max_idle_timeout_s: A client that asks for more is refused; None allows any.
        engine: A real PowerShell that runs the sessions; by default they are simulated.
    """

    def __init__(
        self,
        commands: Sequence[CommandSpec] = (),
        *,
        machine: str = "AzS-ERCS01",
        accounts: Sequence[Account] = (),
        configuration_names: Sequence[str] = ("PrivilegedEndpoint",),
        host: str = "127.0.0.1",
        port: int = 0,
        tls: TlsOptions | None = None,
        tls_port: int = 0,
        cmd_shell: bool | CommandLine = False,
        faults: ProtocolFaults | None = None,
        zone: tzinfo = UTC,
        output_buffer_bytes: int = 1 << 20,
        max_shells_per_user: int = 5,
        client_lost_after_s: float = 60.0,
        idle_timeout_s: float = 7200.0,
        max_idle_timeout_s: float | None = None,
        engine: PowerShellEngine | None = None,
    ) -> None:
        self.machine = machine
        self.host = host
        self.port = port
        self.https_port: int | None = tls_port if tls is not None else None
        self.accounts = tuple(accounts) or (throw_away_account(),)
        self.certificate_pem = ""
        self._tls = tls
        self._tls_context: ssl.SSLContext | None = None
        self._bindings: GssChannelBindings | None = None
        session = SessionSettings(commands, machine=machine, zone=zone, output_buffer_bytes=output_buffer_bytes)
        self._engine = engine.host(session) if engine is not None else None
        settings = ServiceSettings(
            session,
            tuple(configuration_names),
            cmd_shell,
            max_shells_per_user,
            idle_timeout_s,
            client_lost_after_s,
            max_idle_timeout_s,
            Session if self._engine is None else self._engine.new_session,
        )
        faults = faults or ProtocolFaults()
        self._service = Service(settings, faults)
        build = session.build.partition(".")[0]
        version = f"OS: 10.0.{build} SP: 0.0 Stack: 3.0"
        self._front = Front(self._service, self.accounts, machine, version)
        self._servers: list[asyncio.Server] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    @property
    def account(self) -> Account:
        """The first account."""
        return self.accounts[0]

    @property
    def faults(self) -> ProtocolFaults:
        """What goes wrong on purpose."""
        return self._service.faults

    @faults.setter
    def faults(self, faults: ProtocolFaults) -> None:
        def change() -> None:
            self._service.faults = faults

        self._on_loop(change)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listens; returns when connections are accepted.

        Raises:
            OSError: The address cannot be listened on.
        """
        credential_file.acquire()
        try:
            if self._engine is not None:
                self._engine.start()
            if self._tls is not None:
                self._tls_context, self._bindings, self.certificate_pem = server_identity(
                    self._tls, (self.machine, "localhost", self.host)
                )
            self._thread = threading.Thread(target=self._run, name=f"endpoint-{self.machine}", daemon=True)
            self._thread.start()
            self._ready.wait(_START_S)
            if self._failure is not None:
                raise self._failure
        except BaseException:
            if self._engine is not None:
                self._engine.close()
            credential_file.release()
            raise

    def stop(self) -> None:
        """Ends every session, connection and thread."""
        if self._thread is None or self._loop is None:
            return
        self._on_loop(self._service.end_all)
        self._on_loop(lambda: self._loop.stop() if self._loop else None, wait=False)
        self._thread.join(_START_S)
        for waiting in self._service.closing:
            waiting.join()
        if self._engine is not None:
            self._engine.close()
        self._thread = None
        credential_file.release()

    def cut_connections(self) -> None:
        """Resets every open connection; sessions live on."""
        self._on_loop(self._front.reset_all)

    def kill(self) -> None:
        """The machine dies: connections are reset, new ones refused, sessions lost."""

        async def die() -> None:
            await self._stop_listening()
            self._front.reset_all()
            self._service.end_all()

        self._await(die())

    def revive(self) -> None:
        """The machine is back on the same ports, without its sessions."""
        self._await(self._listen())

    def clients(self) -> set[str]:
        """The addresses of those who are connected now."""
        return set(self._on_loop(lambda: {each.peer for each in self._front.connections}))

    def shells(self) -> list[ShellSnapshot]:
        """The shells that exist now."""

        def snapshot() -> list[ShellSnapshot]:
            return [
                ShellSnapshot(
                    shell.info.shell_id,
                    shell.info.owner,
                    shell.info.resource_uri,
                    shell.info.connected,
                    tuple(shell.commands()),
                    shell.info.process_id,
                    shell.info.idle_timeout_s,
                    shell.info.buffer_mode,
                )
                for shell in self._service.shells.values()
            ]

        return list(self._on_loop(snapshot))

    def _run(self) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            try:
                self._loop.run_until_complete(self._listen())
                reaper = self._loop.create_task(self._service.reap())
            except OSError as problem:
                self._failure = problem
                return
            finally:
                self._ready.set()
            self._loop.run_forever()
            reaper.cancel()
            self._loop.run_until_complete(self._wind_up())
        finally:
            self._loop.close()

    async def _wind_up(self) -> None:
        await self._stop_listening()
        self._front.reset_all()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(_TURNS_OF_A_NEW_CONNECTION):  # what was reset closes its socket in a later turn
            await asyncio.sleep(0)

    async def _stop_listening(self) -> None:
        servers, self._servers = self._servers, []
        loop = asyncio.get_running_loop()
        for listening in (one for server in servers for one in server.sockets):
            with contextlib.suppress(NotImplementedError):  # the loop of Windows does not wait with readers
                loop.remove_reader(listening.fileno())
        # A connection that was just accepted gets as far as ``serve``, which ends it: asyncio would leave its socket
        # open if its server were closed first, or its task cancelled before the first step.
        for _ in range(_TURNS_OF_A_NEW_CONNECTION):
            await asyncio.sleep(0)
        for server in servers:
            server.close()

    async def _listen(self) -> None:
        plain = await asyncio.start_server(self._accept(None), self.host, self.port)
        self.port = plain.sockets[0].getsockname()[1]
        self._servers.append(plain)
        if self._tls_context is not None:
            secure = await asyncio.start_server(
                self._accept(self._bindings), self.host, self.https_port, ssl=self._tls_context
            )
            self.https_port = secure.sockets[0].getsockname()[1]
            self._servers.append(secure)

    def _accept(
        self, bindings: GssChannelBindings | None
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not self._servers:  # accepted just before the machine died
                writer.transport.abort()
                return
            with contextlib.suppress(asyncio.CancelledError):  # at the server's end; asyncio would log it as an error
                await self._front.serve(reader, writer, bindings)

        return serve

    def _await(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            work.close()
            raise RuntimeError("the endpoint was not started")
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_S)

    def _on_loop(self, action: Callable[[], Any], *, wait: bool = True) -> Any:
        if self._loop is None or not self._loop.is_running():
            return action()
        if not wait:
            self._loop.call_soon_threadsafe(action)
            return None

        async def run() -> Any:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_START_S)
