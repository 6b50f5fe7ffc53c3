"""The simulated endpoint over stdin and stdout: psrpcore's client half over pipes, and PowerShell's own client."""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psrpcore import ClientPowerShell, ClientRunspacePool, PipelineOutputEvent, PSRPPayload, StreamType
from psrpcore.types import PSInvocationState, RunspacePoolState

from tests.support.psrp_replay import RECORDINGS

ROOT = Path(__file__).parents[2]
POOL = uuid.UUID(int=0)
_LINE = re.compile(r"<(\w+)[^>]*PSGuid='([0-9a-f-]+)'[^>]*?(?:/>|>([^<]*)<)")


class StdioClient:
    """psrpcore's client half; every packet waits for its acknowledgement."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pool = ClientRunspacePool()
        self.seen: list[str] = []

    def open(self) -> None:
        self.pool.open()
        self.send(POOL)
        self.read_until(lambda: self.pool.state == RunspacePoolState.Opened)

    def run(self, name: str, **parameters: Any) -> tuple[list[Any], PSInvocationState]:
        pipeline = self.start(name, **parameters)
        output = self.finish(pipeline)
        return output, pipeline.state

    def start(self, name: str, **parameters: Any) -> Any:
        pipeline = ClientPowerShell(self.pool)
        pipeline.add_command(name)
        pipeline.add_parameters(**parameters)
        pipeline.start()
        self.packet(f"<Command PSGuid='{pipeline.pipeline_id}' />", "CommandAck")
        self.send(pipeline.pipeline_id)
        return pipeline

    def finish(self, pipeline: Any) -> list[Any]:
        self.read_until(lambda: pipeline.state not in (PSInvocationState.Running, PSInvocationState.Stopping))
        output, self._output = self._output, []
        self.packet(f"<Close PSGuid='{pipeline.pipeline_id}' />", "CloseAck")
        return output

    def close(self) -> int:
        self.packet(f"<Close PSGuid='{POOL}' />", "CloseAck")
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(30)

    def send(self, identifier: uuid.UUID) -> None:
        while (payload := self.pool.data_to_send()) is not None:
            text = base64.b64encode(payload.data).decode()
            self.packet(f"<Data Stream='Default' PSGuid='{identifier}'>{text}</Data>", "DataAck")

    def packet(self, line: str, acknowledgement: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        before = self.seen.count(acknowledgement)
        self.read_until(lambda: self.seen.count(acknowledgement) > before)

    def read_until(self, condition: Any) -> None:
        assert self.process.stdout is not None
        while not condition():
            line = self.process.stdout.readline().decode()
            match = _LINE.match(line)
            assert match is not None, f"not a packet: {line!r}"
            self.seen.append(match[1])
            if match[1] == "Data":
                target = uuid.UUID(match[2])
                data = PSRPPayload(base64.b64decode(match[3]), StreamType.default, target if target.int else None)
                self.pool.receive_data(data)
                while (event := self.pool.next_event()) is not None:
                    if isinstance(event, PipelineOutputEvent):
                        self._output.append(event.data)

    _output: list[Any] = []  # noqa: RUF012 - replaced, never shared


@pytest.fixture
def client() -> Iterator[StdioClient]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.stdio_simulator"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    found = StdioClient(process)
    found._output = []
    yield found
    process.kill()
    process.wait(30)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


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
    return [(kind, guid) for kind, guid, _ in _LINE.findall(text) if kind != "Data"]


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
