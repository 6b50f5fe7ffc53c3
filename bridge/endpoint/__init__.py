"""The privileged endpoint: sessions, commands, records, and the PowerShell text that becomes commands."""

from bridge.endpoint._commands import Command, Hashtable, Int64, Parameter, Value, value_to_json
from bridge.endpoint._records import ErrorDetail, Progress, Record, Stream

__all__ = [
    "Command",
    "ErrorDetail",
    "Hashtable",
    "Int64",
    "Parameter",
    "Progress",
    "Record",
    "Stream",
    "Value",
    "value_to_json",
]
