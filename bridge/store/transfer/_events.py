"""What a transfer tells while it runs, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

FileStatus = Literal["copied", "resumed", "skipped", "repaired"]


@dataclass(frozen=True, slots=True)
class TransferItem:
    """One file to bring over. ``sha256`` (hex) is what it must be, where that is known (a manifest)."""

    path: str
    size_bytes: int
    sha256: str | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class FileResult:
    """One file that the target has, whole and checked.

    ``skipped`` was there already, ``resumed`` went on from what an earlier run had left, ``repaired`` arrived wrong and
    was sent again. ``attempts`` counts how often it was begun in this run (0 for a skipped one).
    """

    path: str
    size_bytes: int
    sha256: str
    status: FileStatus
    attempts: int


@dataclass(frozen=True, slots=True)
class FileFinished:
    """The target has confirmed a file."""

    result: FileResult


@dataclass(frozen=True, slots=True)
class Retrying:
    """Something went wrong that may pass; it is tried again after ``wait_s``."""

    path: str
    reason: str
    attempt: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Repairing:
    """A file did not arrive as it was sent and is sent again."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Paused:
    """Quiet hours have begun, or somebody has paused the transfer (``until`` is ``None``)."""

    until: datetime | None


@dataclass(frozen=True, slots=True)
class Unpaused:
    """Quiet hours or a pause are over."""


@dataclass(frozen=True, slots=True)
class Note:
    """A fact worth showing once, such as a SAS that does not allow listing."""

    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the transfer stands.

    ``bytes_sent`` counts what was handed to the line in this run, requests and again-sent bytes included;
    ``bytes_confirmed`` what the target has acknowledged or had already, ``bytes_there`` what of it it had;
    ``bytes_finished`` what lies in files that are there, whole. ``silent_s`` is for how long nothing was sent and
    nothing confirmed, pauses left out.
    """

    bytes_total: int | None
    bytes_sent: int
    bytes_confirmed: int
    bytes_there: int
    bytes_finished: int
    files_total: int | None
    files_finished: int
    rate_bits_per_s: float
    time_left_s: float | None
    time_left_low_s: float | None
    time_left_high_s: float | None
    silent_s: float
    connections: int
    paused_until: datetime | None
    retrying: tuple[str, ...]
    complete: bool

    @property
    def fraction(self) -> float | None:
        """Between 0 and 1; exactly 1 only when the target has confirmed every file."""
        if self.complete:
            return 1.0
        if not self.bytes_total:
            return None if self.bytes_total is None else 0.0
        return min(self.bytes_confirmed / self.bytes_total, 0.999)


TransferEvent = FileFinished | Retrying | Repairing | Paused | Unpaused | Note | Progress
EventHandler = Callable[[TransferEvent], None]


@dataclass(frozen=True, slots=True)
class TransferResult:
    """The sum of a transfer that ended well. ``bytes_sent`` is what was handed to the line,
    requests and again-sent bytes included; ``bytes_there`` what the target had before, of unfinished files too."""

    files: int
    size_bytes: int
    copied: int
    resumed: int
    skipped: int
    repaired: int
    bytes_sent: int
    bytes_there: int
    retries: int
    elapsed_s: float
