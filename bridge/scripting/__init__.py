"""Scripted sessions: a PEP script is checked, permitted, run on an endpoint, recorded, and its session closed."""

from bridge.scripting._check import CheckResult, check_file, find_engine
from bridge.scripting._permission import Checked, check_commands, needs_naming, require_permission
from bridge.scripting._record import SessionRecord
from bridge.scripting._session import ClosedWith, ScriptOutcome, run_script

__all__ = [
    "CheckResult",
    "Checked",
    "ClosedWith",
    "ScriptOutcome",
    "SessionRecord",
    "check_commands",
    "check_file",
    "find_engine",
    "needs_naming",
    "require_permission",
    "run_script",
]
