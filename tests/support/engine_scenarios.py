"""Commands that are put to both engines of the simulated endpoint, and what is compared of the answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pypsrp.complex_objects import GenericComplexObject, PSInvocationState
from pypsrp.exceptions import WinRMError
from pypsrp.powershell import PowerShell

from bridge.simulator import CommandContext, CommandSpec, Int64, ParameterSpec, SimulatedError
from tests.support.recorded_commands import RECORDED_COMMANDS, SWITCH

STOPPED: list[str] = []
"""Calls of Wait-Stop that saw their stop."""


def _values(context: CommandContext, bound: Mapping[str, Any]) -> None:
    for value in (
        None,
        "",
        "plain",
        "tab\tnewline\r\nnul\x00escape\x1b",
        "Grüße, 日本, 😀, _x0041_, <&>\"'",
        -7,
        Int64(7),
        2**40,
        1.5,
        True,
        datetime(2024, 3, 12, 8, 30, 15, 123456, tzinfo=UTC),
        ["a", {"C": 2}],  # pypsrp misreads a list inside a list
        {"PSTypeName": "Contoso.Disk", "Name": "one", "Parts": [{"Size": Int64(5)}, {"Size": 6}], "None": None},
    ):
        context.write_output(value)


def _echo(context: CommandContext, bound: Mapping[str, Any]) -> None:
    for name in sorted(bound):
        context.write_output(f"{name}={_shown(bound[name])}")


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return f"{type(value).__name__} {value!r}"


def _wait(context: CommandContext, bound: Mapping[str, Any]) -> None:
    context.write_output("waiting")
    if context.stopping.wait(60):
        STOPPED.append(context.session_id)


def _many_errors(context: CommandContext, bound: Mapping[str, Any]) -> None:
    kinds = ("System.IO.FileNotFoundException", "System.UnauthorizedAccessException", "System.TimeoutException")
    for number, kind in enumerate(kinds):
        context.write_error(
            SimulatedError(f"problem {number}", f"Problem{number}", "ReadError", kind, f"target {number}")
        )
    context.write_output("on")


def _defect(context: CommandContext, bound: Mapping[str, Any]) -> None:
    raise KeyError("a defect")


def _name(context: CommandContext, bound: Mapping[str, Any]) -> None:
    context.write_output(f"{context.machine} {context.username} {len(context.session_id)}")


def _loud(context: CommandContext, bound: Mapping[str, Any]) -> None:
    context.write_progress("Outer", "step", percent=10, activity_id=3)
    context.write_progress("Inner", "s", percent=50, activity_id=4, parent_id=3, operation="op", seconds_remaining=9)
    context.write_progress("Inner", "done", activity_id=4, completed=True)
    context.write_warning("a warning")
    context.write_verbose("a detail")
    context.write_debug("a finding")
    context.write_information("an information", tags=("one", "two"))
    context.write_information("to the host", from_host=True)


COMMANDS = (
    *RECORDED_COMMANDS,
    CommandSpec("Get-Value", _values),
    CommandSpec(
        "Show-Argument",
        _echo,
        (
            ParameterSpec("Text", "System.String", position=0),
            ParameterSpec("Number", "System.Int32", position=1),
            ParameterSpec("Long", "System.Int64"),
            ParameterSpec("Names", "System.String[]", aliases=("Alias",)),
            ParameterSpec("When", "System.DateTime"),
            ParameterSpec("Flag", SWITCH),
            ParameterSpec("Choice", "System.String", validate_set=("one", "it's two")),
            ParameterSpec("Secret", "System.Management.Automation.PSCredential"),
        ),
    ),
    CommandSpec("Show-Input", _echo, (ParameterSpec("InputObject", "System.String", from_pipeline=True),)),
    CommandSpec("Show-Must", _echo, (ParameterSpec("Name", "System.String", mandatory=True),)),
    CommandSpec("Wait-Stop", _wait),
    CommandSpec("Write-ManyErrors", _many_errors),
    CommandSpec("Invoke-Defect", _defect),
    CommandSpec("Get-Place", _name),
    CommandSpec("Write-Loud", _loud),
)


def ask(pool: Any, *commands: tuple[str, dict[str, Any]], **how: Any) -> dict[str, Any]:
    """Runs the commands as statements and tells everything that came back, but no texts of the engine's own."""
    shell = PowerShell(pool)
    for number, (name, parameters) in enumerate(commands):
        if number:
            shell.add_statement()
        shell.add_cmdlet(name).add_parameters(parameters)
    return run(shell, **how)


def run(shell: Any, **how: Any) -> dict[str, Any]:
    """Runs a pipeline to its end."""
    try:
        shell.invoke(remote_stream_options=0, **how)
    except WinRMError:  # pypsrp raises what ended a pipeline; it is in the error stream too
        if shell.state != PSInvocationState.FAILED:
            raise
    return answer(shell)


def answer(shell: Any) -> dict[str, Any]:
    """Everything that a pipeline has said."""
    streams = shell.streams
    return {
        "state": shell.state,
        "output": [plain(value) for value in shell.output],
        "errors": [_error(error) for error in streams.error],
        "warning": [record.message for record in streams.warning],
        "verbose": [record.message for record in streams.verbose],
        "debug": [record.message for record in streams.debug],
        "information": [_information(record) for record in streams.information],
        "progress": [_progress(record) for record in streams.progress],
    }


def plain(value: Any) -> Any:
    """A value of pypsrp as something that compares."""
    if isinstance(value, GenericComplexObject):
        properties = {**value.adapted_properties, **value.extended_properties}
        properties.pop("StandardDeviation", None)  # of Measure-Object since 6.0
        return list(value.types), {name: plain(item) for name, item in properties.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _error(error: Any) -> dict[str, Any]:
    names = ("fq_error", "category", "activity", "reason", "target_name", "target_type")
    found = {name: getattr(error, name) for name in names}
    own = not str(error.fq_error).startswith(
        ("NamedParameter", "ParameterArg", "Ambiguous", "CommandNotFound", "Missing")
    )
    return found | ({"message": error.message} if own else {})


def _information(record: Any) -> tuple[Any, ...]:
    data = record.message_data
    text = data.adapted_properties.get("Message") if isinstance(data, GenericComplexObject) else data
    return text, record.source, tuple(record.tags)


def _progress(record: Any) -> tuple[Any, ...]:
    return (
        record.activity,
        record.activity_id,
        record.description,
        record.current_operation,
        record.parent_activity_id,
        record.percent_complete,
        record.seconds_remaining,
        str(record.progress_type),
    )


def until(condition: Any, seconds: float = 30.0) -> bool:
    """Whether the condition holds within that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
