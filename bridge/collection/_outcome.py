"""What came of a run, for the caller and for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bridge.collection._finish import Finished
from bridge.collection._journal import RunRecord
from bridge.collection._states import RunState
from bridge.errors import BridgeError, ExitCode


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run as it stands when ``collect``, ``attach`` or ``stop`` returns.

    ``bundle`` is where the sealed bundle is, or ``None`` while there is none. ``staging`` is where a staging copy is
    kept, ``staging_removed`` where one was. ``unchecked`` names payload that could
    not be read and hashed. ``errors`` hold why a run failed, or is not finished; ``reason`` is the same for
    people, and is there for a run that had failed before as well.
    """

    run_id: str
    state: RunState
    exit_code: ExitCode
    bundle_name: str
    started: datetime
    bundle: str | None = None
    bundle_id: str | None = None
    staging: str | None = None
    staging_removed: str | None = None
    coverage: Mapping[str, Any] | None = None
    errors: tuple[BridgeError, ...] = ()
    warnings: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    ended: datetime | None = None
    reason: str | None = None
    size_bytes: int | None = None
    file_count: int | None = None

    def to_json(self) -> dict[str, Any]:
        """``data`` of the ``--json`` document of ``collect``, ``attach`` and ``stop``."""
        return {
            "run": self.run_id,
            "state": str(self.state),
            "reason": self.reason,
            "bundle": self.bundle,
            "bundle_name": self.bundle_name,
            "bundle_id": self.bundle_id,
            "staging": self.staging,
            "staging_removed": self.staging_removed,
            "coverage": self.coverage,
            "warnings": list(self.warnings),
            "unchecked": list(self.unchecked),
            "started": _utc(self.started),
            "ended": _utc(self.ended) if self.ended else None,
            "size_bytes": self.size_bytes,
            "file_count": self.file_count,
        }


def outcome_of(
    run: RunRecord, code: ExitCode, *, errors: tuple[BridgeError, ...] = (), finished: Finished | None = None
) -> Outcome:
    """A run's outcome from what the journal has of it."""
    facts = run.facts
    return Outcome(
        run_id=run.id,
        state=run.state,
        exit_code=code,
        bundle_name=run.bundle_name,
        started=run.created,
        bundle=facts.get("bundle"),
        bundle_id=facts.get("bundle_id"),
        staging=facts.get("staging"),
        staging_removed=facts.get("staging_removed"),
        coverage=finished.coverage if finished else None,
        errors=errors,
        warnings=tuple(facts.get("warnings", ())),
        unchecked=finished.unchecked if finished else (),
        ended=run.ended,
        reason=run.reason,
        size_bytes=facts.get("size_bytes"),
        file_count=facts.get("file_count"),
    )


def exit_code_of(run: RunRecord) -> ExitCode:
    """What a process ends with that reports this run."""
    match run.state:
        case RunState.DONE:
            return ExitCode.OK
        case RunState.PARTIAL:
            return ExitCode.PARTIAL
        case RunState.STOPPED:
            return ExitCode.INTERRUPTED
        case RunState.FAILED:
            return ExitCode((run.facts.get("error") or {}).get("exit_code", ExitCode.UNEXPECTED))
        case _:
            return ExitCode.OK


def facts_of(finished: Finished) -> dict[str, Any]:
    """What the journal keeps of a sealed bundle."""
    return {
        "bundle_id": finished.bundle_id,
        "size_bytes": finished.size_bytes,
        "file_count": finished.files,
        "complete": finished.complete,
    }


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
