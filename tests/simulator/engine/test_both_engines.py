"""Each scenario is put to the simulated session and to a real PowerShell behind the same front, and compared.

The simulated half runs everywhere; the other where a PowerShell is found, and is reported as not run elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pypsrp.complex_objects import PSCredential, PSInvocationState
from pypsrp.powershell import PowerShell

from bridge.simulator import EndpointServer
from bridge.simulator.engine import PowerShellEngine
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from tests.support.engine_scenarios import COMMANDS, STOPPED, answer, ask, plain, run, until
from tests.support.pep_client import command, opened

PATIENT: dict[str, Any] = {"operation_timeout": 60, "read_timeout": 90}
"""pypsrp gives up an opening that takes longer; a PowerShell on a busy machine needs its time."""
SHARE = r"\\nas\drop"


def statement(name: str, **parameters: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda pool: ask(pool, (name, parameters))


def piped(pool: Any) -> dict[str, Any]:
    return run(PowerShell(pool).add_cmdlet("Show-Input"), input=["one", "two"])


def between_commands(pool: Any) -> dict[str, Any]:
    return run(PowerShell(pool).add_cmdlet("Write-Many").add_parameters({"Count": 3}).add_cmdlet("Measure-Object"))


def positional(pool: Any) -> dict[str, Any]:
    return run(PowerShell(pool).add_cmdlet("Show-Argument").add_argument("first").add_argument("12"))


def two_statements(pool: Any) -> dict[str, Any]:
    return ask(pool, ("Get-AzureStackLog", {"Mode": "term"}), ("Get-AzureStackLog", {"Mode": "nonterm"}))


def script(pool: Any) -> dict[str, Any]:
    return run(PowerShell(pool).add_script("1 + 1"))


def credential(pool: Any) -> dict[str, Any]:
    pool.exchange_keys()
    secret = PSCredential(username="CORP\\svc", password="pässword \U0001f600 'quoted'")
    return ask(pool, ("Show-Argument", {"Secret": secret}), ("Get-AzureStackLog", {
        "Mode": "cred", "OutputShareCredential": secret}))  # fmt: skip


SCENARIOS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "a collection that ends well": statement("Get-AzureStackLog", Mode="ok"),
    "a non-terminating error": statement("Get-AzureStackLog", Mode="nonterm"),
    "a non-terminating error that is to stop": statement("Get-AzureStackLog", Mode="nonterm", ErrorAction="Stop"),
    "a non-terminating error that is silenced": statement(
        "Get-AzureStackLog", Mode="nonterm", ErrorAction="SilentlyContinue"
    ),
    "a terminating error": statement("Get-AzureStackLog", Mode="term", OutputSharePath=SHARE),
    "a throw": statement("Get-AzureStackLog", Mode="throw"),
    "objects": statement("Get-AzureStackLog", Mode="objects"),
    "every kind of value": statement("Get-Value"),
    "every stream": statement("Write-Loud"),
    "verbose switched off": statement("Write-Loud", Verbose=False, WarningAction="SilentlyContinue"),
    "errors of several types": statement("Write-ManyErrors"),
    "a defect of the simulator": statement("Invoke-Defect"),
    "who and where": statement("Get-Place"),
    "typed arguments": statement(
        "Show-Argument", Text="t", Number="12", Long="1099511627776", Names=["a", "b c"], Flag=True, Choice="IT'S TWO",
        When="2024-03-12T08:00:00+02:00",
    ),
    "one string for a list, an alias, a switch switched off": statement("Show-Argument", Alias="a,b", Flag=False),
    "positional arguments": positional,
    "an abbreviated parameter": statement("Show-Argument", Num=3),
    "an ambiguous parameter": statement("Show-Argument", N=3),
    "an unknown parameter": statement("Show-Argument", NoSuch=1),
    "a wrong type": statement("Show-Argument", Number="many"),
    "a value outside the set": statement("Show-Argument", Choice="three"),
    "a missing mandatory parameter": statement("Show-Must"),
    "a command that is not there": statement("Get-Process"),
    "a script": script,
    "two statements, the first fails": two_statements,
    "input from the client": piped,
    "a pipeline of two commands": between_commands,
    "a credential through the session key": credential,
    "a thousand objects": statement("Write-Many", Count=1000),
}  # fmt: skip


@pytest.fixture(scope="module")
def simulated() -> Iterator[Any]:
    with EndpointServer(COMMANDS) as server, opened(server) as pool:
        yield pool


@pytest.fixture(scope="module")
def engine_server(pwsh: str) -> Iterator[EndpointServer]:
    with EndpointServer(COMMANDS, engine=PowerShellEngine(Path(pwsh))) as server:
        yield server


@pytest.fixture(scope="module")
def engine(engine_server: EndpointServer) -> Iterator[Any]:
    with opened(engine_server, **PATIENT) as pool:
        yield pool


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_simulated_session_answers(simulated: Any, scenario: str) -> None:
    assert SCENARIOS[scenario](simulated)["state"] in (PSInvocationState.COMPLETED, PSInvocationState.FAILED)


@pytest.mark.engine
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_real_powershell_answers_the_same(simulated: Any, engine: Any, scenario: str) -> None:
    assert SCENARIOS[scenario](engine) == SCENARIOS[scenario](simulated)


@pytest.mark.engine
def test_get_command_tells_the_same_parameters_of_a_command(simulated: Any, engine: Any) -> None:
    def parameters(pool: Any) -> set[str]:
        [info] = command(pool, "Get-Command", Name="Show-Argument").invoke(remote_stream_options=0)
        return {str(name) for name in plain(info)[1]["Parameters"]}

    assert parameters(engine) - parameters(simulated) <= {"ProgressAction"}  # came with 7.4
    assert parameters(simulated) <= parameters(engine)


@pytest.mark.engine
def test_a_stop_reaches_powershell_and_the_command(engine: Any) -> None:
    STOPPED.clear()
    shell = command(engine, "Wait-Stop")
    shell.begin_invoke()
    assert until(lambda: shell.poll_invoke() or shell.output)
    shell.stop()
    assert shell.state == PSInvocationState.STOPPED
    assert until(lambda: STOPPED)
    assert ask(engine, ("Get-Place", {}))["state"] == PSInvocationState.COMPLETED


@pytest.mark.engine
def test_five_thousand_objects_come_in_order(engine: Any) -> None:
    found = ask(engine, ("Write-Many", {"Count": 5000}))
    assert [properties["Bytes"] for _, properties in found["output"]] == list(range(1, 5001))


@pytest.mark.engine
def test_sessions_at_once_are_kept_apart(engine_server: EndpointServer, engine: Any) -> None:
    with ExitStack() as stack:
        pools = [engine, *(stack.enter_context(opened(engine_server, **PATIENT)) for _ in range(2))]
        processes = {shell.process_id for shell in engine_server.shells()}
        assert len(processes) == 3
        texts = ["first", "second", "third"]
        with ThreadPoolExecutor(3) as threads:
            answers = list(
                threads.map(
                    lambda each: ask(each[0], ("Show-Argument", {"Text": each[1]})), zip(pools, texts, strict=True)
                )
            )
        assert [found["output"] for found in answers] == [[f"Text=str {text!r}"] for text in texts]
    assert until(lambda: len(engine_server.shells()) == 1)


@pytest.mark.engine
def test_what_was_written_before_a_stop_is_kept(engine: Any) -> None:
    shell = command(engine, "Wait-Stop")
    shell.begin_invoke()
    assert until(lambda: shell.poll_invoke() or shell.output)
    shell.stop()
    assert answer(shell)["output"] == ["waiting"]


STAMP_QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Get-AzureStackLog", {"FilterByRole": ["Storage"], "FilterByResourceProvider": ["Microsoft.X"]}),
    ("Get-AzureStackLog", {"OutputPath": "/x", "OutputSharePath": SHARE}),
    ("Get-AzureStackLog", {"FilterByLogType": "Nonsense"}),
    ("Get-AzureStackLog", {"FromDate": "2024-03-12T08:00:00+00:00", "ToDate": "2024-03-11T08:00:00+00:00"}),
    ("Get-AzureStackStampInformation", {}),
    ("Get-VirtualDisk", {"FriendlyName": "SU1_Public"}),
    ("Get-SupportSessionInfo", {}),
    ("Get-ActionStatus", {}),
    ("Test-AzureStack", {"DetailedResults": True}),
    ("Invoke-AzureStackOnDemandLog", {"FilterByRole": ["OEM"]}),
)


def stamp_answers(engine: PowerShellEngine | None) -> dict[str, Any]:
    moment = datetime(2024, 3, 12, 8, tzinfo=UTC)
    options = StampOptions(duration_s=0.1, size_bytes=1000, starts_at=moment)
    with SimulatedStamp(options, engine=engine) as stamp, opened(stamp.servers[0], **PATIENT) as pool:
        known = command(pool, "Get-Command").invoke(remote_stream_options=0)
        answers: dict[str, Any] = {"names": sorted({str(plain(each)[1]["Name"]) for each in known})}
        for question in STAMP_QUESTIONS:
            answers[str(question)] = ask(pool, question)
    return answers


@pytest.mark.engine
def test_the_stamps_own_commands_are_the_same_in_a_real_powershell(pwsh: str) -> None:
    assert stamp_answers(PowerShellEngine(Path(pwsh))) == stamp_answers(None)
