"""Copies a finished bundle to another store: checked against its manifest on the way, ``bagit.txt`` last of all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.bundle import DECLARATION, Bundle, FindingKind, Verdict, VerificationReport, read_bundle, verify
from bridge.collection._events import DeliveryProgress, Event, Waiting, Warned
from bridge.collection._journal import Journal
from bridge.collection._listing import Listing
from bridge.collection._parts import open_place
from bridge.collection._plan import PAYLOAD
from bridge.collection._preflight import refuse_a_bundle, refuse_a_folder_of_nowhere
from bridge.collection._request import Place
from bridge.collection._settings import Settings
from bridge.collection._work import Control, cancelling
from bridge.errors import (
    BridgeError,
    DeliveryFailedError,
    InterruptedRunError,
    JournalError,
    NoSuchPlaceError,
    NotABundleError,
    StoreAccessError,
    StoreAuthenticationError,
    StoreError,
    StoreNotFoundError,
    UnsafePathError,
    UsageError,
    VerificationFailedError,
)
from bridge.secrets import Credential, Secret
from bridge.store import Store, check_path, lies_within
from bridge.store.transfer import (
    SILENT_S,
    FileFinished,
    Note,
    Paused,
    Progress,
    Repairing,
    Retrying,
    TransferEvent,
    TransferItem,
    TransferJournal,
    TransferResult,
    transfer,
)

_TAG_MANIFEST = "tagmanifest-sha256.txt"
_SENT_AGAIN = {
    FindingKind.MISSING,
    FindingKind.WRONG_SIZE,
    FindingKind.CHANGED,
    FindingKind.UNREADABLE,
    FindingKind.NOT_SEALED,
}
_FOREIGN = {FindingKind.UNEXPECTED, FindingKind.UNSAFE_PATH}


@dataclass(frozen=True, slots=True)
class Delivered:
    """A bundle that is whole in another store.

    ``files_skipped`` were there already, whole; with what was there of others they make ``bytes_there``. ``left_out``
    lie beside the payload, or have names that are not safe, and are no part of the bundle. ``unchecked`` says why the
    copy could not be looked at afterwards, where the store forbids it; every file was confirmed by the service all the
    same.
    """

    bundle: str
    bundle_name: str
    bundle_id: str
    files: int
    size_bytes: int
    bytes_sent: int
    files_skipped: int
    bytes_there: int = 0
    left_out: tuple[str, ...] = ()
    unchecked: str | None = None

    def to_json(self) -> dict[str, Any]:
        """``data`` of the ``--json`` document of ``deliver``."""
        return {name: getattr(self, name) for name in self.__slots__} | {"left_out": list(self.left_out)}


def deliver(
    bundle: Place,
    destination: Place,
    *,
    source_access: Credential | Secret | None = None,
    target_access: Credential | Secret | None = None,
    state_dir: Path,
    on_event: Callable[[Event], None] | None = None,
    control: Control | None = None,
    settings: Settings | None = None,
    open_store: Callable[[Place, Credential | Secret | None], Store] = open_place,
) -> Delivered:
    """Copies a sealed bundle below ``destination``, under its own name; a second call goes on from the first.

    Args:
        bundle: the bundle itself (its folder, with ``bagit.txt`` in it).
        destination: where its copy will lie beside others.
        source_access: credential or SAS of the bundle's store.
        target_access: credential or SAS of the destination.
        state_dir: where the journal is.

    Raises:
        NotABundleError: there is no sealed bundle.
        UsageError: the destination is the folder that the bundle lies in, or lies in the bundle.
        PreflightError: the destination is a bundle itself, or a folder in one that is not there.
        StoreAuthenticationError: the secret of one of the places is refused before anything has begun.
        NoSuchPlaceError: there is no such share or container.
        DeliveryFailedError: the copy could not be finished, or another bundle of that name is there.
        VerificationFailedError: the bundle, or what arrived, is not what its manifest says.
        StoreError: the bundle's store cannot be read.
        InterruptedRunError: ``control`` asked for it while files were on their way; what has arrived is kept.
        KeyboardInterrupt: raised by a signal handler while a place was looked at, before or after (``breakable``).
        JournalError: the journal cannot be used.
    """
    settings = settings or Settings()
    control = control or Control()
    name = _name_of(bundle)
    with ExitStack() as opened:
        with control.breakable():
            source = open_store(bundle, source_access)
            opened.callback(source.close)
            if destination.kind == "folder":
                refuse_a_folder_of_nowhere(Path(destination.text))
            target_root = open_store(destination, target_access)
            opened.callback(target_root.close)
            sealed = read_bundle(source)
            target = target_root.at(name)
            _refuse_itself(source, target)
        journal = opened.enter_context(Journal(state_dir))
        return _Delivery(
            sealed,
            source=source,
            target_root=target_root,
            target=target,
            name=name,
            journal=journal,
            settings=settings,
            tell=on_event or _nobody,
            control=control,
        ).run()


def _refuse_itself(source: Store, target: Store) -> None:
    if not lies_within(target.location, source.location):
        return
    if lies_within(source.location, target.location):
        raise UsageError(
            detail=f"{source.location} lies there already.",
            fix="Give another place, or check this one: 'pep-bridge verify'.",
        )
    raise UsageError(
        detail=f"{target.location} lies in the bundle itself, which would no longer verify.",
        fix="Give a place outside of it.",
    )


class _Delivery:
    def __init__(
        self,
        sealed: Bundle,
        *,
        source: Store,
        target_root: Store,
        target: Store,
        name: str,
        journal: Journal,
        settings: Settings,
        tell: Callable[[Event], None],
        control: Control,
    ) -> None:
        self._sealed = sealed
        self._source = source
        self._target_root = target_root
        self._target = target
        self._name = name
        self._journal = journal
        self._settings = settings
        self._tell = tell
        self._control = control
        self._files = 0
        self._size_bytes = 0
        self._left_out: list[str] = []

    def run(self) -> Delivered:
        with self._control.breakable():
            self._refuse_another_bundle()
            with suppress(StoreError):  # what is wrong with the place itself is told by the delivery
                refuse_a_bundle(self._target_root)
        self._journal.note_delivery(self._name, self._target.location, "begun")
        try:
            result = self._copy()
            with self._control.breakable():
                unchecked = self._check()
        except BridgeError as error:
            note_failure(self._journal, self._name, self._target.location, error, self._warn)
            raise
        self._journal.note_delivery(self._name, self._target.location, "done")
        self._memory().remove()  # it would only hide that the copy went later
        return Delivered(
            bundle=self._target.location,
            bundle_name=self._name,
            bundle_id=self._sealed.bundle_id,
            files=self._files,
            size_bytes=self._size_bytes,
            bytes_sent=result.bytes_sent,
            files_skipped=result.skipped,
            bytes_there=result.bytes_there,
            left_out=tuple(self._left_out),
            unchecked=unchecked,
        )

    def _refuse_another_bundle(self) -> None:
        try:
            there = read_bundle(self._target)
        except (NoSuchPlaceError, StoreAuthenticationError):
            raise  # nothing has begun; and to log on again and again would lock the account
        except (NotABundleError, StoreNotFoundError, StoreAccessError):
            return  # not there yet, not whole yet, or not readable with what was given
        except StoreError as error:
            raise self._failed(error) from error
        if there.bundle_id != self._sealed.bundle_id:
            raise DeliveryFailedError(
                store=self._target.location,
                source=self._source.location,
                detail=f"another bundle of that name is there (id {there.bundle_id})",
                fix="Deliver to another place, or move the other bundle away.",
            )

    def _copy(self) -> TransferResult:
        with self._memory() as memory, Listing() as files:
            try:
                with self._control.breakable():
                    self._list_into(files)
                    declaration = self._item(DECLARATION, None)
                with cancelling(lambda: self._control.asked) as cancel:
                    return transfer(
                        self._source,
                        self._target,
                        files,
                        last=[declaration],
                        settings=self._settings.transfer,
                        journal=memory,
                        on_event=self._show,
                        cancel=cancel,
                    )
            except InterruptedError:
                raise InterruptedRunError(
                    detail="what has arrived is kept", fix="Run the same command again: it goes on from there."
                ) from None
            except DeliveryFailedError as error:
                cause = error.__cause__
                if isinstance(cause, StoreAuthenticationError) and not self._files:
                    raise cause from cause.__cause__  # nothing has begun: the secret is what is wrong
                raise
            except StoreError as error:
                raise self._failed(error) from error

    def _memory(self) -> TransferJournal:
        return open_delivery(self._journal.state_dir, f"{self._name}-{_tag_of(self._target.location)}")

    def _list_into(self, files: Listing) -> None:
        """Payload with the digests of the manifest, and the bundle's other files; nothing that no manifest knows."""
        files.promise((file.path, file.sha256) for file in self._sealed.files())
        own = self._sealed.own_files()
        for entry in self._source.list(on_unsafe=lambda error: self._leave_out(str(error.fields["path"]))):
            if entry.path == DECLARATION:
                continue
            is_payload = entry.path.startswith(f"{PAYLOAD}/")
            if not is_payload and entry.path not in own:
                self._leave_out(entry.path)
                continue
            promised = files.promised_sha256(entry.path)
            if is_payload and promised is None and not self._sealed.unhashed_files:
                raise VerificationFailedError(
                    where=self._source.location,
                    detail=f"{entry.path} is not in its manifest",
                    fix=_another_source(self._source),
                )
            digest = self._sealed.bundle_id if entry.path == _TAG_MANIFEST else promised
            files.find(TransferItem(entry.path, entry.size_bytes, digest, etag=entry.etag))
        count, first = files.missing()
        if count:
            raise VerificationFailedError(
                where=self._source.location,
                detail=f"{first} is missing" + (f", and {count - 1} more" if count > 1 else ""),
                fix=_another_source(self._source),
            )

    def _leave_out(self, name: str) -> None:
        self._left_out.append(name)
        self._warn(f"{name} is no part of the bundle, or not safe to use: it is not delivered")

    def _warn(self, text: str) -> None:
        self._tell(Warned(run_id="", text=text))

    def _item(self, path: str, sha256: str | None) -> TransferItem:
        entry = self._source.stat(path)
        return TransferItem(path, entry.size_bytes, sha256, etag=entry.etag)

    def _check(self) -> str | None:
        """Sizes and counts of the copy; its content was checked on the way."""
        try:
            report = verify(self._target, fast=True)
        except StoreAccessError as error:
            return str(error)
        if report.verdict is Verdict.FAILED:  # not merely unproven: what nobody could hash is no fault of the copy
            raise self._not_the_bundle(report)
        return None

    def _not_the_bundle(self, report: VerificationReport) -> VerificationFailedError:
        """What is wrong with the copy, with what helps: the same command sends what did not arrive, and no more."""
        faults = [finding for finding in report.findings if finding.kind is not FindingKind.UNHASHED]
        foreign = [finding for finding in faults if finding.kind in _FOREIGN]
        did_not_arrive = [finding for finding in faults if finding.kind in _SENT_AGAIN]
        [told, *_] = did_not_arrive or foreign or faults
        if did_not_arrive:
            fix = "Run the same command again: what did not arrive is sent once more."
        elif foreign:
            more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
            fix = f"Remove {told.path}{more} there and run the same command again, or deliver to another place."
        else:
            fix = f"Run the same command again. If it says so again: {_another_source(self._source)}"
        return VerificationFailedError(where=self._target.location, detail=f"{told.path}: {told.detail}", fix=fix)

    def _show(self, event: TransferEvent) -> None:
        if isinstance(event, FileFinished):
            self._files += 1
            self._size_bytes += event.result.size_bytes
        elif (shown := show_transfer("", event, self._target.location)) is not None:
            self._tell(shown)

    def _failed(self, error: BridgeError) -> DeliveryFailedError:
        return DeliveryFailedError(
            store=self._target.location,
            source=self._source.location,
            detail=str(error),
            fix=error.advice or "Run the same command again: what has arrived is kept.",
        )


def note_failure(journal: Journal, name: str, location: str, error: BridgeError, warn: Callable[[str], None]) -> None:
    """Journals a delivery that failed. Where that fails too, the first failure is still the one that counts."""
    try:
        journal.note_delivery(name, location, "failed", error=str(error))
    except JournalError as second:
        warn(f"the failure of the delivery could not be written down: {second}")


def open_delivery(state_dir: Path, name: str) -> TransferJournal:
    """What this machine remembers of a delivery that is under way."""
    folder = state_dir / "deliveries"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return TransferJournal(folder / f"{name}.sqlite")


def show_transfer(run_id: str, event: TransferEvent, target: str) -> Event | None:
    """What a run tells of its transfer to a place."""
    match event:
        case Progress():
            return DeliveryProgress(
                run_id=run_id,
                bytes_done=event.bytes_confirmed,
                bytes_total=event.bytes_total or 0,
                rate_bytes_per_s=event.rate_bits_per_s / 8,
                seconds_left=event.time_left_s,
                seconds_left_low=event.time_left_low_s,
                seconds_left_high=event.time_left_high_s,
                bytes_there=event.bytes_there,
                detail=_trouble(event, target),
            )
        case Retrying():
            return Warned(run_id=run_id, text=f"{event.path}: {event.reason}; tried again in {event.wait_s:.0f} s")
        case Repairing():
            return Warned(run_id=run_id, text=f"{event.path} is sent again, it did not arrive whole: {event.reason}")
        case Note():
            return Warned(run_id=run_id, text=event.text)
        case Paused():
            reason = f"quiet hours until {event.until:%H:%M}" if event.until else "paused"
            return Waiting(run_id=run_id, reason=reason, until=event.until)
        case _:
            return None


def _trouble(event: Progress, target: str) -> str:
    if event.retrying:
        return f"retrying {', '.join(event.retrying[:3])}"
    if event.silent_s >= SILENT_S and not (event.complete or event.paused_until):
        return f"nothing has come through to {target} for {event.silent_s:.0f} s"
    return ""


def _another_source(source: Store) -> str:
    """What to do about a bundle that is not what its manifest says."""
    verb = f"pep-bridge verify {source.location}"
    return f"Deliver from a copy that verifies, or collect again ('{verb}' shows all that is wrong)."


def _name_of(bundle: Place) -> str:
    name = re.split(r"[/\\]", bundle.location.rstrip("/\\"))[-1]
    try:
        return check_path(name, bundle.location)
    except UnsafePathError as error:
        raise NotABundleError(where=bundle.location, detail=str(error)) from error


def _tag_of(location: str) -> str:
    return hashlib.sha256(location.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _nobody(event: Event) -> None:
    """Nobody listens."""
