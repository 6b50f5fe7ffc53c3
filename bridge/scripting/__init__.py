"""Scripted sessions: a PEP script is checked, permitted, run on an endpoint, recorded, and its session closed."""

from bridge.scripting._arguments import gather_arguments, known_secrets, secret_variable
from bridge.scripting._check import CheckResult, check_file, find_engine
from bridge.scripting._permission import check_commands, needs_naming, require_known, require_permission, safety_of
from bridge.scripting._record import SessionRecord
from bridge.scripting._session import ClosedWith, Closing, Control, ScriptOutcome, close_session, run_script

__all__ = [
    "CheckResult",
    "ClosedWith",
    "Closing",
    "Control",
    "ScriptOutcome",
    "SessionRecord",
    "check_commands",
    "check_file",
    "close_session",
    "find_engine",
    "gather_arguments",
    "known_secrets",
    "needs_naming",
    "require_known",
    "require_permission",
    "run_script",
    "safety_of",
    "secret_variable",
]
