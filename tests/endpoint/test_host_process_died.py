"""A session whose process on the endpoint has died is told apart from one whose line is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.endpoint import Command, open_session
from bridge.errors import HostProcessDiedError
from bridge.simulator.engine import PowerShellEngine
from tests.support.recorded_engine import program
from tests.support.simulated_endpoint import ALLOWED, simulated_endpoint


def test_a_command_whose_process_dies_ends_at_once_with_its_own_error(tmp_path: Path) -> None:
    engine = PowerShellEngine(program(tmp_path, "dies"))
    with simulated_endpoint(engine=engine) as simulated:
        with open_session(simulated.stamp, simulated.credential, allow=ALLOWED) as session:
            pipeline = session.start([Command("Get-AzureStackLog")])
            with pytest.raises(HostProcessDiedError, match="out of memory, says the stand-in") as caught:
                list(pipeline.records())
    assert "collect again" in caught.value.advice
