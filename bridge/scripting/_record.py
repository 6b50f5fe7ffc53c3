"""The local record of a session: when, what was sent with secrets removed, and every record that came back."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.endpoint import Command, Record
from bridge.errors import JournalError, UsageError
from bridge.secrets import Scrubber

SCHEMA_VERSION = 1


class SessionRecord:
    """A file of JSON lines, for its owner alone, written as things happen so that a crash loses nothing.

    It lies in the state folder, never in a bundle: it is an audit trail, as the endpoint's own transcripts are. Its
    name is the time and a random token: two sessions never share one.
    """

    def __init__(self, folder: Path, scrubber: Scrubber) -> None:
        self.path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.jsonl"
        self._scrubber = scrubber
        self._is_closed = False
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise UsageError(
                detail=f"The session's record {self.path} cannot be written: {error.strerror}.",
                fix="Give another --state-dir.",
            ) from error
        self._file = os.fdopen(descriptor, "wb", buffering=0)  # nothing is left to be written when it is closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._is_closed and not isinstance(error, JournalError):
                why = f"{kind.__name__}: {error}" if kind else "without a word"
                self.closed(f"ended by {why}; its transcript, if there was a session, stays on the endpoint")
        finally:
            self._file.close()

    def begun(self, verb: str, stamp: str, username: str) -> None:
        """Before the session is opened: a refused password leaves a record too."""
        self._write("begun", schema_version=SCHEMA_VERSION, verb=verb, stamp=stamp, username=username)

    def opened(self, endpoint: str) -> None:
        self._write("opened", endpoint=endpoint)

    def agreed(self, text: str, how: str) -> None:
        """Consent: the text that was shown, and how it was given."""
        self._write("consent", text=text, how=how)

    def confirmed(self, commands: Sequence[str]) -> None:
        """The commands that were allowed and confirmed by name."""
        self._write("confirmed", commands=list(commands))

    def sent(self, commands: Sequence[Command]) -> None:
        self._write("sent", commands=[command.to_json() for command in commands])

    def received(self, record: Record) -> None:
        self._write_line({"event": "record"} | record.to_json())

    def ended(self, state: str) -> None:
        """How a pipeline ended."""
        self._write("ended", state=state)

    def closed(self, how: str) -> None:
        """``how`` says whether the endpoint's own transcripts were fetched, or stay on it."""
        self._is_closed = True
        self._write("closed", how=how)

    def _write(self, event: str, **fields: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._write_line({"at": now, "event": event} | fields)

    def _write_line(self, document: dict[str, Any]) -> None:
        text = json.dumps(self._scrubber.value(document), ensure_ascii=False, default=str) + "\n"
        line = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while line:
                line = line[self._file.write(line) or 0 :]
        except OSError as error:
            raise JournalError(
                path=str(self.path), detail=error.strerror, fix="Free space there, or give another --state-dir."
            ) from error
