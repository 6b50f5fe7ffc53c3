"""A bundle that was sealed while its collection might go on, and did: what came later is taken up, and sealed anew."""

from __future__ import annotations

from bridge.bundle import DECLARATION
from bridge.collection._context import RunContext, written
from bridge.collection._journal import RunRecord
from bridge.collection._plan import Way, choose_way
from bridge.collection._states import RunState
from bridge.collection._watch import Waited, wait_for_output
from bridge.errors import InterruptedRunError, StoreNotFoundError
from bridge.store import Store

_REASON = "more has arrived since it was sealed"


def has_something_to_do(run: RunRecord) -> bool:
    """Whether ``attach`` may find something to do: it goes on, its bundle failed, or more may have arrived since."""
    return not run.state.is_final or has_failed_bundle(run) or may_have_grown(run)


def has_failed_bundle(run: RunRecord) -> bool:
    """Whether it failed after the stamp had done its part: the payload is still there."""
    return run.state is RunState.FAILED and run.failed_in in {RunState.SEALING, RunState.DELIVERING}


def may_have_grown(run: RunRecord) -> bool:
    """Whether a bundle was sealed though its collection was not seen to end."""
    return run.state.is_final and bool(run.facts.get("on_stamp_until")) and bool(run.facts.get("bundle_id"))


def reopen(context: RunContext) -> None:
    """Where more lies in the payload than was sealed, its end is waited for, and the run goes back to its sealing. A
    bundle of which something is missing, or with nothing new, is left as it is.

    Raises:
        InterruptedRunError: the operator leaves meanwhile; nothing was changed.
        StoreError: the place cannot be seen.
    """
    if not _has_grown(context):
        return
    context.warn("more has arrived since the bundle was sealed: it is sealed anew, under another bundle id")
    waited = wait_for_output(
        context.output,
        poll_s=context.settings.watch_s,
        still_s=context.settings.stall_s,
        deadline_s=context.settings.late_s + context.settings.stall_s,
        interrupted=context.wait,
        from_now=True,
    )
    if waited is Waited.INTERRUPTED:
        raise InterruptedRunError(
            detail="the bundle is not sealed anew", fix=f"Go on with 'pep-bridge attach {context.run.id}'."
        )
    staged = choose_way(context.run.request) is Way.STAGED
    name, request = context.run.bundle_name, context.run.request
    for place, secret in ((request.destination, context.access.destination), (request.staging, context.access.staging)):
        if place is not None:
            _unseal(context.open(place, secret).at(name))
    ended = {"on_stamp_until": None, "end": {**context.run.facts["end"], "how": str(waited)}}
    context.move(
        RunState.DELIVERING if staged else RunState.SEALING,
        _REASON,
        sealed=written(context.ports.now()),
        **(ended if waited is Waited.ENDED else {}),
    )


def _has_grown(context: RunContext) -> bool:
    context.output.look()
    snapshot, facts = context.output.snapshot, context.run.facts
    files, size_bytes = snapshot.files + len(snapshot.unsafe), snapshot.size_bytes
    sealed_files, sealed_bytes = facts.get("file_count", 0), facts.get("size_bytes", 0)
    return files >= sealed_files and size_bytes >= sealed_bytes and (files, size_bytes) != (sealed_files, sealed_bytes)


def _unseal(bundle: Store) -> None:
    try:
        bundle.remove(DECLARATION)
    except StoreNotFoundError:
        return  # it was removed by an attempt that was killed
