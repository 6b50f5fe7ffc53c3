"""The locks of one run: one in every place that it writes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from bridge.collection._lock import LockSettings, StampLock
from bridge.errors import StampBusyError, StoreAccessError, StoreError
from bridge.store import Store


class StampLocks:
    """Takes, keeps and gives back the locks of a stamp, all or none."""

    def __init__(
        self,
        stamp: str,
        run_id: str,
        stores: Callable[[], Iterable[Store]],
        *,
        settings: LockSettings,
        now: Callable[[], datetime],
        wait: Callable[[float], bool],
        warn: Callable[[str], None],
        is_over: Callable[[str], bool],
        ahead: Callable[[], timedelta | None] = lambda: None,
    ) -> None:
        self._stamp = stamp
        self._run_id = run_id
        self._stores = stores
        self._settings = settings
        self._now = now
        self._wait = wait
        self._warn = warn
        self._is_over = is_over
        self._ahead = ahead
        self._held: list[StampLock] = []
        self._away: list[Store] = []
        self._owed: list[tuple[StampLock, datetime | None]] = []
        self._tried = False
        self._complete = False

    def require(self) -> None:
        """Makes sure that they are held before a collection is started.

        Raises:
            StampBusyError: another run has one of them, or the stamp cools down.
            StoreError: a place cannot be reached.
        """
        if not self._complete:
            self.acquire(break_lock=False)

    def acquire(self, *, break_lock: bool) -> None:
        """Takes them in an order that is the same for everybody; where one is refused, none is kept.

        A place that does not let its lock be read (a SAS without read) has none, which is warned of.

        Raises:
            StampBusyError: another run has one of them, or the stamp cools down.
            StoreError: a place cannot be reached.
        """
        try:
            for store in self._in_order():
                self._acquire_one(store, break_lock=break_lock)
        except BaseException:
            self.release(cool_down_until=None)
            raise
        self._tried = self._complete = True

    def take_back(self) -> None:
        """For a run that is under way already: nothing may keep it from its end. Each place is tried by itself; a lock
        that is not to be had is left as it is, and none is given back. A place that was away is tried again by the next
        call."""
        stores = self._away if self._tried else self._in_order()
        self._tried, self._away = True, []
        for store in stores:
            try:
                self._acquire_one(store, break_lock=False)
            except StampBusyError as error:
                self._warn(f"the lock of this stamp could not be taken back: {error}")
            except StoreError as error:
                self._away.append(store)
                self._warn(f"the lock of this stamp could not be taken back: {error}")

    def expect_work_until(self, moment: datetime) -> None:
        for lock in self._held:
            lock.expect_work_until(moment)

    def leave(self) -> None:
        """Ends the heartbeats and leaves the locks held; those that were to be given back are tried once more."""
        for lock in self._held:
            lock.leave()
        while self._owed:
            lock, cool_down_until = self._owed.pop()
            try:
                lock.give_back(cool_down_until=cool_down_until)
            except StoreAccessError:
                continue  # none is kept where it may not be read
            except StoreError as error:
                self._warn(
                    f"the lock of this stamp could not be given back ({error}): other jump boxes see the stamp as busy"
                    " until the collection must have ended, or take the lock with --break-lock"
                )

    def release(self, *, cool_down_until: datetime | None, whoever_took_them: bool = False) -> None:
        """Gives them back; with ``whoever_took_them`` also those that a process took which was killed since."""
        if whoever_took_them and not self._tried:
            self._away = self._in_order()
        while self._held:
            lock = self._held.pop()
            try:
                lock.release(cool_down_until=cool_down_until)
            except StoreError:  # tried once more at the end of the run, and said then
                self._owed.append((lock, cool_down_until))
        while self._away:
            self._owed.append((self._lock_in(self._away.pop()), cool_down_until))

    def _in_order(self) -> list[Store]:
        return sorted(self._stores(), key=lambda each: each.location.casefold())

    def _acquire_one(self, store: Store, *, break_lock: bool) -> None:
        lock = self._lock_in(store)
        try:
            lock.acquire(break_lock=break_lock)
        except StoreAccessError as error:
            self._warn(f"no lock can be kept in {store.location}, other jump boxes do not see this run: {error}")
        else:
            self._held.append(lock)

    def _lock_in(self, store: Store) -> StampLock:
        return StampLock(
            store,
            self._stamp,
            self._run_id,
            settings=self._settings,
            now=self._now,
            wait=self._wait,
            on_lost=self._warn,
            is_over=self._is_over,
            ahead=self._ahead,
        )
