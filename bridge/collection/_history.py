"""The history of collections, row by row, with what the vendor's portal page shows and what became of each bundle."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.collection._journal import Delivery, Journal, RunRecord

COLUMNS = (
    "run", "stamp", "collected", "status", "logs_start", "logs_end", "type", "size_bytes", "files", "complete",
    "coverage", "bundle_id", "bundle", "deliveries", "reason",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One collection. ``coverage`` counts roles by their state (``collected``, ``failed``, ...); it is empty where the
    bundle was not sealed yet."""

    run: RunRecord
    coverage: Mapping[str, int]
    deliveries: tuple[Delivery, ...]

    @property
    def size_bytes(self) -> int | None:
        return self.run.facts.get("size_bytes")

    @property
    def complete(self) -> bool | None:
        """Whether all that was asked was collected; ``None`` while that is not known."""
        return self.run.facts.get("complete")

    @property
    def coverage_words(self) -> str:
        """``12 collected, 1 failed``."""
        return ", ".join(f"{count} {state}" for state, count in self.coverage.items())

    def to_json(self) -> dict[str, Any]:
        """One element of ``runs`` of ``history --json``."""
        document = self.run.to_json()
        document["files"] = self.run.facts.get("file_count")
        document["complete"] = self.complete
        document["coverage"] = dict(self.coverage)
        document["deliveries"] = [each.to_json() for each in self.deliveries]
        return document

    def cells(self) -> dict[str, Any]:
        """The row of an exported table, by ``COLUMNS``."""
        run = self.run
        return {
            "run": run.id,
            "stamp": run.stamp,
            "collected": _text(run.created),
            "status": str(run.state),
            "logs_start": _text(run.request.window.since),
            "logs_end": _text(run.request.window.until),
            "type": run.request.trigger,
            "size_bytes": self.size_bytes,
            "files": run.facts.get("file_count"),
            "complete": self.complete,
            "coverage": self.coverage_words,
            "bundle_id": run.facts.get("bundle_id"),
            "bundle": run.facts.get("bundle"),
            "deliveries": "; ".join(each.words for each in self.deliveries),
            "reason": run.reason,
        }


def read_history(
    journal: Journal,
    *,
    stamp: str | None = None,
    since: datetime | None = None,
    states: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> list[HistoryRow]:
    """The collections that a journal knows, newest first.

    Args:
        since: only those that were started at or after it.
        states: only those in one of these states; all where it is empty.
        kinds: only those of one of these types (``manual``, ``proactive``, ``offload``).

    Raises:
        JournalError: the journal cannot be read.
    """
    deliveries: dict[str, list[Delivery]] = {}
    for delivery in journal.deliveries():
        deliveries.setdefault(delivery.bundle_name, []).append(delivery)
    return [
        HistoryRow(run, _coverage(journal.state_dir, run), tuple(deliveries.get(run.bundle_name, ())))
        for run in journal.runs(stamp=stamp)
        if (since is None or run.created >= since)
        and (not states or run.state in states)
        and (not kinds or run.request.trigger in kinds)
    ]


def export_csv(rows: Iterable[HistoryRow]) -> str:
    """A table for a spreadsheet; a cell that one would take for a formula begins with an apostrophe."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(value) for name, value in row.cells().items()})
    return text.getvalue()


def export_json(rows: Iterable[HistoryRow]) -> str:
    """The same as one JSON document."""
    return json.dumps({"schema_version": 1, "runs": [row.to_json() for row in rows]}, indent=1, ensure_ascii=False)


def _coverage(state_dir: Path, run: RunRecord) -> dict[str, int]:
    try:
        document = json.loads((state_dir / "runs" / run.id / "assessed.json").read_bytes())
    except (OSError, ValueError):  # not sealed yet, or the state folder was tidied: the bundle itself has it
        return {}
    coverage = document.get("coverage") if isinstance(document, dict) else None
    roles = coverage.get("roles") if isinstance(coverage, dict) else None
    counts = Counter(str(role.get("state")) for role in roles or () if isinstance(role, dict))
    return dict(sorted(counts.items(), key=lambda item: (item[0] != "collected", item[0])))


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
