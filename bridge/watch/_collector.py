"""Collections that a watch begins, by ``bridge.collection``; what became of one is looked up in the journal of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.collection import (
    Access,
    Consent,
    Control,
    Event,
    Journal,
    Outcome,
    Ports,
    Request,
    RunRecord,
    RunState,
    Settings,
    Trigger,
    Window,
    attach,
    collect,
)
from bridge.errors import BridgeError, JournalError, RunDrivenError, StampBusyError
from bridge.watch._core import Begun, Collect, Ended, Kind
from bridge.watch._loop import Result

_TRIGGERS: Mapping[Kind, Trigger] = {Kind.ALERT: "proactive", Kind.OFFLOAD: "offload"}
_GIVE_UP_AFTER = timedelta(hours=24)


class RunCollector:
    """Collects with one request, of which a collection's own window and reason are filled in.

    Args:
        request: stamp, destination and all that stays the same.
        consent: what was agreed to; it goes into each bundle.
        tidy: applies the retention of the rolling offload, after each piece of it.
    """

    def __init__(
        self,
        request: Request,
        access: Access,
        consent: Consent,
        *,
        state_dir: Path,
        settings: Settings | None = None,
        on_event: Callable[[Event], None] | None = None,
        tidy: Callable[[], tuple[str, ...]] = lambda: (),
        ports: Ports | None = None,
    ) -> None:
        self._request = replace(request, consent=consent)
        self._access = access
        self._state_dir = state_dir
        self._settings = settings
        self._on_event = on_event
        self._tidy = tidy
        self._ports = ports
        self._control = Control()

    def leave(self) -> None:
        """Leaves the collection under way working at the endpoint, and lets no other begin; any thread, any time."""
        self._control.detach()

    def collect(self, wanted: Collect) -> Result:
        request = replace(
            self._request,
            window=Window(*(_whole_second(moment) for moment in (wanted.since, wanted.until))),
            trigger=_TRIGGERS[wanted.kind],
        )
        try:
            outcome = collect(
                request,
                self._access,
                state_dir=self._state_dir,
                on_event=self._on_event,
                control=self._control,
                settings=self._settings,
                ports=self._ports,
            )
        except (StampBusyError, JournalError) as error:
            return Result(Ended.NOT_STARTED, errors=(error,))
        return self._result(outcome.run_id, datetime.now(UTC), outcome)

    def resume(self, begun: Begun) -> Result:
        run = self._run_of(begun)
        if run is None:
            return Result(Ended.NOT_STARTED)
        if run.state in {RunState.DONE, RunState.PARTIAL, RunState.STOPPED}:
            return self._result(run.id, begun.at, None)
        try:
            outcome = attach(
                run.id,
                self._access,
                state_dir=self._state_dir,
                on_event=self._on_event,
                control=self._control,
                settings=self._settings,
                ports=self._ports,
            )
        except (RunDrivenError, JournalError) as error:
            return Result(Ended.GOES_ON, run.id, errors=(error,))
        return self._result(run.id, begun.at, outcome)

    def tidy(self) -> tuple[str, ...]:
        return self._tidy()

    def _run_of(self, begun: Begun) -> RunRecord | None:
        """The newest run of this watch's kind that is not older than what was begun."""
        with Journal(self._state_dir) as journal:
            runs = journal.runs(stamp=self._request.stamp.name)
        trigger = _TRIGGERS[begun.kind]
        # A journal keeps milliseconds.
        later = (run for run in runs if run.created >= begun.at - timedelta(seconds=1))
        return next((run for run in later if run.request.trigger == trigger), None)

    def _result(self, run_id: str, begun_at: datetime, outcome: Outcome | None) -> Result:
        errors: tuple[BridgeError, ...] = outcome.errors if outcome else ()
        with Journal(self._state_dir) as journal:
            run = journal.run(run_id)
        bundle = run.facts.get("bundle") if run.facts.get("bundle_id") else None
        return Result(_how_it_ended(run, begun_at), run_id, bundle, errors)


def _how_it_ended(run: RunRecord, begun_at: datetime) -> Ended:
    if run.state in {RunState.DONE, RunState.PARTIAL}:
        return Ended.COLLECTED
    if not run.state.is_final:
        return Ended.GOES_ON
    young = datetime.now(UTC) - begun_at < _GIVE_UP_AFTER
    if run.failed_in in {RunState.SEALING, RunState.DELIVERING} and young:
        return Ended.GOES_ON  # the stamp has done its part: it is sealed or delivered again, not collected again
    return Ended.FAILED if run.facts.get("command_sent") else Ended.NOT_STARTED


def _whole_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
