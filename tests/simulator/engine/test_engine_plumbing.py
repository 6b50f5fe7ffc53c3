"""What lies between the WSMan front and a PowerShell process, with a stand-in that plays a recorded conversation."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

import psutil
import pytest
from pypsrp.complex_objects import PSInvocationState
from pypsrp.exceptions import WSManFaultError

from bridge.errors import PowerShellNotFoundError
from bridge.simulator import CommandSpec, EndpointServer, ParameterSpec
from bridge.simulator.engine import PowerShellEngine, find_powershell
from bridge.simulator.engine._channel import Caller, Channel, ChannelError, read_call
from bridge.simulator.engine._files import write_session_configuration
from tests.support.engine_scenarios import until
from tests.support.pep_client import command, opened, wsman
from tests.support.recorded_commands import RECORDED_COMMANDS
from tests.support.recorded_engine import program

HOST_PROCESS_LOST = 1726
PATIENT: dict[str, Any] = {"operation_timeout": 30, "read_timeout": 60}


@contextmanager
def served_by(folder: Path, mode: str, *, answer_timeout_s: float = 30.0) -> Iterator[EndpointServer]:
    engine = PowerShellEngine(program(folder, mode), answer_timeout_s=answer_timeout_s)
    with EndpointServer(RECORDED_COMMANDS, engine=engine) as server:
        yield server


def process_of(server: EndpointServer) -> psutil.Process:
    [shell] = server.shells()
    return psutil.Process(shell.process_id)


def test_the_recorded_conversation_passes_through_the_front(tmp_path: Path) -> None:
    with served_by(tmp_path, "plays") as server, opened(server, **PATIENT) as pool:
        process = process_of(server)
        shell = command(pool, "Get-AzureStackLog", Mode="ok")
        assert shell.invoke(remote_stream_options=0) == ["done"]
        assert shell.state == PSInvocationState.COMPLETED
        assert [record.message for record in shell.streams.warning] == ["One node did not answer"]
        pool.close()
        assert until(lambda: not process.is_running())


def test_a_process_that_does_not_start_is_told_with_what_it_said(tmp_path: Path) -> None:
    with served_by(tmp_path, "does-not-start") as server:
        with pytest.raises(WSManFaultError, match=r"exit code 3: .*the key 'Nonsense' is not valid") as caught:
            with opened(server, **PATIENT):
                pass
    assert caught.value.code == HOST_PROCESS_LOST


def test_a_process_that_never_answers_is_killed_and_told(tmp_path: Path) -> None:
    with served_by(tmp_path, "hangs", answer_timeout_s=1.0) as server:
        with pytest.raises(WSManFaultError, match="did not acknowledge a Data packet within 1 s") as caught:
            with opened(server, **PATIENT):
                pass
        assert until(lambda: not server.shells())
    assert caught.value.code == HOST_PROCESS_LOST


def test_a_process_that_dies_in_a_command_ends_its_shell(tmp_path: Path) -> None:
    with served_by(tmp_path, "dies") as server, wsman(server, **PATIENT) as connection:
        from pypsrp.powershell import RunspacePool

        pool = RunspacePool(connection, configuration_name="PrivilegedEndpoint")
        pool.open()
        with pytest.raises(WSManFaultError, match="exit code 5: out of memory, says the stand-in") as caught:
            command(pool, "Get-AzureStackLog", Mode="ok").invoke(remote_stream_options=0)
        assert caught.value.code == HOST_PROCESS_LOST
        assert until(lambda: not server.shells())


def test_a_killed_process_ends_a_session_that_waits(tmp_path: Path) -> None:
    with served_by(tmp_path, "plays") as server, wsman(server, **PATIENT) as connection:
        from pypsrp.powershell import RunspacePool

        pool = RunspacePool(connection, configuration_name="PrivilegedEndpoint")
        pool.open()
        process_of(server).kill()
        assert until(lambda: not process_alive(server))
        with pytest.raises(WSManFaultError):
            command(pool, "Get-AzureStackLog").invoke(remote_stream_options=0)


def process_alive(server: EndpointServer) -> bool:
    return any(psutil.pid_exists(shell.process_id) for shell in server.shells())


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with EndpointServer(RECORDED_COMMANDS, engine=PowerShellEngine(tmp_path / "nothing-here")) as server:
        with pytest.raises(WSManFaultError, match="PowerShell could not be started"):
            with opened(server, **PATIENT):
                pass


def test_a_session_is_left_and_taken_up_again_and_the_process_hears_nothing_of_it(tmp_path: Path) -> None:
    with served_by(tmp_path, "plays") as server, opened(server, **PATIENT) as pool:
        process = process_of(server)
        pool.disconnect()
        assert [shell.connected for shell in server.shells()] == [False]
        pool.connect()
        assert command(pool, "Get-AzureStackLog").invoke(remote_stream_options=0) == ["done"]
        assert process == process_of(server)


def test_the_end_of_the_server_ends_processes_that_hang(tmp_path: Path) -> None:
    others = set(psutil.Process().children(recursive=True))  # servers of other tests
    with served_by(tmp_path, "hangs", answer_timeout_s=3.0) as server:
        with pytest.raises(WSManFaultError):
            with opened(server, operation_timeout=1, read_timeout=5):
                pass
        children = set(psutil.Process().children(recursive=True)) - others
    assert until(lambda: not any(child.is_running() for child in children))


def test_the_environment_of_the_process_holds_no_secret_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEP_BRIDGE_PASSWORD", "a secret")
    with served_by(tmp_path, "plays") as server, opened(server, **PATIENT):
        names = set(process_of(server).environ())
    assert "PEP_BRIDGE_PASSWORD" not in names
    assert "PEP_BRIDGE_CHANNEL" in names


# -- finding a PowerShell ---------------------------------------------------------------------------------------------


def _says(folder: Path, text: str) -> str:
    file = folder / "pwsh"
    file.write_text(f"#!/bin/sh\necho '{text}'\n", encoding="utf-8")
    file.chmod(0o700)
    return str(file)


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")
@pytest.mark.parametrize(
    ("said", "problem"),
    [("PowerShell 7.2.24", "takes no session configuration file"), ("Python 3.11.7", "is no PowerShell 7")],
)
def test_a_program_that_cannot_do_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, problem: str
) -> None:
    monkeypatch.setenv("PEP_BRIDGE_PWSH", _says(tmp_path, said))
    with pytest.raises(PowerShellNotFoundError, match=problem):
        find_powershell()


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")
def test_the_named_program_comes_before_the_one_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = _says(tmp_path, "PowerShell 7.6.5")
    monkeypatch.setenv("PEP_BRIDGE_PWSH", named)
    assert find_powershell() == Path(named)


def test_without_any_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEP_BRIDGE_PWSH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PowerShellNotFoundError, match="no pwsh on PATH") as caught:
        find_powershell()
    assert "PowerShell 7.3 or later" in caught.value.advice


# -- the private channel ----------------------------------------------------------------------------------------------


@pytest.fixture
def channel() -> Iterator[Channel]:
    found = Channel(RECORDED_COMMANDS)
    found.start()
    yield found
    found.close()


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def test_whoever_does_not_know_the_token_gets_nothing(channel: Channel, tmp_path: Path) -> None:
    admitted = channel.admit(Caller("id", "user", "machine", UTC), tmp_path)
    port = int(admitted.file.read_text(encoding="ascii").splitlines()[0])
    with _connect(port) as stranger:
        stranger.sendall(b"guessed\n")
        assert stranger.recv(100) == b""


def test_a_dismissed_process_is_let_in_no_more(channel: Channel, tmp_path: Path) -> None:
    admitted = channel.admit(Caller("id", "user", "machine", UTC), tmp_path)
    port, token, answer = admitted.file.read_text(encoding="ascii").split()
    with _connect(int(port)) as process:
        process.sendall(f"{token}\n".encode())
        assert process.recv(100) == f"{answer}\n".encode()
    channel.dismiss(admitted)
    assert not admitted.file.exists()
    with _connect(int(port)) as process:
        process.sendall(f"{token}\n".encode())
        assert process.recv(100) == b""


@pytest.mark.skipif(os.name == "nt", reason="POSIX file modes")
def test_the_token_is_for_its_owner_alone(channel: Channel, tmp_path: Path) -> None:
    admitted = channel.admit(Caller("id", "user", "machine", UTC), tmp_path)
    assert admitted.file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe\n",
        b"bm90IHhtbA==\n",
        b"PCFET0NUWVBFIGEgWzwhRU5USVRZIGIgImMiPl0+PGE+JmI7PC9hPg==\n",
        b"PGEvPg==\n",
    ],
)
def test_what_is_no_call_is_refused(line: bytes) -> None:
    with pytest.raises(ChannelError):
        read_call(line, UTC)


# -- the generated files ----------------------------------------------------------------------------------------------


def test_names_and_choices_are_quoted_in_the_generated_configuration(tmp_path: Path) -> None:
    spec = ParameterSpec("Choice", "System.String", validate_set=("it's", "$(1+1)"), mandatory=True, position=2)
    text = write_session_configuration([CommandSpec("Get-One", print, (spec,))], tmp_path).read_text("utf-8-sig")
    assert "[Parameter(Mandatory, Position = 2)][ValidateSet('it''s', '$(1+1)')][System.String]${Choice}" in text


def test_the_relay_uses_no_command_that_a_small_session_lacks() -> None:
    relay = Path(sys.modules[PowerShellEngine.__module__].__file__ or "").parent / "relay.ps1"
    commands = set(re.findall(r"\b[A-Z][a-z]+-[A-Z]\w+\b", relay.read_text(encoding="utf-8").split("param(", 1)[1]))
    assert commands <= {"Write-Host", "Write-Information", "Write-Error"}
