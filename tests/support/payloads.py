"""A collection's payload made by hand in a folder, and what the endpoint said of it, for tests of coverage."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.collection._window import Window
from bridge.collection.coverage import Coverage, CoverageRequest, assess
from bridge.store import FolderStore

START = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
END = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
REQUEST = CoverageRequest(Window(START, END), made_at=END, roles=("Storage", "SeedRing"))
LOGS = Path("data/AzureStackLogs-20261123140000")
ERCS01, ERCS02 = "AzS-ERCS01", "AzS-ERCS02"
GOOD_LOG = (
    "**********************\nWindows PowerShell transcript start\nPS>Get-AzureStackLog -FilterByRole Storage,SeedRing\n"
)


def log_text(start: datetime = START, end: datetime = END, lines: int = 200) -> bytes:
    step = (end - start) / lines
    moments = (start + step * number for number in range(lines + 1))
    return "".join(f"{moment:%Y-%m-%dT%H:%M:%SZ} [Info] heartbeat\n" for moment in moments).encode()


def zip_of(members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


GOOD_ZIP = zip_of({"AzS-ERCS01/Logs/a.log": log_text(), "AzS-ERCS01/Traces/b.etl": b"\0" * 1000})


def zip_name(role: str, machine: str = ERCS01, part: int = 1) -> str:
    return f"{role}-{machine}-20261123140000{f'-{part}' if part > 1 else ''}.zip"


def record(stream: str, text: str, **parts: Any) -> dict[str, Any]:
    return {"at": "2026-11-23T14:01:00.000Z", "stream": stream, "text": text, **parts}


def error_record(text: str, target: str | None = None, *, terminating: bool = False) -> dict[str, Any]:
    detail = {"message": text, "error_id": "X", "target": target, "terminating": terminating}
    return record("error", text, error=detail)


class Collection:
    """A payload in a folder, and what the endpoint said."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: list[dict[str, Any]] = []
        self.say(GOOD_LOG)

    def put(self, name: str, content: bytes = GOOD_ZIP) -> Path:
        path = self.root / LOGS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def say(self, log: str, encoding: str = "utf-8") -> None:
        self.put("Get-AzureStackLog_Output.log", log.encode(encoding))

    def assess(self, request: CoverageRequest = REQUEST, **options: Any) -> Coverage:
        coverage = assess(FolderStore(self.root), request, self.records, **options)
        assert json.loads(json.dumps(coverage.to_json()))["complete"] is coverage.complete
        return coverage

    def states(self, request: CoverageRequest = REQUEST) -> dict[str, str]:
        return {role.name: str(role.state) for role in self.assess(request).roles}
