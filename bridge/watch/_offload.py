"""The retention of the rolling offload: of all bundles in a place, only what the watch put there unasked may go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from bridge.collection import Journal, Request
from bridge.retention import Elsewhere, Limits, Pruned, prune
from bridge.store import Store


def tidy_offload(
    request: Request,
    limits: Limits,
    *,
    state_dir: Path,
    open_store: Callable[[], Store],
    now: datetime,
) -> Pruned:
    """Removes what is over the limits, of what the rolling offload of this stamp collected to this destination.

    A bundle that somebody asked for, one that an alert led to, and one that this machine's journal does not know,
    neither goes nor counts. No copy elsewhere is needed: that pieces are dropped is what a rolling offload is.

    Args:
        open_store: opens the destination of the request; the store is closed here.

    Raises:
        JournalError: the journal cannot be read.
        StoreError: the destination cannot be opened or listed.
    """
    with Journal(state_dir) as journal:
        rolling = {
            run.bundle_name
            for run in journal.runs(stamp=request.stamp.name)
            if run.request.trigger == "offload" and run.request.destination.location == request.destination.location
        }
    store = open_store()
    try:
        return prune(
            store,
            limits,
            now=now,
            elsewhere=Elsewhere(lambda _name: (), lambda _place: store),
            only=lambda held: held.name in rolling,
            force=True,
            act=True,
        )
    finally:
        store.close()
