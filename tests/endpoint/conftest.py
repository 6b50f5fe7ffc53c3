"""What tests of a session ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.simulated_endpoint import SimulatedEndpoint, simulated_endpoint


@pytest.fixture
def takes_over_soon() -> Iterator[SimulatedEndpoint]:
    """An endpoint that does not wait a minute before it takes a client that is gone for lost."""
    with simulated_endpoint(client_lost_after_s=2.0) as endpoint:
        yield endpoint
