"""Checks of the places that a run writes to, made before the endpoint is bothered."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from bridge.bundle import DECLARATION
from bridge.collection._request import Place
from bridge.errors import (
    PreflightError,
    SasExpiredError,
    StoreAccessError,
    StoreAuthenticationError,
    StoreError,
    StoreFullError,
    StoreNotFoundError,
    StorePermissionError,
    StoreReadOnlyError,
)
from bridge.secrets import Secret
from bridge.store import Store, describe_sas

PROBE = ".pep-bridge/probe"


def check_place(
    open_store: Callable[[], Store],
    place: Place,
    secret: object,
    *,
    free_bytes: int,
    now: datetime,
    valid_until: datetime,
    warn: Callable[[str], None],
) -> None:
    """Opens the place, writes a small file, reads the SAS and looks at the space left.

    Raises:
        StoreFullError: less than ``free_bytes`` are free.
        PreflightError: anything else that would let the run fail later; its ``cause`` is the store's own error.
    """
    try:
        if place.kind == "folder":
            refuse_a_folder_of_nowhere(Path(place.text))
        store = open_store()
        if place.kind == "container" and isinstance(secret, Secret):
            _check_sas(store, secret, now=now, valid_until=valid_until, warn=warn)
        refuse_a_bundle(store)
        _write_probe(store, PROBE if place.kind == "container" else f"{PROBE}-{secrets.token_hex(6)}")
        free = store.free_bytes()
    except StoreFullError:
        raise
    except StoreError as error:
        raise _as_preflight(error) from error
    if free is not None and free < free_bytes:
        raise StoreFullError(store=store.location, detail=f"{free:,} bytes are free, {free_bytes:,} are wanted")


def refuse_a_folder_of_nowhere(folder: Path) -> None:
    """One folder is made where it is missing. More than one is a typing mistake, or a disk that is not mounted, and the
    logs of a stamp would fill another one."""
    parent = folder.parent
    if folder.exists() or parent.is_dir():
        return
    detail = "is not a folder" if parent.exists() else "does not exist"
    raise PreflightError(
        detail=f"{folder} cannot be made: {parent} {detail}.",
        fix="Correct the destination, mount the disk that it is on, or make the folder above it first.",
    )


def refuse_a_bundle(store: Store) -> None:
    """A bundle inside another one would make that one fail to verify."""
    try:
        store.stat(DECLARATION)
    except (StoreNotFoundError, StoreAccessError):
        return
    raise PreflightError(
        detail=f"{store.location} is a bundle itself: it has a {DECLARATION}.",
        fix="Give the folder that it lies in.",
    )


def _check_sas(store: Store, sas: Secret, *, now: datetime, valid_until: datetime, warn: Callable[[str], None]) -> None:
    """What a SAS says of itself; of one that follows a stored access policy only the service knows the rest."""
    info = describe_sas(sas)
    if info.starts is not None and info.starts > now:
        raise SasExpiredError(store=store.location, detail=f"it begins at {info.starts.isoformat()} only")
    if info.expires is not None and info.expires < valid_until:
        raise SasExpiredError(
            store=store.location,
            detail=f"it ends at {info.expires.isoformat()}; the collection may last until {valid_until.isoformat()}",
        )
    if info.allows("w") is False and info.allows("c") is False:
        raise StorePermissionError(store=store.location, detail="it does not permit writing (sp lacks w)")
    if info.allows("l") is False:
        raise StorePermissionError(store=store.location, detail="it does not permit listing (sp lacks l)")
    if info.allows("r") is False:
        warn("the SAS does not permit reading (sp lacks r): what arrived cannot be read and hashed there")


def _write_probe(store: Store, path: str) -> None:
    """A file is put and removed; of a name of its own where several jump boxes would be in each other's way."""
    data = b"pep-bridge was here\n"
    with store.open_write(path, len(data)) as writer:
        writer.write(data)
        writer.commit()
    try:
        store.remove(path)
    except (StorePermissionError, StoreNotFoundError):
        return  # a SAS need not permit deleting: the probe has one name in a container, so one file stays


def make_output_folder(store: Store, folder: str) -> None:
    """Makes the folder that the endpoint writes to: a command that gets a missing one is not known to make it."""
    marker = f"{folder}/.pep-bridge"
    with store.open_write(marker, 0) as writer:
        writer.commit()
    try:
        store.remove(marker)
    except StoreNotFoundError:
        return


_ADVICE: tuple[tuple[type[StoreError], str], ...] = (
    (StoreAuthenticationError, "Check the user name and the password of the share; both are tried only once."),
    (StoreReadOnlyError, "Let this account write there: on the share and in the folder's own permissions."),
    (StoreAccessError, "Let this account read, write and list there."),
    (StoreNotFoundError, "Check the name of the server, the share or container and the folder."),
)
"""What to do where the store's own error does not say it."""


def _as_preflight(error: StoreError) -> PreflightError:
    advice = error.advice or next((text for kind, text in _ADVICE if isinstance(error, kind)), "")
    return PreflightError(detail=str(error), fix=advice, cause=error.name)
