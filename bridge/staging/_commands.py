"""From a PowerShell file and its parameters to one command line, and from what it prints to its answer."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from bridge.errors import StagingError, UsageError

LONGEST_COMMAND_LINE = 8191
"""What cmd.exe takes, which WinRS starts programs with (Microsoft Learn, "Command prompt line string limitation")."""

_START = "powershell.exe -NoProfile -NonInteractive -EncodedCommand "
_HELP = re.compile(r"\A\s*<#.*?#>\s*", re.DOTALL)
_ANSWER = re.compile(r"^ANSWER ([A-Za-z0-9+/=]+)\s*$", re.MULTILINE)
_LARGEST_ANSWER = 1_000_000


def command_line(script: str, request: Mapping[str, Any]) -> str:
    """The command line that runs one of the scripts of this folder.

    Args:
        script: its name, without ``.ps1``.
        request: values by parameter name; they travel as Base64 of JSON and are never read as code.

    Raises:
        UsageError: the values are too long for a command line of Windows.
    """
    values = {name: value for name, value in request.items() if value is not None}
    encoded = base64.b64encode(json.dumps(values).encode()).decode("ascii")
    text = _read("Invoke-Request").replace("REQUEST", encoded).replace("SCRIPT", _read(script))
    line = _START + base64.b64encode(text.encode("utf-16-le")).decode("ascii")
    if len(line) > LONGEST_COMMAND_LINE:
        raise UsageError(
            detail=f"The values make a command line of {len(line)} characters; Windows takes {LONGEST_COMMAND_LINE}.",
            fix="Use shorter names, or fewer addresses.",
        )
    return line


def read_answer(host: str, stdout: bytes, stderr: bytes, exit_code: int) -> Any:
    """What the script returned.

    Raises:
        StagingError: it failed, or printed something else.
    """
    found = _ANSWER.search(stdout[-_LARGEST_ANSWER:].decode("ascii", "replace"))
    try:
        answer = json.loads(base64.b64decode(found[1], validate=True)) if found else None
    except (ValueError, binascii.Error):
        answer = None
    if not isinstance(answer, dict):
        said = stderr[:500].decode("utf-8", "replace").strip() or "nothing"
        raise StagingError(host=host, detail=f"PowerShell ended with {exit_code} and said: {said}")
    if "Error" in answer:
        raise StagingError(host=host, detail=f"{answer['Error']} ({answer.get('Id')})")
    return answer.get("Result")


def _read(script: str) -> str:
    """A script without its help and its indentation: the command line is short. None holds a here-string."""
    text = resources.files(__package__ or "").joinpath(f"{script}.ps1").read_text(encoding="utf-8")
    lines = (line.strip() for line in _HELP.sub("", text).splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))
