"""The two commands of the recorded NoLanguage session (real-powershell/session.pssc), for the simulated one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bridge.simulator import CommandContext, CommandSpec, Int64, ParameterSpec, SimulatedError

SWITCH = "System.Management.Automation.SwitchParameter"
MODES = ("ok", "nonterm", "term", "throw", "slow", "objects", "info", "types", "cred")


def _ok(context: CommandContext, bound: Mapping[str, Any]) -> None:
    for number in range(1, 4):
        context.write_progress(
            "Collecting",
            f"role {number} of 3",
            percent=number * 33,
            activity_id=1,
            operation="Storage",
            seconds_remaining=3 - number,
        )
    context.write_progress("Collecting", "Processing", activity_id=1, completed=True)
    context.write_warning("One node did not answer")
    context.write_output("done")


def _nonterm(context: CommandContext, bound: Mapping[str, Any]) -> None:
    context.write_error(
        SimulatedError(
            "Role X failed",
            "RoleFailed",
            "ResourceUnavailable",
            "Microsoft.PowerShell.Commands.WriteErrorException",
            "X",
        )
    )
    context.write_output("after")


def _term(context: CommandContext, bound: Mapping[str, Any]) -> None:
    context.write_output("before")
    target = bound.get("OutputSharePath", "")
    raise SimulatedError(
        "cannot reach share", "ShareUnreachable", "OpenError", "System.InvalidOperationException", target
    )


def _throw(context: CommandContext, bound: Mapping[str, Any]) -> None:
    context.write_output("before")
    raise SimulatedError("plain throw", "plain throw", "OperationStopped", target="plain throw")


def _slow(context: CommandContext, bound: Mapping[str, Any]) -> None:
    for tick in range(bound.get("Seconds", 1) * 10):
        context.write_progress("Collecting", f"tick {tick}", percent=min(100, tick))
        time.sleep(0.1)
    context.write_output("finished")


def _objects(context: CommandContext, bound: Mapping[str, Any]) -> None:
    for number in range(1, 4):
        context.write_output(
            {
                "Role": f"R{number}",
                "Bytes": Int64(1073741824 * number),
                "When": datetime(2024, 3, 12, 8, tzinfo=UTC),
                "Ok": True,
            }
        )


def _info(context: CommandContext, bound: Mapping[str, Any]) -> None:
    context.write_information("an information record", tags=("tag1",))
    context.write_information("host text", from_host=True)
    context.write_debug("dbg")


def _types(context: CommandContext, bound: Mapping[str, Any]) -> None:
    roles = bound.get("FilterByRole", [])
    since = bound.get("FromDate", datetime.now(UTC))
    context.write_output(f"share={bound.get('OutputSharePath', '')}")
    context.write_output(f"roles={'+'.join(roles)}/{len(roles)}")
    context.write_output(f"from={since.isoformat()}")
    context.write_output(f"dump={bound.get('IncludeDumpFile', False)}")
    context.write_output(f"nodes={'+'.join(bound.get('FilterByNode', []))}")
    context.write_output(f"sas={bound.get('OutputSasUri', '')}")


def _cred(context: CommandContext, bound: Mapping[str, Any]) -> None:
    credential = bound.get("OutputShareCredential")
    if credential is None:
        context.write_output("no credential")
    else:
        context.write_output(f"user={credential.username} pwlen={len(credential.password)}")


def _get_azure_stack_log(context: CommandContext, bound: Mapping[str, Any]) -> None:
    context.write_verbose("Starting collection")
    action = {
        "ok": _ok,
        "nonterm": _nonterm,
        "term": _term,
        "throw": _throw,
        "slow": _slow,
        "objects": _objects,
        "info": _info,
        "types": _types,
        "cred": _cred,
    }[bound.get("Mode", "ok")]
    action(context, bound)


def _write_many(context: CommandContext, bound: Mapping[str, Any]) -> None:
    for number in range(1, bound.get("Count", 1000) + 1):
        context.write_output({"Role": f"R{number}", "Bytes": number, "Path": f"\\\\nas\\drop\\{number}"})


GET_AZURE_STACK_LOG = CommandSpec(
    "Get-AzureStackLog",
    _get_azure_stack_log,
    (
        ParameterSpec("OutputSharePath", "System.String"),
        ParameterSpec("OutputShareCredential", "System.Management.Automation.PSCredential"),
        ParameterSpec("OutputSasUri", "System.Uri"),
        ParameterSpec("FilterByRole", "System.String[]"),
        ParameterSpec("FilterByNode", "System.String[]"),
        ParameterSpec("FromDate", "System.DateTime"),
        ParameterSpec("ToDate", "System.DateTime"),
        ParameterSpec("IncludeDumpFile", SWITCH),
        ParameterSpec("Mode", "System.String", validate_set=MODES),
        ParameterSpec("Seconds", "System.Int32"),
    ),
)
WRITE_MANY = CommandSpec("Write-Many", _write_many, (ParameterSpec("Count", "System.Int32"),))
RECORDED_COMMANDS = (GET_AZURE_STACK_LOG, WRITE_MANY)
