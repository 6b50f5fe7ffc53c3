"""What every test of the transfer needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.transfer_lab import close_opened


@pytest.fixture(autouse=True)
def _no_connection_stays_open() -> Iterator[None]:
    yield
    close_opened()
