"""From what landed to a bundle: hash, describe, seal, deliver; each safe to do again after a crash."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.bundle import (
    DECLARATION,
    BagInfo,
    FileDigest,
    SealedBundle,
    Unhashed,
    read_bundle,
    render_report,
    seal,
)
from bridge.collection._deliver import open_delivery, show_transfer
from bridge.collection._documents import BUNDLE_FILES, DATA_WARNING, SOFTWARE, collection_document, encode
from bridge.collection._events import Event, HashProgress
from bridge.collection._journal import RunRecord
from bridge.collection._payload import Payload
from bridge.collection._plan import PAYLOAD
from bridge.collection._ports import Assess
from bridge.collection._settings import Settings
from bridge.errors import (
    InterruptedRunError,
    NotABundleError,
    SealingError,
    SourceMismatchError,
    StoreAccessError,
    StoreError,
    StoreNotFoundError,
    StrangersBesideError,
    UnsafePathError,
)
from bridge.secrets import Scrubber
from bridge.store import ReadableStore, Store
from bridge.store.transfer import (
    FileFinished,
    PatientReads,
    Paused,
    Retrying,
    TransferEvent,
    comes_over_a_line,
    hash_files,
    transfer,
)

_MOST_STRANGERS_NAMED = 20
_ASSESSED = "assessed.json"
_TELL_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Finished:
    """A sealed bundle and what it covers."""

    bundle_id: str
    files: int
    size_bytes: int
    complete: bool
    coverage: Mapping[str, Any]
    unchecked: tuple[str, ...] = ()
    unchecked_files: int = 0


@dataclass(frozen=True, slots=True)
class Finisher:
    """Seals one run's bundle. The documents are kept in the run's folder until they are sealed with the payload."""

    run: RunRecord
    run_dir: Path
    settings: Settings
    scrubber: Scrubber
    assess: Assess
    emit: Callable[[Event], None]
    warn: Callable[[str], None]
    warn_once: Callable[[str], None]
    cancel: threading.Event

    @property
    def session_log(self) -> Path:
        return self.run_dir / "session.jsonl"

    def seal_in_place(self, bundle: Store, *, may_be_unreadable: bool = False) -> Finished:
        """Hashes the payload where it stands, reading each byte once, and seals.

        A file that lands meanwhile makes the seal refuse; the payload is then looked at anew.
        """
        if (sealed := self._sealed_already(bundle)) is not None:
            return self._finished(sealed, ())
        self._refuse_planted(bundle)
        self._name_strangers(bundle)
        attempt = 1
        while True:
            try:
                with Payload() as payload:
                    self._list(bundle, payload)
                    unhashed = self._hash(bundle, payload, may_be_unreadable=may_be_unreadable)
                    documents = self._describe(bundle, payload.digests)
                    sealed = seal(
                        bundle, digests=payload.digests, documents=documents, info=self._info(), unhashed=unhashed
                    )
            except SealingError as error:
                if attempt >= self.settings.seal_attempts:
                    raise
                attempt += 1
                self.warn(f"sealing starts again: {error}")
                continue
            return self._finished(sealed, unhashed)

    def deliver_and_seal(self, staging: Store, target: Store, state_dir: Path) -> Finished:
        """Hashes and delivers in one pass, then seals the staging copy and the delivered one with the same bytes.

        Raises:
            DeliveryFailedError: it can be called again and goes on where it was.
        """
        if (delivered := self._sealed_already(target)) is not None:  # killed later: staging may be half removed
            left = _unsafe_names(staging) + sum(1 for _ in self._strangers(staging))
            return _with_left(self._finished(delivered, ()), left)
        if self._sealed_already(staging) is None:
            self._refuse_planted(staging)
        attempt = 1
        while True:
            try:
                with Payload() as payload:
                    unsafe = self._list(staging, payload)
                    self._transfer(staging, target, payload, state_dir)
                    left = unsafe + self._name_strangers(staging)
                    self._seal_staging(staging, payload)
                    return _with_left(self._finished(self._seal_known(target, payload), ()), left)
            except (SealingError, SourceMismatchError) as error:
                if attempt >= self.settings.seal_attempts:
                    raise
                attempt += 1
                self.warn(f"the delivery looks again at what landed: {error}")

    def _list(self, bundle: Store, payload: Payload) -> int:
        """Enters the payload; returns how many files were left where they are because of their names."""
        unsafe = 0

        def meet(error: UnsafePathError) -> None:
            nonlocal unsafe
            unsafe += 1
            self._warn_unsafe(error)

        payload.list(bundle.list(PAYLOAD, on_unsafe=meet))
        return unsafe

    def _seal_staging(self, staging: Store, payload: Payload) -> None:
        """Seals the staging copy. Where something else than payload stands in the way, only that copy goes without."""
        try:
            self._seal_known(staging, payload)
        except SealingError as error:
            there = staging.list(PAYLOAD, on_unsafe=lambda _: None)
            if any(payload.entry(entry.path) is None for entry in there):
                raise
            self.warn(f"the staging copy is not sealed: {error}")

    def _transfer(self, staging: Store, target: Store, payload: Payload, state_dir: Path) -> None:
        """Delivers the payload, and learns its digests on the way."""

        def note(event: TransferEvent) -> None:
            if isinstance(event, FileFinished):
                payload.hashed(event.result.path, event.result.size_bytes, event.result.sha256)
            elif (shown := show_transfer(self.run.id, event, target.location)) is not None:
                self.emit(shown)

        with open_delivery(state_dir, self.run.bundle_name) as journal:
            try:
                transfer(
                    staging,
                    target,
                    payload.entries,
                    settings=self.settings.transfer,
                    journal=journal,
                    on_event=note,
                    cancel=self.cancel,
                )
            except InterruptedError:
                self._raise_if_interrupted()
                raise

    def _seal_known(self, bundle: Store, payload: Payload) -> SealedBundle:
        """Seals a bundle whose payload was hashed on its way."""
        if (sealed := self._sealed_already(bundle)) is not None:
            return sealed
        documents = self._describe(bundle, payload.digests)
        return seal(bundle, digests=payload.digests, documents=documents, info=self._info())

    def forget_delivery(self, state_dir: Path) -> None:
        """The bundle has arrived: what was remembered of its way would only hide that a copy went later."""
        open_delivery(state_dir, self.run.bundle_name).remove()

    # -- what is not ours ---------------------------------------------------------------------------------------------

    def _sealed_already(self, bundle: Store) -> SealedBundle | None:
        """What an earlier attempt sealed before it was killed: ``bagit.txt`` is written last. One that stands there
        before this run has described anything is not its own."""
        if not (self.run_dir / _ASSESSED).exists():
            return None
        try:
            bundle.stat(DECLARATION)
        except (StoreNotFoundError, StoreAccessError):
            return None
        try:
            found = read_bundle(bundle)
        except NotABundleError:
            return None
        files, size_bytes = 0, 0
        for entry in bundle.list(PAYLOAD, on_unsafe=lambda error: None):
            files += 1
            size_bytes += entry.size_bytes
        return SealedBundle(found.bundle_id, files, size_bytes, found.unhashed_files)

    def _refuse_planted(self, bundle: Store) -> None:
        """Before the first seal nothing can lie there under a bundle's own names but what the stamp, or somebody else,
        put there: it would be written over, or taken for the bundle's word."""
        if (self.run_dir / _ASSESSED).exists():
            return
        planted = [entry.path for entry in bundle.list(on_unsafe=lambda _: None) if entry.path in BUNDLE_FILES]
        if planted:
            raise StrangersBesideError(where=bundle.location, names=", ".join(planted))

    def _strangers(self, bundle: Store) -> Iterator[str]:
        """Files beside the payload that are no part of a bundle."""
        return (
            entry.path
            for entry in bundle.list(on_unsafe=lambda _: None)
            if not entry.path.startswith(f"{PAYLOAD}/") and entry.path not in BUNDLE_FILES
        )

    def _name_strangers(self, bundle: Store) -> int:
        """Says what lies beside the payload, and how many files that are: they are left where they are."""
        count = 0
        for count, path in enumerate(self._strangers(bundle), 1):
            if count <= _MOST_STRANGERS_NAMED:
                self.warn_once(
                    f"{path} lies beside the payload in {bundle.location}: it is left there, no part of the bundle"
                )
        if (more := count - _MOST_STRANGERS_NAMED) > 0:
            self.warn_once(f"{more} more files lie beside the payload in {bundle.location}; unhashed.json names them")
        return count

    # -- inside -------------------------------------------------------------------------------------------------------

    def _describe(self, bundle: Store, digests: Iterable[FileDigest]) -> Mapping[str, Path]:
        """The bundle's own files, made once for one payload: two copies of a bundle, and a seal that is done again
        after a crash, get the same bytes."""
        folder = self.run_dir / "documents"
        payload = _fingerprint(digests)
        if not (folder / payload).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            complete, coverage = self._assess(bundle)
            (folder / "coverage.json").write_bytes(encode(coverage))
            collection = collection_document(self.run, self.session_log, self.scrubber)
            (folder / "collection.json").write_bytes(collection)
            (folder / "report.html").write_bytes(
                render_report(collection=json.loads(collection), coverage=coverage, digests=digests)
            )
            (self.run_dir / _ASSESSED).write_bytes(encode({"complete": complete, "coverage": coverage}))
            (folder / payload).touch()
        documents = {name: folder / name for name in ("collection.json", "coverage.json", "report.html")}
        if self.session_log.exists():
            documents["session.jsonl"] = self.session_log
        return documents

    def _assess(self, bundle: Store) -> tuple[bool, Mapping[str, Any]]:
        """What is whole and what is missing; while the line is cut nobody can tell, so it is waited for."""

        def note(event: TransferEvent) -> None:
            if (shown := show_transfer(self.run.id, event, bundle.location)) is not None:
                self.emit(shown)

        seen: ReadableStore = bundle
        if comes_over_a_line(bundle):
            seen = PatientReads(bundle, settings=self.settings.transfer, on_event=note, cancel=self.cancel)
        try:
            complete, coverage = self.assess(seen, self.run, self.session_log)
        except InterruptedError:
            self._raise_if_interrupted()
            raise
        return complete, self.scrubber.value(coverage)

    def _info(self) -> BagInfo:
        request = self.run.request
        return BagInfo(
            stamp=self.run.stamp,
            bundle_name=self.run.bundle_name,
            started=self.run.created,
            sealed=datetime.fromisoformat(self.run.facts["sealed"]),
            software=SOFTWARE,
            window=(request.window.since, request.window.until),
            case_number=request.case_number,
            data_handling=DATA_WARNING,
        )

    def _hash(self, bundle: Store, payload: Payload, *, may_be_unreadable: bool) -> list[Unhashed]:
        """Learns the digests of the payload; returns what of it cannot be read."""
        unhashed: list[Unhashed] = []

        def refuse(path: str, error: StoreError) -> None:
            entry = payload.entry(path)
            if entry is None or not (may_be_unreadable and isinstance(error, StoreAccessError)):
                raise error
            unhashed.append(Unhashed(path, entry.size_bytes, "the SAS does not permit reading", entry.md5))

        count = _Count(self.run.id, payload.size_bytes, self.emit, over_line=comes_over_a_line(bundle))
        for done in hash_files(
            bundle,
            payload.entries,
            settings=self.settings.transfer,
            on_bytes=count,
            on_event=count.on_event,
            on_error=refuse,
            cancel=self.cancel,
        ):
            payload.hashed(done.path, done.size_bytes, done.sha256)
        self._raise_if_interrupted()
        if unhashed:
            text = f"{len(unhashed)} files could not be read where they are, so they are not hashed"
            self.warn(text)
        return unhashed

    def _raise_if_interrupted(self) -> None:
        if self.cancel.is_set():
            raise InterruptedRunError(
                detail=f"what arrived of run {self.run.id} is kept",
                fix=f"Go on with 'pep-bridge attach {self.run.id}'.",
            )

    def _finished(self, sealed: SealedBundle, unhashed: Iterable[Unhashed]) -> Finished:
        kept = json.loads((self.run_dir / _ASSESSED).read_bytes())
        return Finished(
            bundle_id=sealed.bundle_id,
            files=sealed.payload_files,
            size_bytes=sealed.payload_bytes,
            complete=bool(kept["complete"]),
            coverage=kept["coverage"],
            unchecked=tuple(file.path for file in unhashed),
            unchecked_files=sealed.unhashed_files,
        )

    def _warn_unsafe(self, error: UnsafePathError) -> None:
        self.warn_once(f"the stamp wrote a name that is not safe to use: {error}")


class _Count:
    """Adds up the bytes that several threads have hashed, and tells of them, and of pauses, a few times a second."""

    def __init__(self, run_id: str, total: int, emit: Callable[[Event], None], *, over_line: bool) -> None:
        self._run_id = run_id
        self._total = total
        self._emit = emit
        self._over_line = over_line
        self._is_paused = False
        self._done = 0
        self._told_at = 0.0
        self._lock = threading.Lock()

    def __call__(self, number: int) -> None:
        with self._lock:
            self._done += number
            if self._done < self._total and time.monotonic() - self._told_at < _TELL_EVERY_S:
                return
            self._tell()

    def on_event(self, event: TransferEvent) -> None:
        """The line rests, or goes on, or is waited for."""
        with self._lock:
            if not isinstance(event, Retrying):
                self._is_paused = isinstance(event, Paused)
            if (shown := show_transfer(self._run_id, event, "")) is not None:
                self._emit(shown)
            self._tell()

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        self._emit(
            HashProgress(
                run_id=self._run_id,
                bytes_done=self._done,
                bytes_total=self._total,
                over_line=self._over_line,
                is_paused=self._is_paused,
            )
        )


def _with_left(finished: Finished, left: int) -> Finished:
    """A bundle beside which files were left where they are, undelivered."""
    return replace(finished, unchecked_files=max(finished.unchecked_files, left))


def _unsafe_names(bundle: Store) -> int:
    count = 0

    def meet(_: UnsafePathError) -> None:
        nonlocal count
        count += 1

    for _ in bundle.list(PAYLOAD, on_unsafe=meet):
        pass
    return count


def _fingerprint(digests: Iterable[FileDigest]) -> str:
    """Of digests that are sorted by path."""
    found = hashlib.sha256()
    for digest in digests:
        found.update(f"{digest.sha256} {digest.size_bytes} {digest.path}\n".encode())
    return found.hexdigest()
