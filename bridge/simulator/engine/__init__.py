"""A real PowerShell behind the simulated endpoint's front, where one is installed."""

from bridge.simulator.engine._pwsh import find_powershell
from bridge.simulator.engine._session import EngineHost, EngineSession, PowerShellEngine

__all__ = ["EngineHost", "EngineSession", "PowerShellEngine", "find_powershell"]
