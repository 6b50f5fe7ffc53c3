"""The privileged endpoint: sessions, commands, records, and the PowerShell text that becomes commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.endpoint._commands import Command, Hashtable, Int64, NumberLiteral, Parameter, Value, value_to_json
from bridge.endpoint._records import ErrorDetail, Progress, Record, Stream

if TYPE_CHECKING:
    from bridge.endpoint._faults import error_for
    from bridge.endpoint._line import LineEvent, LineState, SessionOptions
    from bridge.endpoint._opening import attach, end_session, open_session
    from bridge.endpoint._pipeline import Outcome, PipelineState, SessionIds
    from bridge.endpoint._probes import (
        CommandInfo,
        Identity,
        ParameterInfo,
        check_tcp,
        identify,
        list_commands,
    )
    from bridge.endpoint._session import EndpointSession, Pipeline
    from bridge.endpoint._survey import LiveShell, MachineReport, live_shells, survey

__all__ = [
    "Command",
    "CommandInfo",
    "EndpointSession",
    "ErrorDetail",
    "Hashtable",
    "Identity",
    "Int64",
    "LineEvent",
    "LineState",
    "LiveShell",
    "MachineReport",
    "NumberLiteral",
    "Outcome",
    "Parameter",
    "ParameterInfo",
    "Pipeline",
    "PipelineState",
    "Progress",
    "Record",
    "SessionIds",
    "SessionOptions",
    "Stream",
    "Value",
    "attach",
    "check_tcp",
    "end_session",
    "error_for",
    "identify",
    "list_commands",
    "live_shells",
    "open_session",
    "survey",
    "value_to_json",
]

# The names that need pypsrp and psrpcore are loaded when they are first asked for: a script is read without them.
_LAZY = {
    "CommandInfo": "_probes",
    "EndpointSession": "_session",
    "Identity": "_probes",
    "LineEvent": "_line",
    "LineState": "_line",
    "LiveShell": "_survey",
    "MachineReport": "_survey",
    "Outcome": "_pipeline",
    "ParameterInfo": "_probes",
    "Pipeline": "_session",
    "PipelineState": "_pipeline",
    "SessionIds": "_pipeline",
    "SessionOptions": "_line",
    "attach": "_opening",
    "check_tcp": "_probes",
    "end_session": "_opening",
    "error_for": "_faults",
    "identify": "_probes",
    "list_commands": "_probes",
    "live_shells": "_survey",
    "open_session": "_opening",
    "survey": "_survey",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
