"""Looks at the output folder while somebody else writes it: what has landed, and whether it has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.collection._events import RoleLanded
from bridge.errors import StoreError, UnsafePathError
from bridge.store import Entry, Store

OUTPUT_LOG = "Get-AzureStackLog_Output.log"
"""Stands beside the zips (GETLOG); the ERCS script matches ``Get-AzureStackLog_Output*``."""

_END_OF_TRANSCRIPT = "powershell transcript end"
# GUESS: `PS>TerminatingError` lines (GETLOG) are how a PowerShell transcript writes an error, so the log ends as one.
_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What stood in the output folder at one moment. ``unsafe`` are names that must not be used."""

    sizes: tuple[tuple[str, int], ...] = ()
    roles: dict[str, RoleLanded] = field(default_factory=dict)
    output_log: str | None = None
    unsafe: tuple[str, ...] = ()

    @property
    def files(self) -> int:
        return len(self.sizes)

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size in self.sizes)


def look(store: Store, folder: str) -> Snapshot:
    """Lists the output folder.

    Raises:
        StoreError: it cannot be listed.
    """
    unsafe: list[str] = []

    def note(error: UnsafePathError) -> None:
        unsafe.append(str(error.fields.get("path", "")))

    sizes: list[tuple[str, int]] = []
    roles: dict[str, RoleLanded] = {}
    log: str | None = None
    for entry in store.list(folder, on_unsafe=note):
        sizes.append((entry.path, entry.size_bytes))
        name = entry.path.rsplit("/", 1)[-1]
        if name.startswith("Get-AzureStackLog_Output"):
            log = entry.path
        elif role := _role_of(entry, name):
            before = roles.get(role, RoleLanded(0, 0))
            roles[role] = RoleLanded(before.zips + 1, before.size_bytes + entry.size_bytes)
    return Snapshot(tuple(sizes), roles, log, tuple(unsafe))


def has_ended(store: Store, snapshot: Snapshot) -> bool:
    """Whether the output log says that the command has ended. A log that cannot be read (its writer may hold it) says
    nothing."""
    if snapshot.output_log is None:
        return False
    size = next(size for path, size in snapshot.sizes if path == snapshot.output_log)
    try:
        with store.open_read(snapshot.output_log, max(0, size - _TAIL_BYTES)) as reader:
            buffer = memoryview(bytearray(_TAIL_BYTES))
            filled = 0
            while filled < len(buffer) and (count := reader.readinto(buffer[filled:])):
                filled += count
    except StoreError:
        return False
    # Windows PowerShell writes transcripts in UTF-8 or UTF-16; the words are ASCII, so dropping NULs reads both.
    return _END_OF_TRANSCRIPT in bytes(buffer[:filled]).replace(b"\0", b"").decode("utf-8", "replace").lower()


class Waited(StrEnum):
    """How a wait for the output ended."""

    ENDED = "ended"
    """The output log has its last lines, and nothing changes any more."""
    STILL = "still"
    """Nothing has changed for as long as was given."""
    OVERDUE = "overdue"
    INTERRUPTED = "interrupted"


def wait_for_output(
    store: Store,
    folder: str,
    *,
    poll_s: float,
    still_s: float,
    deadline_s: float,
    interrupted: Callable[[float], bool],
    on_change: Callable[[Snapshot], None],
    still_since: float | None = None,
) -> Waited:
    """Watches the output folder until the collection is seen to have ended, or nothing changes any more.

    ``interrupted`` pauses for seconds and tells whether to leave. A store that cannot be reached counts as no news:
    time runs on. ``still_since`` (of the monotonic clock) is when somebody who watched before saw the last change.
    """
    began = time.monotonic()
    changed_at = began if still_since is None else still_since
    last: Snapshot | None = None
    while True:
        try:
            snapshot = look(store, folder)
        except StoreError:
            snapshot = last or Snapshot()
        now = time.monotonic()
        if last is None or snapshot.sizes != last.sizes:
            changed_at = now if last is not None else changed_at
            on_change(snapshot)
        elif has_ended(store, snapshot):
            return Waited.ENDED
        last = snapshot
        if now - changed_at >= still_s:
            return Waited.STILL
        if now - began >= deadline_s:
            return Waited.OVERDUE
        if interrupted(poll_s):
            return Waited.INTERRUPTED


class Watcher:
    """Lists the output folder from a thread of its own while the endpoint works, and tells when it has changed.

    While ``look_for_end`` says so, the output log is read too. ``has_ended``: it has its last lines, and nothing
    changed any more; ``changed_at`` is when the last change was seen (monotonic clock).
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        *,
        poll_s: float,
        on_change: Callable[[Snapshot], None],
        on_trouble: Callable[[str], None],
        look_for_end: Callable[[], bool],
    ) -> None:
        self.has_ended = False
        self.changed_at = time.monotonic()
        self._look_for_end = look_for_end
        self._store = store
        self._folder = folder
        self._poll_s = poll_s
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="output-watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        last = Snapshot()
        trouble = False
        while True:
            try:
                snapshot = look(self._store, self._folder)
            except StoreError as error:
                if not trouble:
                    self._on_trouble(f"what lands cannot be seen at the moment: {error}")
                trouble = True
            else:
                trouble = False
                if snapshot.sizes != last.sizes:
                    self.changed_at = time.monotonic()
                    self._on_change(snapshot)
                elif not self.has_ended and self._look_for_end():
                    self.has_ended = has_ended(self._store, snapshot)
                last = snapshot
            if self._ended.wait(self._poll_s):
                return


def _role_of(entry: Entry, name: str) -> str | None:
    """``SeedRing-*.zip`` and ``Storage-xxx.zip`` (ERCS, public scripts): the role stands before the first dash."""
    if not name.lower().endswith(".zip") or entry.path.count("/") < 2:
        return None
    return name[:-4].split("-", 1)[0] or None
