"""How long bundles are kept: what a place holds, which of it may go, and removing it so that nothing half is left."""

from bridge.retention._inventory import find_bundles, find_half_removed
from bridge.retention._policy import Held, Limits, Verdict, judge, read_limits
from bridge.retention._prune import Elsewhere, Pruned, prune
from bridge.retention._remove import finish_removals, remove_bundle

__all__ = [
    "Elsewhere",
    "Held",
    "Limits",
    "Pruned",
    "Verdict",
    "find_bundles",
    "find_half_removed",
    "finish_removals",
    "judge",
    "prune",
    "read_limits",
    "remove_bundle",
]
