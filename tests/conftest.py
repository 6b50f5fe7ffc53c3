"""What every test may ask for."""

from __future__ import annotations

import os
import shutil

import hypothesis
import pytest

# How long an example takes says nothing on a machine that others use too.
hypothesis.settings.register_profile(
    "shared-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared-machine")

pytest_plugins = ["tests.support.fixtures_servers"]


@pytest.fixture(scope="session")
def pwsh() -> str:
    """The PowerShell engine that judges: ``PEP_BRIDGE_PWSH``, else ``pwsh`` on PATH."""
    found = os.environ.get("PEP_BRIDGE_PWSH") or shutil.which("pwsh")
    if not found:
        pytest.skip("not run: no PowerShell engine (set PEP_BRIDGE_PWSH, or put pwsh on PATH)")
    return found
