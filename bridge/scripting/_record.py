"""The local record of a session: when, what was sent with secrets removed, and every record that came back."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.endpoint import Command, Record
from bridge.errors import UsageError
from bridge.secrets import Scrubber


class SessionRecord:
    """A file of JSON lines, for its owner alone, written as things happen so that a crash loses nothing.

    It lies in the state folder, never in a bundle: it is an audit trail, as the endpoint's own transcripts are.
    """

    def __init__(self, folder: Path, name: str, scrubber: Scrubber) -> None:
        self.path = folder / f"{name}.jsonl"
        self._scrubber = scrubber
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise UsageError(
                detail=f"The session's record {self.path} cannot be written: {error.strerror}.",
                fix="Give another --state-dir.",
            ) from error
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def opened(self, stamp: str, endpoint: str, username: str) -> None:
        self._write("opened", stamp=stamp, endpoint=endpoint, username=username)

    def agreed(self, text: str, how: str) -> None:
        """Consent: the text that was shown, and how it was given."""
        self._write("consent", text=text, how=how)

    def sent(self, commands: Sequence[Command]) -> None:
        self._write("sent", commands=[command.to_json() for command in commands])

    def received(self, record: Record) -> None:
        self._write_line({"event": "record"} | record.to_json())

    def closed(self, how: str) -> None:
        """``how`` says whether the endpoint's own transcripts were fetched, or stay on it."""
        self._write("closed", how=how)

    def _write(self, event: str, **fields: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._write_line({"at": now, "event": event} | fields)

    def _write_line(self, document: dict[str, Any]) -> None:
        self._file.write(json.dumps(self._scrubber.value(document), ensure_ascii=False) + "\n")
        self._file.flush()
