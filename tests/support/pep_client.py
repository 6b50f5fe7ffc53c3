"""pypsrp as the client of a simulated endpoint, for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from bridge.simulator import EndpointServer


def wsman(server: EndpointServer, **options: Any) -> Any:
    """A WSMan connection with the endpoint's first account; nothing is sent yet."""
    settings: dict[str, Any] = {
        "port": server.port,
        "ssl": False,
        "auth": "negotiate",
        "encryption": "always",
        "username": server.account.username,
        "password": server.account.password.reveal(),
        "operation_timeout": 5,
        "read_timeout": 15,
    }
    return WSMan(server.host, **{**settings, **options})


@contextlib.contextmanager
def opened(server: EndpointServer, *, configuration: str = "PrivilegedEndpoint", **options: Any) -> Iterator[Any]:
    """An open runspace pool."""
    with wsman(server, **options) as connection:
        with RunspacePool(connection, configuration_name=configuration) as pool:
            yield pool


def command(pool: Any, name: str, **parameters: Any) -> Any:
    """A pipeline of one command, not yet started."""
    return PowerShell(pool).add_cmdlet(name).add_parameters(parameters)
