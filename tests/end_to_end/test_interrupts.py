"""Ctrl-C, signals and a closed terminal at the real command; what the endpoint does then is asked of the stamp."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge.bundle import Verdict, verify
from bridge.collection import Journal, RunState
from bridge.errors import ExitCode
from bridge.store import FolderStore
from tests.support.command_line import Done, run, start

if sys.platform == "win32":
    pytest.skip("not run: terminals and signals of this kind are POSIX", allow_module_level=True)

from tests.soak.stamp_process import StampProcess
from tests.support.terminals import Terminal, terminal

pytestmark = pytest.mark.slow
SHORT_S = 8.0
LONG_S = 600.0
"""No test waits for the end of such a collection: it is stopped."""


@dataclass(frozen=True)
class Site:
    """A stamp of its own, and an operator's machine."""

    stamp: StampProcess
    folder: Path

    def arguments(self, *arguments: str) -> list[str]:
        config = str(self.stamp.ready["config"])
        return ["--config", config, "--state-dir", str(self.folder / "state"), *arguments]

    def collect(self) -> list[str]:
        return self.arguments("collect", self.stamp.ready["stamp"], "--role", "Storage,ACS", "--to", str(self.place))

    def start(self) -> subprocess.Popen[str]:
        return start(*self.collect(), "--json")

    @contextmanager
    def in_terminal(self) -> Iterator[Terminal]:
        with terminal(*self.collect()) as found:
            yield found

    def attach(self) -> Done:
        return run(*self.arguments("attach", "--json"))

    @property
    def place(self) -> Path:
        return self.folder / "out"

    @property
    def state(self) -> RunState:
        with Journal(self.folder / "state") as journal:
            found = journal.latest()
        assert found is not None
        return found.state

    def outcomes(self) -> list[str]:
        """How each collection that the stamp ever began has ended, or that it runs."""
        return [each["outcome"] for each in self.stamp.report()["collections"]]

    def shells(self) -> list[str]:
        found: list[str] = self.stamp.report()["shells"]
        return found

    def output_arrives(self) -> None:
        """Waits until there is something that must not be lost."""
        until(lambda: any(self.place.rglob("*.zip")))

    def has_a_verified_bundle(self, bundle: str) -> bool:
        return verify(FolderStore(Path(bundle))).verdict is Verdict.VERIFIED


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, "it does not come to pass"
        time.sleep(0.05)


@contextmanager
def site(folder: Path, duration_s: float) -> Iterator[Site]:
    with StampProcess(
        folder / "stamp.log", size_bytes=2_000_000, duration_s=duration_s, seed=3, faults=(), output_root=folder
    ) as stamp:
        yield Site(stamp, folder)


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Site]:
    """A stamp whose collections end by themselves."""
    with site(tmp_path, SHORT_S) as found:
        yield found


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Site]:
    """A stamp whose collections end only when they are stopped."""
    with site(tmp_path, LONG_S) as found:
        yield found


def finishes(at: Site) -> dict[str, Any]:
    """Somebody attaches, and has the whole bundle of the one collection that there ever was."""
    done = at.attach()
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.data["state"] == "done"
    assert at.has_a_verified_bundle(done.data["bundle"])
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


@pytest.mark.parametrize("after_s", [0.1, 1.0, 2.5])
def test_a_second_interrupt_stops_the_pipeline_and_keeps_what_arrived(endless: Site, after_s: float) -> None:
    with endless.start() as process:
        endless.output_arrives()
        process.send_signal(signal.SIGINT)
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate()
    data = json.loads(out)["data"]
    assert data["state"] == "stopped", said
    assert endless.outcomes() == ["stopped"]
    assert endless.shells() == []
    assert endless.has_a_verified_bundle(data["bundle"])


def test_a_second_ctrl_c_at_the_terminal_does_what_the_first_promised(endless: Site) -> None:
    with endless.in_terminal() as screen:
        endless.output_arrives()
        screen.type("\x03")
        screen.wait_for("press Ctrl-C again")
        until(lambda: endless.state is RunState.DETACHED)
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
        out, said = process.communicate()
    assert "Traceback" not in said
    assert json.loads(out)["data"]["state"] == "stopped", said
    assert endless.outcomes() == ["stopped"]
    assert endless.shells() == []


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
