"""Pruning a place: judge every bundle, prove that each one that goes lies elsewhere too, and remove it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bridge.bundle import Verdict as BundleVerdict
from bridge.bundle import read_bundle, verify
from bridge.errors import BridgeError, NotABundleError, StoreError, StoreNotFoundError
from bridge.retention._inventory import MARKERS, find_bundles
from bridge.retention._policy import Held, Limits, Verdict, judge
from bridge.retention._remove import finish_removals, remove_bundle
from bridge.store import Store, lies_within

COVERAGE = "coverage.json"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where copies of a bundle may lie, and how such a place is opened.

    Args:
        of: the places (not the bundles) where the bundle of a name is said to have been brought.
        open_place: opens one; raises ``BridgeError`` where that cannot be done.
        every_byte: reads every byte of a copy; otherwise its own files, and of the payload names and sizes.
    """

    of: Callable[[str], Iterable[str]]
    open_place: Callable[[str], Store]
    every_byte: bool = False


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was found, and what was done about it. ``removed`` is empty after a dry run."""

    verdicts: tuple[Verdict, ...]
    removed: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()
    errors: tuple[BridgeError, ...] = ()

    @property
    def going(self) -> tuple[Verdict, ...]:
        """What goes, or went."""
        return tuple(verdict for verdict in self.verdicts if verdict.goes)

    def to_json(self) -> dict[str, Any]:
        """``data`` of the ``--json`` document of ``prune``."""
        return {
            "bundles": [verdict.to_json() for verdict in self.verdicts],
            "removed": list(self.removed),
            "finished": list(self.finished),
            "size_bytes": sum(verdict.held.size_bytes for verdict in self.going),
        }


@dataclass(slots=True)
class _Open:
    """Other places, opened once each."""

    open_place: Callable[[str], Store]
    stores: dict[str, Store | BridgeError] = field(default_factory=dict)

    def __call__(self, place: str) -> Store:
        if place not in self.stores:
            try:
                self.stores[place] = self.open_place(place)
            except BridgeError as error:
                self.stores[place] = error
        found = self.stores[place]
        if isinstance(found, BridgeError):
            raise found
        return found

    def close(self) -> None:
        for store in self.stores.values():
            if not isinstance(store, BridgeError):
                store.close()


def prune(
    place: Store,
    limits: Limits,
    *,
    now: datetime,
    elsewhere: Elsewhere,
    stamp: str | None = None,
    only: Callable[[Held], bool] | None = None,
    force: bool = False,
    act: bool = False,
) -> Pruned:
    """Finds the bundles that are over the limits and, with ``act``, removes those that may go.

    The newest good bundle of each stamp stays, whatever is asked. Another one goes only where a copy with the same
    bundle id is found and verified in another place now, or with ``force``.

    Args:
        stamp: only bundles of this stamp (as in their names).
        only: the bundles that are looked at; the others neither go nor count.
        force: removes bundles of which no copy is known, too.

    Raises:
        StoreError: the place cannot be listed.
    """
    open_other = _Open(elsewhere.open_place)
    try:
        everything = find_bundles(place, stamp=stamp)
        held = tuple(bundle for bundle in everything if only is None or only(bundle))

        def kept_because(bundle: Held) -> str | None:
            return None if force else why_not_elsewhere(place, bundle.name, elsewhere, open_other)

        verdicts = judge(held, limits, now=now, last_good=find_last_good(place, everything), kept_because=kept_because)
        if not act:
            return Pruned(verdicts)
        return _remove(place, verdicts, None if force else elsewhere, open_other)
    finally:
        open_other.close()


def find_last_good(place: Store, held: Sequence[Held]) -> dict[str, str]:
    """Of each stamp the newest bundle that is whole and covers all that was asked; else the newest whole one; else,
    where none is whole, the newest. Whole: names and sizes are what the manifest says."""
    found: dict[str, str] = {}
    for stamp in dict.fromkeys(bundle.stamp for bundle in held):
        newest_first = [bundle.name for bundle in reversed(held) if bundle.stamp == stamp]
        whole = [name for name in newest_first[:1] if _is_whole(place, name)]
        for name in newest_first:
            if _is_complete(place, name) and (name in whole or _is_whole(place, name)):
                found[stamp] = name
                break
        else:
            found[stamp] = next((name for name in newest_first if _is_whole(place, name)), newest_first[0])
    return found


def why_not_elsewhere(place: Store, name: str, elsewhere: Elsewhere, open_other: Callable[[str], Store]) -> str | None:
    """Why it is not certain that another whole copy exists, or ``None`` where one was seen now."""
    reasons = []
    own = place.at(name).location
    try:
        bundle_id = read_bundle(place.at(name)).bundle_id
    except (NotABundleError, StoreError) as error:
        return f"its own id cannot be read ({error})"
    for other in elsewhere.of(name):
        try:
            store = open_other(other)
            copy = store.at(name)
            if lies_within(copy.location, own):
                if copy.location != own:  # one that is reached by a link, or would go with it
                    reasons.append(f"{copy.location} is in the same place")
                continue
            if read_bundle(copy).bundle_id != bundle_id:
                reasons.append(f"{copy.location} is another bundle")
                continue
            if verify(copy, fast=not elsewhere.every_byte).verdict is not BundleVerdict.VERIFIED:
                reasons.append(f"{copy.location} does not verify")
                continue
        except BridgeError as error:
            reasons.append(f"{other}: {error}")
            continue
        return None
    return "no copy is known elsewhere" if not reasons else f"no copy elsewhere is certain: {'; '.join(reasons)}"


def _remove(
    place: Store, verdicts: tuple[Verdict, ...], elsewhere: Elsewhere | None, open_other: Callable[[str], Store]
) -> Pruned:
    removed: list[str] = []
    errors: list[BridgeError] = []
    finished: tuple[str, ...] = ()
    try:
        finished = finish_removals(place)
    except StoreError as error:
        errors.append(error)
    done = list(verdicts)
    for number, verdict in enumerate(verdicts):
        if not verdict.goes:
            continue
        name = verdict.held.name

        def is_the_same_place(name: str = name) -> bool:
            return elsewhere is not None and any(_shows_marker(other, name, open_other) for other in elsewhere.of(name))

        try:
            if remove_bundle(place, name, unless=is_the_same_place):
                removed.append(name)
            else:
                why = "its only copy is this one, reached by another address"
                done[number] = Verdict(verdict.held, verdict.over, why)
        except StoreError as error:
            errors.append(error)
    return Pruned(tuple(done), tuple(removed), finished, tuple(errors))


def _shows_marker(other: str, name: str, open_other: Callable[[str], Store]) -> bool:
    """Whether the marker that was written here is seen there: then both addresses are one place."""
    try:
        open_other(other).stat(f"{MARKERS}/{name}")
    except BridgeError:
        return False
    return True


def _is_whole(place: Store, name: str) -> bool:
    try:
        return verify(place.at(name), fast=True).verdict is not BundleVerdict.FAILED
    except StoreError:
        return False


def _is_complete(place: Store, name: str) -> bool:
    try:
        document = read_bundle(place.at(name)).document(COVERAGE)
    except (NotABundleError, StoreNotFoundError):
        return False
    return isinstance(document, dict) and document.get("complete") is True
