"""What every test of a run asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.collection import Access, Request
from bridge.secrets import Credential, Secret
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.runs import PASSWORD, make_request


@pytest.fixture
def request_to(tmp_path: Path) -> Request:
    """A request to a folder of this machine, written by the (fake) endpoint itself."""
    return make_request(tmp_path / "bundles")


@pytest.fixture
def access() -> Access:
    return Access(Credential("AZURESTACK\\CloudAdmin", Secret(PASSWORD)))


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    fake = FakeEndpoint()
    yield fake
    fake.join()
