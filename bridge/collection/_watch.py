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


class OutputFolder:
    """The output folder as this process has seen it; any thread may look.

    ``alive_at`` (monotonic clock) is when the collection last gave a sign of life: something changed there, or the
    endpoint was heard. ``trouble`` is why the folder cannot be listed at the moment: then nothing is known of it.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        folder: Callable[[], str],
        *,
        on_change: Callable[[Snapshot], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.alive_at = time.monotonic()
        self.trouble: StoreError | None = None
        self._seen: Snapshot | None = None
        self._open_store = open_store
        self._folder = folder
        self._on_change = on_change
        self._on_trouble = on_trouble

    @property
    def snapshot(self) -> Snapshot:
        """What was there at the last look."""
        return self._seen or Snapshot()

    def look(self) -> bool:
        """Lists it; whether it is another than at the look before.

        Raises:
            StoreError: it cannot be listed.
        """
        try:
            found = look(self._open_store(), self._folder())
        except StoreError as error:
            self.trouble = error
            raise
        self.trouble = None
        before, self._seen = self._seen, found
        if before is not None and found.sizes == before.sizes:
            return False
        self.heard()
        if before is not None or found.files:
            self._on_change(found)
        return True

    def try_look(self) -> bool:
        """The same where it can be listed; where it cannot, that is told once, and nothing is taken for changed."""
        known = self.trouble is not None
        try:
            return self.look()
        except StoreError as error:
            if not known:
                self._on_trouble(f"what lands cannot be seen at the moment: {error}")
            return False

    def log_has_ended(self) -> bool:
        """Whether the output log, as it was at the last look, says that the command has ended."""
        return has_ended(self._open_store(), self.snapshot)

    def heard(self) -> None:
        """The collection gave a sign of life."""
        self.alive_at = time.monotonic()

    def silent_s(self) -> float:
        """Since when there was none; zero while the folder cannot be seen."""
        return 0.0 if self.trouble is not None else time.monotonic() - self.alive_at


class Waited(StrEnum):
    """How a wait for the output ended."""

    ENDED = "ended"
    """The output log has its last lines, and nothing changes any more."""
    STILL = "still"
    """Nothing has changed for as long as was given."""
    OVERDUE = "overdue"
    INTERRUPTED = "interrupted"


def wait_for_output(
    output: OutputFolder,
    *,
    poll_s: float,
    still_s: float,
    deadline_s: float,
    interrupted: Callable[[float], bool],
    from_now: bool,
    log_tells: bool = True,
) -> Waited:
    """Watches the output folder until the collection is seen to have ended, or nothing changes any more.

    ``interrupted`` pauses for seconds and tells whether to leave. ``from_now``: stillness counts from now on, whenever
    the last sign of life was. ``log_tells``: the end of the output log ends the wait, though it tells nothing of files
    that are still on their way. A folder that cannot be listed is neither ended nor still.

    Raises:
        StoreError: it could not be listed when the time was over: what is in it is not known.
    """
    began = time.monotonic()
    again = False
    while True:
        changed = output.try_look()
        waited_s = time.monotonic() - began
        if not changed and output.trouble is None:
            if again and log_tells and output.log_has_ended():
                return Waited.ENDED
            silent_s = output.silent_s()
            if (min(silent_s, waited_s) if from_now else silent_s) >= still_s:
                return Waited.STILL
        again = True
        if waited_s >= deadline_s:
            if output.trouble is not None:
                raise output.trouble
            return Waited.OVERDUE
        if interrupted(poll_s):
            return Waited.INTERRUPTED


class Watcher:
    """Looks at the output folder from a thread of its own while the endpoint works.

    While ``look_for_end`` says so, the output log is read too. ``has_ended``: it has its last lines, and nothing
    changed any more.
    """

    def __init__(self, output: OutputFolder, *, poll_s: float, look_for_end: Callable[[], bool]) -> None:
        self.has_ended = False
        self._output = output
        self._poll_s = poll_s
        self._look_for_end = look_for_end
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="output-watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            changed = self._output.try_look()
            if not (changed or self.has_ended or self._output.trouble) and self._look_for_end():
                self.has_ended = self._output.log_has_ended()
            if self._ended.wait(self._poll_s):
                return


def _role_of(entry: Entry, name: str) -> str | None:
    """``SeedRing-*.zip`` and ``Storage-xxx.zip`` (ERCS, public scripts): the role stands before the first dash."""
    if not name.lower().endswith(".zip") or entry.path.count("/") < 2:
        return None
    return name[:-4].split("-", 1)[0] or None
