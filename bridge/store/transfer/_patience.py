"""Reading by somebody who can wait: what a cut line interrupts goes on where it was, once the line is back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

from bridge.errors import StoreReplacedError, StoreUnreachableError
from bridge.store._protocol import Entry, Reader, Store, UnsafeNameHandler
from bridge.store.transfer._events import EventHandler, Retrying
from bridge.store.transfer._line import Line
from bridge.store.transfer._settings import TransferSettings

_Wait = Callable[[str, StoreUnreachableError, int], None]


class PatientReads:
    """A store whose files are read by one thread that waits for the line, as long as the settings say.

    ``on_event`` is told of ``Retrying``; ``cancel`` ends the waiting. The store has answered before: one that was never
    reached is given up sooner elsewhere.
    """

    def __init__(
        self, store: Store, *, settings: TransferSettings, on_event: EventHandler, cancel: threading.Event
    ) -> None:
        self._store = store
        self._on_event = on_event
        self._cancel = cancel
        self._line = Line(settings, lambda event: None)
        self._line.answered()

    def list(self, prefix: str = "", *, on_unsafe: UnsafeNameHandler | None = None) -> Iterator[Entry]:
        """As of the store: a listing that is cut is not gone on with."""
        return self._store.list(prefix, on_unsafe=on_unsafe)

    @contextmanager
    def open_read(self, path: str, offset: int = 0) -> Iterator[Reader]:
        """
        Raises:
            StoreUnreachableError: nothing has come for too long; ``readinto`` raises it too.
            InterruptedError: ``cancel`` is set while the line is waited for; from ``readinto`` too.
            StoreReplacedError: from ``readinto``: the file has another size since the line is back.
        """
        reader = _PatientReader(self._store, path, offset, self._line, self._wait)
        with closing(reader):
            yield reader

    def _wait(self, path: str, error: StoreUnreachableError, failures: int) -> None:
        wait_s = self._line.failed(error, failures, error.fields.get("retry_after_s"))
        self._on_event(Retrying(path, str(error), failures, wait_s))
        if self._cancel.wait(wait_s):
            raise InterruptedError


class _PatientReader:
    """One file, opened again at the byte reached after each cut."""

    def __init__(self, store: Store, path: str, offset: int, line: Line, wait: _Wait) -> None:
        self._store = store
        self._path = path
        self._reached = offset
        self._line = line
        self._wait = wait
        self._failures = 0
        self._opened = ExitStack()
        self._reader: Reader | None = None
        self._known_bytes: int | None = None
        self.size_bytes = self._known_bytes = self._patiently(lambda reader: reader.size_bytes)

    def readinto(self, buffer: memoryview, /) -> int:
        """As of any reader, and waits for the line."""
        read = self._patiently(lambda reader: reader.readinto(buffer))
        self._reached += read
        return read

    def close(self) -> None:
        self._reader = None
        with suppress(StoreUnreachableError):  # what was wanted of it has come, or is asked for anew
            self._opened.close()

    def _patiently(self, ask: Callable[[Reader], int]) -> int:
        while True:
            try:
                answer = ask(self._reader or self._open())
            except StoreUnreachableError as error:
                self.close()
                self._failures += 1
                self._wait(self._path, error, self._failures)
                continue
            self._failures = 0
            self._line.confirmed()
            return answer

    def _open(self) -> Reader:
        reader = self._opened.enter_context(self._store.open_read(self._path, self._reached))
        if self._known_bytes not in {None, reader.size_bytes}:
            self._opened.close()
            raise StoreReplacedError(
                store=self._store.location, detail=f"{self._path}: it was written to while its reading rested"
            )
        self._reader = reader
        return reader
