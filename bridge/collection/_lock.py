"""One collection a stamp at a time: a lock beside the bundles that every jump box sees.

The lock of a stamp is a row of small files, ``.pep-bridge/locks/<stamp>/<generation>.json``; the highest generation
counts. Taking it means creating the next generation, which a store lets exactly one succeed in. So a lock is broken
safely: whoever breaks it makes a new generation, and the old holder sees at its next heartbeat that it has lost it. The
last generation is kept when it is released: numbers never start again.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.errors import StampBusyError, StoreError, StoreExistsError, StoreNotFoundError
from bridge.store import Store

LOCK_FOLDER = ".pep-bridge/locks"
COOL_DOWN = timedelta(minutes=5)
""""If you are canceling a running log collection to start a new one, please wait 5 minutes" (GETLOG)."""

_LARGEST_DOCUMENT_BYTES = 64 * 1024
_HEARTBEATS_MISSED = 4
_UNTIL_IT_ANSWERS = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class LockSettings:
    """How often a holder writes its heartbeat, and how a waiting process looks."""

    heartbeat_s: float = 15.0
    poll_s: float = 5.0


@dataclass(frozen=True, slots=True)
class LockState:
    """The lock as one generation's file tells it. ``on_stamp_until`` is set while the endpoint may be working.

    Its moments are by the clock of the machine that wrote them; ``stamp_ahead`` is by how much the stamp's clock was
    ahead of that one.
    """

    generation: int
    run_id: str
    owner: str
    held: bool
    beat: int
    beat_at: datetime | None
    on_stamp_until: datetime | None
    cool_down_until: datetime | None
    stamp_ahead: timedelta | None = None


class StampLock:
    """The lock of one stamp, as one run takes, keeps and releases it."""

    def __init__(
        self,
        store: Store,
        stamp: str,
        run_id: str,
        *,
        settings: LockSettings,
        now: Callable[[], datetime],
        wait: Callable[[float], bool],
        on_lost: Callable[[str], None],
        is_over: Callable[[str], bool] = lambda run_id: False,
        ahead: Callable[[], timedelta | None] = lambda: None,
    ) -> None:
        """
        Args:
            wait: pauses for seconds and tells whether the run is to give up meanwhile.
            is_over: whether a run is known to have ended, with nothing of it left on the stamp: a lock that it could
                not give back holds nobody up.
            ahead: by how much the stamp's clock is ahead of this machine's, where the stamp tells it now. A run that
                was detached shows no life: its lock holds by time alone, and the clocks of two jump boxes may be hours
                apart; the stamp's clock is the one that both can ask.
        """
        self._store = store
        self._stamp = stamp
        self._folder = f"{LOCK_FOLDER}/{_as_name(stamp)}"
        self._run_id = run_id
        self._settings = settings
        self._now = now
        self._wait = wait
        self._on_lost = on_lost
        self._is_over = is_over
        self._ahead = ahead
        self._promised_ahead: timedelta | None = None
        self._generation = 0
        self._beat = 0
        self._on_stamp_until: datetime | None = None
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, *, break_lock: bool = False) -> None:
        """Takes the lock, or takes it back where this run holds it already, and starts its heartbeat.

        Args:
            break_lock: takes it from another holder; the operator has made sure that nothing runs.

        Raises:
            StampBusyError: another run has it, or the stamp cools down; ``until`` of its fields says how long at most.
            StoreError: the store cannot be read or written.
        """
        current = self._current()
        mine = current is not None and current.held and current.run_id == self._run_id
        if current is not None and mine:
            self._generation, self._beat = current.generation, current.beat
            self._on_stamp_until, self._promised_ahead = current.on_stamp_until, current.stamp_ahead
            self._write_heartbeat()
        else:
            if current is not None and not break_lock and not (current.held and self._is_over(current.run_id)):
                self._refuse_if_busy(current)
            self._take((current.generation if current else 0) + 1)
            if current is not None and current.held and not break_lock:
                self._give_way_if_alive(current)
        self._ended.clear()
        self._thread = threading.Thread(target=self._keep, name="stamp-lock", daemon=True)
        self._thread.start()

    def expect_work_until(self, moment: datetime) -> None:
        """Writes when the collection will have ended on the stamp at the latest: until then nobody else may start,
        whether this process lives or not. Called before the command is sent.

        Raises:
            StampBusyError: another run has taken the lock meanwhile: this process stood still for so long.
            StoreError: the store cannot be read or written.
        """
        self._on_stamp_until, self._promised_ahead = moment, self._ahead()
        self._write_heartbeat()
        if self._highest() != self._generation:
            self._on_stamp_until = None
            self._write_heartbeat()
            raise self._lost_to(self._current())

    def leave(self) -> None:
        """Ends the heartbeat and leaves the lock held: the endpoint goes on, another process will attach."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def release(self, *, cool_down_until: datetime | None = None) -> None:
        """Gives the lock back; with a time, nobody may start on this stamp before that.

        A lock that was broken meanwhile is left to its new holder.
        """
        self.leave()
        if self._generation == 0 or self._highest() != self._generation:
            return
        self._promised_ahead = self._ahead() if cool_down_until is not None else None
        self._replace({"held": False, "on_stamp_until": None, "cool_down_until": _text(cool_down_until)})
        for generation in self._generations():
            if generation < self._generation:
                self._store.remove(self._path(generation))

    def give_back(self, *, cool_down_until: datetime | None) -> None:
        """Releases the lock where this run holds it by what is written there, taken by this process or not.

        Raises:
            StoreError: the store cannot be read or written.
        """
        current = self._current()
        if current is not None and current.held and current.run_id == self._run_id:
            self._generation, self._beat = current.generation, current.beat
            self.release(cool_down_until=cool_down_until)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _refuse_if_busy(self, current: LockState) -> None:
        now = self._now()
        if not current.held:
            rests_until = self._here(current, current.cool_down_until)
            if rests_until is not None and rests_until > now:
                raise StampBusyError(
                    stamp=self._stamp,
                    detail=f"run {current.run_id} was stopped; it cools down until {_show(rests_until)}",
                    fix="Wait until then, or use --queue, which waits.",
                    until=rests_until,
                    owner=current.owner,
                )
            return
        works_until = self._here(current, current.on_stamp_until)
        if works_until is not None and works_until > now:
            raise StampBusyError(
                stamp=self._stamp,
                detail=f"run {current.run_id} of {current.owner} collects from it,"
                f" until {_show(works_until)} at the latest",
                fix="Wait for it (--queue), attach to it there, or break its lock with --break-lock when you know that"
                " nothing runs on the stamp.",
                until=works_until,
                owner=current.owner,
            )
        if self._shows_life(current):
            raise StampBusyError(
                stamp=self._stamp,
                detail=f"run {current.run_id} of {current.owner} is about to collect from it",
                fix="Wait for it (--queue).",
                until=None,
                owner=current.owner,
            )

    def _here(self, current: LockState, moment: datetime | None) -> datetime | None:
        """A moment that the holder wrote, by this machine's clock. Where the stamp that both can ask for the time does
        not answer now, it has not come yet: nothing can be collected there either."""
        if moment is None or current.stamp_ahead is None:
            return moment
        ahead = self._ahead()
        if ahead is None:
            return max(moment, self._now() + _UNTIL_IT_ANSWERS)
        try:
            return moment + current.stamp_ahead - ahead
        except OverflowError:  # nobody's honest clock
            return moment

    def _shows_life(self, current: LockState) -> bool:
        """Watches the heartbeat for a while: clocks of two jump boxes may differ, a beat that changes cannot lie."""
        waited_s = 0.0
        while waited_s < self._settings.heartbeat_s * _HEARTBEATS_MISSED:
            if self._wait(min(self._settings.poll_s, self._settings.heartbeat_s)):
                return True
            waited_s += min(self._settings.poll_s, self._settings.heartbeat_s)
            seen = self._read(current.generation)
            if seen is None or not seen.held:
                return False
            if seen.beat != current.beat:
                return True
        return False

    def _take(self, generation: int) -> None:
        self._on_stamp_until = self._promised_ahead = None
        self._generation = generation
        try:
            self._put(generation, self._document({}), replace=False)
        except StoreExistsError:
            self._generation = 0
            raise self._lost_to(self._current()) from None

    def _give_way_if_alive(self, holder: LockState) -> None:
        """A holder that seemed dead may have woken up just now. It writes its sign of life and then looks for a newer
        generation; here the newer generation was made first and its sign of life is looked for: at least one sees the
        other."""
        seen = self._read(holder.generation)
        if seen is not None and seen.held and seen.beat != holder.beat:
            self._store.remove(self._path(self._generation))
            self._generation = 0
            raise self._lost_to(seen)

    def _lost_to(self, winner: LockState | None) -> StampBusyError:
        return StampBusyError(
            stamp=self._stamp,
            detail=f"run {winner.run_id} of {winner.owner} was faster" if winner else "another run was faster",
            fix="Wait for it (--queue).",
            until=winner.on_stamp_until if winner else None,
            owner=winner.owner if winner else None,
        )

    def _keep(self) -> None:
        while not self._ended.wait(self._settings.heartbeat_s):
            try:
                if self._highest() != self._generation:
                    self._on_lost("the lock of this stamp was broken by another run")
                    return
                self._write_heartbeat()
            except StoreError as error:
                # The line may come back; a lock that shows no life is still kept by `on_stamp_until`.
                self._on_lost(f"the heartbeat of the lock could not be written: {error}")

    def _write_heartbeat(self) -> None:
        self._beat += 1
        self._replace({})

    def _replace(self, changes: Mapping[str, Any]) -> None:
        with self._writing:
            self._put(self._generation, self._document(changes), replace=True)

    def _document(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "stamp": self._stamp,
            "run": self._run_id,
            "owner": owner_name(),
            "held": True,
            "beat": self._beat,
            "beat_at": _text(self._now()),
            "on_stamp_until": _text(self._on_stamp_until),
            "cool_down_until": None,
            "stamp_clock_ahead_s": self._promised_ahead.total_seconds() if self._promised_ahead is not None else None,
            **changes,
        }

    def _put(self, generation: int, document: Mapping[str, Any], *, replace: bool) -> None:
        data = json.dumps(document, indent=1).encode()
        with self._store.open_write(self._path(generation), len(data), replace=replace) as writer:
            writer.write(data)
            writer.commit()

    def _path(self, generation: int) -> str:
        return _path(self._folder, generation)

    def _generations(self) -> list[int]:
        return _generations(self._store, self._folder)

    def _highest(self) -> int:
        return max(self._generations(), default=0)

    def _current(self) -> LockState | None:
        highest = self._highest()
        return self._read(highest) if highest else None

    def _read(self, generation: int) -> LockState | None:
        return _read(self._store, self._folder, generation)


def read_lock(store: Store, stamp: str) -> LockState | None:
    """The lock of a stamp as it stands, without taking it or waiting for it; ``None`` where there has never been one.

    Raises:
        StoreError: the store cannot be read.
    """
    folder = f"{LOCK_FOLDER}/{_as_name(stamp)}"
    highest = max(_generations(store, folder), default=0)
    return _read(store, folder, highest) if highest else None


def owner_name() -> str:
    """Who this process is, for people at another jump box."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such user in the system's list, or no name in the environment
        user = "unknown"
    return f"{user}@{socket.gethostname()} (process {os.getpid()})"


def _path(folder: str, generation: int) -> str:
    return f"{folder}/{generation:08d}.json"


def _generations(store: Store, folder: str) -> list[int]:
    found = []
    for entry in store.list(folder, on_unsafe=lambda error: None):
        number = entry.path.rsplit("/", 1)[-1].removesuffix(".json")
        if number.isascii() and number.isdecimal() and len(number) <= 12:
            found.append(int(number))
    return found


def _read(store: Store, folder: str, generation: int) -> LockState | None:
    try:
        with store.open_read(_path(folder, generation)) as reader:
            buffer = memoryview(bytearray(min(reader.size_bytes, _LARGEST_DOCUMENT_BYTES)))
            filled = 0
            while filled < len(buffer) and (count := reader.readinto(buffer[filled:])):
                filled += count
    except StoreNotFoundError:
        return None
    return _parse(generation, bytes(buffer[:filled]))


def _parse(generation: int, data: bytes) -> LockState:
    """A file that cannot be read counts as held and without life: it is broken by time, never ignored."""
    try:
        document = json.loads(data)
        return LockState(
            generation=generation,
            run_id=str(document["run"])[:100],
            owner=str(document["owner"])[:200],
            held=bool(document["held"]),
            beat=int(document["beat"]),
            beat_at=_moment(document["beat_at"]),
            on_stamp_until=_moment(document["on_stamp_until"]),
            cool_down_until=_moment(document["cool_down_until"]),
            stamp_ahead=_span(document.get("stamp_clock_ahead_s")),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return LockState(generation, "unknown", "an unreadable lock file", True, -1, None, None, None)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _span(seconds: float | None) -> timedelta | None:
    return timedelta(seconds=seconds) if seconds is not None else None


def _text(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else None


def _show(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _as_name(stamp: str) -> str:
    """The stamp's name as part of a path: case and unusual characters must not make two locks of one stamp."""
    return "".join(each if each.isascii() and (each.isalnum() or each in "-_") else "-" for each in stamp.casefold())[
        :60
    ]
