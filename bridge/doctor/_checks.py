"""What the doctor says: a check with its state, evidence and fix, and the diagnosis that they make together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bridge.errors import BridgeError, ExitCode, StoreAccessError

_LONGEST_EVIDENCE = 1000


class CheckState(StrEnum):
    """``failed``: a collection would not start, or come to nothing. ``warning``: it would start all the same."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: ``evidence`` is what was seen, ``fix`` what to do where it is not ok."""

    name: str
    state: CheckState
    evidence: str
    fix: str = ""
    exit_code: ExitCode = ExitCode.PREFLIGHT
    """What a collection would end with; of a failed check only."""

    def __post_init__(self) -> None:
        # What machines say of themselves is in it: no control character of theirs reaches a terminal.
        object.__setattr__(self, "evidence", _printable(self.evidence))

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "state": str(self.state), "evidence": self.evidence, "fix": self.fix}


def _printable(text: str) -> str:
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:_LONGEST_EVIDENCE])
    return shown if len(text) <= _LONGEST_EVIDENCE else f"{shown} ..."


def passed(name: str, evidence: str) -> Check:
    return Check(name, CheckState.OK, evidence)


def warned(name: str, evidence: str, fix: str) -> Check:
    return Check(name, CheckState.WARNING, evidence, fix)


def skipped(name: str, evidence: str, fix: str = "") -> Check:
    return Check(name, CheckState.SKIPPED, evidence, fix)


def failed(name: str, evidence: str, fix: str, exit_code: ExitCode = ExitCode.PREFLIGHT) -> Check:
    return Check(name, CheckState.FAILED, evidence, fix, exit_code)


_OWN_CODES = frozenset(
    {
        ExitCode.USAGE,
        ExitCode.UNREACHABLE,
        ExitCode.AUTHENTICATION,
        ExitCode.NOT_PERMITTED,
        ExitCode.BUSY,
        ExitCode.NO_SPACE,
    }
)
"""A store's own code says that a delivery failed: before a collection that is a failed preflight."""


def refused(name: str, error: BridgeError, fix: str = "") -> Check:
    """A failed check from an error; its own advice stands unless there is a better one."""
    is_of_a_place = isinstance(error, StoreAccessError)  # a collection would end with 6 for it
    code = error.exit_code if error.exit_code in _OWN_CODES and not is_of_a_place else ExitCode.PREFLIGHT
    return failed(name, str(error), fix or error.advice, code)


class RouteKind(StrEnum):
    """The ways of the vendor's flow chart ("Diagnostic log collection")."""

    PORTAL = "portal"
    SEND = "send"
    UPLOAD = "upload"
    SAVE = "save-locally"
    UNREACHABLE = "unreachable"

    @property
    def is_collection(self) -> bool:
        """Whether ``collect`` takes it."""
        return self in {RouteKind.UPLOAD, RouteKind.SAVE}


@dataclass(frozen=True, slots=True)
class Route:
    """What the doctor recommends, why, and the command or address to go on with."""

    kind: RouteKind
    reason: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Every check, in the order of the list, and the route."""

    checks: tuple[Check, ...]
    route: Route

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.state is CheckState.FAILED)

    @property
    def exit_code(self) -> ExitCode:
        """0: a collection could start now. The code of the sole cause where there is one, else 6."""
        return exit_code_of(self.failed)

    def to_json(self) -> dict[str, Any]:
        """``data`` of ``doctor --json``."""
        return {
            "checks": [check.to_json() for check in self.checks],
            "route": str(self.route.kind),
            "reason": self.route.reason,
            "next": self.route.next_step,
        }


def exit_code_of(checks: Iterable[Check]) -> ExitCode:
    """0 without failed checks, their code where all have the same, else 6."""
    codes = {check.exit_code for check in checks if check.state is CheckState.FAILED}
    if not codes:
        return ExitCode.OK
    return codes.pop() if len(codes) == 1 else ExitCode.PREFLIGHT
