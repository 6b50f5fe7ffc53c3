"""The simulated endpoint over stdin and stdout: psrpcore's client half over pipes, and PowerShell's own client."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from psrpcore.types import PSInvocationState, RunspacePoolState

from tests.support.psrp_replay import RECORDINGS
from tests.support.stdio_client import PACKET, StdioClient

ROOT = Path(__file__).parents[2]


@pytest.fixture
def client() -> Iterator[StdioClient]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.stdio_simulator"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    found = StdioClient(process)
    yield found
    found.kill()


def test_a_session_opens_runs_and_closes(client: StdioClient) -> None:
    client.open()
    assert client.run("Get-AzureStackLog", Mode="nonterm") == (["after"], PSInvocationState.Completed)
    output, state = client.run("Write-Many", Count=500)
    assert [item.Bytes for item in output] == list(range(1, 501))
    assert client.run("Get-AzureStackLog", Mode="term") == (["before"], PSInvocationState.Failed)
    assert state == PSInvocationState.Completed
    assert client.close() == 0
    assert client.pool.state == RunspacePoolState.Closed


def test_a_signal_stops_the_pipeline(client: StdioClient) -> None:
    client.open()
    pipeline = client.start("Get-AzureStackLog", Mode="slow", Seconds=60)
    client.packet(f"<Signal PSGuid='{pipeline.pipeline_id}' />", "SignalAck")
    client.finish(pipeline)
    assert pipeline.state == PSInvocationState.Stopped


def test_a_client_that_leaves_ends_the_process(client: StdioClient) -> None:
    client.open()
    client.start("Get-AzureStackLog", Mode="slow", Seconds=60)
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.process.wait(30) == 0


def test_the_recorded_client_is_answered_with_the_recorded_packets() -> None:
    recorded = (RECORDINGS / "stdio" / "collect-ok.client.txt").read_text(encoding="utf-8")
    answer = (RECORDINGS / "stdio" / "collect-ok.server.txt").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.stdio_simulator"],
        cwd=ROOT,
        input=recorded.encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert _acknowledgements(done.stdout.decode()) == _acknowledgements(answer)


def _acknowledgements(text: str) -> list[tuple[str, str]]:
    return [(kind, guid) for kind, guid, _ in PACKET.findall(text) if kind != "Data"]


def test_what_is_no_packet_ends_the_session_with_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.stdio_simulator"],
        cwd=ROOT,
        input=b"GET / HTTP/1.1\r\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert b"not a packet of PowerShell's transport" in done.stderr


@pytest.fixture
def stand_in_ssh(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``ssh`` is the simulated endpoint."""
    script = tmp_path / "ssh"
    script.write_text(
        f"#!/bin/sh\ncd {shlex.quote(str(ROOT))}\n"
        f"exec {shlex.quote(sys.executable)} -m tests.support.stdio_simulator\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}


def engine(pwsh: str, environment: dict[str, str], *arguments: str, typed: str = "") -> str:
    done = subprocess.run(
        [pwsh, *arguments], input=typed.encode(), capture_output=True, env=environment, timeout=120, check=False
    )
    return (done.stdout + done.stderr).decode()


@pytest.mark.engine
def test_powershell_opens_a_session_and_gets_objects(pwsh: str, stand_in_ssh: dict[str, str]) -> None:
    text = engine(
        pwsh,
        stand_in_ssh,
        "-Command",
        "$s = New-PSSession -HostName stamp -UserName op;"
        "Invoke-Command -Session $s { Get-AzureStackLog -Mode objects } | ForEach-Object { $_.Role + '=' + $_.Bytes };"
        "Invoke-Command -Session $s { Write-Many -Count 3000 } | Measure-Object | ForEach-Object { $_.Count };"
        "Remove-PSSession $s",
    )
    assert "R1=1073741824" in text
    assert "3000" in text


@pytest.mark.engine
def test_a_credential_of_powershell_arrives(pwsh: str, stand_in_ssh: dict[str, str]) -> None:
    text = engine(
        pwsh,
        stand_in_ssh,
        "-Command",
        "$s = New-PSSession -HostName stamp -UserName op;"
        "$p = [securestring]::new(); 'a secret word!'.ToCharArray() | ForEach-Object { $p.AppendChar($_) };"
        "$c = [pscredential]::new('CORP\\svc', $p);"
        "Invoke-Command -Session $s { Get-AzureStackLog -Mode cred -OutputShareCredential $using:c };"
        "Remove-PSSession $s",
    )
    assert "user=CORP\\svc pwlen=14" in text


@pytest.mark.engine
def test_an_entered_session_shows_its_output_and_can_be_left(pwsh: str, stand_in_ssh: dict[str, str]) -> None:
    text = engine(
        pwsh,
        stand_in_ssh,
        "-Interactive",
        typed="Enter-PSSession -HostName stamp -UserName op\n"
        "Get-AzureStackLog -Mode ok\n"
        "Get-AzureStackLog -Mode types -OutputSharePath \\\\nas\\drop\n"
        "$x = 1\n"
        "exit\n"
        "'back at ' + 'home'\n",
    )
    assert "done" in text
    assert "share=\\\\nas\\drop" in text
    assert "no-language mode" in text
    assert "back at home" in text
