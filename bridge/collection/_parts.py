"""The real parts behind a run's ports: endpoint, stores, coverage and the PEP script."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.collection._journal import RunRecord
from bridge.collection._plan import SCRIPT
from bridge.collection._ports import Ports
from bridge.collection._request import Place
from bridge.collection._session_log import is_full, read_session
from bridge.endpoint import Command, Value
from bridge.secrets import Credential, Secret
from bridge.store import ReadableStore, Store


def default_ports() -> Ports:
    """The real endpoint, stores and PEP script."""
    from bridge.collection._endpoint import RealEndpoint  # loads pypsrp, which `--help` need not

    return Ports(endpoint=RealEndpoint(SCRIPT), open_store=open_place, bind=bind_script, assess=assess_bundle)


def assess_bundle(bundle: ReadableStore, run: RunRecord, session_log: Path) -> tuple[bool, Mapping[str, Any]]:
    """Coverage by ``bridge.collection.coverage``."""
    from bridge.collection.coverage import CoverageRequest, assess

    request = run.request
    end = run.facts.get("end", {})
    coverage = assess(
        bundle,
        CoverageRequest(
            window=request.window,
            made_at=run.created,
            roles=request.roles,
            resource_providers=request.resource_providers,
            nodes=request.nodes,
            log_types=request.log_types,
        ),
        read_session(session_log),
        ended=end.get("state") in {"completed", "failed"} or end.get("how") == "ended",
        records_lost=max(run.facts.get("records_not_written", 0), is_full(session_log)),
    )
    return coverage.complete, coverage.to_json()


def bind_script(arguments: Mapping[str, Value]) -> tuple[Command, ...]:
    """The commands of ``pep_scripts/Get-StampLog.ps1`` with these parameters."""
    from bridge.endpoint.script import load_script

    return load_script(SCRIPT).bind(arguments)


def open_place(place: Place, secret: Credential | Secret | None) -> Store:
    """Opens a place with the credential of a share or the SAS of a container."""
    from bridge.store import StoreSettings, open_store, parse_destination

    settings = StoreSettings(
        api_version=place.api_version,
        share_encryption=place.encrypt,
        ca_file=place.ca_file,
    )
    destination = parse_destination(place.text)
    credential = secret if isinstance(secret, Credential) and place.kind == "share" else None
    return open_store(
        destination, credential=credential, sas=secret if isinstance(secret, Secret) else None, settings=settings
    )
