"""Commands are packed as PowerShell's own client sends them: judged by its recordings and by a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bridge.endpoint import Command, Hashtable, Int64, NumberLiteral, Parameter, Record, Stream, Value, error_for
from bridge.endpoint._clixml import CliObject, read_clixml
from bridge.endpoint._messages import Defragmenter, InvocationState, Message, StateChange
from bridge.endpoint._psrp import PsrpClient, check_allowed, needs_session_key
from bridge.errors import CommandNotAllowedError, CommandNotFoundError, ParameterRejectedError, UsageError
from bridge.secrets import Credential, Secret
from tests.support.psrp_stdio import StdioEndpoint

CONFIGURATION = Path(__file__).parents[2] / "fixtures" / "real-powershell" / "session.pssc"
LOG = "Get-AzureStackLog"
NOON_IN_BERLIN = datetime(2024, 3, 12, 12, 0, tzinfo=timezone(timedelta(hours=1)))


def packed(*commands: Command) -> CliObject:
    client = PsrpClient()
    client.opening()
    _, fragments = client.creating(commands)
    (message,) = Defragmenter().feed(b"".join(fragments))
    assert isinstance(message, Message)
    return read_clixml(message.payload)


def arguments(item: CliObject) -> list[tuple[Any, Any]]:
    (command,) = item.get("PowerShell")["Cmds"]
    return [(argument["N"], argument["V"]) for argument in command["Args"]]


def payload_of(value: Value) -> str:
    client = PsrpClient()
    client.opening()
    _, fragments = client.creating([Command(LOG, (Parameter("X", value),))])
    return b"".join(fragments).decode("utf-8", "replace")


def test_names_and_values_go_as_they_were_written() -> None:
    command = Command(
        LOG, (Parameter("-FilterByRole"), Parameter(None, ("ACS", "ECE")), Parameter("-Mode:", "ok"), Parameter("X", 1))
    )
    assert arguments(packed(command)) == [
        ("-FilterByRole", None),
        (None, ["ACS", "ECE"]),
        ("-Mode:", "ok"),
        ("X", 1),
    ]


def test_no_invocation_information_is_asked_for() -> None:
    item = packed(Command(LOG))
    assert item.get("RemoteStreamOptions") == "None"
    assert item.get("NoInput") is True


def test_a_list_is_an_object_array_and_a_date_has_a_numeric_offset() -> None:
    assert "<T>System.Object[]</T>" in payload_of(("ACS",))
    assert "<DT" in payload_of(NOON_IN_BERLIN)
    assert ">2024-03-12T11:00:00+00:00</DT>" in payload_of(NOON_IN_BERLIN)
    assert ">2024-03-12T11:00:00+00:00</DT>" in payload_of(NOON_IN_BERLIN.astimezone(UTC))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, "<I32"),
        (Int64(5), "<I64"),
        (Decimal("1.50"), ">1.50</D>"),
        (1.5, ">1.5</Db>"),
        (True, ">true</B>"),
        (Hashtable((("a", 1),)), "<T>System.Collections.Hashtable</T>"),
        (NumberLiteral(31, "0x1F"), "<ToString>0x1F</ToString>"),
        ("\U0001f600_x0041_\x01", "_xD83D__xDE00__x005F_x0041__x0001_"),
    ],
)
def test_each_type_has_its_element(value: Value, expected: str) -> None:
    assert expected in payload_of(value)


@pytest.mark.parametrize(
    "value",
    [datetime(2024, 3, 12, 8, 0), 2**31, Int64(2**63), float("nan"), float("inf"), "\udbff"],  # noqa: DTZ001
)
def test_what_cannot_be_sent_is_a_usage_error(value: Value) -> None:
    with pytest.raises(UsageError):
        payload_of(value)


def test_statements_are_kept_apart_and_streams_merged() -> None:
    item = packed(
        Command(LOG, end_of_statement=True, merge=("error",)), Command("Get-Command"), Command("Measure-Object")
    )
    statements = [[command["Cmd"] for command in part["Cmds"]] for part in item.get("PowerShell")["ExtraCmds"]]
    assert statements == [[LOG], ["Get-Command", "Measure-Object"]]
    assert item.get("PowerShell")["Cmds"][0]["MergeToResult"] == "Output"


def test_the_last_command_does_not_open_an_empty_statement() -> None:
    assert packed(Command(LOG, end_of_statement=True)).get("PowerShell").get("ExtraCmds") is None


def test_a_large_request_goes_in_fragments_of_the_measure_asked_for() -> None:
    client = PsrpClient(fragment_bytes=1000)
    client.opening()
    _, fragments = client.creating([Command(LOG, (Parameter("X", "y" * 5000),))])
    assert len(fragments) > 5
    assert max(map(len, fragments)) <= 1000
    (message,) = Defragmenter().feed(b"".join(fragments))
    assert isinstance(message, Message)


def test_a_secret_is_seen_at_any_depth() -> None:
    assert needs_session_key([Command(LOG, (Parameter("X", (Hashtable((("k", Secret("s")),)),)),))])
    assert not needs_session_key([Command(LOG, (Parameter("X", ("a", 1)),))])


@pytest.mark.parametrize("name", ["get-azurestacklog", "GET-AZURESTACKLOG"])
def test_the_allow_list_has_no_case(name: str) -> None:
    check_allowed([Command(name)], {"Get-AzureStackLog"}, "collect")


@pytest.mark.parametrize(
    "name", ["Stop-AzureStack", "Evil\\Get-AzureStackLog", "Get-AzureStackLog ", "Get-AzureStackLo", ""]
)
def test_what_is_not_on_the_allow_list_is_refused(name: str) -> None:
    with pytest.raises(CommandNotAllowedError, match="nothing was sent"):
        check_allowed([Command(LOG), Command(name)], {"Get-AzureStackLog"}, "collect")


# -- judged by the engine ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(pwsh: str) -> Iterator[StdioEndpoint]:
    with StdioEndpoint(pwsh, CONFIGURATION) as endpoint:
        yield endpoint


def run(engine: StdioEndpoint, *commands: Command) -> tuple[list[str], StateChange]:
    records, change = engine.run(commands)
    return [record.text for record in records if record.stream is Stream.OUTPUT], change


def types(*parameters: Parameter) -> Command:
    return Command(LOG, (Parameter("Mode", "types"), *parameters))


@pytest.mark.engine
@pytest.mark.parametrize(
    "form",
    [
        (Parameter("FilterByRole", ("ACS", "ECE")),),
        (Parameter("-FilterByRole"), Parameter(None, ("ACS", "ECE"))),
        (Parameter("-FilterByRole:", ("ACS", "ECE")),),
    ],
    ids=["as pypsrp", "as Invoke-Command", "as Import-PSSession"],
)
def test_the_engine_binds_each_form_of_a_parameter(engine: StdioEndpoint, form: tuple[Parameter, ...]) -> None:
    output, change = run(engine, types(*form))
    assert change.state is InvocationState.COMPLETED
    assert "roles=ACS+ECE/2" in output


@pytest.mark.engine
def test_the_engine_sees_the_values_that_were_sent(engine: StdioEndpoint) -> None:
    output, _ = run(
        engine,
        types(
            Parameter("FromDate", NOON_IN_BERLIN),
            Parameter("IncludeDumpFile", True),
            Parameter("OutputSasUri", "https://x.example/c?sig=a%2Bb&se=1"),
            Parameter("OutputSharePath", "\\\\nas\\dröp \U0001f600 _x0041_ \x01"),
            Parameter("FilterByNode", (NumberLiteral(7, "007"), "b")),
        ),
    )
    assert "sas=https://x.example/c?sig=a%2Bb&se=1" in output
    assert "share=\\\\nas\\dröp \U0001f600 _x0041_ \x01" in output
    assert "dump=True" in output
    assert "nodes=007+b" in output
    (seen,) = [line for line in output if line.startswith("from=")]
    moment, kind = seen.removeprefix("from=").split("/")
    assert kind == "Local"
    assert datetime.fromisoformat(moment) == NOON_IN_BERLIN


@pytest.mark.engine
def test_the_engine_gets_a_credential_through_the_session_key(engine: StdioEndpoint) -> None:
    password = "pässwört-\U0001f600-14"
    credential = Credential("CORP\\svc", Secret(password))
    output, _ = run(engine, Command(LOG, (Parameter("Mode", "cred"), Parameter("OutputShareCredential", credential))))
    utf16_units = len(password.encode("utf-16-le")) // 2
    assert output == [f"user=CORP\\svc pwlen={utf16_units}"]


@pytest.mark.engine
def test_the_engine_runs_statements_pipelines_and_merges(engine: StdioEndpoint) -> None:
    records, change = engine.run(
        [
            Command(LOG, (Parameter("Mode", "nonterm"),), end_of_statement=True, merge=("error",)),
            Command("Get-Command", (Parameter("Name", LOG),)),
            Command("Measure-Object"),
        ]
    )
    merged = [record for record in records if record.error is not None]
    assert [(record.stream, record.text) for record in merged] == [(Stream.OUTPUT, "Role X failed")]
    assert records[-1].data["Count"] == 1
    assert change.state is InvocationState.COMPLETED


@pytest.mark.engine
def test_the_engine_refuses_in_words_that_become_the_right_error(engine: StdioEndpoint) -> None:
    _, unknown = run(engine, Command("Stop-AzureStack"))
    _, wrong = run(engine, Command(LOG, (Parameter("Nodes", "x"),)))
    assert unknown.error is not None
    assert wrong.error is not None
    assert isinstance(error_for(unknown.error), CommandNotFoundError)
    assert isinstance(error_for(wrong.error), ParameterRejectedError)


@pytest.mark.engine
def test_ten_thousand_objects_of_the_engine_are_read(engine: StdioEndpoint) -> None:
    records, _ = engine.run([Command("Write-Many", (Parameter("Count", 10_000),))])
    assert [record.data["Bytes"] for record in records] == list(range(1, 10_001))
    assert all(isinstance(record, Record) and record.raw is None for record in records)
