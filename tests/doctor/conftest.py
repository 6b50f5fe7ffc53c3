"""One simulated stamp for all tests of the doctor, and subjects that differ from a healthy one in one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.collection import Place, Request, Window
from bridge.doctor import Subject
from bridge.secrets import Credential
from bridge.settings import load_settings
from bridge.simulator import ProtocolFaults
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from tests.support.web_server import web_server

MakeSubject = Callable[..., Subject]


@pytest.fixture(scope="package")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedStamp]:
    """A healthy stamp; a test that hurts it calls ``healed`` through ``stamp``."""
    root = tmp_path_factory.mktemp("output")
    with SimulatedStamp(StampOptions(size_bytes=1_000_000, duration_s=0.2, output_root=root)) as stamp:
        yield stamp


@pytest.fixture
def stamp(simulated: SimulatedStamp) -> Iterator[SimulatedStamp]:
    """The stamp, healthy before and after each test."""
    yield simulated
    simulated.portal.bring_up()
    for server in simulated.servers:
        server.faults = ProtocolFaults()


@pytest.fixture(scope="package")
def internet() -> Iterator[str]:
    """What stands for the internet."""
    with web_server() as address:
        yield address


@pytest.fixture
def request_to(stamp: SimulatedStamp) -> Callable[..., Request]:
    """A request of the stamp for a destination."""

    def make(place: Place, **changes: Any) -> Request:
        now = datetime.now(UTC)
        fields: dict[str, Any] = {"shared_disk": True} | changes
        known = load_settings(stamp.config_file).settings.stamp(stamp.name)
        return Request(known, Window(now - timedelta(hours=4), now), place, **fields)

    return make


@pytest.fixture
def subject(stamp: SimulatedStamp, request_to: Callable[..., Request], internet: str, tmp_path: Path) -> MakeSubject:
    """A healthy subject, with what a test changes."""

    def make(place: Place | None = None, opener: Any = None, request: Request | None = None, **changes: Any) -> Subject:
        assert stamp.options.output_root is not None
        known = load_settings(stamp.config_file).settings.stamp_settings(stamp.name)
        healthy = Subject(
            stamp=known.to_stamp(stamp.name),
            state_dir=tmp_path / "state",
            credential=Credential(stamp.username, stamp.password),
            request=request or request_to(place or Place.parse(str(stamp.options.output_root))),
            destination_opener=opener,
            portal=known.portal,
            arm=known.arm,
            internet_probe=internet,
        )
        return replace(healthy, **changes)

    return make
