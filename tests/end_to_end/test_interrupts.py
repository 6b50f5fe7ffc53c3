"""Ctrl-C, signals and a closed terminal at the real command leave the collection working; what it does is asked of the
stamp."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.collection import RunState
from bridge.errors import ExitCode

if sys.platform == "win32":
    pytest.skip("not run: terminals and signals of this kind are POSIX", allow_module_level=True)

from tests.support.operators import Site, site

pytestmark = pytest.mark.slow
DURATION_S = 8.0


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Site]:
    """A stamp whose collections end by themselves."""
    with site(tmp_path, DURATION_S) as found:
        yield found


def finishes(at: Site) -> dict[str, Any]:
    """Somebody attaches, and has the whole bundle of the one collection that there ever was."""
    done = at.attach()
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.data["state"] == "done"
    assert at.has_verified(done.data["bundle"])
    assert at.outcomes() == ["finished"]
    assert at.shells() == []
    return done.data


def test_one_ctrl_c_leaves_the_collection_working_and_says_how_to_attach(short: Site) -> None:
    with short.in_terminal() as screen:
        short.output_arrives()
        screen.type("\x03")
        screen.wait_for("leaving the collection running")
        assert screen.wait() == ExitCode.INTERRUPTED, screen.text
        said = screen.text
    assert short.outcomes() == ["running"]
    assert short.state is RunState.DETACHED
    found = re.search(r"pep-bridge attach (\S+?)[\s'.]", said)
    assert found, said
    assert finishes(short)["run"] == found[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_leaves_the_collection_working(short: Site, number: signal.Signals) -> None:
    with short.start() as process:
        short.output_arrives()
        process.send_signal(number)
        out, said = process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED, said
    assert json.loads(out)["data"]["state"] == "detached"
    assert short.outcomes() == ["running"]
    assert len(short.shells()) == 1
    finishes(short)


def test_a_terminal_that_is_closed_leaves_the_collection_working(short: Site) -> None:
    with short.in_terminal() as screen:
        short.output_arrives()
        screen.close()
        assert screen.process.wait() == ExitCode.INTERRUPTED
    assert short.outcomes() == ["running"]
    assert short.state is RunState.DETACHED
    finishes(short)


def test_a_hangup_where_there_is_no_terminal_does_not_disturb_the_collection(short: Site) -> None:
    with short.start() as process:
        short.output_arrives()
        process.send_signal(signal.SIGHUP)
        out, said = process.communicate()
    assert process.returncode == ExitCode.OK, said
    assert json.loads(out)["data"]["state"] == "done"
    assert short.outcomes() == ["finished"]
