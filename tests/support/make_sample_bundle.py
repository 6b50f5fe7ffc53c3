"""Makes ``fixtures/bundles/small``: a whole bundle with a fixed id, so that the format cannot change unnoticed.

Run as ``python -m tests.support.make_sample_bundle``; a change of what it makes is a new version of the profile.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from bridge.bundle import seal
from bridge.collection._documents import encode
from bridge.collection._window import Window
from bridge.collection.coverage import CoverageRequest, assess
from bridge.store import FolderStore, Store
from tests.support.bundles import INFO, LOGS, digests_of, write_payload

SAMPLE = Path(__file__).parents[2] / "fixtures" / "bundles" / "small"


def _zip(machine: str, role: str, start: datetime, end: datetime) -> bytes:
    step = (end - start) / 40
    lines = [f"{start + step * number:%Y-%m-%dT%H:%M:%SZ} [Info] {role} heartbeat" for number in range(41)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        info = zipfile.ZipInfo(f"{machine}/{role}/Logs/{role}_001.log", end.timetuple()[:6])
        archive.writestr(info, "\r\n".join(lines) + "\r\n")
    return buffer.getvalue()


def sample_payload() -> Mapping[str, bytes]:
    """Three roles asked: one collected, one collected from two machines, one that found nothing."""
    assert INFO.window is not None
    start, end = INFO.window
    return {
        f"{LOGS}/Storage-AzS-ERCS01-20261123145500.zip": _zip("AzS-ERCS01", "Storage", start, end),
        f"{LOGS}/Storage-AzS-ERCS02-20261123145500.zip": _zip("AzS-ERCS02", "Storage", start, end),
        f"{LOGS}/SeedRing-AzS-ERCS01-20261123145500.zip": _zip("AzS-ERCS01", "SeedRing", start, end),
        f"{LOGS}/Get-AzureStackLog_Output.log": (
            b"PS>Get-AzureStackLog -FilterByRole Storage,SeedRing,ECE\r\n"
            b"2026-11-23 14:57:00 [INFO] Role 'ECE': no log files found in the given time range\r\n"
        ),
    }


def sample_documents(store: Store) -> Mapping[str, bytes]:
    """The documents of the sample, made anew; their wording may change where the format does not."""
    assert INFO.window is not None
    request = CoverageRequest(
        Window(*INFO.window), made_at=INFO.started + timedelta(minutes=1), roles=("Storage", "SeedRing", "ECE")
    )
    collection = {
        "schema_version": 1,
        "tool": {"name": "pep-bridge", "version": "0.1"},
        "bundle": INFO.bundle_name,
        "stamp": {"name": INFO.stamp, "region": "local"},
        "endpoint": "AzS-ERCS01",
        "errors": [],
    }
    return {
        "collection.json": encode(collection),
        "coverage.json": encode(assess(store, request, []).to_json()),
        "session.jsonl": b'{"at": "2026-11-23T13:55:01.000Z", "stream": "verbose", "text": "Collecting logs."}\n',
    }


def seal_sample(root: Path, documents: Mapping[str, bytes] | None = None) -> str:
    """Writes the bundle into a folder; returns its id."""
    payload = sample_payload()
    write_payload(root, payload)
    store = FolderStore(root)
    made = documents if documents is not None else sample_documents(store)
    return seal(store, digests=digests_of(payload), documents=dict(made), info=INFO).bundle_id


if __name__ == "__main__":
    shutil.rmtree(SAMPLE, ignore_errors=True)
    seal_sample(SAMPLE)
