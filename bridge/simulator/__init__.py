"""A whole stamp on loopback, to rehearse with and to test against."""

from bridge.simulator._command import (
    CommandContext,
    CommandSpec,
    CredentialValue,
    Int64,
    ParameterSpec,
    SimulatedError,
)
from bridge.simulator._server import EndpointServer, ShellSnapshot
from bridge.simulator._stdio import serve_stdio
from bridge.simulator._tls import TlsOptions
from bridge.simulator.wsman._auth import Account, throw_away_account
from bridge.simulator.wsman._faults import ProtocolFaults

__all__ = [
    "Account",
    "CommandContext",
    "CommandSpec",
    "CredentialValue",
    "EndpointServer",
    "Int64",
    "ParameterSpec",
    "ProtocolFaults",
    "ShellSnapshot",
    "SimulatedError",
    "TlsOptions",
    "serve_stdio",
    "throw_away_account",
]
