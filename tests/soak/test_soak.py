"""The first steps of the soak: runs with random faults keep every promise."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.support.azurite import Azurite
from tests.support.samba import Samba

if sys.platform != "win32":
    from tests.soak.soak import Soak, soak_all, steps_until
    from tests.soak.world import Lab

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="not run: Windows has no smbd and no SIGKILL"),
    pytest.mark.timeout(600),
    pytest.mark.slow,
]
SEED = 2
SECONDS = 20.0
"""How long new runs are begun; those that are under way are finished."""


def test_runs_with_random_faults_keep_every_promise(samba: Samba, azurite: Azurite, tmp_path: Path) -> None:
    soak = Soak(Lab(samba, azurite), tmp_path)
    soak_all(soak, steps_until(time.monotonic() + SECONDS, SEED), workers=2)
    assert soak.tally.violations == []
    assert soak.tally.runs >= 2
