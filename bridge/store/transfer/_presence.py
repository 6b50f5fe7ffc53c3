"""Says whether the target holds a file already, so that nothing committed is sent again and nothing stale is kept."""

from __future__ import annotations

from bridge.store.transfer._arrived import Arrived, Fact
from bridge.store.transfer._delivery import Delivery
from bridge.store.transfer._events import TransferItem
from bridge.store.transfer._journal import Delivered


class Presence:
    """Asks the target's listing and the journal first; reads the source again only where these do not settle it.

    Where the target cannot be listed (a write-only SAS), the journal alone is believed.
    """

    def __init__(self, delivery: Delivery, arrived: Arrived, *, listed: bool) -> None:
        self._delivery = delivery
        self._arrived = arrived
        self._listed = listed

    def candidate(self, item: TransferItem) -> Fact | None:
        """What the target has under this name, where it could be the same file."""
        fact = self._arrived.find(item.path)
        return fact if fact is not None and fact.size_bytes == item.size_bytes else None

    def sha256_there(self, item: TransferItem, buffer: memoryview) -> str | None:
        """The SHA-256 of the target's file if it is the same as the source's; ``None`` if it has to be sent.

        Raises:
            SourceChanged: the source had to be read and is not what was announced.
            StoreError: the source could not be read.
        """
        fact = self.candidate(item)
        if fact is None and self._listed:
            return None  # the usual case of a first delivery costs nothing more
        known = self._known(item)
        if fact is None and known is None:
            return None
        unchanged = known is not None and (fact is None or known.target_mark == fact.etag)
        there = fact.sha256 if fact is not None and fact.sha256 else None
        if there is None and known is not None and unchanged:
            there = known.sha256
        if item.sha256 is not None and there is not None:
            return there if there == item.sha256.lower() else None
        if known is not None and unchanged and item.etag is not None and known.source_mark == item.etag:
            return known.sha256
        if there is None and (fact is None or fact.md5 is None):
            return None
        sha256, md5 = self._delivery.hash_source(item, buffer)
        same = there == sha256 if there is not None else fact is not None and fact.md5 == md5
        return sha256 if same else None

    def _known(self, item: TransferItem) -> Delivered | None:
        journal = self._delivery.journal
        known = journal.delivered(item.path) if journal is not None else None
        return known if known is not None and known.size_bytes == item.size_bytes else None
