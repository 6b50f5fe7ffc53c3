"""Checks of the places that a run writes to, made before the endpoint is bothered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

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
    store: Store, place: Place, secret: object, *, free_bytes: int, valid_until: datetime, warn: Callable[[str], None]
) -> None:
    """Writes a small file, reads the SAS and looks at the space left.

    Raises:
        StoreFullError: less than ``free_bytes`` are free.
        PreflightError: anything else that would let the run fail later; its ``cause`` is the store's own error.
    """
    try:
        if place.kind == "container" and isinstance(secret, Secret):
            _check_sas(store, secret, valid_until, warn)
        _write_probe(store)
        free = store.free_bytes()
    except StoreFullError:
        raise
    except StoreError as error:
        raise _as_preflight(error) from error
    if free is not None and free < free_bytes:
        raise StoreFullError(store=store.location, detail=f"{free:,} bytes are free, {free_bytes:,} are wanted")


def _check_sas(store: Store, sas: Secret, valid_until: datetime, warn: Callable[[str], None]) -> None:
    info = describe_sas(sas)
    if info.expires is not None and info.expires < valid_until:
        raise SasExpiredError(
            store=store.location,
            detail=f"it ends at {info.expires.isoformat()}; the collection may last until {valid_until.isoformat()}",
        )
    if not info.permissions & {"w", "c"}:
        raise StorePermissionError(store=store.location, detail="it does not permit writing (sp lacks w)")
    if "l" not in info.permissions:
        raise StorePermissionError(store=store.location, detail="it does not permit listing (sp lacks l)")
    if "r" not in info.permissions:
        warn("the SAS does not permit reading (sp lacks r): what arrived cannot be read and hashed there")


def _write_probe(store: Store) -> None:
    data = b"pep-bridge was here\n"
    with store.open_write(PROBE, len(data)) as writer:
        writer.write(data)
        writer.commit()
    try:
        store.remove(PROBE)
    except StorePermissionError:
        return  # a SAS need not permit deleting: the probe has one name, so one file stays


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
