"""PowerShell text to the commands that a NoLanguage endpoint accepts, and the PEP scripts made of it."""

from __future__ import annotations

from bridge.endpoint.script._arguments import read_arguments, read_values
from bridge.endpoint.script._convert import convert_text
from bridge.endpoint.script._declared import Declared
from bridge.endpoint.script._judge import (
    Difference,
    compare_script_with_engine,
    compare_with_engine,
    parse_with_engine,
)
from bridge.endpoint.script._printer import format_command, format_commands, format_value
from bridge.endpoint.script._safety import Safety, allow_list, classify, needs_permission, unknown_commands
from bridge.endpoint.script._script import (
    Problem,
    Script,
    ScriptParameter,
    check_text,
    list_scripts,
    load_script,
    read_script,
)
from bridge.endpoint.script._values import convert_value

__all__ = [
    "Declared",
    "Difference",
    "Problem",
    "Safety",
    "Script",
    "ScriptParameter",
    "allow_list",
    "check_text",
    "classify",
    "compare_script_with_engine",
    "compare_with_engine",
    "convert_text",
    "convert_value",
    "format_command",
    "format_commands",
    "format_value",
    "list_scripts",
    "load_script",
    "needs_permission",
    "parse_with_engine",
    "read_arguments",
    "read_script",
    "read_values",
    "unknown_commands",
]
