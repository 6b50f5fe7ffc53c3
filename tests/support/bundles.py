"""Small bundles in folders, for tests of whatever makes, moves or checks bundles."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bridge.bundle import BagInfo, SealedBundle, seal
from bridge.store import Store

LOGS = "data/AzureStackLogs-20261123135500"
PAYLOAD: Mapping[str, bytes] = {
    f"{LOGS}/Storage-AzS-ERCS01.zip": b"storage " * 1000,
    f"{LOGS}/SeedRing-AzS-ERCS01.zip": b"seed ring " * 500,
    f"{LOGS}/Get-AzureStackLog_Output.log": b"done\r\n",
    f"{LOGS}/Grüße 100% ☃/empty.log": b"",
}
INFO = BagInfo(
    stamp="west",
    bundle_name="west-20261123T135500Z-1a2b3c4d",
    started=datetime(2026, 11, 23, 13, 55, tzinfo=UTC),
    sealed=datetime(2026, 11, 23, 15, 0, tzinfo=UTC),
    software="pep-bridge 0.1",
    window=(datetime(2026, 11, 23, 9, 55, tzinfo=UTC), datetime(2026, 11, 23, 13, 55, tzinfo=UTC)),
    case_number="CASE 42",
)
DOCUMENTS: Mapping[str, bytes | Path] = {
    "collection.json": b'{"schema_version": 1}\n',
    "coverage.json": b'{"schema_version": 1}\n',
    "session.jsonl": b'{"stream": "output"}\n' * 10,
}


@dataclass(frozen=True, slots=True)
class Digest:
    """A ``FileDigest``."""

    path: str
    size_bytes: int
    sha256: str


def write_payload(root: Path, payload: Mapping[str, bytes] = PAYLOAD) -> None:
    """Puts a payload into a folder, as a stamp would."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    for path, content in payload.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def digests_of(payload: Mapping[str, bytes] = PAYLOAD) -> list[Digest]:
    """The digests of a payload, in no useful order."""
    return [
        Digest(path, len(content), hashlib.sha256(content).hexdigest())
        for path, content in reversed(list(payload.items()))
    ]


def write_file(store: Store, path: str, content: bytes) -> None:
    """One file of a store."""
    with store.open_write(path, len(content)) as writer:
        writer.write(content)
        writer.commit()


def make_bundle(root: Path, store: Store, payload: Mapping[str, bytes] = PAYLOAD) -> SealedBundle:
    """A sealed bundle in a folder that ``store`` is rooted at."""
    write_payload(root, payload)
    return seal(store, digests=digests_of(payload), documents=DOCUMENTS, info=INFO)
