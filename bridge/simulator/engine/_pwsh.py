"""Finds a PowerShell that can serve a restricted session over stdin and stdout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from bridge.errors import PowerShellNotFoundError

_VARIABLE: Final = "PEP_BRIDGE_PWSH"
_OLDEST: Final = (7, 3)
"""The first with ``-ConfigurationFile`` beside ``-sshs`` (about_Pwsh)."""
_VERSION: Final = re.compile(r"PowerShell (\d+)\.(\d+)")
_ANSWER_S: Final = 60.0


def find_powershell() -> Path:
    """The program that ``PEP_BRIDGE_PWSH`` names, else ``pwsh`` on PATH; asked for its version.

    Raises:
        PowerShellNotFoundError: there is none, or it is too old, or it does not start.
    """
    named = os.environ.get(_VARIABLE)
    found = shutil.which(named or "pwsh")
    if found is None:
        detail = f"{_VARIABLE} names {named}, which cannot be run" if named else "there is no pwsh on PATH"
        raise PowerShellNotFoundError(detail=detail)
    try:
        done = subprocess.run(
            [found, "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PowerShellNotFoundError(detail=f"{found} could not be asked for its version: {error}") from error
    version = _VERSION.search(done.stdout)
    if version is None:
        said = (done.stdout + done.stderr).strip()[:200] or f"nothing, exit code {done.returncode}"
        raise PowerShellNotFoundError(detail=f"{found} is no PowerShell 7: asked for its version it said {said}")
    if (int(version[1]), int(version[2])) < _OLDEST:
        raise PowerShellNotFoundError(detail=f"{found} is {version[0]}, which takes no session configuration file")
    return Path(found)
