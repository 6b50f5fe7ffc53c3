"""What verifying says: findings of distinct kinds, counted without end and kept up to a limit, and the verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAX_FINDINGS_OF_A_KIND = 1000
"""More than these are counted, not kept: a hostile manifest may be wrong in every line."""


class FindingKind(StrEnum):
    """What may be wrong. The values are an interface: they stand in ``--json``."""

    CHANGED = "changed"
    MISSING = "missing"
    UNEXPECTED = "unexpected"
    WRONG_SIZE = "wrong-size"
    BAD_MANIFEST_LINE = "bad-manifest-line"
    UNSAFE_PATH = "unsafe-path"
    NOT_SEALED = "not-sealed"
    TAG_CHANGED = "tag-changed"
    OXUM_MISMATCH = "oxum-mismatch"
    UNREADABLE = "unreadable"
    BAD_DECLARATION = "bad-declaration"
    UNHASHED = "unhashed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be; ``path`` is relative to the bundle's root, or escaped where unsafe."""

    kind: FindingKind
    path: str
    detail: str

    def to_json(self) -> dict[str, str]:
        return {"kind": str(self.kind), "path": self.path, "detail": self.detail}


class Verdict(StrEnum):
    """``unproven``: nothing is wrong, and part of the payload was never hashed, as the bundle itself says."""

    VERIFIED = "verified"
    UNPROVEN = "unproven"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What verifying found. ``counts`` are of all findings, of which at most 1000 of a kind are kept.

    ``fast`` says that payload files were not read: presence, sizes and the bundle's own files were checked.
    """

    where: str
    bundle_id: str | None
    fast: bool
    payload_files: int
    payload_bytes: int
    findings: tuple[Finding, ...] = ()
    counts: dict[FindingKind, int] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        if any(kind is not FindingKind.UNHASHED for kind in self.counts):
            return Verdict.FAILED
        return Verdict.UNPROVEN if self.counts else Verdict.VERIFIED

    @property
    def ok(self) -> bool:
        return self.verdict is Verdict.VERIFIED

    def to_json(self) -> dict[str, Any]:
        return {
            "where": self.where,
            "bundle_id": self.bundle_id,
            "verdict": str(self.verdict),
            "fast": self.fast,
            "payload_files": self.payload_files,
            "payload_bytes": self.payload_bytes,
            "counts": {str(kind): count for kind, count in sorted(self.counts.items())},
            "findings": [finding.to_json() for finding in self.findings],
        }


class Findings:
    """Gathers findings; of each kind the first 1000 are kept and all are counted."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._counts: Counter[FindingKind] = Counter()

    def add(self, kind: FindingKind, path: str, detail: str) -> None:
        self._counts[kind] += 1
        if self._counts[kind] <= MAX_FINDINGS_OF_A_KIND:
            self._kept.append(Finding(kind, path, detail))

    @property
    def kept(self) -> tuple[Finding, ...]:
        return tuple(sorted(self._kept, key=lambda finding: (finding.path, finding.kind, finding.detail)))

    @property
    def counts(self) -> dict[FindingKind, int]:
        return dict(self._counts)
