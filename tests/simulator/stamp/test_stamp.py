"""A whole simulated stamp, spoken to by pypsrp over NTLM and sealed messages, and the verb that runs one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import requests
from pypsrp.exceptions import WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from bridge.simulator.stamp import FAULTS, SimulatedStamp, StampOptions
from bridge.stamp import EndpointAddress
from tests.support.samba import Samba

ROOT = Path(__file__).parents[3]


@contextmanager
def session(username: str, password: str, endpoint: EndpointAddress, **options: Any) -> Iterator[RunspacePool]:
    """An open session with one endpoint."""
    chosen: dict[str, Any] = {"port": endpoint.port, "ssl": False, "encryption": "always"} | options
    wsman = WSMan(endpoint.host, username=username, password=password, auth="negotiate", **chosen)
    with wsman, RunspacePool(wsman, configuration_name="PrivilegedEndpoint") as pool:
        yield pool


@contextmanager
def session_with(stamp: SimulatedStamp, number: int = 0) -> Iterator[RunspacePool]:
    with session(stamp.username, stamp.password.reveal(), stamp.endpoints[number]) as pool:
        yield pool


def command(pool: RunspacePool, name: str, **parameters: Any) -> PowerShell:
    shell = PowerShell(pool)
    shell.add_cmdlet(name)
    for key, value in parameters.items():
        shell.add_parameter(key, value)
    return shell


def date(text: str) -> ElementTree.Element:
    element = ElementTree.Element("DT")
    element.text = text
    return element


def small(root: Path | None = None, **options: Any) -> StampOptions:
    defaults: dict[str, Any] = {"size_bytes": 200_000, "duration_s": 0.0, "output_root": root}
    return StampOptions(**(defaults | options))


def test_a_collection_through_a_session_lands_in_the_folder(tmp_path: Path) -> None:
    with SimulatedStamp(small(tmp_path)) as stamp, session_with(stamp) as pool:
        shell = command(
            pool,
            "Get-AzureStackLog",
            OutputPath=str(tmp_path),
            FilterByRole=["Storage", "Nonsense"],
            FromDate=date("2026-11-22T08:00:00+00:00"),
            ToDate=date("2026-11-22T12:00:00+02:00"),
        )
        assert shell.invoke() == []
        assert not shell.had_errors
        assert any("'Nonsense'" in str(warning) for warning in shell.streams.warning)
        assert len(shell.streams.progress) >= 2
        (folder,) = tmp_path.iterdir()
        # the end, 10:00 UTC, in W. Europe Standard Time
        assert {path.name for path in folder.glob("*.zip")} == {
            f"Storage-AzS-Node0{number}-20261122110000.zip" for number in (1, 2, 3, 4)
        }


def test_a_collection_to_a_share_with_a_credential_through_the_session_key(samba: Samba, tmp_path: Path) -> None:
    from pypsrp.complex_objects import GenericComplexObject, ObjectMeta
    from pypsrp.serializer import Serializer

    with SimulatedStamp(small(smb_port=samba.port)) as stamp, session_with(stamp) as pool:
        pool.exchange_keys()
        credential = GenericComplexObject()
        credential.types = ["System.Management.Automation.PSCredential", "System.Object"]
        credential.adapted_properties = {"UserName": samba.credential.username}
        secret = pool.serialize(samba.credential.password.reveal(), ObjectMeta("SS"))
        document = Serializer().serialize(credential)
        (properties,) = document.findall(".//Props") or [ElementTree.SubElement(document, "Props")]
        secret.attrib["N"] = "Password"
        properties.append(secret)
        shell = command(
            pool,
            "Get-AzureStackLog",
            OutputSharePath=samba.unc("bundles", "through-a-session"),
            OutputShareCredential=document,
            FilterByRole=["ADFS"],
        )
        shell.invoke()
        assert [str(error) for error in shell.streams.error] == []
        (folder,) = (samba.path("bundles") / "through-a-session").iterdir()
        assert len(list(folder.glob("ADFS-*.zip"))) == 2


def test_get_command_shows_every_command_with_its_typed_parameters() -> None:
    with SimulatedStamp(small()) as stamp, session_with(stamp) as pool:
        found = {str(each.adapted_properties["Name"]) for each in command(pool, "Get-Command").invoke()}
    assert {"Get-AzureStackLog", "Stop-AzureStack", "Test-AzureStack", "Select-Object", "Exit-PSSession"} <= found


def test_all_three_endpoints_share_one_stamp(tmp_path: Path) -> None:
    with SimulatedStamp(small(tmp_path)) as stamp:
        for number in range(3):
            with session_with(stamp, number) as pool:
                (information,) = command(pool, "Get-AzureStackStampInformation").invoke()
                assert str(information.extended_properties["CloudID"]) == stamp.state.inventory.cloud_id
        assert [call.machine for call in stamp.state.calls] == ["AzS-ERCS01", "AzS-ERCS02", "AzS-ERCS03"]
        assert stamp.state.dangerous_calls == ()


def test_a_second_collection_is_refused_on_another_endpoint(tmp_path: Path) -> None:
    with SimulatedStamp(small(tmp_path, duration_s=30.0)) as stamp:
        with session_with(stamp) as pool, session_with(stamp, 1) as other:
            first = command(pool, "Get-AzureStackLog", OutputPath=str(tmp_path), FilterByRole=["ADFS"])
            first.begin_invoke()
            while not stamp.state.collections:
                time.sleep(0.02)
            second = command(other, "Get-AzureStackLog", OutputPath=str(tmp_path))
            second.invoke()
            assert "already in progress" in str(second.streams.error[0])
            first.stop()
        assert [record.outcome for record in stamp.state.collections] == ["stopped"]


def test_provider_and_role_without_a_place_are_ambiguous_as_on_the_real_thing() -> None:
    with SimulatedStamp(small()) as stamp, session_with(stamp) as pool:
        shell = command(pool, "Get-AzureStackLog", FilterByResourceProvider=["ACR"], FilterByRole=["ECE"])
        shell.invoke()
        (error,) = shell.streams.error
        assert error.fq_error == "AmbiguousParameterSet,Get-AzureStackLog"


def test_hostile_records_do_not_break_the_session_of_a_careful_reader(tmp_path: Path) -> None:
    options = small(tmp_path, faults=("hostile-names",))
    with SimulatedStamp(options) as stamp, session_with(stamp) as pool:
        shell = command(pool, "Get-AzureStackLog", OutputPath=str(tmp_path), FilterByRole=["ADFS"])
        shell.invoke()
        assert any("drive-letter" in str(warning) for warning in shell.streams.warning)
        assert stamp.state.collections[-1].outcome == "finished"


def test_an_ercs_machine_that_dies_refuses_and_comes_back(tmp_path: Path) -> None:
    with SimulatedStamp(small(tmp_path, faults=("ercs-dies:AzS-ERCS02@0s-1s",))) as stamp:
        address = stamp.endpoints[1]
        url = f"http://{address.host}:{address.port}/wsman"
        answers: list[bool] = []
        while len(answers) < 200 and answers[-2:] != [False, True]:
            try:
                requests.post(url, timeout=5)
                answers.append(True)
            except requests.ConnectionError:
                answers.append(False)
            time.sleep(0.05)
        assert answers[-2:] == [False, True]


def test_a_collection_that_outlives_its_session_ends_by_itself_when_the_machine_is_lost(tmp_path: Path) -> None:
    options = small(tmp_path, duration_s=1.5, faults=("collection-outlives-session",))
    with SimulatedStamp(options) as stamp:
        with contextlib.suppress(requests.ConnectionError), session_with(stamp) as pool:  # it cannot be closed
            shell = command(pool, "Get-AzureStackLog", OutputPath=str(tmp_path), FilterByRole=["Storage", "ADFS"])
            shell.begin_invoke()
            while not stamp.state.collections:
                time.sleep(0.02)
            stamp.servers[0].kill()
        (record,) = stamp.state.collections
        assert record.outcome == "running"
        while record.outcome == "running":
            time.sleep(0.05)
        assert record.outcome == "finished"
        assert list((tmp_path / record.folder).glob("ADFS-*.zip"))


def test_a_collection_that_outlives_sessions_still_tells_its_own(tmp_path: Path) -> None:
    options = small(tmp_path, duration_s=0.3, faults=("collection-outlives-session", "role-fails:ADFS"))
    with SimulatedStamp(options) as stamp, session_with(stamp) as pool:
        shell = command(pool, "Get-AzureStackLog", OutputPath=str(tmp_path), FilterByRole=["Storage", "ADFS"])
        shell.invoke()
        assert [str(error.target_name or error) for error in shell.streams.error]
        assert shell.streams.progress
        refused = command(pool, "Get-AzureStackLog", OutputPath="/elsewhere")
        refused.invoke()
        assert "denied" in str(refused.streams.error[0])


def test_two_stamps_run_in_one_process() -> None:
    with SimulatedStamp(small(name="one")) as one, SimulatedStamp(small(name="two")) as two:
        for stamp in (one, two):
            with session_with(stamp) as pool:
                assert command(pool, "Get-ThirdPartyNotices").invoke()


@pytest.mark.parametrize("fault", ["quota-exceeded", "access-denied", "no-such-configuration"])
def test_a_service_fault_by_name_refuses_the_session(fault: str) -> None:
    with SimulatedStamp(small(faults=(fault,))) as stamp, pytest.raises(WSManFaultError), session_with(stamp):
        pass


def test_a_machine_that_refuses_leaves_the_others_alone() -> None:
    with SimulatedStamp(small(faults=("ercs-refuses:AzS-ERCS01",))) as stamp:
        with pytest.raises(requests.ConnectionError), session_with(stamp, 0):
            pass
        with session_with(stamp, 1) as pool:
            assert command(pool, "Get-ThirdPartyNotices").invoke()


def test_a_port_that_is_taken_is_a_usage_error_and_leaves_nothing_running() -> None:
    from bridge.errors import UsageError

    before = set(threading.enumerate())  # those of other tests of this process
    with SimulatedStamp(small()) as first:
        taken = first.endpoints[0].port
        with pytest.raises(UsageError, match="cannot listen"), SimulatedStamp(small(), first_port=taken):
            pass
    left = set(threading.enumerate()) - before
    assert not [thread.name for thread in left if thread.name.startswith(("endpoint-", "portal"))]


def test_an_outage_of_a_machine_that_is_not_there_is_refused_and_leaves_nothing_running() -> None:
    from bridge.errors import UsageError

    with pytest.raises(UsageError, match="is not one of"), SimulatedStamp(small(faults=("ercs-dies:Nobody",))):
        pass


def test_https_is_served_with_a_certificate_that_the_configuration_trusts(tmp_path: Path) -> None:
    with SimulatedStamp(small(tmp_path), https=True) as stamp:
        settings = tomllib.loads(stamp.config_file.read_text(encoding="utf-8"))["stamps"][stamp.name]
        authority = stamp.config_file.parent / settings["ca_file"]
        for endpoint in stamp.endpoints:
            options = {
                "port": endpoint.https_port,
                "ssl": True,
                "cert_validation": str(authority),
                "encryption": "auto",
            }
            with session(stamp.username, stamp.password.reveal(), endpoint, **options) as pool:
                assert command(pool, "Get-ThirdPartyNotices").invoke()


def test_the_configuration_is_accepted_by_the_settings(tmp_path: Path) -> None:
    from bridge.settings import load_settings

    with SimulatedStamp(small(tmp_path)) as stamp:
        settings = load_settings(stamp.config_file).settings
        assert settings.stamp(stamp.name).endpoints == stamp.endpoints
        assert Path(settings.destinations["local"].location) == tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_files_with_secrets_are_the_owners_alone_and_go_with_the_stamp(tmp_path: Path) -> None:
    with SimulatedStamp(small(tmp_path)) as stamp:
        folder = stamp.config_file.parent
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        assert stamp.password.reveal() not in stamp.config_file.read_text(encoding="utf-8")
    assert not folder.exists()


# -- the verb


@contextmanager
def simulate(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The verb in a process of its own."""
    program = [sys.executable, "-c", "import typer; from cli.simulate import simulate; typer.run(simulate)", *arguments]
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        program, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True, creationflags=flags
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(file: Path, process: subprocess.Popen[str]) -> dict[str, Any]:
    while not file.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def test_the_verb_writes_its_ready_file_serves_and_ends_on_a_signal(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    arguments = (
        "--ready-file",
        str(ready),
        "--output-root",
        str(tmp_path / "out"),
        "--duration",
        "0s",
        "--size",
        "100KB",
    )
    with simulate(*arguments) as process:
        document = wait_for(ready, process)
        if os.name == "posix":
            assert ready.stat().st_mode & 0o777 == 0o600
        assert [each["name"] for each in document["endpoints"]] == ["AzS-ERCS01", "AzS-ERCS02", "AzS-ERCS03"]
        address = EndpointAddress(**document["endpoints"][2])
        with session(document["username"], document["password"], address) as pool:
            shell = command(pool, "Get-AzureStackLog", OutputPath=str(tmp_path / "out"), FilterByRole=["ADFS"])
            shell.invoke()
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        output, said = process.communicate(timeout=60)
        assert process.returncode == 0
        assert document["password"] not in output + said
        assert "collect azs-sim" in said
        assert not ready.exists()
        assert not Path(document["config"]).exists()
    assert list((tmp_path / "out").glob("AzureStackLogs-*/ADFS-*.zip"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--ready-file", "/no/such/folder/x"),
        ("--fault", "nonsense"),
        ("--size", "much"),
        ("--timezone", "Mars"),
        ("--alert", "@1s"),
        ("--nodes", "99"),
    ],
)
def test_a_bad_option_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    with simulate(*arguments) as process:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "Traceback" not in said


def test_over_stdin_and_stdout_the_verb_speaks_only_the_protocol_and_ends_with_its_input() -> None:
    with simulate("--stdio") as process:
        output, _ = process.communicate("<Close PSGuid='00000000-0000-0000-0000-000000000000' />\n", timeout=60)
        assert process.returncode == 0
        *before, last = output.splitlines()
        assert last == "<CloseAck PSGuid='00000000-0000-0000-0000-000000000000' />"
        assert all(line.startswith("<Data ") for line in before)


def test_the_verb_lists_every_fault_with_its_meaning() -> None:
    with simulate("--list-faults") as process:
        output, _ = process.communicate(timeout=60)
        assert all(kind.usage in output and kind.meaning in output for kind in FAULTS.values())


def test_the_help_of_the_verb_names_every_fault() -> None:
    from cli.simulate import FAULT_NAMES

    assert FAULT_NAMES.split(", ") == [kind.usage for kind in FAULTS.values()]
