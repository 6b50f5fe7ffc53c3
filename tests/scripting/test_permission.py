"""Before anything is sent: dangerous commands are named by the operator, and parameters are known to the endpoint."""

from __future__ import annotations

import pytest

from bridge.endpoint import Command, CommandInfo, Parameter, ParameterInfo, Value
from bridge.endpoint.script import Safety, convert_text
from bridge.errors import CommandNotAllowedError, CommandNotFoundError, ExitCode, ParameterRejectedError
from bridge.scripting import check_commands, needs_naming, require_known, require_permission, safety_of

COLLECTION = CommandInfo(
    "Get-AzureStackLog",
    "Function",
    (
        ParameterInfo("FilterByRole", "System.String[]"),
        ParameterInfo("FilterByResourceProvider", "System.String"),
        ParameterInfo("FromDate", "System.DateTime", aliases=("Since",)),
        ParameterInfo("IncludeDumpFile", "System.Management.Automation.SwitchParameter", switch=True),
        ParameterInfo("ErrorAction", "System.Management.Automation.ActionPreference"),
    ),
    syntax=("[-FilterByRole <string[]>] ...",),
    aliases=("logs",),
)
DISK = CommandInfo(
    "Get-VirtualDisk",
    "Function",
    (
        ParameterInfo("FriendlyName", "System.String", position=0),
        ParameterInfo("CimSession", "System.Object", mandatory=True),
    ),
    syntax=("[[-FriendlyName] <string>] -CimSession <Object>",),
)
STOP = CommandInfo("Stop-AzureStack", "Function", (), aliases=("cls",))


def command(name: str, *parameters: str, value: Value = None) -> Command:
    return Command(name, tuple(Parameter(parameter, value) for parameter in parameters))


@pytest.mark.parametrize(
    "name",
    ["Stop-AzureStack", "stop-azurestack", "Start-AzsCryptoWipe", "Set-TLSPolicy", "Unlock-SupportSession"],
)
def test_a_command_that_changes_or_stops_the_stamp_must_be_named(name: str) -> None:
    with pytest.raises(CommandNotAllowedError) as caught:
        require_permission([command("Get-AzureStackLog"), command(name)], (), "run")
    assert caught.value.exit_code == ExitCode.USAGE
    assert f"--allow {name}" in caught.value.advice


@pytest.mark.parametrize("name", ["Restart-Everything", "Mod\\Stop-AzureStack", "Mod\\Get-AzureStackLog"])
def test_a_command_nobody_knows_must_be_named_and_a_module_in_front_hides_nothing(name: str) -> None:
    on_the_endpoint = [CommandInfo("Restart-Everything", "Function", ()), STOP, COLLECTION]
    assert needs_naming([command(name)]) == (name,)
    with pytest.raises(CommandNotAllowedError, match=r"Restart-Everything|Mod"):
        require_known([command(name)], on_the_endpoint, ("Stop-AzureStack", "Get-AzureStackLog"), "run")
    require_known([command(name)], on_the_endpoint, (name,), "run")


def test_a_command_that_the_endpoint_does_not_have_is_told_so_rather_than_that_it_is_not_allowed() -> None:
    with pytest.raises(CommandNotFoundError, match="Get-Nothing"):
        require_known([command("Get-Nothing")], [COLLECTION], (), "run")


def test_a_harmless_name_that_stands_for_a_dangerous_command_on_the_endpoint_is_refused() -> None:
    with pytest.raises(CommandNotAllowedError, match="Stop-AzureStack"):
        require_known([command("cls")], [STOP], (), "run")
    require_known([command("cls")], [STOP], ("Stop-AzureStack",), "run")


def test_a_name_given_to_allow_permits_that_command_only() -> None:
    commands = [command("Stop-AzureStack"), command("Start-AzsCryptoWipe")]
    with pytest.raises(CommandNotAllowedError, match="Start-AzsCryptoWipe"):
        require_permission(commands, ("stop-azurestack",), "run")
    require_permission(commands[:1], ("stop-azurestack",), "run")


def test_reading_and_collecting_need_no_permission() -> None:
    assert needs_naming([command("Get-AzureStackLog"), command("Test-AzureStack"), command("Get-VirtualDisk")]) == ()


@pytest.mark.parametrize("line", ["-Repair", "-rep", "-Repair:$true", "-R", "\u2013Repair"])
def test_validation_that_repairs_changes_the_stamp_however_the_switch_is_written(line: str) -> None:
    [found] = convert_text(f"Test-AzureStack -Include AzsControlPlane {line}")
    assert safety_of(found) is Safety.CHANGING
    with pytest.raises(CommandNotAllowedError, match="Test-AzureStack"):
        require_permission([found], (), "run")


@pytest.mark.parametrize(
    "written",
    ["-FilterByRole", "-filterbyrole:", "FilterByRole", "-FilterByRo", "-Since", "\u2013FromDate", "-ea", "-Errora"],
)
def test_names_aliases_beginnings_and_common_parameters_are_known(written: str) -> None:
    check_commands([command("get-azurestacklog", written, value="x")], [COLLECTION])


def test_switches_take_no_value_and_an_own_parameter_wins_over_a_common_one() -> None:
    info = CommandInfo("Get-X", "Function", (ParameterInfo("Version", "System.String"),), syntax=("[-Version <s>]",))
    check_commands(convert_text("Get-X -Verbose -Ver 1"), [info])
    check_commands(convert_text("Get-AzureStackLog -IncludeDumpFile -FilterByRole ACS,Storage"), [COLLECTION])


@pytest.mark.parametrize(
    ("line", "error_id", "said"),
    [
        ("-FilterBy x", "AmbiguousParameter", "-filterbyresourceprovider, -filterbyrole"),
        ("-FilterByRol1 x", "NamedParameterNotFound", "-FilterByRole"),
        ("-Since x -FromDate y", "ParameterAlreadyBound", "twice"),
        ("-ErrorAction Stop -ea Stop", "ParameterAlreadyBound", "twice"),
        ("-E Stop", "AmbiguousParameter", "-erroraction"),
        ("-FilterByRole", "MissingArgument", "no value"),
        ("-FromDate -IncludeDumpFile", "MissingArgument", "-fromdate"),
        ("Storage", "PositionalParameterNotFound", "0 values"),
        ("-AsJob", "NamedParameterNotFound", "no parameter -asjob"),
    ],
)
def test_a_wrong_parameter_is_caught_before_it_is_sent(line: str, error_id: str, said: str) -> None:
    with pytest.raises(ParameterRejectedError, match=said) as caught:
        check_commands(convert_text(f"Get-AzureStackLog {line}"), [COLLECTION])
    assert caught.value.fields["error_id"] == f"{error_id},Get-AzureStackLog"
    assert caught.value.exit_code == ExitCode.NOT_PERMITTED


def test_a_parameter_of_a_splat_arrives_without_a_dash_and_is_checked_too() -> None:
    with pytest.raises(ParameterRejectedError, match="nonsense"):
        check_commands([command("Get-AzureStackLog", "Nonsense", value="x")], [COLLECTION])


def test_a_missing_mandatory_parameter_is_caught_unless_the_pipeline_may_bring_it() -> None:
    with pytest.raises(ParameterRejectedError, match="-CimSession is missing"):
        check_commands(convert_text("Get-VirtualDisk one"), [DISK])
    check_commands(convert_text("Get-VirtualDisk one -CimSession S-Cluster"), [DISK])
    check_commands(convert_text("Get-AzureStackLog | Get-VirtualDisk"), [COLLECTION, DISK])
    with pytest.raises(ParameterRejectedError, match="-CimSession is missing"):
        check_commands(convert_text("Get-AzureStackLog; Get-VirtualDisk"), [COLLECTION, DISK])


def test_an_alias_of_the_endpoint_is_checked_as_the_command_it_stands_for() -> None:
    with pytest.raises(ParameterRejectedError):
        check_commands([command("logs", "-Nonsense", value="x")], [COLLECTION])


def test_a_command_that_the_endpoint_does_not_have_is_named() -> None:
    with pytest.raises(CommandNotFoundError, match="Get-AzureStackLogs"):
        check_commands([command("Get-AzureStackLogs")], [COLLECTION])
