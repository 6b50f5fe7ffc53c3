"""A stamp: one Azure Stack Hub instance and the addresses of its privileged endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HTTP_PORT = 5985
HTTPS_PORT = 5986


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """Where one ERCS machine listens.

    ``https_port`` is set where the machine is reached over HTTPS; every public client uses plain HTTP 5985 with message
    encryption (no public source shows HTTPS on a PEP).
    """

    name: str
    host: str
    port: int = HTTP_PORT
    https_port: int | None = None


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is known about a stamp before a session is opened.

    ``timezone`` is a Windows time-zone id as AzureStackStampInformation.json gives it (``W. Europe Standard Time``).
    ``use_https`` chooses ``https_port`` of each endpoint; ``ca_file`` then names the trusted authority (PEM).
    """

    name: str
    endpoints: tuple[EndpointAddress, ...]
    username: str | None = None
    domain: str | None = None
    region: str | None = None
    external_fqdn: str | None = None
    timezone: str | None = None
    cloud_id: str | None = None
    version: str | None = None
    configuration_name: str = "PrivilegedEndpoint"
    use_https: bool = False
    ca_file: Path | None = None
