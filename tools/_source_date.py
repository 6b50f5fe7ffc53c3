"""When the sources were last changed: the one date that what is built from them carries."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path


def source_date(root: Path) -> datetime:
    """When the sources were last changed: ``SOURCE_DATE_EPOCH``, else the last commit, else 1980 (as in a zip)."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        command = ["git", "log", "-1", "--format=%ct"]
        asked = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        given = asked.stdout.strip() if asked.returncode == 0 else ""
    return datetime.fromtimestamp(int(given), UTC) if given else datetime(1980, 1, 1, tzinfo=UTC)
