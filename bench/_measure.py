"""Runs programs and says what they cost: wall time, CPU time and peak memory of the client alone."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cost:
    """One run."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


@dataclass
class Contender:
    """A program that does the same work as the others of its table."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    most_runs: int | None = None
    """For one that takes very long: fewer runs than the others, as its line of the table then says."""
    costs: list[Cost] = field(default_factory=list)
    problem: str | None = None

    def run(self, programs: Path, log: Path) -> None:
        """Runs it once under ``measure``; a failure is kept, and ends its part in the table."""
        if self.problem is not None:
            return
        outcome = log.with_suffix(".cost")
        outcome.unlink(missing_ok=True)
        with log.open("wb") as output:
            subprocess.run(
                [programs / "measure", outcome, *(str(word) for word in self.command)],
                env={**_as_installed(programs), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=True,
            )
        status, wall_s, cpu_s, peak_bytes = outcome.read_text().split()
        if status != "0":
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
            self.problem = f"exit code {status}: {last[0][:160]}"
            return
        self.costs.append(Cost(float(wall_s), float(cpu_s), int(peak_bytes)))

    def median(self) -> Cost:
        return Cost(
            statistics.median(cost.wall_s for cost in self.costs),
            statistics.median(cost.cpu_s for cost in self.costs),
            max(cost.peak_bytes for cost in self.costs),
        )


def _as_installed(programs: Path) -> dict[str, str]:
    """The environment, with a place for Python's bytecode: a tool that is installed has its own."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(programs / "bytecode")}


def interleave(contenders: Sequence[Contender], runs: int, programs: Path, log: Path) -> None:
    """Every contender once, then all again: a busy moment of the machine hits all alike. A first round warms up."""
    for number in range(runs + 1):
        for contender in contenders:
            if contender.most_runs is not None and len(contender.costs) >= contender.most_runs:
                continue
            contender.run(programs, log)
            if number == 0 and contender.most_runs is None:
                contender.costs.clear()


def table(title: str, contenders: Sequence[Contender], size_bytes: int, *, base: str, files: int) -> str:
    """The medians as Markdown, with ratios to the base line."""
    lines = [
        f"### {title}",
        "",
        f"{files:,} files, {size_bytes / 2**20:,.0f} MiB. Ratios are to *{base}*.",
        "",
        "| program | wall s | spread s | MiB/s | wall ratio | CPU s/GiB | CPU ratio | peak MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    reference = next((one.median() for one in contenders if one.name == base and one.costs), None)
    for contender in contenders:
        if not contender.costs:
            lines.append(f"| {contender.name} | not run: {contender.problem} | | | | | | |")
            continue
        cost = contender.median()
        name = contender.name
        if contender.most_runs is not None:
            name += f" ({len(contender.costs)} run{'s' if len(contender.costs) > 1 else ''}, not warmed up)"
        walls = [one.wall_s for one in contender.costs]
        wall_ratio = f"{cost.wall_s / reference.wall_s:.2f}" if reference else ""
        cpu_ratio = f"{cost.cpu_s / reference.cpu_s:.2f}" if reference and reference.cpu_s else ""
        lines.append(
            f"| {name} | {cost.wall_s:.2f} | {min(walls):.2f} to {max(walls):.2f} "
            f"| {size_bytes / 2**20 / cost.wall_s:,.0f} | {wall_ratio} | {cost.cpu_s / (size_bytes / 2**30):.2f} "
            f"| {cpu_ratio} | {cost.peak_bytes / 2**20:.0f} |"
        )
    return "\n".join(lines) + "\n"
