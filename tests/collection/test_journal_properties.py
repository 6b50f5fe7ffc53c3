"""Whatever is asked of the journal, in any order, reopened at any time: a run is in a state that it can be in."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from bridge.collection import LEGAL, Journal, RunState
from bridge.errors import ImpossibleTransitionError, StampBusyError
from tests.support.runs import make_request

LIVE = {RunState.LOCKED, RunState.RUNNING, RunState.DETACHED}
STAMPS = ("azs-one", "azs-two")


class JournalMachine(RuleBasedStateMachine):
    """The journal beside a model of it: a dictionary."""

    runs = Bundle("runs")

    @initialize()
    def open_it(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.journal = Journal(Path(self.folder.name))
        self.model: dict[str, RunState] = {}
        self.stamp_of: dict[str, str] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.story: dict[str, list[RunState]] = {}

    def busy(self, stamp: str, but: str = "") -> bool:
        return any(self.stamp_of[run] == stamp and state in LIVE for run, state in self.model.items() if run != but)

    @rule(target=runs, stamp=st.sampled_from(STAMPS))
    def create(self, stamp: str) -> str:
        name = f"run-{len(self.model):04d}"
        request = make_request(Path(self.folder.name) / "b")
        request = make_request(Path(self.folder.name) / "b", stamp=type(request.stamp)(stamp, request.stamp.endpoints))
        if self.busy(stamp):
            with pytest.raises(StampBusyError):
                self.journal.create(name, request, name)
            return "none"
        self.journal.create(name, request, name)
        self.model[name], self.stamp_of[name], self.facts[name] = RunState.PLANNED, stamp, {}
        self.story[name] = [RunState.PLANNED]
        return name

    @rule(run=runs, new=st.sampled_from(list(RunState)), number=st.integers())
    def move(self, run: str, new: RunState, number: int) -> None:
        if run not in self.model:
            return
        if new not in LEGAL[self.model[run]]:
            with pytest.raises(ImpossibleTransitionError):
                self.journal.move(run, new, number=number)
        elif new is RunState.LOCKED and self.busy(self.stamp_of[run], run):
            with pytest.raises(StampBusyError):
                self.journal.move(run, new, number=number)
        else:
            moved = self.journal.move(run, new, number=number)
            if new is RunState.FAILED:
                assert moved.failed_in is self.model[run]
            self.model[run] = new
            self.facts[run]["number"] = number
            self.story[run].append(new)

    @rule(run=runs, key=st.sampled_from("abc"), value=st.none() | st.integers() | st.text(max_size=5))
    def note(self, run: str, key: str, value: Any) -> None:
        if run not in self.model:
            return
        self.journal.note(run, **{key: value})
        self.facts[run][key] = value

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = Journal(Path(self.folder.name))

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "journal"):
            return
        assert {run.id: run.state for run in self.journal.runs()} == self.model
        for run_id, facts in self.facts.items():
            run = self.journal.run(run_id)
            assert run.facts == {key: value for key, value in facts.items() if value is not None}
            assert [step.name for step in run.steps if step.status == "state"] == self.story[run_id]
            assert (run.ended is not None) == run.state.is_final
        for stamp in STAMPS:
            assert sum(self.stamp_of[run] == stamp and state in LIVE for run, state in self.model.items()) <= 1

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            self.folder.cleanup()


JournalMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestJournalMachine = JournalMachine.TestCase


def test_every_state_leads_to_an_end() -> None:
    for state in RunState:
        seen, front = {state}, {state}
        while front:
            front = {new for old in front for new in LEGAL[old]} - seen
            seen |= front
        assert any(each.is_final for each in seen)


def test_after_its_end_a_run_is_taken_up_again_for_its_bundle_only() -> None:
    again = {RunState.SEALING, RunState.DELIVERING}
    assert all(LEGAL[state] == again for state in RunState if state.is_final)
