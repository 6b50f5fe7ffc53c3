"""Ctrl-C and a closed terminal, at the worst moments: what was asked for is done, and the work is not ended by them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from bridge.collection import Control
from bridge.errors import ExitCode
from cli._console import Console
from cli._live import _Screen
from cli._signals import interrupts
from tests.support.command_line import rehearsal


def test_ctrl_c_in_the_middle_of_drawing_neither_blocks_nor_is_lost() -> None:
    screen = _Screen("collect", Console(as_json=False), "Ctrl-C: detach")
    said: list[str] = []

    def say(text: str) -> None:
        shown = RichConsole(width=80, height=20)
        with shown.capture():
            shown.print(screen)
        said.append(text)

    control = Control()
    with interrupts(control, say):
        with screen._lock:
            signal.raise_signal(signal.SIGINT)
        assert (control.detach_asked, control.stop_asked) == (True, False)
        signal.raise_signal(signal.SIGINT)
        assert control.stop_asked
    assert len(said) == 2


def test_ctrl_c_in_the_middle_of_a_word_is_obeyed_although_it_cannot_be_answered() -> None:
    def say(text: str) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter>")

    control = Control()
    with interrupts(control, say):
        signal.raise_signal(signal.SIGINT)
    assert control.detach_asked


def test_words_that_nobody_can_read_any_more_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", closefd=True) as lost:
        monkeypatch.setattr(sys, "stderr", lost)
        Console(as_json=False).say("is anybody there?")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # what is left in the buffer goes nowhere


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="not run: Windows has no SIGHUP")
def test_a_terminal_that_is_closed_leaves_the_collection_running_and_another_shell_finishes_it(tmp_path: Path) -> None:
    from tests.support.terminals import terminal

    with rehearsal(tmp_path, "--duration", "20s", "--size", "2MB") as stamp:
        collect = stamp.arguments("collect", stamp.stamp, "--since", "4h", "--role", "Storage", "--to", "local")
        with terminal(*collect) as screen:
            screen.wait_for("running", "the endpoint says: ")
            screen.close()
            assert screen.process.wait() == ExitCode.INTERRUPTED
        [run] = stamp.run("status", "--json").data["runs"]
        assert run["state"] == "detached"
        attached = stamp.run("attach", "--json")
        assert attached.returncode == ExitCode.OK, attached.stderr
        assert attached.data["run"] == run["id"]
