"""The bundle's own files: ``collection.json``, ``coverage.json`` and ``session.jsonl``, ready to be sealed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bridge
from bridge.bundle import OWN_FILES
from bridge.collection._journal import RunRecord
from bridge.collection._session_log import read_session
from bridge.endpoint import Stream
from bridge.secrets import Scrubber

COLLECTION_SCHEMA_VERSION = 1
BUNDLE_FILES = OWN_FILES | {"collection.json", "coverage.json", "session.jsonl", "report.html"}
"""What may lie beside the payload of a bundle that a run makes."""
SOFTWARE = f"pep-bridge {bridge.__version__}"

DATA_WARNING = (
    "Logs of a stamp may contain personal data: names of users and computers, addresses, and what programs wrote down."
    " Keep the bundle encrypted, give it only to those who need it for troubleshooting, and delete it when its case is"
    " closed."
)
"""Stands in every bundle (Get-AzureStackLog's article warns of personally identifiable information)."""

_MOST_ERRORS_KEPT = 10_000


def collection_document(run: RunRecord, session_log: Path, scrubber: Scrubber) -> bytes:
    """``collection.json``: what was asked, of whom, how, when, and everything that went wrong.

    It follows from the journal and the session log alone, so that a run that is resumed writes the same bytes.
    """
    facts = run.facts
    counts: Counter[str] = Counter()
    errors: list[dict[str, Any]] = []
    for record in read_session(session_log):
        counts[str(record.get("stream"))] += 1
        if record.get("stream") == Stream.ERROR and len(errors) < _MOST_ERRORS_KEPT:
            errors.append(record)
    request = run.request.to_json()
    document = {
        "schema_version": COLLECTION_SCHEMA_VERSION,
        "tool": {"name": "pep-bridge", "version": bridge.__version__},
        "run": run.id,
        "bundle": run.bundle_name,
        "stamp": request.pop("stamp"),
        "request": request,
        "data_handling": {"warning": DATA_WARNING, "consent": request.pop("consent")},
        "way": facts.get("way"),
        "times": {
            "planned": _utc(run.created),
            "command_sent": facts.get("command_sent"),
            "command_ended": facts.get("command_ended"),
            "sealed": facts.get("sealed"),
        },
        "endpoint": facts.get("endpoint"),
        "script": facts.get("script"),
        "commands": facts.get("commands"),
        "end": facts.get("end"),
        "warnings": facts.get("warnings", []),
        "records": dict(sorted(counts.items())),
        "records_not_written": facts.get("records_not_written", 0),
        "errors": errors,
        "errors_left_out": counts[Stream.ERROR] - len(errors),
    }
    return encode(scrubber.value(document))


def encode(document: Mapping[str, Any]) -> bytes:
    """A JSON document as it stands in a bundle: sorted, LF, UTF-8."""
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
