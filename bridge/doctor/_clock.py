"""Whether this machine's clock and the stamp's agree, from the Date headers of whoever answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from statistics import median

from bridge.doctor._checks import Check, failed, passed, skipped, warned
from bridge.doctor._web import ClockSample

WARN_AFTER = timedelta(seconds=60)
"""Logs of the last minute would be missing, or asked for before they exist."""
FAIL_AFTER = timedelta(minutes=5)
"""Kerberos (RFC 4120, section 5.2.8 with Windows' default) and signed requests are refused from here on."""
_OURS = "Set this machine's clock: 'w32tm /resync' on Windows, 'chronyc makestep' or 'timedatectl' on Linux."
_THEIRS = (
    "The stamp's clock is wrong: give the window by that clock (--since and --until with an offset), and tell support:"
    " time synchronization of the stamp needs mending."
)


def judge_clock(samples: Sequence[ClockSample]) -> Check:
    """One check from all clocks that were seen."""
    name = "clock"
    if not samples:
        return skipped(name, "nobody answered with a time to compare with")
    evidence = ", ".join(f"{sample.source} {_ahead(sample.ahead)}" for sample in samples)
    worst = max(abs(sample.ahead) for sample in samples)
    if worst <= WARN_AFTER:
        return passed(name, f"agrees with this machine's: {evidence}")
    fix = _OURS if _is_ours(samples) else _THEIRS
    evidence = f"differs from this machine's: {evidence}"
    return failed(name, evidence, fix) if worst > FAIL_AFTER else warned(name, evidence, fix)


def _is_ours(samples: Sequence[ClockSample]) -> bool:
    """All others agree with one another: then it is this machine's clock that is wrong."""
    middle = timedelta(seconds=median(sample.ahead.total_seconds() for sample in samples))
    agree = all(abs(sample.ahead - middle) <= WARN_AFTER for sample in samples)
    independent = any(not sample.of_stamp for sample in samples)
    return agree and (independent or len(samples) > 1)


def _ahead(difference: timedelta) -> str:
    seconds = round(difference.total_seconds())
    if abs(seconds) <= 1:
        return "no difference"
    return f"{abs(seconds)} s {'ahead' if seconds > 0 else 'behind'}"
