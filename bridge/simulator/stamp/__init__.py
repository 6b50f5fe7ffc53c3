"""The simulated stamp: what its endpoints' commands do, write and fail with."""

from bridge.simulator.stamp._alerts import Alert, AlertBoard
from bridge.simulator.stamp._commands import stamp_commands
from bridge.simulator.stamp._faults import STAMP_FAULTS, FaultKind
from bridge.simulator.stamp._inventory import RESOURCE_PROVIDERS, ROLES, Inventory
from bridge.simulator.stamp._options import AlertEvent, StampOptions, parse_duration, parse_size
from bridge.simulator.stamp._state import CollectionRecord, CommandCall, StampState

__all__ = [
    "RESOURCE_PROVIDERS",
    "ROLES",
    "STAMP_FAULTS",
    "Alert",
    "AlertBoard",
    "AlertEvent",
    "CollectionRecord",
    "CommandCall",
    "FaultKind",
    "Inventory",
    "StampOptions",
    "StampState",
    "parse_duration",
    "parse_size",
    "stamp_commands",
]
