"""One run as this process drives it: what the journal knows of it, its places, and what is told of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.collection._events import Event, Landed, StateChanged, Warned
from bridge.collection._finish import Finished
from bridge.collection._journal import Journal, RunRecord
from bridge.collection._outcome import Outcome, exit_code_of, outcome_of
from bridge.collection._plan import PAYLOAD, written_place, written_secret
from bridge.collection._ports import Ports
from bridge.collection._request import Access, Place
from bridge.collection._settings import Settings
from bridge.collection._stamp_time import StampTime
from bridge.collection._states import RunState
from bridge.collection._watch import OutputFolder, Snapshot
from bridge.collection._work import Control
from bridge.errors import BridgeError, ExitCode, JournalError, StoreError
from bridge.secrets import Credential, Secret
from bridge.store import FolderTree, Store

_STOP_LOOK_S = 1.0
_TICK_S = 0.25
_MOST_WARNINGS = 200


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller asked for beside the request."""

    queue: bool = False
    detach: bool = False
    break_lock: bool = False
    take_up_what_came_later: bool = False


class RunContext:
    """What every phase of a run works with.

    ``run`` is the journal's record, renewed by ``move`` and ``note``; ``output`` is where the endpoint writes. A phase
    that cannot go on, and must not end the run, sets ``pause`` to what the process ends with. ``errors`` are told in
    the outcome.
    """

    def __init__(
        self,
        run: RunRecord,
        access: Access,
        journal: Journal,
        *,
        settings: Settings,
        ports: Ports,
        control: Control,
        on_event: Callable[[Event], None] | None,
        wishes: Wishes,
    ) -> None:
        self.run = run
        self.access = access
        self.journal = journal
        self.settings = settings
        self.ports = ports
        self.control = control
        self.wishes = wishes
        self.scrubber = access.scrubber()
        journal.keep_out(self.scrubber)
        self.errors: list[BridgeError] = []
        self.pause: ExitCode | None = None
        self.finished: Finished | None = None
        self.stamp_time = StampTime(lambda: ports.endpoint.clock(run.request.stamp), ports.now)
        self.output = OutputFolder(
            self.output_store, lambda: self.output_folder, on_change=self._tell_landed, on_trouble=self.warn
        )
        self._on_event = on_event
        self._telling = threading.Lock()
        self._stores: dict[str, Store] = {}
        self._warnings: list[str] = list(run.facts.get("warnings", []))
        self._told_once = set(self._warnings)
        self._stop_seen_at = 0.0
        self._stop_seen = False

    # -- the journal --------------------------------------------------------------------------------------------------

    def move(self, new: RunState, reason: str | None = None, **facts: Any) -> None:
        text = self.scrubber.text(reason) if reason else None
        self.run = self.journal.move(self.run.id, new, text, **facts)
        self.tell(StateChanged(run_id=self.run.id, state=new, reason=text))

    def fail(self, error: BridgeError) -> None:
        """Ends the run as failed, for a reason that is in ``errors``."""
        self.move(RunState.FAILED, str(error), error=self.scrubber.value(error.to_json()))

    def note(self, **facts: Any) -> None:
        self.journal.note(self.run.id, **facts)
        self.renew()

    def note_end(self, **facts: Any) -> None:
        """Notes how the collection has ended; with that a stop is answered, and the next request is a new one."""
        self.journal.note_end(self.run.id, **facts)
        self._stop_seen = False
        self.control.stop_is_answered()
        self.renew()

    def renew(self) -> None:
        """Reads the run again, which somebody else may have changed."""
        self.run = self.journal.run(self.run.id)

    @property
    def run_dir(self) -> Path:
        return run_folder(self.journal.state_dir, self.run.id)

    def may_be_on_the_stamp(self) -> bool:
        """Whether commands of this run may work there now: sent, or perhaps sent when a process was killed."""
        locked = self.run.state is RunState.LOCKED
        return self.run.state.is_collecting or (locked and bool(self.run.facts.get("session")))

    def may_have_locks(self) -> bool:
        """Whether locks may stand in this run's name though nothing was sent: a process that took them was killed."""
        return self.run.state in {RunState.PREFLIGHTED, RunState.LOCKED}

    def is_over(self, run_id: str) -> bool:
        """Whether this journal knows that a run has ended, and that nothing of it can be left on the stamp."""
        for run in self.journal.runs(stamp=self.run.stamp):
            if run.id == run_id:
                return run.state.is_final and not run.facts.get("on_stamp_until")
        return False

    # -- times --------------------------------------------------------------------------------------------------------

    def command_sent(self) -> datetime:
        sent = self.run.facts.get("command_sent")
        return datetime.fromisoformat(sent) if sent else self.run.created

    def latest_end(self, sent: datetime) -> datetime:
        """When a collection whose command was sent then has ended on the stamp, whatever becomes of it."""
        return sent + timedelta(minutes=self.run.request.timeout_minutes, seconds=self.settings.over_time_s)

    # -- places -------------------------------------------------------------------------------------------------------

    @property
    def output_folder(self) -> str:
        return f"{self.run.bundle_name}/{PAYLOAD}"

    def output_store(self) -> Store:
        """The place that the endpoint writes to."""
        return self.open(written_place(self.run.request), written_secret(self.run.request, self.access))

    def places(self) -> list[tuple[Place, Credential | Secret | None]]:
        request = self.run.request
        places: list[tuple[Place, Credential | Secret | None]] = [(request.destination, self.access.destination)]
        if request.staging is not None:
            places.append((request.staging, self.access.staging))
        return places

    def open(self, place: Place, secret: Credential | Secret | None) -> Store:
        if place.text not in self._stores:
            self._stores[place.text] = self.ports.open_store(place, secret)
        return self._stores[place.text]

    def remove_empty_bundle(self) -> None:
        """Where nothing arrived, no folder of the run is left either."""
        store = self.output_store()
        if not isinstance(store, FolderTree):
            return
        try:
            store.clear_folder(self.run.bundle_name)
        except StoreError as error:
            self.warn(f"the empty folder {self.run.bundle_name} could not be removed: {error}")

    def close_stores(self) -> None:
        for store in self._stores.values():
            with suppress(StoreError):
                store.close()

    # -- what is asked and told meanwhile -----------------------------------------------------------------------------

    def stop_asked(self) -> bool:
        """Whether the run is to be stopped: asked of this process, or by another one through the journal."""
        if self.control.stop_asked or self._stop_seen:
            return True
        if time.monotonic() - self._stop_seen_at >= _STOP_LOOK_S:
            self._stop_seen_at = time.monotonic()
            _, self._stop_seen = self.journal.state(self.run.id)
        return self._stop_seen

    def wait(self, seconds: float) -> bool:
        """Pauses; true as soon as the run is to be left or stopped, by whomever."""
        deadline = time.monotonic() + seconds
        while not (self.control.asked or self.stop_asked()):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(left_s, _TICK_S))
        return True

    def warn(self, text: str) -> None:
        text = self.scrubber.text(text)
        if text not in self._warnings and len(self._warnings) < _MOST_WARNINGS:
            self._warnings.append(text)
            with suppress(JournalError):  # it is told all the same; whatever must be written says so by itself
                self.journal.note(self.run.id, warnings=self._warnings)
        self.tell(Warned(run_id=self.run.id, text=text))

    def warn_once(self, text: str) -> None:
        """For what is found again whenever it is looked for."""
        if (said := self.scrubber.text(text)) not in self._told_once:
            self._told_once.add(said)
            self.warn(said)

    def tell(self, event: Event) -> None:
        if self._on_event is not None:
            with self._telling:
                self._on_event(event)

    def _tell_landed(self, snapshot: Snapshot) -> None:
        self.tell(
            Landed(run_id=self.run.id, files=snapshot.files, size_bytes=snapshot.size_bytes, roles=dict(snapshot.roles))
        )

    def outcome(self) -> Outcome:
        with suppress(JournalError):  # then the last warnings are missing here, and were told
            self.renew()
        code = self.pause if self.pause is not None else exit_code_of(self.run)
        return outcome_of(self.run, code, errors=tuple(self.errors), finished=self.finished)


def run_folder(state_dir: Path, run_id: str) -> Path:
    """Where a run keeps its session log and its documents until they are in the bundle."""
    return state_dir / "runs" / run_id


def written(moment: datetime) -> str:
    """A moment as facts of a run have it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
