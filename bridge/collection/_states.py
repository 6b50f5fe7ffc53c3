"""The states of a run and the only ways from one to the next."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from bridge.errors import ImpossibleTransitionError


class RunState(StrEnum):
    """Where a run stands; the journal has one for each run."""

    PLANNED = "planned"
    PREFLIGHTED = "preflighted"
    LOCKED = "locked"
    RUNNING = "running"
    DETACHED = "detached"
    SEALING = "sealing"
    DELIVERING = "delivering"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        return self in FINAL

    @property
    def is_on_the_stamp(self) -> bool:
        """Whether the endpoint may be working for this run."""
        return self in {RunState.LOCKED, RunState.RUNNING, RunState.DETACHED}

    @property
    def is_collecting(self) -> bool:
        """Whether its commands count as sent: only its endpoint or its output tell how it ends."""
        return self in {RunState.RUNNING, RunState.DETACHED}


FINAL = frozenset({RunState.DONE, RunState.PARTIAL, RunState.FAILED, RunState.STOPPED})

_GIVING_UP = frozenset({RunState.FAILED, RunState.STOPPED})
_ENDING = frozenset({RunState.DONE, RunState.PARTIAL}) | _GIVING_UP
_AGAIN = frozenset({RunState.SEALING, RunState.DELIVERING})

# A run that stages hashes and delivers in one pass: it goes from running to delivering, and its seal is part of that.
LEGAL: Mapping[RunState, frozenset[RunState]] = {
    RunState.PLANNED: frozenset({RunState.PREFLIGHTED}) | _GIVING_UP,
    RunState.PREFLIGHTED: frozenset({RunState.LOCKED}) | _GIVING_UP,
    RunState.LOCKED: frozenset({RunState.RUNNING}) | _GIVING_UP,
    RunState.RUNNING: frozenset({RunState.DETACHED, RunState.SEALING, RunState.DELIVERING}) | _GIVING_UP,
    RunState.DETACHED: frozenset({RunState.RUNNING}) | _GIVING_UP,
    RunState.SEALING: _ENDING,
    RunState.DELIVERING: _ENDING,
    # A bundle that was sealed while its collection might go on is sealed anew by `attach`, where it did.
    RunState.DONE: _AGAIN,
    RunState.PARTIAL: _AGAIN,
    # What failed after the stamp had done its part is tried again by `attach`: the payload is still there.
    RunState.FAILED: _AGAIN,
    RunState.STOPPED: _AGAIN,
}


def check_transition(run_id: str, old: RunState, new: RunState) -> None:
    """Raises:
    ImpossibleTransitionError: the table of legal ways has none from ``old`` to ``new``.
    """
    if new not in LEGAL[old]:
        raise ImpossibleTransitionError(run=run_id, old=str(old), new=str(new))
