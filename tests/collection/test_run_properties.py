"""Whatever an operator does, in whatever order, while whatever fails: one collection at a time, and no run is lost."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.bundle import Verdict, verify
from bridge.collection import (
    Access,
    Control,
    Event,
    Journal,
    Outcome,
    Place,
    RunState,
    StateChanged,
    attach,
    collect,
    stop,
)
from bridge.collection._lock import LOCK_FOLDER
from bridge.errors import ExitCode, StampBusyError
from bridge.secrets import Credential, Secret
from bridge.store import FolderStore
from tests.support.fake_endpoint import FakeEndpoint, fake_ports
from tests.support.runs import PASSWORD, QUICK, make_request

ACCESS = Access(Credential("AZURESTACK\\CloudAdmin", Secret(PASSWORD)))


class KilledError(BaseException):
    """The process dies here: nothing that catches errors catches this."""


class RunMachine(RuleBasedStateMachine):
    """Collect, detach, attach, stop, lose the session, die at a state: on one stamp with one journal."""

    @initialize(staged=st.booleans())
    def begin(self, *, staged: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.endpoint = FakeEndpoint({"Storage-1.zip": b"s" * 50, "ACS-1.zip": b"a" * 50})
        self.staging = Place.parse(str(self.root / "near")) if staged else None
        self.state_dir = self.root / "state"
        self.started = 0

    def do(self, verb: str, *, die_in: RunState | None = None, detach: bool = False) -> Outcome | None:
        def die(event: Event) -> None:
            if isinstance(event, StateChanged) and event.state is die_in:
                raise KilledError

        options = {"state_dir": self.state_dir, "settings": QUICK, "ports": fake_ports(self.endpoint)}
        try:
            if verb == "collect":
                request = make_request(self.root / "far", staging=self.staging)
                return collect(request, ACCESS, on_event=die, detach=detach, control=Control(), **options)  # type: ignore[arg-type]
            run = self.open_run()
            if verb == "stop":
                return stop(run, ACCESS, on_event=die, **options)  # type: ignore[arg-type]
            return attach(run, ACCESS, on_event=die, **options)  # type: ignore[arg-type]
        except KilledError:
            return None

    def open_run(self) -> str:
        return next(iter(self.open_runs()))

    def open_runs(self) -> list[str]:
        with Journal(self.state_dir) as journal:
            return [run.id for run in journal.runs() if not run.state.is_final]

    @rule(die_in=st.none() | st.sampled_from(list(RunState)), detach=st.booleans(), holds=st.booleans())
    def collect(self, *, die_in: RunState | None, detach: bool, holds: bool) -> None:
        if holds and (detach or die_in is RunState.RUNNING):
            self.endpoint.may_write.clear()
        try:
            self.do("collect", die_in=die_in, detach=detach)
        except StampBusyError:
            assert self.open_runs()
        finally:
            self.endpoint.may_write.set()

    @precondition(lambda self: bool(self.open_runs()))
    @rule(die_in=st.none() | st.sampled_from(list(RunState)))
    def attach(self, die_in: RunState | None) -> None:
        self.do("attach", die_in=die_in)

    @precondition(lambda self: bool(self.open_runs()))
    @rule()
    def stop(self) -> None:
        outcome = self.do("stop")
        assert outcome is not None
        assert outcome.state.is_final

    @rule()
    def lose_the_session_soon(self) -> None:
        self.endpoint.lose_after_records = 1

    @rule()
    def let_the_stamp_cool_down(self) -> None:
        """Five minutes pass, for the journal and for the lock beside the bundles."""
        with Journal(self.state_dir) as journal, journal._transaction() as connection:
            connection.execute("DELETE FROM cool_downs")
        if not self.open_runs():
            for side in ("near", "far"):
                for entry in list(FolderStore(self.root / side).list(LOCK_FOLDER)):
                    (self.root / side / entry.path).unlink()

    @invariant()
    def one_collection_at_a_time(self) -> None:
        if hasattr(self, "endpoint"):
            assert sum(each.end is None for each in self.endpoint.collections.values()) <= 1

    @invariant()
    def what_is_done_is_sealed_and_proven(self) -> None:
        if not hasattr(self, "endpoint") or not self.state_dir.exists():
            return
        with Journal(self.state_dir) as journal:
            for run in journal.runs():
                if run.state in {RunState.DONE, RunState.PARTIAL}:
                    report = verify(FolderStore(Path(run.facts["bundle"])))
                    assert report.verdict is Verdict.VERIFIED, report.findings
                    assert report.bundle_id == run.facts["bundle_id"]

    def teardown(self) -> None:
        if not hasattr(self, "endpoint"):
            return
        self.endpoint.lose_after_records = None
        for _ in range(10):
            if not self.state_dir.exists() or not self.open_runs():
                break
            outcome = self.do("attach")
            assert outcome is not None
            assert outcome.state.is_final or outcome.exit_code is not ExitCode.OK
        else:
            pytest.fail("a run does not end")
        self.endpoint.join()
        self.folder.cleanup()


RunMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRunMachine = pytest.mark.slow(RunMachine.TestCase)
