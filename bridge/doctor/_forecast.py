"""How much a collection will bring and how long it takes: from the stamp's own history, else the vendor's figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bridge.collection import DOCUMENTED_ROLES, Request, RunRecord, RunState

_GIB = 1024**3
_AVERAGE_BYTES = 2 * _GIB
"""An automatic collection on average (best practices 07/2019; "Diagnostic log collection")."""
_EXAMPLE_BYTES = 8 * _GIB
"""The article's example of a collection on demand ("Diagnostic log collection", 09/2021)."""
_AVERAGE_HOURS = 4.0
_FEW_RUNS = 3


@dataclass(frozen=True, slots=True)
class Spread:
    """What to expect and between which bounds; ``None`` where nobody can say."""

    typical: float | None
    low: float | None
    high: float

    def times(self, factor: float) -> Spread:
        typical, low = (None if value is None else value * factor for value in (self.typical, self.low))
        return Spread(typical, low, self.high * factor)

    def to_json(self) -> dict[str, Any]:
        rounded = ((name, getattr(self, name)) for name in ("typical", "low", "high"))
        return {name: None if value is None else round(value) for name, value in rounded}


@dataclass(frozen=True, slots=True)
class Forecast:
    """``size`` in bytes, ``duration`` in seconds until the bundle is sealed."""

    size: Spread
    duration: Spread
    basis: str

    def line_time(self, bits_per_s: int) -> Spread:
        """Seconds that the bytes need on a line of that rate."""
        return self.size.times(8 / bits_per_s)

    def to_json(self) -> dict[str, Any]:
        return {
            "size_bytes": self.size.to_json(),
            "duration_s": self.duration.to_json(),
            "basis": self.basis,
        }


def make_forecast(request: Request, runs: Iterable[RunRecord]) -> Forecast:
    """Looks among the runs of the same stamp for those with the same filters, then for any, then at the vendor's."""
    ended = [run for run in runs if _tells_something(run)]
    same = [run for run in ended if _filters(run.request) == _filters(request)]
    hours = _hours(request)
    if same:
        count = f"{len(same)} earlier collection{'s' if len(same) > 1 else ''}"
        return _from_runs(
            same, lambda run: hours / _hours(run.request), f"{count} of this stamp with the same filters, by hours"
        )
    if ended:
        weight = hours * _role_count(request)
        basis = (
            f"{len(ended)} earlier collection(s) of this stamp with other filters, scaled by hours and roles (rough)"
        )
        return _from_runs(ended, lambda run: weight / (_hours(run.request) * _role_count(run.request)), basis)
    return _from_the_vendor(request, hours)


def _from_runs(runs: Sequence[RunRecord], scale: Any, basis: str) -> Forecast:
    sizes = [float(run.facts["size_bytes"]) * scale(run) for run in runs]
    durations = [(run.ended - run.created).total_seconds() * scale(run) for run in runs if run.ended is not None]
    return Forecast(_spread(sizes), _spread(durations), basis)


def _spread(values: Sequence[float]) -> Spread:
    """The median between the extremes; of few values at least between the half and the double."""
    middle = median(values)
    low, high = min(values), max(values)
    if len(values) < _FEW_RUNS:
        low, high = min(low, middle / 2), max(high, middle * 2)
    return Spread(middle, low, high)


def _from_the_vendor(request: Request, hours: float) -> Forecast:
    factor = hours / _AVERAGE_HOURS
    basis = (
        "the vendor's figures (2 GiB for an automatic collection, 8 GiB as the example of one on demand), scaled by the"
        " hours of the window; this stamp has no history"
    )
    low: float | None = _AVERAGE_BYTES / 2
    if request.roles or request.nodes or request.log_types or request.resource_providers:
        low = None
        basis += "; with filters it will be less, and no public figure says how much"
    size = Spread(_AVERAGE_BYTES, low, _EXAMPLE_BYTES).times(factor)
    # No public figure of a whole Get-AzureStackLog run exists: its own time limit is all that can be said.
    return Forecast(size, Spread(None, None, request.timeout_minutes * 60.0), basis)


def _tells_something(run: RunRecord) -> bool:
    good = run.state in {RunState.DONE, RunState.PARTIAL}
    return good and run.ended is not None and bool(run.facts.get("size_bytes"))


def _filters(request: Request) -> tuple[Any, ...]:
    lists = (request.roles, request.nodes, request.log_types, request.resource_providers)
    return (*(frozenset(name.casefold() for name in names) for names in lists), request.dump_files)


def _hours(request: Request) -> float:
    return request.window.length.total_seconds() / 3600


def _role_count(request: Request) -> int:
    return len(request.roles) or len(DOCUMENTED_ROLES)
