"""Runs plan after plan on shared servers, judges each, and keeps count."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.soak.judge import judge, payload_of
from tests.soak.plan import RunPlan, make_plan
from tests.soak.world import Figures, Lab, ViolationError, World, undisturbed


@dataclass
class Tally:
    """The figures of a soak."""

    runs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    wall_s: float = 0.0

    def add(self, plan: RunPlan, figures: Figures, states: list[str]) -> None:
        self.runs += 1
        self.outcomes.update(states or ["nothing begun"])
        self.ways[plan.way] += 1
        self.faults.update(fault.split(":")[0] for fault in plan.faults)
        self.actions.update(asdict(figures))
        self.actions["races"] += plan.race

    def __str__(self) -> str:
        lines = [f"{self.runs} runs in {self.wall_s:.0f} s, {len(self.violations)} violations"]
        for title, counts in (
            ("outcomes", self.outcomes),
            ("ways", self.ways),
            ("done to them", self.actions),
            ("faults of the stamp", self.faults),
        ):
            lines.append(f"  {title}")
            lines += [f"    {name:28} {number:6}" for name, number in sorted(counts.items())]
        return "\n".join([*lines, *self.violations, self.summary])

    @property
    def summary(self) -> str:
        """The soak in one sentence."""
        states = ", ".join(f"{number} {state}" for state, number in sorted(self.outcomes.items()))
        done = self.actions
        return (
            f"summary: {self.runs} runs in {self.wall_s / 60:.1f} min ({states}); {done['clients']} client processes,"
            f" {done['kills']} kills, {done['signals']} signals, {done['pauses']} pauses, {done['stops']} stops,"
            f" {done['cuts']} cuts of the line, {done['races']} races, {done['copies']} bundles copied by two at once,"
            f" {sum(self.faults.values())} faults of the stamp; {done['sealed_anew']} bundles sealed anew,"
            f" {done['bundles_verified_again']} verified"
            f" again at rest, {done['roles_held_against_the_truth']} roles held against the truth;"
            f" {len(self.violations)} violations"
        )


class Soak:
    """Runs plans on shared servers and judges each."""

    def __init__(self, lab: Lab, folder: Path, *, keep: bool = False) -> None:
        self._lab = lab
        self._folder = folder
        self._keep = keep
        self._references: dict[int, dict[str, str]] = {}
        self._making = threading.Lock()
        self._telling = threading.Lock()
        self.tally = Tally()

    def run(self, plan: RunPlan) -> None:
        """One run; a broken promise is told with what reproduces it, and counted."""
        world = None
        try:
            reference = self._reference(plan)
            world = World(plan, self._folder / f"{plan.seed}-{plan.step}", self._lab)
            began = time.monotonic()
            with world.lived_through() as stamp:
                runs = judge(world, stamp, reference)
        except Exception as error:  # anything unexpected counts as a broken promise, and the next run goes on
            text = f"VIOLATION --seed {plan.seed} --only {plan.step} ({plan}): {type(error).__name__}: {error}"
            with self._telling:
                self.tally.add(plan, world.figures if world is not None else Figures(), ["violation"])
                self.tally.violations.append(text)
                print(text, flush=True)
            return
        states = [str(run.state) for run in runs]
        with self._telling:
            self.tally.add(plan, world.figures, states)
            print(f"{plan.step:5} {time.monotonic() - began:6.1f} s  {'+'.join(states):16} {plan}", flush=True)
        if not self._keep:
            shutil.rmtree(world.root)
            shutil.rmtree(world.share_path, ignore_errors=True)

    def _reference(self, plan: RunPlan) -> dict[str, str]:
        with self._making:
            if plan.stamp_seed not in self._references:
                world = World(undisturbed(plan), self._folder / f"calm-{plan.stamp_seed}", self._lab)
                with world.lived_through() as stamp:
                    [run] = judge(world, stamp, None)
                    if run.state != "done":
                        raise ViolationError(f"an undisturbed run ended {run.state}: {run.reason}")
                    self._references[plan.stamp_seed] = payload_of(world, run)
            return self._references[plan.stamp_seed]


def steps_until(deadline: float, seed: int) -> Iterator[RunPlan]:
    """Plans, one after the other, as long as there is time."""
    step = 0
    while time.monotonic() < deadline:
        yield make_plan(seed, step)
        step += 1


def soak_all(soak: Soak, plans: Iterator[RunPlan], *, workers: int) -> None:
    """Runs the plans, several at once."""
    taking = threading.Lock()

    def work() -> None:
        while True:
            with taking:
                plan = next(plans, None)
            if plan is None:
                return
            soak.run(plan)

    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(work) for _ in range(workers)]:
            future.result()
