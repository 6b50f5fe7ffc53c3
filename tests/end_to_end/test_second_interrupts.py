"""A second Ctrl-C stops the collection on the endpoint, whenever it comes: the stamp says that nothing is left."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.collection import RunState

if sys.platform == "win32":
    pytest.skip("not run: terminals and signals of this kind are POSIX", allow_module_level=True)

from tests.support.operators import Site, site, until

pytestmark = pytest.mark.slow
DURATION_S = 600.0
"""No test waits for the end of such a collection."""


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Site]:
    """A stamp whose collections end only when they are stopped."""
    with site(tmp_path, DURATION_S) as found:
        yield found


def test_a_second_interrupt_stops_the_pipeline_and_keeps_what_arrived(endless: Site) -> None:
    with endless.start() as process:
        endless.output_arrives()
        process.send_signal(signal.SIGINT)
        time.sleep(2.5)  # just before the first one alone counts
        process.send_signal(signal.SIGINT)
        out, said = process.communicate()
    data = json.loads(out)["data"]
    assert data["state"] == "stopped", said
    assert endless.outcomes() == ["stopped"]
    assert endless.shells() == []
    assert endless.has_verified(data["bundle"])


def test_a_second_ctrl_c_at_the_terminal_does_what_the_first_promised(endless: Site) -> None:
    with endless.in_terminal() as screen:
        endless.output_arrives()
        screen.type("\x03")
        screen.wait_for("press Ctrl-C again")
        until(lambda: endless.state is RunState.DETACHED)
        time.sleep(1.0)  # a person
        screen.type("\x03")
        screen.wait_for("stopping the collection on the endpoint")
        screen.wait()
    assert endless.state is RunState.STOPPED
    assert endless.outcomes() == ["stopped"]
    assert endless.shells() == []


def test_interrupts_without_pause_stop_it_too_and_break_nothing(endless: Site) -> None:
    with endless.start() as process:
        endless.output_arrives()
        for _ in range(20):
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        _, said = process.communicate()
    assert "Traceback" not in said
    if not endless.state.is_final:  # on a busy machine the last of them meets the sealing, and leaves that too
        assert "next: pep-bridge attach" in said
        endless.attach()
    assert endless.state is RunState.STOPPED, said
    assert endless.outcomes() == ["stopped"]
    assert endless.shells() == []
