"""The shapes of records and state messages as Windows PowerShell 5.1 sends them (MS-PSRP 2.2.3 and recordings)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from bridge.simulator._command import Int64, SimulatedError
from bridge.simulator.session._clixml import OBJECT, Enum, Scalar, Thing, array, generic, generic_list

NAMESPACE: Final = "System.Management.Automation."

CATEGORIES: Final = (
    "NotSpecified",
    "OpenError",
    "CloseError",
    "DeviceError",
    "DeadlockDetected",
    "InvalidArgument",
    "InvalidData",
    "InvalidOperation",
    "InvalidResult",
    "InvalidType",
    "MetadataError",
    "NotImplemented",
    "NotInstalled",
    "ObjectNotFound",
    "OperationStopped",
    "OperationTimeout",
    "SyntaxError",
    "ParserError",
    "PermissionDenied",
    "ResourceBusy",
    "ResourceExists",
    "ResourceUnavailable",
    "ReadError",
    "WriteError",
    "FromStdErr",
    "SecurityError",
    "ProtocolError",
    "ConnectionError",
    "AuthenticationError",
    "LimitsExceeded",
    "QuotaExceeded",
    "NotEnabled",
)
"""System.Management.Automation.ErrorCategory; the position is the number on the wire."""

_RUNTIME: Final = (NAMESPACE + "RuntimeException", "System.SystemException", "System.Exception", OBJECT)
_BINDING: Final = (NAMESPACE + "ParameterBindingException", *_RUNTIME)
_SYSTEM: Final = ("System.SystemException", "System.Exception", OBJECT)

_BASES: Final[dict[str, tuple[str, ...]]] = {
    NAMESPACE + "RuntimeException": _RUNTIME[1:],
    NAMESPACE + "CommandNotFoundException": _RUNTIME,
    NAMESPACE + "ParseException": _RUNTIME,
    NAMESPACE + "PipelineStoppedException": _RUNTIME,
    NAMESPACE + "ActionPreferenceStopException": _RUNTIME,
    NAMESPACE + "ParameterBindingException": _RUNTIME,
    NAMESPACE + "ParameterBindingArgumentTransformationException": _BINDING,
    NAMESPACE + "ParameterBindingValidationException": _BINDING,
    NAMESPACE + "MetadataException": _RUNTIME,
    NAMESPACE + "ArgumentTransformationMetadataException": (NAMESPACE + "MetadataException", *_RUNTIME),
    NAMESPACE + "ValidationMetadataException": (NAMESPACE + "MetadataException", *_RUNTIME),
    NAMESPACE + "PSInvalidCastException": ("System.InvalidCastException", *_SYSTEM),
    NAMESPACE + "PSInvalidOperationException": ("System.InvalidOperationException", *_SYSTEM),
    NAMESPACE + "ParentContainsErrorRecordException": _SYSTEM,
    "Microsoft.PowerShell.Commands.WriteErrorException": _SYSTEM,
    "System.InvalidOperationException": _SYSTEM,
    "System.FormatException": _SYSTEM,
    "System.ArgumentException": _SYSTEM,
    "System.UnauthorizedAccessException": _SYSTEM,
    "System.TimeoutException": _SYSTEM,
    "System.IO.IOException": _SYSTEM,
    "System.IO.FileNotFoundException": ("System.IO.IOException", *_SYSTEM),
    "System.IO.DirectoryNotFoundException": ("System.IO.IOException", *_SYSTEM),
    "System.ComponentModel.Win32Exception": (
        "System.Runtime.InteropServices.ExternalException",
        *_SYSTEM,
    ),
}
_HRESULTS: Final = {
    "System.InvalidOperationException": -2146233079,
    "System.FormatException": -2146233033,
    NAMESPACE + "PSInvalidCastException": -2147467262,
    "System.UnauthorizedAccessException": -2147024891,
    "System.IO.IOException": -2146232800,
}


_FUNCTION: Final = Enum(NAMESPACE + "CommandTypes", "Function", 2)


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the engine knows of a running command: the source of InvocationInfo."""

    command: str
    definition: str = ""
    command_type: Enum = _FUNCTION
    bound: Mapping[str, Any] = field(default_factory=dict)
    history_id: int = 1
    pipeline_length: int = 1
    pipeline_position: int = 1


def error_record(
    error: SimulatedError,
    invocation: Invocation | None,
    *,
    details: Mapping[str, Any] | None = None,
    inner: Thing | None = None,
    invoked: bool = True,
    extended: bool = False,
    in_error_stream: bool = False,
) -> Thing:
    """An ErrorRecord.

    ``details`` are the exception's own properties (ParameterName, ErrorId, ...); ``invoked`` is false for a record that
    has no InvocationInfo (a command that was not found); ``extended`` adds what RemoteStreamOptions asks for;
    ``in_error_stream`` is true for an ERROR_RECORD message.
    """
    thrown = error.error_id == error.message and not details
    reason = error.exception_type.rpartition(".")[2]
    activity = _activity(error, invocation, thrown=thrown)
    target_name = "" if error.target is None else str(error.target)
    target_type = _type_name(error.target)
    error_id = error.error_id
    if invocation is not None and invoked and not thrown and "," not in error_id:
        error_id = f"{error_id},{invocation.command}"
    info = _invocation_info(invocation, thrown=thrown) if invocation is not None and invoked else None
    # Write-Error makes an exception and never raises it; neither does ``throw`` with a text.
    raised = not (thrown or in_error_stream or reason in ("WriteErrorException", "ParentContainsErrorRecordException"))
    shown = exception(error.exception_type, error.message, details or {}, inner, thrown=thrown, raised=raised)
    properties: list[tuple[str, Any]] = [
        ("Exception", shown),
        ("TargetObject", error.target),
        ("FullyQualifiedErrorId", error_id),
        ("InvocationInfo", info),
        ("ErrorCategory_Category", CATEGORIES.index(error.category)),
        ("ErrorCategory_Activity", activity),
        ("ErrorCategory_Reason", reason),
        ("ErrorCategory_TargetName", target_name),
        ("ErrorCategory_TargetType", target_type),
        (
            "ErrorCategory_Message",
            f"{error.category}: ({target_name}:{target_type}) [{activity}], {reason}",
        ),
        ("SerializeExtendedInfo", extended and info is not None),
    ]
    if extended and info is not None and invocation is not None:
        properties += _extended_invocation(invocation, info)
        properties.append(("PipelineIterationInfo", _readonly_integers((0, 1))))
    if info is not None and not details:
        properties.append(("ErrorDetails_ScriptStackTrace", "at <ScriptBlock>, <No file>: line 1"))
        if in_error_stream:
            properties.append(("PSMessageDetails", None))
    types = (NAMESPACE + "ErrorRecord", OBJECT)
    return Thing(types, text=error.message, extended=properties)


def exception(
    type_name: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    inner: Thing | None = None,
    *,
    thrown: bool = False,
    raised: bool = False,
) -> Thing:
    """An exception with the properties that its type has; one that was ``raised`` by the engine has a trace."""
    types = (type_name, *_BASES.get(type_name, ("System.Exception", OBJECT)))
    adapted: list[tuple[str, Any]] = list((details or {}).items())
    if NAMESPACE + "RuntimeException" in types or type_name == NAMESPACE + "PSInvalidCastException":
        adapted.append(("ErrorRecord", message))
    if NAMESPACE + "RuntimeException" in types:
        adapted.append(("WasThrownFromThrowStatement", thrown))
    if "Message" not in (details or {}):
        adapted.append(("Message", message))
    adapted += [
        ("Data", Thing(("System.Collections.ListDictionaryInternal", OBJECT), entries=[])),
        ("InnerException", inner),
        ("TargetSite", "Void Throw()" if raised else None),
        ("StackTrace", "   at System.Management.Automation.Internal.PipelineProcessor" if raised else None),
        ("HelpLink", None),
        ("Source", "System.Management.Automation" if raised else None),
        ("HResult", _HRESULTS.get(type_name, -2146233087)),
    ]
    return Thing(types, text=f"{type_name}: {message}", adapted=adapted)


def _activity(error: SimulatedError, invocation: Invocation | None, *, thrown: bool) -> str:
    if invocation is None or thrown:
        return ""
    if error.exception_type == "Microsoft.PowerShell.Commands.WriteErrorException":
        return "Write-Error"
    return invocation.command


def _type_name(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "Boolean"
        case str():
            return "String"
        case int():
            return "Int32"
        case _:
            return "PSObject"


def _invocation_info(invocation: Invocation, *, thrown: bool) -> Thing:
    dictionary = generic("System.Collections.Generic.Dictionary", "System.String", OBJECT)
    return Thing(
        (NAMESPACE + "InvocationInfo", OBJECT),
        text=NAMESPACE + "InvocationInfo",
        adapted=[
            ("MyCommand", None if thrown else invocation.command),
            ("BoundParameters", Thing((dictionary, OBJECT), entries=[])),
            ("UnboundArguments", generic_list((), OBJECT)),
            ("ScriptLineNumber", 0),
            ("OffsetInLine", 0),
            ("HistoryId", Int64(invocation.history_id)),
            ("ScriptName", ""),
            ("Line", ""),
            ("PositionMessage", ""),
            ("PSScriptRoot", ""),
            ("PSCommandPath", None),
            ("InvocationName", "" if thrown else invocation.command),
            ("PipelineLength", 0),
            ("PipelinePosition", 0),
            ("ExpectingInput", False),
            ("CommandOrigin", "Internal"),
            ("DisplayScriptPosition", None),
        ],
    )


def _extended_invocation(invocation: Invocation, info: Thing | None) -> list[tuple[str, Any]]:
    """The InvocationInfo_* and CommandInfo_* properties; from ``info`` for an error, with real values otherwise.

    A record of the verbose, warning and debug streams carries the bound parameters in clear: this is how a real host
    gives a SAS back to a client that asks for invocation information.
    """
    known = dict(info.adapted or ()) if info is not None else {}
    in_error = info is not None
    bound = known.get("BoundParameters") or Thing(
        (
            NAMESPACE + "PSBoundParametersDictionary",
            generic("System.Collections.Generic.Dictionary", "System.String", OBJECT),
            OBJECT,
        ),
        entries=list(invocation.bound.items()),
    )
    iteration: Sequence[int] = () if in_error else (0, invocation.pipeline_length)
    return [
        ("InvocationInfo_BoundParameters", bound),
        (
            "InvocationInfo_CommandOrigin",
            Enum(NAMESPACE + "CommandOrigin", *(("Internal", 1) if in_error else ("Runspace", 0))),
        ),
        ("InvocationInfo_ExpectingInput", False),
        ("InvocationInfo_InvocationName", known.get("InvocationName", invocation.command)),
        ("InvocationInfo_Line", ""),
        ("InvocationInfo_OffsetInLine", 0),
        ("InvocationInfo_HistoryId", Int64(invocation.history_id)),
        ("InvocationInfo_PipelineIterationInfo", array(iteration, "System.Int32")),
        ("InvocationInfo_PipelineLength", 0 if in_error else invocation.pipeline_length),
        ("InvocationInfo_PipelinePosition", 0 if in_error else invocation.pipeline_position),
        ("InvocationInfo_PSScriptRoot", ""),
        ("InvocationInfo_PSCommandPath", None),
        ("InvocationInfo_PositionMessage", ""),
        ("InvocationInfo_ScriptLineNumber", 0),
        ("InvocationInfo_ScriptName", ""),
        ("InvocationInfo_UnboundArguments", known.get("UnboundArguments") or generic_list((), OBJECT)),
        ("SerializeExtent", False),
        ("CommandInfo_CommandType", invocation.command_type),
        ("CommandInfo_Definition", invocation.definition),
        ("CommandInfo_Name", invocation.command),
        ("CommandInfo_Visibility", Enum(NAMESPACE + "SessionStateEntryVisibility", "Public", 0)),
    ]


def _readonly_integers(items: Sequence[int]) -> Thing:
    name = generic("System.Collections.ObjectModel.ReadOnlyCollection", "System.Int32")
    return Thing((name, OBJECT), items=items)


def informational_record(kind: str, message: str, invocation: Invocation | None) -> Thing:
    """A VerboseRecord, WarningRecord or DebugRecord (MS-PSRP 2.2.3.16); ``invocation`` where it was asked for."""
    extended: list[tuple[str, Any]] = [
        ("InformationalRecord_Message", message),
        ("InformationalRecord_SerializeInvocationInfo", invocation is not None),
    ]
    if invocation is not None:
        extended += _extended_invocation(invocation, None)
        extended.append(
            ("InformationalRecord_PipelineIterationInfo", _readonly_integers((0, invocation.pipeline_length)))
        )
    types = (f"{NAMESPACE}{kind}Record", NAMESPACE + "InformationalRecord", OBJECT)
    return Thing(types, text=message, extended=extended)


def progress_record(
    activity: str,
    status: str,
    *,
    percent: int,
    activity_id: int,
    parent_id: int,
    operation: str | None,
    seconds_remaining: int,
    completed: bool,
) -> Thing:
    """A ProgressRecord (MS-PSRP 2.2.2.25)."""
    kind = Enum(NAMESPACE + "ProgressRecordType", "Completed" if completed else "Processing", int(completed))
    return Thing(
        extended=[
            ("Activity", activity),
            ("ActivityId", activity_id),
            ("StatusDescription", status),
            ("CurrentOperation", operation),
            ("ParentActivityId", parent_id),
            ("PercentComplete", percent),
            ("Type", kind),
            ("SecondsRemaining", seconds_remaining),
        ]
    )


def information_record(
    data: Any, source: str, tags: Sequence[str], *, at: datetime, user: str, computer: str, process_id: int
) -> Thing:
    """An InformationRecord (MS-PSRP 2.2.2.26)."""
    return Thing(
        extended=[
            ("MessageData", data),
            ("Source", source),
            ("TimeGenerated", at),
            ("Tags", generic_list(tuple(tags), "System.String")),
            ("User", user),
            ("Computer", computer),
            ("ProcessId", Scalar("U32", str(process_id))),
            ("NativeThreadId", Scalar("U32", str(process_id + 20))),
            ("ManagedThreadId", Scalar("U32", "12")),
        ]
    )


def host_information_message(text: str, color: str | None) -> Thing:
    """What Write-Host writes to the information stream; ``color`` is null without a host."""
    return Thing(
        (NAMESPACE + "HostInformationMessage", OBJECT),
        text=text,
        adapted=[("Message", text), ("NoNewLine", False), ("ForegroundColor", color), ("BackgroundColor", color)],
    )


def pipeline_state(state: int, error: Thing | None = None) -> Thing:
    """PIPELINE_STATE (MS-PSRP 2.2.2.21): 3 Stopped, 4 Completed, 5 Failed."""
    extended: list[tuple[str, Any]] = [("PipelineState", state)]
    if error is not None:
        extended.append(("ExceptionAsErrorRecord", error))
    return Thing(extended=extended)


def runspace_pool_state(state: int) -> Thing:
    """RUNSPACEPOOL_STATE (MS-PSRP 2.2.2.2): 2 Opened, 3 Closed, 4 Closing."""
    return Thing(extended=[("RunspaceState", state)])


def host_call(identifier: int, method: Enum, parameters: Sequence[Any]) -> Thing:
    """PIPELINE_HOST_CALL (MS-PSRP 2.2.2.27)."""
    return Thing(
        extended=[
            ("ci", Int64(identifier)),
            ("mi", method),
            ("mp", Thing(("System.Collections.ArrayList", OBJECT), items=parameters)),
        ]
    )


def host_method(name: str, number: int) -> Enum:
    """A method of the client's host (MS-PSRP 2.2.3.17)."""
    return Enum(NAMESPACE + "Remoting.RemoteHostMethodId", name, number)


def application_private_data(build: str) -> Thing:
    """APPLICATION_PRIVATE_DATA of a Windows PowerShell 5.1 host; ``build`` as in ``14393.2248``."""
    dictionary = (NAMESPACE + "PSPrimitiveDictionary", "System.Collections.Hashtable", OBJECT)

    def version(text: str) -> Scalar:
        return Scalar("Version", text)

    compatible = [version(text) for text in ("1.0", "2.0", "3.0", "4.0", "5.0", f"5.1.{build}")]
    table = Thing(
        dictionary,
        entries=[
            ("PSVersion", version(f"5.1.{build}")),
            ("PSEdition", "Desktop"),
            ("PSCompatibleVersions", array(compatible, "System.Version")),
            ("CLRVersion", version("4.0.30319.42000")),
            ("BuildVersion", version(f"10.0.{build}")),
            ("WSManStackVersion", version("3.0")),
            ("PSRemotingProtocolVersion", version("2.3")),
            ("SerializationVersion", version("1.1.0.1")),
        ],
    )
    return Thing(extended=[("ApplicationPrivateData", Thing(dictionary, entries=[("PSVersionTable", table)]))])
