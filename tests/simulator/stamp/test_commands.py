"""The other commands of a simulated endpoint, its faults by name, its sizes and durations, its alerts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import UsageError
from bridge.simulator._command import CommandSpec, CredentialValue, SimulatedError
from bridge.simulator.session._binder import BindingError, bind
from bridge.simulator.stamp import (
    FAULTS,
    ROLES,
    AlertBoard,
    AlertEvent,
    StampOptions,
    StampState,
    parse_duration,
    parse_size,
    stamp_commands,
)
from tests.support.fake_context import FakeContext
from tests.support.samba import Samba

FIXTURES = Path(__file__).parents[3] / "fixtures" / "stamp"
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

INDEX = """
Close-PrivilegedEndpoint Get-ActionStatus Get-AzsDnsForwarder Get-AzSDnsServerSettings Get-AzSLegalNotice
Get-AzureStackLog Get-AzureStackStampInformation Get-AzureStackSupportConfiguration
Get-CloudAdminPasswordRecoveryToken Get-CloudAdminUserList Get-ClusterLog Get-GraphApplication Get-StorageJob
Get-SupportSessionInfo Get-SupportSessionToken Get-SyslogClient Get-SyslogServer Get-ThirdPartyNotices Get-TLSPolicy
Get-VirtualDisk Invoke-AzureStackOnDemandLog New-AzureBridgeServicePrincipal New-AzureStackActivation
New-CloudAdminUser New-GraphApplication New-RegistrationToken Register-CustomAdfs Register-CustomDnsServer
Register-DirectoryService Remove-AzureStackActivation Remove-CloudAdminUser Remove-GraphApplication Repair-VirtualDisk
Reset-DatacenterIntegrationConfiguration Send-AzureStackDiagnosticLog Set-AzSLegalNotice Set-AzsDnsForwarder
Set-AzSDnsServerSettings Set-CloudAdminUserPassword Set-GraphApplication Set-ServiceAdminOwner Set-SyslogClient
Set-SyslogServer Set-Telemetry Set-TLSPolicy Start-AzsCryptoWipe Start-AzureStack Start-SecretRotation Stop-AzureStack
Test-AzureStack Unlock-SupportSession Get-AzureStackUpdateStatus Resume-AzureStackUpdate Enable-RemoteSupport
Disable-RemoteSupport Get-RemoteSupportAccess Get-RemoteSupportSessionHistory"""

INFORMATION_KEYS = """
EmergencyConsoleIPAddresses DomainFQDN Timezone DomainNetBIOSName ExternalDomainFQDN RegionName StampVersion CloudID
DeploymentID AADTenantID ExternalDNSIPAddress01 ExternalDNSIPAddress02"""


def stamp(**options: Any) -> StampState:
    defaults: dict[str, Any] = {"duration_s": 0.0, "size_bytes": 10_000, "starts_at": NOON}
    return StampState(StampOptions(**(defaults | options)))


def commands(state: StampState) -> dict[str, CommandSpec]:
    return {spec.name: spec for spec in stamp_commands(state)}


def run(state: StampState, name: str, /, **arguments: Any) -> FakeContext:
    ctx = FakeContext()
    commands(state)[name].run(ctx, arguments)
    return ctx


def test_every_command_of_the_published_index_is_there() -> None:
    assert set(commands(stamp())) == set(INDEX.split())


def test_there_are_79_documented_roles() -> None:
    assert len(set(ROLES)) == 79


def test_parameters_of_a_command_have_distinct_names_and_sets_that_exist() -> None:
    for spec in commands(stamp()).values():
        names = [parameter.name.casefold() for parameter in spec.parameters]
        assert len(names) == len(set(names)), spec.name


@pytest.mark.parametrize("name", ["Stop-AzureStack", "Start-AzsCryptoWipe", "Start-SecretRotation", "Set-Telemetry"])
def test_a_dangerous_command_is_noted_and_does_nothing_else(name: str) -> None:
    state = stamp()
    ctx = run(state, name)
    assert [call.name for call in state.dangerous_calls] == [name]
    assert ctx.all_text == ""


def test_reading_commands_are_not_noted_as_dangerous() -> None:
    state = stamp()
    for name in ("Get-ThirdPartyNotices", "Get-AzureStackStampInformation", "Test-AzureStack", "Get-VirtualDisk"):
        run(state, name)
    assert state.dangerous_calls == ()
    assert len(state.calls) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"FilterByResourceProvider": ["ACR"], "FilterByRole": ["FabricRingServices"]},
        {"OutputPath": "/a", "OutputSharePath": "\\\\b\\c"},
        {"OutputPath": "/a", "OutputSasUri": "https://b/c?sig=d"},
        {"OutputPath": "/a", "OutputShareCredential": CredentialValue("a", "b")},
    ],
)
def test_parameters_of_no_one_set_are_ambiguous(arguments: dict[str, Any]) -> None:
    with pytest.raises(BindingError) as caught:
        bind(commands(stamp())["Get-AzureStackLog"], tuple(arguments.items()), zone=UTC)
    # The text is the public one (pep-facts 7, ASD #1958).
    assert caught.value.error.message == "Parameter set cannot be resolved using the specified named parameters."
    assert caught.value.error.error_id == "AmbiguousParameterSet"


def test_a_resource_provider_with_a_place_to_write_to_is_collected(tmp_path: Path) -> None:
    run(stamp(output_root=tmp_path), "Get-AzureStackLog", FilterByResourceProvider=["ACR"], OutputPath=str(tmp_path))
    assert {path.name.split("-")[0] for path in tmp_path.rglob("*.zip")} == {"ACR"}


# -- stamp information


def test_stamp_information_has_the_keys_that_public_scripts_read() -> None:
    (document,) = run(stamp(), "Get-AzureStackStampInformation").output
    for key in INFORMATION_KEYS.split():
        assert document[key], key
    assert len(document["EmergencyConsoleIPAddresses"]) == 3
    assert document["AdminExternalEndpoints"]["AdminResourceManager"].startswith("https://adminmanagement.local.")


def test_the_sample_information_file_is_what_the_simulator_answers() -> None:
    state = stamp()
    state.ercs_addresses = ("192.0.2.225", "192.0.2.226", "192.0.2.227")
    (document,) = run(state, "Get-AzureStackStampInformation").output
    sample = json.loads((FIXTURES / "AzureStackStampInformation.json").read_text(encoding="utf-8"))
    assert document == sample


def test_registration_details_are_null_on_a_stamp_that_is_not_registered() -> None:
    assert run(stamp(faults=("not-registered",)), "Get-AzureStackSupportConfiguration").output == [None]
    (details,) = run(stamp(), "Get-AzureStackSupportConfiguration", IncludeRegistrationObjectId=True).output
    assert details["RegistrationObjectId"]


def test_sending_to_the_vendor_needs_a_registered_stamp() -> None:
    with pytest.raises(SimulatedError, match="not registered"):
        run(stamp(faults=("not-registered",)), "Send-AzureStackDiagnosticLog")
    (result,) = run(stamp(), "Send-AzureStackDiagnosticLog", FilterByRole=["Storage"]).output
    assert result["Status"] == "Success"


def test_on_demand_logs_report_progress_for_each_role_and_nothing_without_generate() -> None:
    ctx = run(stamp(), "Invoke-AzureStackOnDemandLog", Generate=True, FilterByRole=["OEM", "NC"])
    assert {activity for activity, _, _ in ctx.progress} == {
        "Invoke-AzureStackOnDemandLog: OEM",
        "Invoke-AzureStackOnDemandLog: NC",
    }
    assert run(stamp(), "Invoke-AzureStackOnDemandLog").warnings


# -- Test-AzureStack and alerts


def test_validation_prints_each_category_and_answers_true() -> None:
    ctx = run(stamp(), "Test-AzureStack", Include=["AzsControlPlane", "AzsSFRoleSummary"])
    assert [line.split() for line in ctx.host_lines] == [["AzsControlPlane", "PASS"], ["AzsSFRoleSummary", "PASS"]]
    assert ctx.output == [True]


def test_a_failing_category_answers_false() -> None:
    ctx = run(stamp(faults=("test-fails:AzsControlPlane",)), "Test-AzureStack", Ignore=["AzsAlertSummary"])
    assert ctx.output == [False]
    assert ["AzsControlPlane", "FAIL"] in [line.split() for line in ctx.host_lines]


def test_the_alert_summary_shows_active_alerts_and_only_warns() -> None:
    state = stamp()
    closed = state.alerts.raise_alert("Urp.UpdateFailure")
    state.alerts.raise_alert("AzureStack.ComputeController.HostUnresponsive")
    state.alerts.close_alert(closed)
    assert run(state, "Test-AzureStack", Include=["AzsAlertSummary"]).output == [True]
    (result,) = run(state, "Test-AzureStack", Include=["AzsAlertSummary"], DetailedResults=True).output
    assert result["Result"] == "WARN"
    assert [each["Title"] for each in result["Details"]] == ["Node inaccessible for virtual machine placement"]


def test_alerts_of_a_script_come_and_go_by_the_clock() -> None:
    now = NOON
    board = AlertBoard(
        (AlertEvent("Urp.UpdateFailure", 60, 3600), AlertEvent("FRP.Heartbeat.InfraVM", 1800)), lambda: now
    )
    seen: list[int] = []
    for minutes in (0, 2, 31, 61):
        now = NOON + timedelta(minutes=minutes)
        seen.append(len(board.active()))
    assert seen == [0, 1, 2, 1]
    assert [alert.closed is not None for alert in board.seen()] == [True, False]


# -- the end of a session


def test_closing_ships_earlier_transcripts_too_and_deletes_them(samba: Samba) -> None:
    state = stamp(smb_port=samba.port)
    close = commands(state)["Close-PrivilegedEndpoint"]
    commands(state)["Get-ThirdPartyNotices"].run(FakeContext(session_id="earlier"), {})
    other_machine = FakeContext(session_id="elsewhere", machine="AzS-ERCS02")
    commands(state)["Get-ThirdPartyNotices"].run(other_machine, {})
    credential = CredentialValue(samba.credential.username, samba.credential.password.reveal())
    share = samba.unc("bundles", "transcripts").lstrip("\\")  # as PEP-20-12 writes it
    close.run(FakeContext(session_id="this"), {"TranscriptsPathDestination": share, "Credential": credential})
    (folder,) = (samba.path("bundles") / "transcripts").glob("Transcripts_*")
    texts = {path.name.split("_")[-1]: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert set(texts) == {"earlier.txt", "this.txt"}
    assert credential.password not in "".join(texts.values())
    assert state.transcripts_of("AzS-ERCS01") == ()
    assert len(state.transcripts_of("AzS-ERCS02")) == 1


def test_transcripts_stay_when_the_share_cannot_be_written(samba: Samba) -> None:
    state = stamp(smb_port=samba.port)
    credential = CredentialValue(samba.wrong_credential.username, samba.wrong_credential.password.reveal())
    with pytest.raises(SimulatedError, match="password is incorrect"):
        run(state, "Close-PrivilegedEndpoint", TranscriptsPathDestination=samba.unc(), Credential=credential)
    assert state.transcripts_of("AzS-ERCS01")


# -- options


@pytest.mark.parametrize(("text", "size"), [("50MB", 50_000_000), ("2GiB", 2 << 30), ("0", 0), ("1.5 kb", 1500)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("20s", 20), ("0.5s", 0.5), ("10m", 600), ("4h", 14400), ("250ms", 0.25)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "lots", "-1MB", "5 parsecs"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    "fault",
    ["nonsense", "role-fails", "role-fails:Nonsense", "hostile-names:x", "staging-disk-full:150", "wrong-clock:soon"],
)
def test_a_fault_that_is_unknown_or_badly_written_is_refused(fault: str) -> None:
    with pytest.raises(UsageError):
        stamp(faults=(fault,))


def test_every_fault_says_what_it_means() -> None:
    assert all(kind.meaning and kind.usage.startswith(name) for name, kind in FAULTS.items())


def test_an_unknown_time_zone_and_an_impossible_stamp_are_refused() -> None:
    with pytest.raises(UsageError, match="Windows time-zone"):
        stamp(timezone="Europe/Berlin")
    with pytest.raises(UsageError, match="1 to 16 nodes"):
        stamp(node_count=0)
