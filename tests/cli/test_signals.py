"""Ctrl-C and a closed terminal, at the worst moments: what was asked for is done, and the work is not ended by them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.collection import Control, Event, RunState, StateChanged
from bridge.errors import ExitCode
from bridge.store import FolderStore, StoreSettings
from cli._console import Console, Globals
from cli._run import show_live
from cli._signals import (
    LEAVING,
    LEAVING_EARLY,
    LEAVING_THE_BUNDLE,
    STOPPING,
    STOPPING_THE_DELIVERY,
    STOPPING_THE_SEALING,
    interrupts,
    until_told_to_leave,
    wait,
)
from cli._transfer import LineUse
from tests.support.bundles import make_bundle
from tests.support.command_line import ROOT, rehearsal, start
from tests.support.samba import PASSWORD, USERNAME
from tests.support.tcp_proxy import TcpProxy
from tests.support.transfer_lab import MIB


def test_ctrl_c_waits_for_nothing_that_its_own_thread_may_hold() -> None:
    free = threading.Event()
    said: list[str] = []

    def say(text: str) -> None:
        assert free.wait(60), "the handler itself said it, and waits for what it has interrupted"
        said.append(text)

    control = Control()
    with interrupts(control, say):
        signal.raise_signal(signal.SIGINT)
        assert (control.detach_asked, control.stop_asked) == (True, False)
        signal.raise_signal(signal.SIGINT)
        assert control.stop_asked
        assert said == []
        free.set()
    assert said == [LEAVING, STOPPING]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (RunState.PREFLIGHTED, [LEAVING_EARLY, LEAVING_EARLY]),
        (RunState.RUNNING, [LEAVING, STOPPING]),
        (RunState.SEALING, [LEAVING_THE_BUNDLE, STOPPING_THE_SEALING]),
        (RunState.DELIVERING, [LEAVING_THE_BUNDLE, STOPPING_THE_DELIVERY]),
    ],
)
def test_a_further_ctrl_c_says_what_it_does_where_the_run_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: RunState, told: list[str]
) -> None:
    (tmp_path / "config.toml").touch()

    def work(control: Control, on_event: Callable[[Event], None]) -> None:
        on_event(StateChanged(run_id="r", state=state))
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    show_live(Console(as_json=False), "collect", LineUse(Globals(config=tmp_path / "config.toml")), work)
    assert capsys.readouterr().err.splitlines()[-2:] == told


BURST = """
import faulthandler, os, pty, signal, sys, threading, time
screen, stderr = pty.openpty()
os.dup2(stderr, 2)
def read():
    while os.read(screen, 65536):
        pass
threading.Thread(target=read, daemon=True).start()
faulthandler.dump_traceback_later(120, exit=True, file=sys.stdout)
from bridge.collection import Control, RunState, StateChanged, Warned
from cli._console import Console
from cli._live import live_view
from cli._signals import interrupts
console, control = Console(False), Control()
pressed = threading.Event()
def press():
    for _ in range(500):
        time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)
    pressed.set()
with live_view(console, "t") as view, interrupts(control, console.say):
    threading.Thread(target=press).start()
    while not pressed.is_set():
        view.on_event(Warned(run_id="r", text="a record of some length that is scrubbed and shortened " * 3))
print("went on", control.detach_asked, control.stop_asked)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="not run: Windows has no pty, and delivers no signal of its own")
def test_a_burst_of_interrupts_among_a_burst_of_records_stops_nothing_but_what_they_ask_for() -> None:
    done = subprocess.run([sys.executable, "-c", BURST], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout == "went on True True\n"


@pytest.mark.skipif(sys.platform == "win32", reason="not run: a real signal is sent")
def test_a_signal_in_the_middle_of_waiting_to_leave_is_heard() -> None:
    with until_told_to_leave() as leaving:
        assert not leaving.wait(0.01)
        pressing = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        pressing.start()
        assert wait(leaving, 600)
        pressing.join()
        assert leaving.wait(600), "who asks again need not wait"


@pytest.mark.skipif(sys.platform == "win32", reason="not run: a real signal is sent")
def test_ctrl_c_ends_a_delivery_to_a_service_that_never_answers(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", FolderStore(tmp_path / "bundle"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        to = f"http://127.0.0.1:{silent.getsockname()[1]}/account/container"
        asked = ("--state-dir", str(tmp_path / "state"), "deliver", str(tmp_path / "bundle"), "--to", to)
        with start(
            *asked, PEP_BRIDGE_SAS="sv=2019-02-02&sr=c&sp=racwl&se=2099-01-01T00:00:00Z&sig=c2VjcmV0"
        ) as process:
            connection, _ = silent.accept()
            assert connection.recv(1)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate()
            connection.close()
    assert process.returncode == ExitCode.INTERRUPTED
    assert "the same command goes on" in stderr
    assert "c2VjcmV0" not in stderr


@pytest.mark.skipif(sys.platform == "win32", reason="not run: a real signal is sent")
@pytest.mark.parametrize("place", ["container", "share"])
def test_one_ctrl_c_ends_a_verify_whose_line_fell_silent_while_it_read(
    request: pytest.FixtureRequest, tmp_path: Path, place: str
) -> None:
    """It does not wait for the line's own time-out of a minute."""
    payload = {f"data/L/{number}.zip": os.urandom(16 * MIB) for number in range(4)}
    make_bundle(tmp_path / "b", FolderStore(tmp_path / "b"), payload)
    server = request.getfixturevalue("azurite" if place == "container" else "samba")
    with TcpProxy("127.0.0.1", server.port) as proxy:
        if place == "container":
            name = server.new_container()
            with server.owner(name) as owner:
                for file in filter(Path.is_file, (tmp_path / "b").rglob("*")):
                    owner.upload_blob(file.relative_to(tmp_path / "b").as_posix(), file.read_bytes())
            bundle = server.container_url(name).replace(f":{server.port}/", f":{proxy.port}/")
            asked, secrets = ["verify", bundle], {"PEP_BRIDGE_SAS": server.sas(name).reveal()}
        else:
            shutil.copytree(tmp_path / "b", server.path() / tmp_path.name)
            asked = ["verify", f"smb://127.0.0.1:{proxy.port}/bundles/{tmp_path.name}", "--share-username", USERNAME]
            secrets = {"PEP_BRIDGE_SHARE_PASSWORD": PASSWORD}
        proxy.stall_after(8 * MIB)
        with start("--state-dir", str(tmp_path / "state"), *asked, **secrets) as process:
            assert proxy.stalled.wait(60)
            time.sleep(1)  # what had come is used up
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=StoreSettings().io_timeout_s - 15)
    assert process.returncode == ExitCode.INTERRUPTED, stderr


def test_words_that_nobody_can_read_any_more_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", closefd=True) as lost:
        monkeypatch.setattr(sys, "stderr", lost)
        Console(as_json=False).say("is anybody there?")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # what is left in the buffer goes nowhere


@pytest.mark.slow
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
