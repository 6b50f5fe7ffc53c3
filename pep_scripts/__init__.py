"""The PowerShell files that the bridge sends; they are data, found by ``bridge.endpoint.script``."""

from __future__ import annotations
