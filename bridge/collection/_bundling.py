"""The bundle: sealed where it stands, or delivered and sealed in one pass, and what becomes of a staging copy."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress

from bridge.collection._context import RunContext
from bridge.collection._deliver import note_failure
from bridge.collection._finish import Finished, Finisher
from bridge.collection._outcome import facts_of
from bridge.collection._plan import PAYLOAD, Way, choose_way
from bridge.collection._states import RunState
from bridge.collection._work import cancelling
from bridge.errors import (
    BridgeError,
    DeliveryFailedError,
    InterruptedRunError,
    JournalError,
    SourceMismatchError,
    StoreError,
    UnsafePathError,
)
from bridge.store import Entry, FolderTree, Store


class Bundling:
    """The states sealing and delivering."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def seal(self) -> None:
        context = self._context
        bundle = context.output_store().at(context.run.bundle_name)
        direct = choose_way(context.run.request) is Way.DIRECT
        with context.journal.step(context.run.id, "seal"), cancelling(lambda: context.control.asked) as cancel:
            finished = self._finisher(cancel).seal_in_place(bundle, may_be_unreadable=direct)
        self._end_with(finished, bundle.location)

    def deliver(self) -> None:
        context = self._context
        name, journal = context.run.bundle_name, context.journal
        staging = context.output_store().at(name)
        target = context.open(context.run.request.destination, context.access.destination).at(name)
        journal.note_delivery(name, target.location, "begun", run_id=context.run.id)
        asked = _Asked(context)
        try:
            with journal.step(context.run.id, "deliver"), cancelling(asked) as cancel:
                finished = self._finisher(cancel).deliver_and_seal(staging, target, journal.state_dir)
        except InterruptedRunError:
            if not (asked.to_stop or context.control.wait_for_stop(context.settings.second_thoughts_s)):
                raise
            journal.note_delivery(name, target.location, "failed", error="it was stopped")
            self._give_the_delivery_up(staging)
            return
        except (DeliveryFailedError, SourceMismatchError, StoreError) as error:
            note_failure(journal, name, target.location, error, context.warn)
            self._secure_staging(staging)
            raise DeliveryFailedError(
                store=target.location,
                source=staging.location,
                detail=str(error),
                fix=f"When it is mended: 'pep-bridge attach {context.run.id}'. {error.advice}",
            ) from error
        journal.note_delivery(name, target.location, "done")
        self._finisher(threading.Event()).forget_delivery(journal.state_dir)
        if context.run.request.remove_staging:
            self._remove_staging(staging, target)
        else:
            context.note(staging=staging.location)
        self._end_with(finished, target.location)

    def _remove_staging(self, staging: Store, target: Store) -> None:
        """Removes the staging copy with its folders. The bundle is delivered: what stands in the way of this is said,
        and does not fail the run. What was left out of the delivery has no other copy: then all stays."""
        context = self._context
        place, location = context.output_store(), staging.location
        if context.run.facts.get("end", {}).get("how", "ended") != "ended":
            context.warn(f"the staging copy is kept ({location}): the collection may still write to it")
            context.note(staging=location)
            return
        unsafe: list[UnsafePathError] = []
        try:
            with context.journal.step(context.run.id, "remove the staging copy"):
                delivered = {entry.path: entry.size_bytes for entry in target.list()}
                entries = list(staging.list(on_unsafe=unsafe.append))
                left = [error.fields["path"] for error in unsafe]
                left += [entry.path for entry in entries if not _is_delivered(entry, delivered)]
                if not left:
                    for entry in entries:
                        self._raise_if_left()
                        staging.remove(entry.path)
                    if isinstance(place, FolderTree):
                        place.clear_folder(context.run.bundle_name)
        except StoreError as error:
            context.warn(f"the staging copy is delivered, but could not be removed from {location}: {error}")
            context.note(staging=location)
            return
        if left:
            context.warn(
                f"the staging copy is kept ({location}): {len(left)} of its files were not delivered, "
                f"such as {left[0]}; look at them there and remove it by hand"
            )
            context.note(staging=location)
        else:
            context.note(staging_removed=location)

    def _raise_if_left(self) -> None:
        """The removal of very many files can be left, and is gone on with by ``attach``; who asks to stop wants what is
        not needed any more to go as well: the bundle is delivered, and half a copy would be no use to anybody."""
        if self._context.control.detach_asked and not self._context.stop_asked():
            raise InterruptedRunError(
                detail="the bundle is delivered, its staging copy is not removed yet",
                fix=f"Go on with 'pep-bridge attach {self._context.run.id}'.",
            )

    def _give_the_delivery_up(self, staging: Store) -> None:
        """A run that was stopped while it delivered ends with the bundle that lies in its staging place."""
        context = self._context
        context.control.stop_is_answered()
        self._secure_staging(staging)
        if context.finished is None:
            raise DeliveryFailedError(
                store=context.run.request.destination.location,
                source=staging.location,
                detail="it was stopped, and the staging copy could not be sealed",
                fix=f"When it is mended: 'pep-bridge attach {context.run.id}'.",
            )
        context.note_end()
        context.note(staging=staging.location)
        context.move(RunState.STOPPED, "stopped while it was delivered: the bundle is in its staging place")

    def _secure_staging(self, staging: Store) -> None:
        """A delivery that cannot be finished leaves a bundle all the same: the staging copy is sealed. That may take
        long on its line, and can be left."""
        context = self._context
        try:
            with (
                context.journal.step(context.run.id, "seal the staging copy"),
                cancelling(lambda: context.control.asked) as cancel,
            ):
                finished = self._finisher(cancel).seal_in_place(staging)
        except BridgeError as error:
            context.warn(f"the staging copy could not be sealed: {error}")
            return
        context.finished = finished
        context.note(bundle=staging.location, **facts_of(finished))

    def _end_with(self, finished: Finished, location: str) -> None:
        context = self._context
        context.finished = finished
        end = context.run.facts.get("end", {}).get("state")
        if end == "stopped":
            state = RunState.STOPPED
        elif finished.complete and end in {"completed", "lost"} and not finished.unchecked_files:
            state = RunState.DONE
        else:
            state = RunState.PARTIAL
        context.move(state, bundle=location, **facts_of(finished))

    def _finisher(self, cancel: threading.Event) -> Finisher:
        context = self._context
        context.renew()
        return Finisher(
            run=context.run,
            run_dir=context.run_dir,
            settings=context.settings,
            scrubber=context.scrubber,
            assess=context.ports.assess,
            emit=context.tell,
            warn=context.warn,
            warn_once=context.warn_once,
            cancel=cancel,
        )


def _is_delivered(entry: Entry, delivered: Mapping[str, int]) -> bool:
    """Whether a file of the staging copy is there as it is now: one of the payload may have grown since. The bundle's
    own files may differ between its two copies."""
    size_bytes = delivered.get(entry.path)
    return size_bytes == entry.size_bytes or (size_bytes is not None and not entry.path.startswith(f"{PAYLOAD}/"))


class _Asked:
    """Whether a delivery is to be left or stopped, and which of the two it was."""

    def __init__(self, context: RunContext) -> None:
        self.to_stop = False
        self._context = context

    def __call__(self) -> bool:
        with suppress(JournalError):  # whatever must be written there says so by itself
            self.to_stop = self._context.stop_asked()
        return self.to_stop or self._context.control.detach_asked
