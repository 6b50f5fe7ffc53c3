"""Moves files between any two stores: starts the threads, tells the caller, and says how it ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sized
from contextlib import nullcontext
from typing import Protocol

from bridge.errors import BridgeError, DeliveryFailedError, JournalError, SourceMismatchError, StoreError
from bridge.store._access import LeanContainer
from bridge.store._protocol import Abortable, Entry, PacedReads, Store
from bridge.store.transfer._delivery import Delivery
from bridge.store.transfer._events import EventHandler, Note, TransferItem, TransferResult
from bridge.store.transfer._files import FileCopy
from bridge.store.transfer._journal import TransferJournal
from bridge.store.transfer._line import Line, Stopped
from bridge.store.transfer._settings import TransferSettings
from bridge.store.transfer._tally import Tally

_TELL_EVERY_S = 0.2


class _Route(Protocol):
    def begin(self, items: Iterator[TransferItem], /) -> None: ...
    def work(self) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


def transfer(
    source: Store,
    target: Store,
    items: Iterable[TransferItem | Entry],
    *,
    last: Iterable[TransferItem | Entry] = (),
    settings: TransferSettings | None = None,
    journal: TransferJournal | None = None,
    on_event: EventHandler | None = None,
    cancel: threading.Event | None = None,
) -> TransferResult:
    """Brings files from one store to another, hashing them on the way, and goes on from what an earlier call left.

    Args:
        items: the files, in any order; taken one by one, so a generator may give any number of them.
        last: sent one after the other, and only once every one of ``items`` is confirmed (a bundle's ``bagit.txt``).
        journal: what makes a second call cheap where the target may not be read or listed.
        on_event: called in the calling thread only, about five times a second and for every file.
        cancel: ends the transfer when set; what is under way is lost, what is confirmed stays.

    Raises:
        DeliveryFailedError: the target or the source could not be used; the same call goes on from there.
        SourceMismatchError: files of the source are not what was announced; all others have been delivered.
        JournalError: the journal cannot be used.
        InterruptedError: ``cancel`` was set.
    """
    settings = settings or TransferSettings()
    tell = on_event or (lambda event: None)
    if journal is not None:
        journal.belongs_to(source.location, target.location)
    last_items = [_as_item(item) for item in last]
    bytes_total, files_total = _totals(items, last_items)
    tally = Tally(bytes_total, files_total)
    if journal is not None and journal.set_aside is not None:
        tally.tell(
            Note(
                f"What was remembered of this delivery was damaged: it is kept as {journal.set_aside}, and the target"
                " is asked what it has."
            )
        )
    line = Line(settings, tally.tell)
    delivery = Delivery(source, target, settings, journal, line, tally)
    # A list that can be read twice is looked over before anything is sent.
    names = (item.path for some in (items, last_items) for item in some) if isinstance(items, Sized) else None
    route = _route(delivery, names)
    run = _Run(delivery, route, tell, cancel or threading.Event())
    try:
        with source.paced(line.arriving) if isinstance(source, PacedReads) else nullcontext():
            run.round((_as_item(item) for item in items), line.most_connections)
            for item in last_items:
                if delivery.mismatch_count:
                    break
                run.round(iter([item]), 1)
    finally:
        route.close()
    if delivery.mismatch_count:
        raise SourceMismatchError(where=source.location, detail=_named(delivery))
    tell(tally.progress(line.connections, None, complete=True))
    return tally.result()


def _route(delivery: Delivery, names: Iterable[str] | None) -> _Route:
    readers = max(2, min(4, os.cpu_count() or 2))
    if isinstance(delivery.target, LeanContainer):
        from bridge.store.transfer._container import ContainerUpload  # TLS, XML: sealing a folder needs none of it

        return ContainerUpload(delivery, delivery.target, readers=readers)
    return FileCopy(delivery, names)


class _Run:
    def __init__(self, delivery: Delivery, route: _Route, tell: EventHandler, cancel: threading.Event) -> None:
        self._delivery = delivery
        self._route = route
        self._tell = tell
        self._cancel = cancel
        self._ended = threading.Semaphore(0)

    def round(self, items: Iterator[TransferItem], workers: int) -> None:
        """Sends these files with so many threads; returns when all are confirmed.

        Raises:
            DeliveryFailedError, JournalError, InterruptedError: as ``transfer``.
        """
        delivery = self._delivery
        try:
            self._route.begin(items)
        except StoreError as error:
            raise self._failed(error) from error
        threads: list[threading.Thread] = []
        self._start(threads, workers)
        try:
            while any(thread.is_alive() for thread in threads):
                self._ended.acquire(timeout=_TELL_EVERY_S)
                self._lead()
                self._start(threads, workers)
        finally:
            while any(thread.is_alive() for thread in threads):  # left early: Ctrl-C, or the caller's handler failed
                delivery.line.stopping.set()
                self._abort()
                threads[-1].join(_TELL_EVERY_S)
                threads = [thread for thread in threads if thread.is_alive()]
        self._lead()
        if delivery.failure is not None:
            raise self._failed(delivery.failure) from delivery.failure

    def _start(self, threads: list[threading.Thread], most: int) -> None:
        """As many threads as the line bears by now: one that only waits for its turn costs those that work."""
        if threads and not all(thread.is_alive() for thread in threads):
            return  # there is nothing left to take, or the transfer is ending
        while len(threads) < min(most, self._delivery.line.connections):
            thread = threading.Thread(target=self._work, name=f"transfer-{len(threads)}", daemon=True)
            threads.append(thread)
            thread.start()

    def _lead(self) -> None:
        """What the calling thread does while the others work: read the policy, measure, tell."""
        delivery = self._delivery
        if self._cancel.is_set() and delivery.failure is None:
            delivery.fail(InterruptedError("the transfer was cancelled"))
        if delivery.line.stopping.is_set():
            self._abort()
        delivery.line.refresh()
        if (rate := delivery.tally.sample(paused=delivery.line.paused)) is not None:
            delivery.line.saw_rate(rate)
        for event in delivery.tally.take_events():
            self._tell(event)
        self._tell(delivery.tally.progress(delivery.line.connections, delivery.line.paused_until))

    def _abort(self) -> None:
        """Wakes every thread that waits for one of the stores."""
        self._route.abort()
        if self._delivery.listed is not None:
            self._delivery.listed.abort_reads()
        for store in (self._delivery.source, self._delivery.target):
            if isinstance(store, Abortable):
                store.abort()

    def _work(self) -> None:
        try:
            self._route.work()
        except Stopped:
            pass
        except BaseException as error:  # raised again in the calling thread
            if not self._delivery.line.stopping.is_set():
                self._delivery.fail(error)
        finally:
            self._ended.release()

    def _failed(self, error: BaseException) -> BaseException:
        if isinstance(error, JournalError) or not isinstance(error, BridgeError):
            return error
        return DeliveryFailedError(
            store=self._delivery.target.location,
            source=self._delivery.source.location,
            detail=str(error),
            fix=_and_then_again(error.advice),
            cause=error.name,
        )


def _and_then_again(advice: str) -> str:
    if "same command again" in advice:
        return advice
    again = "un the same command again: what has arrived is kept and not sent again."
    return f"{advice} Then r{again}" if advice else f"R{again}"


def _as_item(item: TransferItem | Entry) -> TransferItem:
    if isinstance(item, TransferItem):
        return item
    return TransferItem(item.path, item.size_bytes, etag=item.etag)


def _totals(items: Iterable[TransferItem | Entry], last: list[TransferItem]) -> tuple[int | None, int | None]:
    """What there is to send, where the list is one that can be read twice."""
    if not isinstance(items, Sized):
        return None, None
    return sum(item.size_bytes for item in items) + sum(item.size_bytes for item in last), len(items) + len(last)


def _named(delivery: Delivery) -> str:
    more = delivery.mismatch_count - len(delivery.mismatches)
    return "; ".join(delivery.mismatches) + (f"; and {more} more" if more else "")
