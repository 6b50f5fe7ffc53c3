"""What a watch writes down, in a folder for each stamp: its state after every step, and who agreed to it."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.collection import Consent, Request
from bridge.errors import JournalError, StampBusyError
from bridge.files import replace_file
from bridge.watch._core import WatchState

_LARGEST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Agreement:
    """A consent, and where the logs may go by it."""

    consent: Consent
    destination: str


class Memory:
    """The folder ``<state>/watch/<stamp>``, for its owner alone.

    Raises (every method):
        JournalError: it cannot be read or written; a damaged file is never taken for an empty one.
    """

    def __init__(self, state_dir: Path, stamp: str) -> None:
        self.stamp = stamp
        self.folder = state_dir / "watch" / _folder_name(stamp)
        self.records = self.folder / "records"
        self._state = self.folder / "state.json"
        self._consents = self.folder / "consent.jsonl"
        with self._translated(self.folder):
            for folder in (state_dir, state_dir / "watch", self.folder):  # parents=True would leave them to others
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Holds the watch of this stamp for this process.

        Raises:
            StampBusyError: another process has it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / "running.lock", mode=0o600)
        with self._translated(self.folder):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise StampBusyError(
                    stamp=self.stamp,
                    detail="another process of this machine watches it",
                    fix="See 'pep-bridge watch status'; a second watch would collect everything twice.",
                ) from None
        try:
            yield
        finally:
            lock.release()

    def load(self) -> WatchState:
        """What was remembered; a new state where nothing was."""
        text = self._read(self._state)
        if text is None:
            return WatchState()
        try:
            return WatchState.from_json(json.loads(text))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise JournalError(
                path=self._state,
                detail=f"it is damaged ({error})",
                fix="Move it away: the watch begins anew, and may collect once more for an alert it knew.",
            ) from error

    def save(self, state: WatchState) -> None:
        """Writes the state, whole or not at all."""
        text = json.dumps(state.to_json(), indent=1, sort_keys=True) + "\n"
        with self._translated(self._state):
            replace_file(self._state, text.encode())

    def agreement(self) -> Agreement | None:
        """What was agreed to last, or ``None`` where nothing was or it was taken back."""
        text = self._read(self._consents)
        lines = [line for line in (text or "").splitlines() if line.strip()]
        try:
            last = json.loads(lines[-1]) if lines else None
            if last is None or last["event"] != "given":
                return None
            return Agreement(Consent.from_json(last), str(last["destination"]))
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(
                path=self._consents, detail=f"it is damaged ({error})", fix="Move it away and agree again."
            ) from error

    def agree(self, consent: Consent, destination: str) -> None:
        """Adds a consent; earlier ones stay on record."""
        self._append({"event": "given", "destination": destination} | consent.to_json())

    def revoke(self, at: datetime) -> bool:
        """Takes the consent back; false where there was none. What was collected by it stays as it is."""
        if self.agreement() is None:
            return False
        self._append({"event": "revoked", "at": at.isoformat(), "by": whoever_this_is()})
        return True

    def _append(self, document: dict[str, Any]) -> None:
        line = json.dumps(document, ensure_ascii=False) + "\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        with self._translated(self._consents):
            descriptor = os.open(self._consents, flags, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(line.encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())

    def _read(self, path: Path) -> str | None:
        with self._translated(path):
            try:
                with path.open("rb") as file:
                    content = file.read(_LARGEST_BYTES)
            except FileNotFoundError:
                return None
            return content.decode("utf-8", "replace")

    @contextmanager
    def _translated(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise JournalError(
                path=path, detail=error.strerror or str(error), fix="Free space there, or give another --state-dir."
            ) from error


def consent_text(stamp: str, destination: str) -> str:
    """What is agreed to, in full; another destination is another text, so it is asked for again."""
    return (
        f"While the watch runs, pep-bridge collects diagnostic logs of the stamp {stamp} without asking each time: when"
        f" one of the vendor's listed health alerts persists, and at regular times if a rolling offload is set up."
        f" It puts them in {destination}. The logs may contain personal data, such as names of users and computers and"
        " addresses. Whoever can read that place can read them. They are for troubleshooting only. You can take this"
        " consent back at any time; what was collected until then stays until you delete it."
    )


def places_of(request: Request) -> str:
    """Every place that the logs of a request get to, in the words of the consent."""
    staged = f", by way of {request.staging.location}" if request.staging else ""
    return request.destination.location + staged


def whoever_this_is() -> str:
    """The account of this process, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a service without an entry in the user database
        return "unknown"


def _folder_name(stamp: str) -> str:
    """A name that any file system takes, another one for another stamp."""
    name = stamp.casefold()
    plain = re.sub(r"[^a-z0-9_-]", "_", name)[:60]
    if plain == name:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
