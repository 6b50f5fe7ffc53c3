"""AzureStackStampInformation.json: what the deployment, or the endpoint, says of a stamp.

No schema is published; the keys are those that public scripts use (ERCS_AzureStackLogs.ps1, the registration module).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bridge.errors import ConfigurationError
from bridge.settings import StampSettings

_LARGEST_BYTES = 16 * 1024 * 1024
_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def read_stamp_information(path: Path) -> StampSettings:
    """The settings of a stamp from its information file, as JSON in UTF-8 or as PowerShell's UTF-16.

    Raises:
        ConfigurationError: it cannot be read, or names no endpoint.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise _problem(path, f"is larger than {_LARGEST_BYTES:,} bytes")
        content = path.read_bytes()
        document = json.loads(content.decode(_ENCODINGS.get(content[:2]) or _ENCODINGS.get(content[:3]) or "utf-8"))
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _problem(path, f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _problem(path, "is not a JSON object")
    return _settings(path, document)


def _settings(path: Path, document: dict[str, Any]) -> StampSettings:
    addresses = document.get("EmergencyConsoleIPAddresses")
    if isinstance(addresses, str):
        addresses = addresses.replace(",", " ").split()
    if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses) or not addresses:
        raise _problem(path, "names no endpoint: EmergencyConsoleIPAddresses is missing or empty")
    domain = _text(document, "DomainNetBIOSName") or _text(document, "DomainFQDN")
    region, external = _text(document, "RegionName"), _text(document, "ExternalDomainFQDN")
    try:
        return StampSettings(
            endpoints=tuple(addresses),
            username=f"{domain}\\CloudAdmin" if domain else None,
            domain=_text(document, "DomainFQDN"),
            region=region,
            external_fqdn=external,
            timezone=_text(document, "Timezone"),
            cloud_id=_text(document, "CloudID"),
            version=_text(document, "StampVersion"),
        )
    except ValidationError as error:
        raise _problem(path, error.errors()[0]["msg"]) from None


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) and value else None


def _problem(path: Path, detail: str) -> ConfigurationError:
    return ConfigurationError(
        source=str(path),
        detail=detail,
        fix="Give the file that Get-AzureStackStampInformation or the hardware vendor provided, or type the addresses.",
    )
