"""A whole stamp on loopback: three endpoints with one state, a portal, and a configuration file to reach them."""

from __future__ import annotations

import dataclasses
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bridge.errors import UsageError
from bridge.files import replace_file
from bridge.secrets import Secret
from bridge.simulator._command import CommandSpec
from bridge.simulator.stamp._commands import stamp_commands
from bridge.simulator.stamp._options import StampOptions
from bridge.simulator.stamp._portal import Portal
from bridge.simulator.stamp._state import StampState
from bridge.stamp import EndpointAddress

if TYPE_CHECKING:
    from bridge.simulator import EndpointServer, ProtocolFaults
    from bridge.simulator.engine import PowerShellEngine

_STALL_S = 3.0


class SimulatedStamp:
    """A stamp for as long as the context lasts.

    ``first_port`` gives the three endpoints that port and the two after it; 0 lets the system choose. With ``https``
    each endpoint also listens with a certificate of its own making, which ``config_file`` trusts. With ``engine`` a
    real PowerShell runs the sessions.
    """

    def __init__(
        self,
        options: StampOptions | None = None,
        *,
        host: str = "127.0.0.1",
        first_port: int = 0,
        https: bool = False,
        engine: PowerShellEngine | None = None,
    ) -> None:
        self.options = options or StampOptions()
        self.state = StampState(self.options)
        self.username = f"{self.options.domain_netbios}\\CloudAdmin"
        self.password = _throw_away_password(self.username)
        self.portal = Portal(self.state, host)
        self.servers: tuple[EndpointServer, ...] = ()
        self._host = host
        self._first_port = first_port
        self._https = https
        self._engine = engine
        self._stack = ExitStack()

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def endpoints(self) -> tuple[EndpointAddress, ...]:
        """Where the three ERCS machines listen."""
        return tuple(
            EndpointAddress(machine, server.host, server.port, server.https_port)
            for machine, server in zip(self.state.inventory.ercs, self.servers, strict=True)
        )

    def __enter__(self) -> SimulatedStamp:
        with ExitStack() as stack:
            stack.callback(self.state.close)
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simulated-stamp-")))
            stack.enter_context(self.portal)
            commands = stamp_commands(self.state)
            self.servers = tuple(
                stack.enter_context(_listening(self._server(commands, number)))
                for number in range(len(self.state.inventory.ercs))
            )
            stack.callback(self.state.close)  # before the servers: what was to happen to them later does not
            self._schedule_outages()
            self.state.ercs_addresses = tuple(server.host for server in self.servers)
            self.config_file = self._write_config()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ready_document(self) -> dict[str, Any]:
        """What ``simulate --ready-file`` writes; it holds the throw-away secrets."""
        return {
            "stamp": self.name,
            "config": str(self.config_file),
            "endpoints": [dataclasses.asdict(each) for each in self.endpoints],
            "username": self.username,
            "password": self.password.reveal(),
            "portal": self.portal.url,
            "arm": self.portal.url,
            "arm_token": self.portal.token.reveal(),
        }

    def _server(self, commands: tuple[CommandSpec, ...], number: int) -> EndpointServer:
        from bridge.simulator import Account, EndpointServer, TlsOptions

        return EndpointServer(
            commands,
            machine=self.state.inventory.ercs[number],
            accounts=(Account(self.username, self.password),),
            host=self._host,
            port=self._first_port + number if self._first_port else 0,
            tls=TlsOptions() if self._https else None,
            zone=self.state.zone,
            client_lost_after_s=self.options.client_lost_after_s,
            faults=self._faults_of(self.state.inventory.ercs[number]),
            engine=self._engine,
        )

    def _faults_of(self, machine: str) -> ProtocolFaults:
        from bridge.simulator import ProtocolFaults

        faults = self.state.faults
        return ProtocolFaults(
            seed=self.options.seed,
            refuse_connections=machine.casefold() in faults.values("ercs-refuses"),
            cut_chance=(faults.value("connection-cut") or 0.0) / 100,
            stall_chance=(faults.value("connection-stalls") or 0.0) / 100,
            stall_s=_STALL_S,
            close_idle_after_s=faults.value("idle-close"),
            cut_waiting_after_s=faults.value("receive-cut"),
            session_ends_after_s=faults.value("session-ends"),
            quota_exceeded=faults.has("quota-exceeded"),
            access_denied=faults.has("access-denied"),
            no_such_configuration=faults.has("no-such-configuration"),
            no_enumeration=faults.has("no-enumeration"),
            disconnected_buffer_bytes=faults.value("disconnected-buffer"),
            dropping_buffer_bytes=faults.value("disconnected-drop"),
            clock_skew_s=faults.value("wrong-clock") or 0.0,
        )

    def _schedule_outages(self) -> None:
        servers = {server.machine.casefold(): server for server in self.servers}
        for outage in self.state.faults.outages():
            server = servers.get(outage.machine.casefold())
            if server is None:
                raise UsageError(detail=f"{outage.machine!r} is not one of {', '.join(self.state.inventory.ercs)}")
            self.state.run_later(outage.from_s, server.kill)
            if outage.until_s is not None:
                self.state.run_later(outage.until_s, server.revive)

    def _write_config(self) -> Path:
        """A configuration to use as it is: ``pep-bridge --config FILE collect STAMP --to local``."""
        import tomlkit

        password_file = _written(self._folder / "password.txt", self.password.reveal())
        options = self.options
        stamp: dict[str, Any] = {
            "endpoints": [_without_none(dataclasses.asdict(each)) for each in self.endpoints],
            "username": self.username,
            "password_file": password_file.name,
            "domain": options.domain_fqdn,
            "region": options.region,
            "external_fqdn": self.state.inventory.external_fqdn,
            "timezone": options.timezone,
            "cloud_id": self.state.inventory.cloud_id,
            "version": options.version,
            "portal": self.portal.url,
            "arm": self.portal.url,
            "arm_token_file": _written(self._folder / "arm-token.txt", self.portal.token.reveal()).name,
            "subscription": "00000000-0000-0000-0000-000000000000",
            "shared_disk": True,
        }
        if self._https:
            authorities = "".join(server.certificate_pem or "" for server in self.servers)
            stamp |= {"https": True, "ca_file": _written(self._folder / "ca.pem", authorities).name}
        document: dict[str, Any] = {"stamps": {self.name: stamp}}
        if options.output_root is not None:
            document["destinations"] = {"local": {"location": str(options.output_root)}}
        return _written(self._folder / "config.toml", tomlkit.dumps(document))


@contextmanager
def _listening(server: EndpointServer) -> Iterator[EndpointServer]:
    try:
        server.start()
    except OSError as error:
        raise UsageError(
            detail=f"cannot listen on {server.host}:{server.port}: {error.strerror}",
            fix="Give another port, or 0 for any.",
        ) from error
    try:
        yield server
    finally:
        server.stop()


@cache
def _throw_away_password(username: str) -> Secret:
    """One for a user and process: the NTLM acceptor of a process knows a user once, and two stamps may run in it."""
    return Secret(secrets.token_urlsafe(18))


def _written(path: Path, text: str) -> Path:
    replace_file(path, text.encode())
    return path


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
