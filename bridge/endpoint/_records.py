"""What an endpoint sends while a command runs: records of six streams and output."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Stream(StrEnum):
    """The streams of a PowerShell pipeline, in PowerShell's own words."""

    OUTPUT = "output"
    ERROR = "error"
    WARNING = "warning"
    VERBOSE = "verbose"
    DEBUG = "debug"
    INFORMATION = "information"
    PROGRESS = "progress"


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """The parts of an ErrorRecord that tell causes apart (MS-PSRP 2.2.3.15).

    ``terminating`` is true where the record ended the pipeline (it then came inside PIPELINE_STATE).
    """

    message: str
    error_id: str
    category: str
    exception_type: str
    target: str | None = None
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """One ProgressRecord (MS-PSRP 2.2.2.25). ``percent`` is -1 where the command does not know."""

    activity: str
    activity_id: int
    status: str
    percent: int
    operation: str | None = None
    parent_id: int = -1
    seconds_remaining: int = -1
    completed: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One record with the time it reached the bridge.

    ``data`` is JSON-like: objects are dicts of their properties, dates are ISO 8601 strings, enums their names.
    ``text`` is what PowerShell would print on one line. ``raw`` is the CLIXML payload, kept only where it
    could not be read; ``clixml`` is the payload of any record that had one, for ``--output clixml``, and is not part of
    what is written down.
    """

    stream: Stream
    text: str
    at: datetime
    data: Any = None
    error: ErrorDetail | None = None
    progress: Progress | None = None
    raw: str | None = None
    clixml: str | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """One line of ``session.jsonl``."""
        document: dict[str, Any] = {
            "at": self.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "stream": str(self.stream),
            "text": self.text,
        }
        if self.data is not None:
            document["data"] = self.data
        for key, part in (("error", self.error), ("progress", self.progress)):
            if part is not None:
                document[key] = {name: getattr(part, name) for name in part.__slots__}
        if self.raw is not None:
            document["raw"] = self.raw
        return document
