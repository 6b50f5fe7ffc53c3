"""Before anything is sent: dangerous commands are named by the operator, and parameters are known to the endpoint."""

from __future__ import annotations

import pytest

from bridge.endpoint import Command, CommandInfo, Parameter, ParameterInfo
from bridge.errors import CommandNotAllowedError, CommandNotFoundError, ExitCode, ParameterRejectedError
from bridge.scripting import check_commands, needs_naming, require_permission

COLLECTION = CommandInfo(
    "Get-AzureStackLog",
    "Function",
    (
        ParameterInfo("FilterByRole", "System.String[]"),
        ParameterInfo("FilterByResourceProvider", "System.String"),
        ParameterInfo("FromDate", "System.DateTime", aliases=("Since",)),
        ParameterInfo("IncludeDumpFile", "System.Management.Automation.SwitchParameter", switch=True),
    ),
)


def command(name: str, *parameters: str) -> Command:
    return Command(name, tuple(Parameter(parameter) for parameter in parameters))


@pytest.mark.parametrize(
    "name",
    ["Stop-AzureStack", "stop-azurestack", "Start-AzsCryptoWipe", "Set-TLSPolicy", "Unlock-SupportSession"],
)
def test_a_command_that_changes_or_stops_the_stamp_must_be_named(name: str) -> None:
    with pytest.raises(CommandNotAllowedError) as caught:
        require_permission([command("Get-AzureStackLog"), command(name)], (), "run")
    assert caught.value.exit_code == ExitCode.USAGE
    assert f"--allow {name}" in caught.value.advice


@pytest.mark.parametrize(
    "name", ["Restart-Everything", "Some.Module\\Stop-AzureStack", "Some.Module\\Get-AzureStackLog"]
)
def test_a_command_nobody_knows_must_be_named_and_a_module_in_front_hides_nothing(name: str) -> None:
    with pytest.raises(CommandNotAllowedError):
        require_permission([command(name)], (), "run")


def test_a_name_given_to_allow_permits_that_command_only() -> None:
    commands = [command("Stop-AzureStack"), command("Start-AzsCryptoWipe")]
    with pytest.raises(CommandNotAllowedError, match="Start-AzsCryptoWipe"):
        require_permission(commands, ("stop-azurestack",), "run")
    require_permission(commands[:1], ("stop-azurestack",), "run")


def test_reading_and_collecting_need_no_permission() -> None:
    assert needs_naming([command("Get-AzureStackLog"), command("Test-AzureStack"), command("Get-VirtualDisk")]) == ()


@pytest.mark.parametrize(
    "written",
    ["-FilterByRole", "-filterbyrole:", "FilterByRole", "-FilterByRo", "-Since", "\u2013FromDate", "-Verbose", "-ea"],
)
def test_names_aliases_beginnings_and_common_parameters_are_known(written: str) -> None:
    check_commands([command("get-azurestacklog", written)], [COLLECTION])


@pytest.mark.parametrize(
    ("written", "error_id", "said"),
    [
        (("-FilterBy",), "AmbiguousParameter", "-filterbyresourceprovider, -filterbyrole"),
        (("-FilterByRol1",), "NamedParameterNotFound", "-FilterByRole"),
        (("-Since", "-FromDate"), "ParameterAlreadyBound", "twice"),
    ],
)
def test_a_wrong_parameter_is_caught_before_it_is_sent(written: tuple[str, ...], error_id: str, said: str) -> None:
    with pytest.raises(ParameterRejectedError, match=said) as caught:
        check_commands([command("Get-AzureStackLog", *written)], [COLLECTION])
    assert caught.value.fields["error_id"] == f"{error_id},Get-AzureStackLog"
    assert caught.value.exit_code == ExitCode.NOT_PERMITTED


def test_a_command_that_the_endpoint_does_not_have_is_named() -> None:
    with pytest.raises(CommandNotFoundError, match="Get-AzureStackLogs"):
        check_commands([command("Get-AzureStackLogs")], [COLLECTION])
