"""What happens to one run of the soak: everything follows from the seed and the step."""

from __future__ import annotations

import random
from dataclasses import dataclass

WAYS = ("folder", "folder staged", "share", "share to container", "direct")

# What the stamp does wrong, by the registry's names. Faults of the payload leave a partial bundle at best.
_PAYLOAD_FAULTS = (
    "role-fails:any",
    "role-empty:any",
    "role-truncated:any",
    "role-hangs:any",
    "node-missing:AzS-SRNG02",
    "vm-off:AzS-SRNG01",
    "staging-disk-full:{percent}",
    "leaky-logs",
    "hostile-records",
    "hostile-names",
)
_LINE_FAULTS = (
    "connection-cut:{few}",
    "connection-stalls:{few}",
    "idle-close:1s",
    "disconnected-buffer:2KB",
    "disconnected-drop:2KB",
    "receive-cut:1s",
    "session-ends:{later}s",
    "no-enumeration",
    "ercs-dies:AzS-ERCS01@{moment}s",
    "ercs-dies:AzS-ERCS01@{moment}s-{later}s",
    "ercs-dies:AzS-ERCS02@{moment}s-{later}s",
    "ercs-refuses:AzS-ERCS01",
    "collection-outlives-session",
    "output-late:0.4s",
    "wrong-clock:-10m",
    "wrong-clock:10m",
    "other-collection-running:3s",
)
_REFUSALS = ("quota-exceeded", "access-denied", "no-such-configuration")
DISTURBANCES = (
    "kill",
    "kill",
    "kill",
    "term",
    "interrupt",
    "interrupt twice",
    "interrupt late",
    "pause",
    "stop",
    "nothing",
)
WEATHER = ("cut", "reset", "stall", "refuse", "swallow", "cut after", "share cut", "share refuse", "all refuse")
LONG_GUST_S = 5.0
"""Whole places are away for longer than a client's patience with a stall, and with a line."""
CLOCKS_MIN = (0, 0, 0, -600, 20)
"""What the rival's clock shows beside the true time. None is so far ahead that the other's collection would be over."""
COPIES = ("", "", "folder", "share", "container")


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What is done to the client ``delay_s`` after it was started; ``lasts_s``: a pause, or between interrupts."""

    kind: str
    delay_s: float
    lasts_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Gust:
    """What the line does ``at_s`` after the beginning of the run, and for how long."""

    kind: str
    at_s: float
    lasts_s: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run with all its bad luck."""

    seed: int
    step: int
    way: str
    faults: tuple[str, ...]
    stamp_seed: int
    duration_s: float
    detach: bool
    race: bool
    disturbances: tuple[Disturbance, ...]
    weather: tuple[Gust, ...]
    rival_clock_min: int = 0
    copy_to: str = ""
    """Where two processes bring the finished bundle at once; empty: it is not copied."""
    copy_killed_after_s: float | None = None

    def __str__(self) -> str:
        parts = [
            f"{self.way} of {self.duration_s} s",
            *self.faults,
            *(f"{each.kind}@{each.delay_s:.2f}" for each in self.disturbances),
        ]
        parts += [f"line {gust.kind}@{gust.at_s:.2f}" for gust in self.weather]
        parts += ["detach"] * self.detach
        parts += [f"race (clock {self.rival_clock_min:+} min)"] * self.race
        parts += [f"copied twice at once to a {self.copy_to}"] * bool(self.copy_to)
        return ", ".join(parts)


def make_plan(seed: int, step: int) -> RunPlan:
    """The plan of one step; the same for the same numbers."""
    dice = random.Random(f"{seed}/{step}")
    way = dice.choice(WAYS)
    faults = _faults(dice, way)
    # Control characters in blob names break the emulator's own listing.
    copies = [each for each in COPIES if each != "container" or "hostile-names" not in faults]
    return RunPlan(
        seed=seed,
        step=step,
        way=way,
        faults=faults,
        stamp_seed=dice.choice((7, 8)),
        duration_s=dice.choice((1.0, 1.0, 3.5)),
        detach=dice.random() < 0.2,
        race=dice.random() < 0.2,
        disturbances=tuple(
            Disturbance(dice.choice(DISTURBANCES), dice.uniform(0.3, 3.5), dice.uniform(0.3, 3.0))
            for _ in range(dice.choice((0, 1, 1, 2, 3)))
        ),
        weather=tuple(sorted((_gust(dice) for _ in range(dice.choice((0, 0, 1, 2, 4)))), key=lambda gust: gust.at_s)),
        rival_clock_min=dice.choice(CLOCKS_MIN),
        copy_to=dice.choice(copies),
        copy_killed_after_s=dice.choice((None, dice.uniform(0.5, 2.0))),
    )


def _gust(dice: random.Random) -> Gust:
    kind = dice.choice(WEATHER)
    longer_s = LONG_GUST_S if kind in {"share refuse", "all refuse"} else 0.0
    return Gust(kind, dice.uniform(0.5, 6.0), longer_s + dice.uniform(0.2, 3.0), dice.randrange(200, 60_000))


def _faults(dice: random.Random, way: str) -> tuple[str, ...]:
    if dice.random() < 0.03:
        return (dice.choice(_REFUSALS),)
    kinds = dice.sample(_PAYLOAD_FAULTS, dice.choice((0, 0, 0, 1, 2)))
    kinds += dice.sample(_LINE_FAULTS, dice.choice((0, 1, 1, 2, 3)))
    if "collection-outlives-session" in kinds:  # what hangs for longer than the patience would be sealed too early
        kinds = [kind for kind in kinds if not kind.startswith("role-hangs")]
    if "disconnected-drop:2KB" in kinds:  # what is left drops or blocks
        kinds = [kind for kind in kinds if kind != "disconnected-buffer:2KB"]
    if way == "direct":  # control characters in blob names break the emulator's own listing
        kinds = [kind for kind in kinds if kind != "hostile-names"]
    moment = dice.uniform(1.0, 5.0)
    texts = (
        kind.format(
            percent=dice.randrange(10, 90),
            few=dice.randrange(1, 9),
            moment=round(moment, 2),
            later=round(moment + dice.uniform(0.5, 6.0), 2),
        )
        for kind in kinds
    )
    by_name = {text.split(":")[0]: text for text in texts}  # two outages would contradict each other
    return tuple(by_name.values())
