"""Live tests of pypsrp and pywinrm, written by others for real Windows hosts, pointed at the simulated endpoint."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import winrm

from bridge.simulator import EndpointServer, TlsOptions
from tests.support.recorded_commands import RECORDED_COMMANDS

pytestmark = pytest.mark.slow

PYPSRP_CASES = (
    "test_shell.py::TestWinRS::test_winrs_standard",
    "test_shell.py::TestWinRS::test_winrs_stderr_rc",
    "test_shell.py::TestWinRS::test_winrs_send",
    "test_shell.py::TestWinRS::test_winrs_environment",
    "test_shell.py::TestWinRS::test_winrs_extra_opts",
    "test_shell.py::TestWinRS::test_winrs_unicode",
    "test_shell.py::TestWinRS::test_winrs_open_already_opened",
    "test_shell.py::TestWinRS::test_winrs_fail_poll_process",
    "test_powershell.py::TestRunspacePool::test_psrp_open_runspace",
    "test_powershell.py::TestRunspacePool::test_psrp_set_runspaces",
    "test_powershell.py::TestPSRPScenarios::test_psrp_receive_failure",
    "test_powershell.py::TestPSRPScenarios::test_psrp_with_no_history",
    "test_client.py::TestClient::test_client_execute_cmd",
    "test_client.py::TestClient::test_client_execute_cmd_environment",
)
PYWINRM_PASSED = 7


@pytest.fixture(scope="module")
def endpoint() -> Iterator[EndpointServer]:
    with EndpointServer(
        RECORDED_COMMANDS,
        configuration_names=("Microsoft.PowerShell",),
        cmd_shell=True,
        tls=TlsOptions(),
        max_shells_per_user=30,
    ) as server:
        yield server


@pytest.fixture(scope="session")
def pypsrp_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pypsrp's own tests, which only its source distribution holds."""
    folder = tmp_path_factory.mktemp("pypsrp")
    wanted = f"pypsrp=={version('pypsrp')}"
    arguments = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", wanted]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, timeout=240, check=False)
    archives = list(folder.glob("pypsrp-*.tar.gz"))
    if done.returncode != 0 or not archives:
        pytest.skip(f"not run: pip cannot fetch the source of {wanted}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("pypsrp-*/tests"))


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What those suites import and, against a live server, do not use: the back-port mock, and xmldiff."""
    folder = tmp_path_factory.mktemp("stand-ins")
    (folder / "mock.py").write_text("from unittest.mock import *\n", encoding="utf-8")
    (folder / "xmldiff").mkdir()
    (folder / "xmldiff" / "__init__.py").touch()
    (folder / "xmldiff" / "main.py").touch()
    return folder


def run_pytest(folder: Path, arguments: list[str], environment: dict[str, str]) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        "-c",
        os.devnull,
    ]
    done = subprocess.run(
        [*command, "-rfE", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=280,
        check=False,
    )
    return done.stdout.decode() + done.stderr.decode()


def test_a_command_line_is_given_to_the_callable_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # pywinrm warns of them, and there is no TLS here
        monkeypatch.delenv(name, raising=False)

    def play(line: str) -> tuple[bytes, bytes, int]:
        return f"got {line}".encode(), b"problem", 3

    with EndpointServer(cmd_shell=play) as server:
        password = server.account.password.reveal()
        session = winrm.Session(
            f"http://{server.host}:{server.port}/wsman", auth=(server.account.username, password), transport="ntlm"
        )
        answer = session.run_cmd("net", ["share"])
        assert (answer.std_out, answer.std_err, answer.status_code) == (b"got net share", b"problem", 3)


def test_pypsrps_live_cases_that_need_no_script_engine_pass(
    endpoint: EndpointServer, pypsrp_tests: Path, stand_ins: Path
) -> None:
    environment = {
        "PYTHONPATH": str(stand_ins),
        "PYPSRP_SERVER": endpoint.host,
        "PYPSRP_PORT": str(endpoint.https_port),
        "PYPSRP_USERNAME": endpoint.account.username,
        "PYPSRP_PASSWORD": endpoint.account.password.reveal(),
    }
    text = run_pytest(pypsrp_tests, [f"tests_pypsrp/{case}" for case in PYPSRP_CASES], environment)
    assert f"{len(PYPSRP_CASES)} passed" in text, text[-4000:]


def test_the_winrs_tests_in_pywinrms_wheel_pass(endpoint: EndpointServer, stand_ins: Path) -> None:
    environment = {
        "PYTHONPATH": str(stand_ins),
        "WINRM_ENDPOINT": f"http://{endpoint.host}:{endpoint.port}/wsman",
        "WINRM_TRANSPORT": "ntlm",
        "WINRM_USERNAME": endpoint.account.username,
        "WINRM_PASSWORD": endpoint.account.password.reveal(),
    }
    folder = Path(winrm.__file__).parent / "tests"
    text = run_pytest(folder, ["test_integration_protocol.py"], environment)
    assert re.search(rf"\b{PYWINRM_PASSED} passed", text), text[-4000:]
    assert "failed" not in text.replace("xfailed", "")
