"""Runs whose endpoint is a thread, begun and taken over without patience, and what is asked of their ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridge.bundle import Verdict, verify
from bridge.collection import Access, Outcome, Request, attach, collect
from bridge.store import FolderStore
from tests.support.fake_endpoint import FakeEndpoint, fake_ports
from tests.support.runs import QUICK


def run(request: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, **options: Any) -> Outcome:
    return collect(request, access, state_dir=state_dir, **_with_defaults(endpoint, options))


def take_over(run_id: str, access: Access, state_dir: Path, endpoint: FakeEndpoint, **options: Any) -> Outcome:
    return attach(run_id, access, state_dir=state_dir, **_with_defaults(endpoint, options))


def verified(outcome: Outcome) -> bool:
    return verify(FolderStore(Path(str(outcome.bundle)))).verdict is Verdict.VERIFIED


def _with_defaults(endpoint: FakeEndpoint, options: dict[str, Any]) -> dict[str, Any]:
    return {"settings": QUICK, "ports": fake_ports(endpoint)} | options
