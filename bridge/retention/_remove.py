"""Removing a bundle so that at no moment something half looks like a bundle, and a removal that was cut is finished."""

from __future__ import annotations

from collections.abc import Callable

from bridge.errors import StoreNotFoundError
from bridge.retention._inventory import DECLARATION, MARKERS, find_half_removed
from bridge.store import FolderTree, Store


def remove_bundle(place: Store, name: str, *, unless: Callable[[], bool] = lambda: False) -> bool:
    """Removes one bundle of a place; false where ``unless``, asked when the marker is there, said that it stays.

    A marker is written first and removed last; ``bagit.txt`` goes before any other file, so that what is left of a
    removal that was cut short is no bundle to anybody, and ``finish_removals`` knows it.

    Raises:
        StoreError: a file could not be removed; what is left is finished by the next removal.
    """
    marker = f"{MARKERS}/{name}"
    with place.open_write(marker, 0) as writer:
        writer.commit()
    goes = not unless()
    if goes:
        _remove_files(place, name)
    place.remove(marker)
    return goes


def finish_removals(place: Store) -> tuple[str, ...]:
    """Finishes removals that were cut short; says of which bundles.

    Raises:
        StoreError: a file could not be removed.
    """
    names = find_half_removed(place)
    for name in names:
        # Put back meanwhile (delivered again): the marker is old, the bundle is whole.
        if not _is_sealed(place, name):
            _remove_files(place, name)
        place.remove(f"{MARKERS}/{name}")
    return names


def _is_sealed(place: Store, name: str) -> bool:
    try:
        place.stat(f"{name}/{DECLARATION}")
    except StoreNotFoundError:
        return False
    return True


def _remove_files(place: Store, name: str) -> None:
    place.remove(f"{name}/{DECLARATION}")
    for entry in list(place.list(name, on_unsafe=lambda _error: None)):
        place.remove(entry.path)
    if isinstance(place, FolderTree):
        place.clear_folder(name)
