"""The shipped scripts are complete, harmless, and run in PowerShell as they run through the bridge."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pytest

from bridge.endpoint import Parameter, Value
from bridge.endpoint.script import (
    Declared,
    Safety,
    Script,
    allow_list,
    classify,
    list_scripts,
    load_script,
    needs_permission,
    read_script,
    unknown_commands,
)
from bridge.errors import CommandNotAllowedError, UsageError
from bridge.secrets import Credential, Secret

SHIPPED = list_scripts()
APPROVED_VERBS = {"Get", "Send", "Test", "Invoke", "Close"}  # of about_Approved_Verbs, those in use here
_FACTS = """
    Close-PrivilegedEndpoint Get-ActionStatus Get-AzsDnsForwarder Get-AzSDnsServerSettings Get-AzSLegalNotice
    Get-AzureStackLog Get-AzureStackStampInformation Get-AzureStackSupportConfiguration
    Get-CloudAdminPasswordRecoveryToken Get-CloudAdminUserList Get-ClusterLog Get-GraphApplication Get-StorageJob
    Get-SupportSessionInfo Get-SupportSessionToken Get-SyslogClient Get-SyslogServer Get-ThirdPartyNotices Get-TLSPolicy
    Get-VirtualDisk Invoke-AzureStackOnDemandLog New-AzureBridgeServicePrincipal New-AzureStackActivation
    New-CloudAdminUser New-GraphApplication New-RegistrationToken Register-CustomAdfs Register-CustomDnsServer
    Register-DirectoryService Remove-AzureStackActivation Remove-CloudAdminUser Remove-GraphApplication
    Repair-VirtualDisk Reset-DatacenterIntegrationConfiguration Send-AzureStackDiagnosticLog Set-AzSLegalNotice
    Set-AzsDnsForwarder Set-AzSDnsServerSettings Set-CloudAdminUserPassword Set-GraphApplication Set-ServiceAdminOwner
    Set-SyslogClient Set-SyslogServer Set-Telemetry Set-TLSPolicy Start-AzsCryptoWipe Start-AzureStack
    Start-SecretRotation Stop-AzureStack Test-AzureStack Unlock-SupportSession Get-AzureStackUpdateStatus
    Resume-AzureStackUpdate Enable-RemoteSupport Disable-RemoteSupport Get-RemoteSupportAccess
    Get-RemoteSupportSessionHistory Clear-Host Exit-PSSession Get-Command Get-FormatData Get-Help Measure-Object
    Out-Default Select-Object
"""
FACTS_COMMANDS = _FACTS.split()
EVERY_VALUE: dict[Declared, Value] = {
    Declared.STRING: r"\\192.0.2.10\it's",
    Declared.STRINGS: ("OEM", "SLB"),
    Declared.INT: 60,
    Declared.SWITCH: True,
    Declared.DATETIME: datetime(2024, 3, 12, 8, tzinfo=UTC),
    Declared.PSCREDENTIAL: Credential("D\\u", Secret("hunter22")),
}
STUB = """
function %(name)s {
    param(%(parameters)s)
    process {
        foreach ($key in [string[]]@($PSBoundParameters.Keys)) {
            $value = $PSBoundParameters[$key]
            if ($value -is [datetime]) { $value = $value.ToUniversalTime().ToString('s') }
            if ($value -is [pscredential]) { $value = $value.UserName }
            '%(name)s|' + $key + '=' + ([string[]]@($value) -join ',')
        }
    }
}
"""


def every_argument(script: Script) -> dict[str, Value]:
    return {each.name: EVERY_VALUE[each.type] for each in script.parameters}


def test_every_kind_of_session_is_shipped() -> None:
    assert {script.name for script in SHIPPED} == {
        "Close-PepSession",
        "Get-StampAlert",
        "Get-StampClusterLog",
        "Get-StampCommand",
        "Get-StampInformation",
        "Get-StampLog",
        "Get-StampStorageHealth",
        "Get-StampSupportConfiguration",
        "Get-StampSupportSession",
        "Invoke-StampOnDemandLog",
        "Send-StampLog",
        "Test-Stamp",
    }


@pytest.mark.parametrize("script", SHIPPED, ids=lambda script: script.name)
def test_a_shipped_script_has_complete_help(script: Script) -> None:
    assert re.fullmatch(r"[A-Z][a-z]+-[A-Z][A-Za-z]+", script.name)
    assert script.name.partition("-")[0] in APPROVED_VERBS
    assert script.synopsis.endswith(".")
    assert "\n" not in script.synopsis
    assert script.description
    assert script.help.notes
    assert script.help.examples
    assert set(script.help.parameters) == {each.name.lower() for each in script.parameters}
    assert all(each.help.endswith(".") for each in script.parameters)
    assert script.text.isascii()  # Windows PowerShell reads a file without a mark in the code page of the machine
    assert "\r" not in script.text


@pytest.mark.parametrize("script", SHIPPED, ids=lambda script: script.name)
def test_a_shipped_script_sends_reading_and_collecting_commands_with_every_parameter(script: Script) -> None:
    assert {classify(name) for name in script.command_names} <= {Safety.READ_ONLY, Safety.COLLECTING}
    assert allow_list(script.command_names) == set(script.command_names)
    sent = [parameter for command in script.bind(every_argument(script)) for parameter in command.parameters]
    values = [parameter.value for parameter in sent]
    assert all(value in values for value in every_argument(script).values())


def test_the_collection_sends_what_is_given_and_nothing_else() -> None:
    [command] = load_script("get-stamplog").bind({"FilterByRole": ("ACS",), "TimeOutInMinutes": 240})
    assert command.name == "Get-AzureStackLog"
    assert command.parameters == (Parameter("FilterByRole", ("ACS",)), Parameter("TimeOutInMinutes", 240))


def test_the_collection_takes_the_parameters_of_the_reference() -> None:
    assert {each.name for each in load_script("Get-StampLog").parameters} == {
        "OutputSharePath",
        "OutputShareCredential",
        "OutputSasUri",
        "OutputPath",
        "FilterByRole",
        "FilterByNode",
        "FilterByLogType",
        "FilterByResourceProvider",
        "FromDate",
        "ToDate",
        "TimeOutInMinutes",
        "IncludeDumpFile",
        "PerformVMLogRecovery",
    }


def test_an_unknown_name_is_refused_with_the_way_to_find_one() -> None:
    with pytest.raises(UsageError) as caught:
        load_script("Get-StampLogs")
    assert "--list" in caught.value.advice


@pytest.mark.parametrize("name", FACTS_COMMANDS)
def test_every_command_of_the_endpoint_is_classified(name: str) -> None:
    assert classify(name) is classify(name.upper()) is not Safety.UNKNOWN


@pytest.mark.parametrize("name", ["Stop-AzureStack", "Start-AzsCryptoWipe"])
def test_what_ends_the_stamp_is_destructive(name: str) -> None:
    assert classify(name) is Safety.DESTRUCTIVE


@pytest.mark.parametrize(
    "verb", ["New", "Set", "Start", "Remove", "Register", "Reset", "Repair", "Unlock", "Enable", "Disable"]
)
def test_no_command_whose_verb_changes_things_runs_without_permission(verb: str) -> None:
    names = [name for name in FACTS_COMMANDS if name.startswith(f"{verb}-")]
    assert names
    assert needs_permission(names) == tuple(names)


def test_a_changing_command_must_be_named() -> None:
    script = read_script("Get-VirtualDisk | Repair-VirtualDisk\nmod\\Get-AzureStackLog\nGet-Unheard")
    with pytest.raises(CommandNotAllowedError, match="Repair-VirtualDisk") as caught:
        allow_list(script.command_names)
    assert "--allow Repair-VirtualDisk" in caught.value.advice
    assert "Repair-VirtualDisk" in allow_list(script.command_names, permitted=["repair-virtualdisk"])
    assert unknown_commands(script.command_names) == ("mod\\Get-AzureStackLog", "Get-Unheard")


@pytest.mark.engine
@pytest.mark.parametrize("script", SHIPPED, ids=lambda script: script.name)
def test_the_same_file_runs_in_powershell_with_the_same_parameters(pwsh: str, tmp_path: Path, script: Script) -> None:
    arguments = every_argument(script)
    commands = script.bind(arguments)
    parameters: dict[str, dict[str, None]] = {}
    for command in commands:
        names = [parameter.name.strip("-: ") for parameter in command.parameters if parameter.name]
        parameters.setdefault(command.name, {}).update(dict.fromkeys(names))
    stubs = [stub(name, list(names)) for name, names in parameters.items()]
    (tmp_path / "script.ps1").write_text(script.text, encoding="utf-8")
    given = "".join(f"$given['{name}'] = {as_powershell(value)}\n" for name, value in arguments.items())
    wrapper = tmp_path / "wrapper.ps1"
    call = f"& '{tmp_path / 'script.ps1'}' @given"
    wrapper.write_text("\n".join([*stubs, "$given = @{}", given, call]), encoding="utf-8")
    done = subprocess.run([pwsh, "-NoProfile", "-File", str(wrapper)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    seen = {tuple(line.split("|", 1)) for line in done.stdout.splitlines()}
    expected = {(name, text) for name, text in sent_lines(script, arguments)}
    assert seen == expected


def stub(name: str, parameters: list[str]) -> str:
    switches = {"Generate", "DetailedResults", "IncludeDumpFile", "PerformVMLogRecovery", "List", "UseLocalTime"}
    switches |= {"Health", "IncludeRegistrationObjectId"}
    declared = [f"[switch]${each}" if each in switches else f"${each}" for each in parameters]
    return STUB % {"name": name, "parameters": ", ".join(declared)}


def as_powershell(value: Value) -> str:
    match value:
        case bool():
            return f"${value}"
        case int():
            return str(value)
        case str():
            return "'" + value.replace("'", "''") + "'"
        case tuple():
            return ", ".join(as_powershell(item) for item in value)
        case datetime():
            return f"[datetime]'{value.isoformat()}'"
        case Credential():
            secure = "(New-Object System.Security.SecureString)"
            return f"[System.Management.Automation.PSCredential]::new('{value.username}', {secure})"
        case _:
            raise AssertionError(value)


def as_seen(value: Value) -> str:
    match value:
        case tuple():
            return ",".join(map(as_seen, value))
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%S}"
        case Credential():
            return value.username
        case _:
            return str(value)


def sent_lines(script: Script, arguments: dict[str, Value]) -> list[tuple[str, str]]:
    """What the stubs print when they get what the bridge would send: a value belongs to the name before it."""
    found: list[tuple[str, str]] = []
    for command in script.bind(arguments):
        name = ""
        for parameter in command.parameters:
            if parameter.name is not None:
                name = parameter.name.strip("-: ")
                value: Value = True if parameter.value is None else parameter.value
                found.append((command.name, f"{name}={as_seen(value)}"))
            else:
                found[-1] = (command.name, f"{name}={as_seen(parameter.value)}")
    return found


def test_scripts_are_found_as_package_data() -> None:
    names = {entry.name for entry in resources.files("pep_scripts").iterdir() if entry.name.endswith(".ps1")}
    assert names == {f"{script.name}.ps1" for script in SHIPPED}
