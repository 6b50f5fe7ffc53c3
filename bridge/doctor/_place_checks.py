"""The places that a run would write to: the SAS, a probe file by the account that the endpoint uses, the space left."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bridge.collection import LockState, Place, Request, Settings, Way, choose_way, read_lock
from bridge.doctor._checks import Check, passed, refused, skipped, warned
from bridge.doctor._forecast import Forecast
from bridge.doctor._subject import Opener, Subject
from bridge.errors import (
    ApiVersionError,
    BridgeError,
    PreflightError,
    SasError,
    SasExpiredError,
    StoreAccessError,
    StoreAuthenticationError,
    StoreError,
    StoreFullError,
    StoreNotFoundError,
    StorePermissionError,
    StoreReadOnlyError,
)
from bridge.secrets import Credential, Secret
from bridge.stamp import Stamp
from bridge.store import SasInfo, Store, StoreSettings, describe_sas, open_store, parse_destination

HUB_API_VERSION = "2019-02-02"
"""The newest that a stamp's own blob service takes (2005 and later; "differences in storage")."""
_OWN_FOLDER = ".pep-bridge"
_LASTING_PROBE = ".pep-bridge/probe"
"""Of one name, the one that `collect` uses: where it may not be deleted there is one, not many."""
_PROBE = b"pep-bridge doctor was here\n"
_CONNECT_TIMEOUT_S = 5.0
_IO_TIMEOUT_S = 15.0
_PATIENCE = Settings()


@dataclass(frozen=True, slots=True)
class PlacesLook:
    """``usable``: every place can be written. ``locks`` are those of the stamp that stand beside the bundles."""

    checks: tuple[Check, ...]
    usable: bool
    locks: tuple[tuple[str, LockState], ...]


def look_at_places(subject: Subject, forecast: Forecast | None, now: Callable[[], datetime]) -> PlacesLook:
    """One place after the other: an account that was refused once is not tried again (lock-out)."""
    if subject.request is None:
        fix = "Give --to DEST, or set 'to' of [collection] in the configuration."
        return PlacesLook((skipped("destination", "none is named", fix),), usable=False, locks=())
    checks: list[Check] = [_look_at_way(subject.request)]
    locks: list[tuple[str, LockState]] = []
    refused_accounts: set[str] = set()
    usable = True
    for name, place, opener in subject.places:
        visit = _Visit(subject.stamp, subject.request, name=name, place=place, forecast=forecast, now=now)
        found = visit.make(opener, refused_accounts)
        checks += found
        usable = usable and visit.usable
        if visit.lock is not None:
            locks.append((place.location, visit.lock))
    return PlacesLook(tuple(checks), usable, tuple(locks))


def _look_at_way(request: Request) -> Check:
    try:
        way = choose_way(request)
    except PreflightError as error:
        return refused("way", error)
    how = {
        Way.IN_PLACE: "the endpoint writes into the bundle at the destination",
        Way.STAGED: "the endpoint writes to the staging place, this machine sends it on",
        Way.DIRECT: "the endpoint writes to the container itself",
    }
    return passed("way", how[way])


class _Visit:
    """The checks of one place, in an order in which each needs the one before."""

    def __init__(
        self,
        stamp: Stamp,
        request: Request,
        *,
        name: str,
        place: Place,
        forecast: Forecast | None,
        now: Callable[[], datetime],
    ) -> None:
        self._stamp = stamp
        self._request = request
        self._name = name
        self._place = place
        self._forecast = forecast
        self._now = now
        self.usable = False
        self.lock: LockState | None = None

    def make(self, opener: Opener, refused_accounts: set[str]) -> list[Check]:
        checks: list[Check] = []
        if isinstance(opener, BridgeError):
            return [skipped(self._name, "not tried: what opens it could not be had"), self._no_space()]
        if isinstance(opener, Secret):
            sas = self._look_at_sas(opener)
            checks.append(sas)
            if sas.state == "failed":
                return [*checks, skipped(self._name, "not tried: the SAS cannot be used"), self._no_space()]
        account = opener.username.casefold() if isinstance(opener, Credential) else ""
        if account and account in refused_accounts:
            evidence = f"not tried: {opener.username} was refused already" if isinstance(opener, Credential) else ""
            return [skipped(self._name, evidence), self._no_space()]
        try:
            store = self._open(opener)
        except BridgeError as error:
            return [*checks, refused(self._name, error), self._no_space()]
        try:
            checks += self._look_inside(store, opener)
        except StoreError as error:
            if isinstance(error, StoreAuthenticationError):
                refused_accounts.add(account)
            checks += [refused(self._name, error, _advice(error)), self._no_space()]
        finally:
            store.close()
        return checks

    def _open(self, opener: Credential | Secret | None) -> Store:
        place = self._place
        settings = StoreSettings(
            connect_timeout_s=_CONNECT_TIMEOUT_S,
            io_timeout_s=_IO_TIMEOUT_S,
            retries=0,
            api_version=place.api_version,
            ca_file=place.ca_file,
            share_encryption=place.encrypt,
        )
        return open_store(
            parse_destination(place.text),
            credential=opener if isinstance(opener, Credential) and place.kind == "share" else None,
            sas=opener if isinstance(opener, Secret) else None,
            settings=settings,
        )

    # -- the SAS, as it describes itself ------------------------------------------------------------------------------

    def _look_at_sas(self, sas: Secret) -> Check:
        where = self._place.location
        try:
            info = describe_sas(sas)
            self._check_times(info, where)
            self._check_scope(info, where)
        except (SasError, SasExpiredError, StorePermissionError, ApiVersionError) as error:
            return refused("sas", error, error.fields.get("fix") or _advice(error))
        if info.policy:
            return passed("sas", f"follows the container's policy '{info.policy}'; the service alone knows its times")
        until = f"valid until {_show(info.expires)}" if info.expires else "without an end that can be seen"
        evidence = f"{until}, permits {''.join(sorted(info.permissions))}, version {info.version}"
        if "r" not in info.permissions:
            fix = "Add the permission Read: without it what arrived cannot be read and hashed there."
            return warned("sas", evidence, fix)
        return passed("sas", evidence)

    def _check_times(self, info: SasInfo, where: str) -> None:
        now = self._now()
        needed = now + timedelta(minutes=self._request.timeout_minutes, seconds=_PATIENCE.sas_margin_s)
        if info.starts is not None and info.starts > now:
            raise SasExpiredError(store=where, detail=f"it begins at {_show(info.starts)} only")
        if info.expires is not None and info.expires <= now:
            raise SasExpiredError(store=where, detail=f"it expired at {_show(info.expires)}")
        if info.expires is not None and info.expires < needed:
            raise SasExpiredError(
                store=where,
                detail=f"it expires at {_show(info.expires)}; a collection may last until {_show(needed)}",
            )

    def _check_scope(self, info: SasInfo, where: str) -> None:
        if info.resource == "account" and ("b" not in info.services or not {"c", "o"} <= info.resource_types):
            raise SasError(
                store=where,
                detail="it is not for the containers and objects of the blob service",
                fix="Make it for the service Blob and the resource types Container and Object.",
            )
        if info.allows("w") is False and info.allows("c") is False:
            raise StorePermissionError(store=where, detail="it does not permit writing (sp lacks w)")
        if info.allows("l") is False:
            raise StorePermissionError(store=where, detail="it does not permit listing (sp lacks l)")
        if self._is_on_the_stamp() and info.version > HUB_API_VERSION:
            raise ApiVersionError(
                store=where,
                version=info.version,
                detail=f"the SAS was signed with a newer version than a stamp's own service takes ({HUB_API_VERSION})",
            )

    def _is_on_the_stamp(self) -> bool:
        domain = (self._stamp.external_fqdn or "").strip(".").casefold()
        host = parse_destination(self._place.text).host.casefold()
        return bool(domain) and host.endswith(f".{domain}")

    # -- the place itself ---------------------------------------------------------------------------------------------

    def _look_inside(self, store: Store, opener: Opener) -> list[Check]:
        who = f" as {opener.username}" if isinstance(opener, Credential) else ""
        removable = not isinstance(opener, Secret) or describe_sas(opener).allows("d") is not False
        unread, removed = self._write_and_read(store, removable=removable)
        self.usable = True
        stays = "" if removed else "; it stays, because the SAS does not permit deleting"
        how = f"written{'' if unread else ', read'}{' and removed' if removed else ''}"
        evidence = f"a probe file was {how}{who}{stays}"
        place = passed(self._name, f"{store.location}: {evidence}, from this machine")
        if unread is not None:
            place = warned(self._name, f"{store.location}: {evidence}; {unread}", _advice(unread))
        self.lock = self._read_lock(store)
        return [place, self._look_at_space(store)]

    def _write_and_read(self, store: Store, *, removable: bool) -> tuple[StoreAccessError | None, bool]:
        """Why the probe could not be read, and whether it is gone; one that may not be deleted has always one name."""
        path = f".pep-bridge-probe-{secrets.token_hex(6)}" if removable else _LASTING_PROBE
        with store.open_write(path, len(_PROBE)) as writer:
            writer.write(_PROBE)
            writer.commit()
        try:
            for _ in store.list(_OWN_FOLDER, on_unsafe=lambda error: None):
                break
            unread = _read_back(store, path)
        finally:
            removed = removable and _remove(store, path)
        return unread, removed

    def _read_lock(self, store: Store) -> LockState | None:
        try:
            return read_lock(store, self._stamp.name)
        except StoreAccessError:  # a SAS without read; `collect` keeps no lock there either, and says so
            return None

    def _look_at_space(self, store: Store) -> Check:
        name = f"{self._name}-space"
        free = store.free_bytes()
        if free is None:
            return skipped(name, "a container does not say how much it takes")
        evidence = f"{free:,} bytes are free"
        if free < _PATIENCE.free_bytes:
            full = StoreFullError(store=store.location, detail=f"{evidence}, {_PATIENCE.free_bytes:,} are wanted")
            self.usable = False
            return refused(name, full)
        if self._forecast is not None and self._forecast.size.high > free:
            fix = "Free space there, ask for a shorter window or fewer roles, or give another destination."
            return warned(name, f"{evidence}; the collection may need {self._forecast.size.high:,.0f}", fix)
        return passed(name, evidence)

    def _no_space(self) -> Check:
        return skipped(f"{self._name}-space", "not known")


def _remove(store: Store, path: str) -> bool:
    try:
        store.remove(path)
    except StorePermissionError:  # what a policy of the container permits is not seen in the SAS
        return False
    return True


def _read_back(store: Store, path: str) -> StoreAccessError | None:
    buffer = memoryview(bytearray(len(_PROBE)))
    filled = 0
    try:
        with store.open_read(path) as reader:
            while filled < len(buffer) and (count := reader.readinto(buffer[filled:])):
                filled += count
    except StoreAccessError as error:
        return error
    if bytes(buffer[:filled]) != _PROBE:
        raise StoreError(
            store=store.location,
            detail="what was read back is not what was written",
            fix="Something on the way changes files (a virus scanner, a proxy): except this place from it.",
        )
    return None


_ADVICE: tuple[tuple[type[StoreError], str], ...] = (
    (
        StoreAuthenticationError,
        "Check the user name (DOMAIN\\user) and the password of the share; it was tried once and not again.",
    ),
    (StoreReadOnlyError, "Let this account write there: in the share's permissions and in the folder's own."),
    (StoreAccessError, "Let this account read, write and list there."),
    (StoreNotFoundError, "Check the name of the server, of the share or container, and of the folder."),
)


def _advice(error: StoreError) -> str:
    """The error's own advice, else what fits its kind."""
    return error.advice or next((text for kind, text in _ADVICE if isinstance(error, kind)), "")


def _show(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
