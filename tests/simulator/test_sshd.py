"""``simulate --stdio`` as a subsystem of a real openssh-server: psrpcore's client half, and PowerShell's own client."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from psrpcore.types import PSInvocationState, RunspacePoolState

from tests.support.sshd import Sshd, find_sshd
from tests.support.stdio_client import StdioClient

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def output_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only folder that the simulated stamp writes to."""
    return tmp_path_factory.mktemp("collected")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory, output_root: Path) -> Iterator[Sshd]:
    if find_sshd() is None or shutil.which("ssh") is None:
        pytest.skip("not run: no openssh-server and openssh-client (tools/setup_test_servers.sh installs them)")
    stamp = ["--output-root", str(output_root), "--size", "200KB", "--duration", "0.5s", "--fault", "role-hangs:ACS"]
    command = [sys.executable, "-m", "cli.main", "simulate", "--stdio", *stamp]
    with Sshd(tmp_path_factory.mktemp("sshd"), command, {"PYTHONPATH": str(ROOT)}) as server:
        yield server


@pytest.fixture
def client(sshd: Sshd) -> Iterator[StdioClient]:
    process = subprocess.Popen(sshd.ssh(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    found = StdioClient(process)
    yield found
    found.kill()


def endpoints(output_root: Path) -> list[psutil.Process]:
    """The processes that sshd started for this test's sessions."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "cli.main" in line and str(output_root) in line:
            found.append(process)
    return found


def test_through_ssh_a_session_opens_collects_into_a_folder_and_closes(client: StdioClient, output_root: Path) -> None:
    folder = output_root / "one"
    folder.mkdir()
    client.open()
    output, state = client.run("Get-AzureStackLog", OutputPath=str(folder), FilterByRole=["Storage"])
    assert (output, state) == ([], PSInvocationState.Completed)
    (collected,) = folder.glob("AzureStackLogs-*")
    assert (collected / "Get-AzureStackLog_Output.log").is_file()
    assert any(path.name.startswith("Storage-") and path.suffix == ".zip" for path in collected.rglob("*"))
    assert client.close() == 0
    assert client.pool.state == RunspacePoolState.Closed


def test_through_ssh_a_collection_is_stopped_and_the_session_goes_on(client: StdioClient, output_root: Path) -> None:
    client.open()
    pipeline = client.start("Get-AzureStackLog", OutputPath=str(output_root), FilterByRole=["ACS"])
    client.packet(f"<Signal PSGuid='{pipeline.pipeline_id}' />", "SignalAck")
    client.finish(pipeline)
    assert pipeline.state == PSInvocationState.Stopped
    output, state = client.run("Get-AzureStackStampInformation")
    assert (len(output), state) == (1, PSInvocationState.Completed)
    assert client.close() == 0


def test_when_ssh_dies_the_endpoint_behind_it_ends(client: StdioClient, output_root: Path) -> None:
    client.open()
    (endpoint,) = endpoints(output_root)
    client.start("Get-AzureStackLog", OutputPath=str(output_root), FilterByRole=["ACS"])
    client.kill()
    endpoint.wait(60)
    assert endpoints(output_root) == []


def test_ssh_lets_no_other_key_in(sshd: Sshd) -> None:
    done = subprocess.run(
        sshd.ssh(key=sshd.base / "stranger"), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"Permission denied" in done.stderr


def powershell(pwsh: str, *arguments: str, typed: str = "") -> str:
    done = subprocess.run([pwsh, *arguments], input=typed.encode(), capture_output=True, timeout=240, check=False)
    return (done.stdout + done.stderr).decode()


def where(sshd: Sshd) -> str:
    """The parameters that a person gives to New-PSSession or Enter-PSSession."""
    options = f"@{{UserKnownHostsFile='{sshd.known_hosts}'; StrictHostKeyChecking='yes'; BatchMode='yes'}}"
    return f"-HostName {sshd.host} -Port {sshd.port} -UserName {sshd.user} -KeyFilePath '{sshd.key}' -Options {options}"


@pytest.mark.engine
def test_powershell_opens_a_session_through_ssh_and_collects(pwsh: str, sshd: Sshd, output_root: Path) -> None:
    folder = output_root / "two"
    folder.mkdir()
    text = powershell(
        pwsh,
        "-Command",
        f"$s = New-PSSession {where(sshd)};"
        f"Invoke-Command -Session $s {{ Get-AzureStackLog -OutputPath '{folder}' -FilterByRole Storage }};"
        "Invoke-Command -Session $s { Get-AzureStackStampInformation } | ForEach-Object { 'region ' + $_.RegionName };"
        "Invoke-Command -Session $s { Get-Process };"
        "Remove-PSSession $s; 'state ' + $s.State",
    )
    assert "region local" in text, text
    assert "The term 'Get-Process' is not recognized" in text
    assert "state Closed" in text
    assert list(folder.glob("AzureStackLogs-*/**/Storage-*.zip"))


@pytest.mark.engine
def test_a_session_entered_through_ssh_shows_its_output_and_can_be_left(pwsh: str, sshd: Sshd) -> None:
    typed = (
        f"Enter-PSSession {where(sshd)}\n"
        "Get-AzureStackStampInformation\n"
        "$x = 1\n"
        "exit\n"
        "'back at ' + 'home'\n"
    )  # fmt: skip
    text = powershell(pwsh, "-Interactive", typed=typed)
    assert "RegionName" in text, text
    assert "no-language mode" in text
    assert "back at home" in text
