"""The commands of a simulated endpoint: those that do something in a rehearsal, and all the others from the table."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from bridge.simulator._command import CommandContext, CommandSpec, ParameterSpec, SimulatedError
from bridge.simulator.stamp._collect import COMMAND, collect_logs
from bridge.simulator.stamp._destination import Destination, FolderDestination, ShareDestination
from bridge.simulator.stamp._parameters import parameters
from bridge.simulator.stamp._plain import PLAIN_COMMANDS, PlainCommand
from bridge.simulator.stamp._state import StampState, Transcript
from bridge.simulator.stamp._validate import TEST_PARAMETERS, validate

_Run = Callable[[StampState, CommandContext, Mapping[str, Any]], None]

# GUESS: the sets. They give what is known: a resource provider with a role and no place to write to is ambiguous
# (ASD #1958, pep-facts 7), and OutputPath does not go with OutputSharePath (azure-docs PR #4462).
_NOWHERE, _TO_PATH, _TO_SHARE, _TO_SAS = "Default", "OutputPath", "OutputShare", "OutputSas"
_LOG_SETS: dict[str, tuple[str, ...]] = {
    "FilterByResourceProvider": (_TO_PATH, _TO_SHARE, _TO_SAS),
    "OutputPath": (_TO_PATH,),
    "InputSasUri": (_TO_PATH,),
    "OutputSharePath": (_TO_SHARE,),
    "OutputShareCredential": (_TO_SHARE,),
    "OutputSasUri": (_TO_SAS,),
}
_LOG_TYPES = ("File", "Share", "WindowsEvent")


def _log_parameter(spec: ParameterSpec) -> ParameterSpec:
    sets = _LOG_SETS.get(spec.name, (_NOWHERE, _TO_PATH, _TO_SHARE, _TO_SAS))
    return replace(spec, parameter_sets=sets, validate_set=_LOG_TYPES if spec.name == "FilterByLogType" else ())


LOG_PARAMETERS = tuple(
    map(
        _log_parameter,
        parameters(
            "FilterByRole strings, FilterByResourceProvider strings, FilterByNode strings, FilterByLogType strings,"
            "FromDate date, ToDate date, OutputSharePath string, OutputShareCredential credential,"
            "OutputSasUri string, InputSasUri string, OutputPath string, CustomerConfigurationFilePath string,"
            "LocalAdminCredential credential, TimeOutInMinutes int, IncludeDumpFile switch, PerformVMLogRecovery switch"
        ),
    )
)
"""pep-facts 1.1; ``-AsJob`` is made by implicit remoting on the client (5.5), so the endpoint does not have it."""


def stamp_commands(state: StampState) -> tuple[CommandSpec, ...]:
    """Every command of the endpoint but PowerShell's own; all three endpoints of a stamp share the state."""
    active = (
        ("Close-PrivilegedEndpoint", "Saves the transcripts to a share and ends the session.", _close,
         parameters("TranscriptsPathDestination string@0, Credential credential@1")),
        ("Get-ActionStatus", "Gets the state of the latest action of a function.", _action_status,
         parameters("FunctionName! string@1, ActionType string@2")),
        ("Get-AzureStackStampInformation", "Gets the stamp information.", _stamp_information, ()),
        ("Get-AzureStackSupportConfiguration", "Gets registration details.", _support_configuration,
         parameters("IncludeRegistrationObjectId switch")),
        ("Get-ClusterLog", "Creates the failover cluster's log.", _cluster_log, _CLUSTER_LOG_PARAMETERS),
        ("Get-StorageJob", "Gets the storage jobs of virtual disks.", _storage_job,
         parameters("VirtualDisk <object, CimSession object")),
        ("Get-SupportSessionInfo", "Gets the state of the support session.", _support_info, ()),
        ("Get-SupportSessionToken", "Gets the request token that unlocks the endpoint.", _support_token,
         parameters("Development switch")),
        ("Get-VirtualDisk", "Gets the virtual disks.", _virtual_disk,
         parameters("FriendlyName strings@0, CimSession object")),
        ("Invoke-AzureStackOnDemandLog", "Generates logs that are not collected by default.", _on_demand,
         _on_demand_parameters()),
        ("Send-AzureStackDiagnosticLog", "Sends logs to the vendor.", _send,
         parameters("FilterByRole strings@1, FilterByResourceProvider strings@2, FromDate date@3, ToDate date@4")),
        ("Test-AzureStack", "Validates the stamp.", validate, TEST_PARAMETERS),
    )  # fmt: skip
    specs = [_spec(state, name, synopsis, run, declared) for name, synopsis, run, declared in active]
    specs.append(
        replace(
            _spec(state, COMMAND, "Gets logs of the stamp's roles.", collect_logs, LOG_PARAMETERS),
            default_parameter_set=_NOWHERE,
        )
    )
    # An elevated session is for the vendor's support alone (pep-facts 11): noted as dangerous.
    unlock = PlainCommand(
        "Unlock-SupportSession", "Unlocks an elevated session.", "ResponseToken! string@0", changes=True
    )
    specs += [_plain_spec(state, plain) for plain in (*PLAIN_COMMANDS, unlock)]
    return tuple(sorted(specs, key=lambda spec: spec.name.casefold()))


def _spec(
    state: StampState,
    name: str,
    synopsis: str,
    run: _Run,
    declared: tuple[ParameterSpec, ...],
    *,
    dangerous: bool = False,
) -> CommandSpec:
    def recorded(ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
        state.record_call(name, ctx, arguments, dangerous=dangerous)
        try:
            run(state, ctx, arguments)
        except SimulatedError as error:
            state.transcript_line(ctx, f'PS>TerminatingError({name}): "{error.message}"')
            raise

    return CommandSpec(name, recorded, declared, synopsis)


def _plain_spec(state: StampState, plain: PlainCommand) -> CommandSpec:
    def answer(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
        for value in plain.answer:
            ctx.write_output(value)

    return _spec(state, plain.name, plain.synopsis, answer, parameters(plain.parameters), dangerous=plain.changes)


# -- the stamp -------------------------------------------------------------------------------------------------------


def _stamp_information(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    ctx.write_output(state.inventory.stamp_information(state.ercs_addresses))


def _support_configuration(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    """pep-facts 1.5: registration details, or null on a stamp that is not registered. GUESS: the property names."""
    if not state.registered:
        ctx.write_output(None)
        return
    details = {"CloudID": state.inventory.cloud_id, "DeploymentID": state.inventory.deployment_id, "Registered": True}
    if arguments.get("IncludeRegistrationObjectId"):
        details["RegistrationObjectId"] = str(uuid.uuid5(uuid.NAMESPACE_DNS, state.inventory.cloud_id))
    ctx.write_output(details)


def _action_status(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    """GUESS: nothing for a function that was never run, nor (no document says otherwise) for a log collection."""
    name = str(arguments["FunctionName"])
    earlier = [call for call in state.calls if call.name.casefold() == name.casefold() and call.dangerous]
    if earlier:
        ctx.write_output({"FunctionName": earlier[-1].name, "Status": "Success", "StartTime": earlier[-1].at})


# -- support ---------------------------------------------------------------------------------------------------------


def _support_info(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    """pep-facts 1.5 has the type's name. GUESS: its properties."""
    unlocked = [call for call in state.calls if call.name == "Unlock-SupportSession"]
    open_until = unlocked[-1].at + timedelta(hours=8) if unlocked else None
    ctx.write_output(
        {
            "PSTypeName": "Microsoft.AzureStack.PrivilegedEndpointSecurity.PepCmdlets.AzureStackSupportSessionInfo",
            "IsLocked": open_until is None or open_until < state.now(),
            "ExpirationTime": open_until,
        }
    )


def _support_token(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    ctx.write_output(f"simulated-request-token-{uuid.uuid5(uuid.NAMESPACE_DNS, ctx.session_id).hex}")


def _send(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    """Takes the time of a collection and sends nothing. INVENTED: its texts, and the object it writes."""
    if not state.registered:
        raise SimulatedError(
            "The diagnostic logs cannot be sent because this stamp is not registered.",
            "StampNotRegistered,Send-AzureStackDiagnosticLog",
            "InvalidOperation",
            "System.InvalidOperationException",
        )
    started = state.now()
    if not _take_time(state, ctx, "Send-AzureStackDiagnosticLog"):
        return
    ctx.write_output(
        {
            "Status": "Success",
            "CollectionStartTime": started,
            "FromDate": arguments.get("FromDate") or started - timedelta(hours=4),
            "ToDate": arguments.get("ToDate") or started,
            "LogUploadId": str(uuid.uuid5(uuid.NAMESPACE_DNS, started.isoformat())),
        }
    )


def _on_demand(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    """pep-facts 1.3. GUESS: without -Generate it only says so."""
    if not arguments.get("Generate"):
        ctx.write_warning("Nothing was generated: -Generate was not given.")
        return
    for role in arguments.get("FilterByRole") or ("OEM", "NC", "SLB", "Gateway"):
        if not _take_time(state, ctx, f"Invoke-AzureStackOnDemandLog: {role}"):
            return


def _on_demand_parameters() -> tuple[ParameterSpec, ...]:
    declared = parameters(
        "Generate switch, FilterByRole strings, OutputPath string, TimeOutInMinutes int, SlbTimeOutInMinutes int"
    )
    roles = ("OEM", "NC", "SLB", "Gateway")  # pep-facts 1.3: the valid values
    return tuple(replace(each, validate_set=roles) if each.name == "FilterByRole" else each for each in declared)


def _take_time(state: StampState, ctx: CommandContext, activity: str) -> bool:
    """Reports progress for as long as a collection takes; false when the pipeline is to stop."""
    steps = 20
    for step in range(steps):
        ctx.write_progress(activity, "In progress", percent=step * 100 // steps)
        if ctx.stopping.wait(state.options.duration_s / steps):
            return False
    ctx.write_progress(activity, "Completed", completed=True)
    return True


# -- storage ---------------------------------------------------------------------------------------------------------


_CIM = "Microsoft.Management.Infrastructure.CimInstance"


def _virtual_disk(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    """GUESS: the names of the volumes; properties as Get-VirtualDisk of the Storage module has them."""
    names = ["SU1_Infrastructure_1", "SU1_Infrastructure_2", "SU1_Infrastructure_3", "SU1_Public", "SU1_ObjStore"]
    wanted = {str(name).casefold() for name in arguments.get("FriendlyName") or names}
    for name in names:
        if name.casefold() in wanted:
            ctx.write_output(
                {
                    "PSTypeName": f"{_CIM}#ROOT/Microsoft/Windows/Storage/MSFT_VirtualDisk",
                    "FriendlyName": name,
                    "ResiliencySettingName": "Mirror",
                    "OperationalStatus": "OK",
                    "HealthStatus": "Healthy",
                    "Size": 2_199_023_255_552,
                }
            )


def _storage_job(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    """No repair is under way: nothing to show."""


_CLUSTER_LOG_PARAMETERS = parameters(
    "Node strings@0, Cluster string, Destination string, InputObject <object, TimeSpan int,"
    "PerformanceHistoryTimeFrame object, NetworkDiagnosticsLevel object, UseLocalTime switch, SkipClusterState switch,"
    "Health switch, NetworkDiagnostics switch, ExportClusterPerformanceHistory switch"
)


def _cluster_log(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    """GUESS: one file a node, as the FailoverClusters module does; how they leave the endpoint is not documented."""
    wanted = {str(node).casefold() for node in arguments.get("Node") or state.inventory.nodes}
    for node in state.inventory.nodes:
        if node.casefold() in wanted:
            ctx.write_output({"PSTypeName": "System.IO.FileInfo", "Name": f"{node}_cluster.log", "Length": 1_048_576})


# -- the end of a session --------------------------------------------------------------------------------------------


def _close(state: StampState, ctx: CommandContext, arguments: Mapping[str, Any]) -> None:
    """pep-facts 4.8: writes this session's transcript and those of earlier sessions to the share, then deletes them.

    GUESS: names below ``Transcripts_``; and that without a destination they stay.
    """
    path = arguments.get("TranscriptsPathDestination")
    if path is None:
        return
    destination = _transcripts_destination(state, arguments, str(path))
    transcripts = state.transcripts_of(ctx.machine)
    try:
        folder = f"Transcripts_{state.local(state.now()):%Y%m%d%H%M%S}"
        destination.make_folder(folder)
        for transcript in transcripts:
            name = f"{folder}/{ctx.machine}_{transcript.started:%Y%m%d%H%M%S}_{transcript.session_id}.txt"
            with destination.open(name) as sink:
                sink.write(_transcript_text(transcript))
    finally:
        destination.close()
    state.drop_transcripts(transcripts)


def _transcripts_destination(state: StampState, arguments: Mapping[str, Any], path: str) -> Destination:
    command = "Close-PrivilegedEndpoint"
    is_local = path.startswith("/") or path[1:3] in {":\\", ":/"}
    if is_local:
        return FolderDestination(path, state.options.output_root, command)
    return ShareDestination(path, arguments.get("Credential"), state.options.smb_port, command)


def _transcript_text(transcript: Transcript) -> bytes:
    stars = "*" * 22
    head = (
        stars,
        "Windows PowerShell transcript start",
        f"Start time: {transcript.started:%Y%m%d%H%M%S}",
        f"Username: {transcript.username}",
        f"Machine: {transcript.machine} (Microsoft Windows NT 10.0.17763.0)",
        stars,
    )
    return "".join(f"{line}\r\n" for line in (*head, *transcript.lines)).encode("utf-8", "backslashreplace")
