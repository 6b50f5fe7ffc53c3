"""``session.jsonl``: every record that the endpoint sent, scrubbed, on disk as soon as it arrives."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.endpoint import Record, Stream
from bridge.secrets import Scrubber

_LONGEST_LINE_BYTES = 8 * 1024 * 1024
_KEPT_CHARACTERS = 256 * 1024  # of each text of a record whose line would be longer than that
_TAIL_BYTES = 64 * 1024
_FULL_BYTES = 1024**3
_BRIM_BYTES = _FULL_BYTES + 256 * 1024**2
_KEPT_LONGEST = frozenset({Stream.ERROR, Stream.WARNING})
_IS_FULL = "pep-bridge: this log is full. From here on only errors and warnings are written down."


class SessionLog:
    """Appends records, one JSON document a line; each line is with the operating system before the next is read.

    A line that a killed process left half-written is cut off when the file is opened again. A disk that is full
    loses records, which are counted in ``lost``, and never the collection. An endpoint that never stops sending does
    not fill the disk of the journal: from 1 GiB on only errors and warnings are written, from 1.25 GiB on nothing. The
    log then says so itself, for whoever finishes the run of a killed process.
    """

    def __init__(self, path: Path, scrubber: Scrubber) -> None:
        self.path = path
        self.lost = 0
        self._scrubber = scrubber
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = _open_to_append(path)
        self._says_full = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Writes one record, or counts it: neither a failure to write nor a full log is raised."""
        size_bytes = self._file.tell()
        if size_bytes < (_BRIM_BYTES if record.stream in _KEPT_LONGEST else _FULL_BYTES):
            self.lost += not self._write(_line(self._scrubber.value(record.to_json())))
            return
        self.lost += 1
        if not self._says_full:
            self._says_full = self._write(_line(Record(Stream.WARNING, _IS_FULL, datetime.now(UTC)).to_json()))

    @property
    def why_lost(self) -> str:
        """What kept the records that were lost from being written."""
        return "it is full" if self._file.tell() >= _FULL_BYTES else "is the disk full?"

    def _write(self, line: bytes) -> bool:
        end = self._file.tell()
        left = memoryview(line)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            # What a full disk took of the line goes, or the next record would be glued to it.
            self._file.truncate(end)
            self._file.seek(end)
            return False
        return True

    def close(self) -> None:
        try:
            os.fsync(self._file.fileno())
        finally:
            self._file.close()


def is_full(path: Path) -> bool:
    """Whether records were left out of a session log because it had become too long, whoever was killed over it."""
    return path.exists() and path.stat().st_size >= _FULL_BYTES


def scrubbed(record: Record, scrubber: Scrubber) -> Record:
    """The record without secrets, for whoever shows it."""
    error = record.error and replace(
        record.error,
        message=scrubber.text(record.error.message),
        target=record.error.target and scrubber.text(record.error.target),
    )
    progress = record.progress and replace(
        record.progress,
        activity=scrubber.text(record.progress.activity),
        status=scrubber.text(record.progress.status),
        operation=record.progress.operation and scrubber.text(record.progress.operation),
    )
    return replace(
        record,
        text=scrubber.text(record.text),
        data=scrubber.value(record.data),
        error=error,
        progress=progress,
        raw=record.raw and scrubber.text(record.raw),
    )


def read_session(path: Path) -> Iterator[dict[str, Any]]:
    """The documents of a session log, front to back; a line that is no JSON object is passed over."""
    if not path.exists():
        return
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE_BYTES + 1):
            if len(line) > _LONGEST_LINE_BYTES:  # of a foreign hand: nothing so long is written here
                while line and not line.endswith(b"\n"):
                    line = file.readline(_LONGEST_LINE_BYTES)
                continue
            try:
                document = json.loads(line)
            except ValueError:
                continue
            if isinstance(document, dict):
                yield document


def _open_to_append(path: Path) -> FileIO:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    file = FileIO(descriptor, "r+")
    file.truncate(_end_of_last_line(file))
    file.seek(0, os.SEEK_END)
    return file


def _end_of_last_line(file: FileIO) -> int:
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _line(document: dict[str, Any]) -> bytes:
    """A record as it is written: one that is too long to be read back keeps the beginning of its texts, and says so."""
    line = _dumped(document)
    if len(line) <= _LONGEST_LINE_BYTES:
        return line
    line = _dumped({**_shortened(document), "shortened": True})
    if len(line) <= _LONGEST_LINE_BYTES:
        return line
    kept = {name: value for name, value in document.items() if name not in {"data", "raw"}}  # lists may be long, too
    return _dumped({**_shortened(kept), "shortened": True})


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _KEPT_CHARACTERS:
        return f"{value[:_KEPT_CHARACTERS]}... ({len(value)} characters)"
    if isinstance(value, dict):
        return {name: _shortened(item) for name, item in value.items()}
    return [_shortened(item) for item in value] if isinstance(value, (list, tuple)) else value


def _dumped(document: dict[str, Any]) -> bytes:
    try:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, as a broken file name has: JSON can carry it escaped
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"
