"""The simulated stamp: what its endpoints' commands do, write and fail with."""

from bridge.simulator.stamp._alerts import Alert, AlertBoard
from bridge.simulator.stamp._commands import stamp_commands
from bridge.simulator.stamp._faults import FAULTS, FaultKind
from bridge.simulator.stamp._inventory import RESOURCE_PROVIDERS, ROLES, Inventory
from bridge.simulator.stamp._options import AlertEvent, StampOptions, parse_clock, parse_duration, parse_size
from bridge.simulator.stamp._stamp import SimulatedStamp
from bridge.simulator.stamp._state import CollectionRecord, CommandCall, StampState

__all__ = [
    "FAULTS",
    "RESOURCE_PROVIDERS",
    "ROLES",
    "Alert",
    "AlertBoard",
    "AlertEvent",
    "CollectionRecord",
    "CommandCall",
    "FaultKind",
    "Inventory",
    "SimulatedStamp",
    "StampOptions",
    "StampState",
    "parse_clock",
    "parse_duration",
    "parse_size",
    "stamp_commands",
]
