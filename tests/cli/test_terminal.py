"""What a stamp sends cannot redraw an operator's terminal, flood it, or reach it through a library's log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from bridge.collection import Warned
from cli._console import Console
from cli._live import _Lines, _Screen

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m a\rOVER \u202egpj \ud800"


def test_control_characters_are_written_out_on_both_streams(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=False)
    console.say(EVIL)
    console.show("kept:\ttab\nand line" + EVIL)
    said = capsys.readouterr()
    for text in (said.err, said.out):
        assert not set(text) & set("\x1b\x07\x9b\r\u202e\ud800")
        assert r"\u001b[2J" in text
    assert said.out.startswith("kept:\ttab\nand line")


def test_the_live_view_writes_them_out_too() -> None:
    screen = _Screen("collect", Console(as_json=False), "")
    screen.on_event(Warned(run_id="r", text=EVIL))
    shown = RichConsole(width=200, height=40)
    with shown.capture() as captured:
        shown.print(screen)
    assert r"\u001b[2J" in captured.get()
    assert "\x1b[2J" not in captured.get()


def test_an_endless_line_is_cut_and_the_rest_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    _Lines(Console(as_json=False)).on_event(Warned(run_id="", text="m" * 1_000_000))
    said = capsys.readouterr().err
    assert len(said) < 2000
    assert "more characters" in said


def test_a_warning_of_a_library_is_not_printed() -> None:
    code = (
        "import logging, sys; sys.argv = ['pep-bridge', '--version']\n"
        "import cli.main\n"
        "try: cli.main.main()\n"
        "except SystemExit: pass\n"
        "logging.getLogger('urllib3.connectionpool').warning('Retrying /c?sig=secret')\n"
        "logging.getLogger('azure.core').warning('Unexpected return type')\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert "secret" not in done.stderr
    assert "Unexpected" not in done.stderr
