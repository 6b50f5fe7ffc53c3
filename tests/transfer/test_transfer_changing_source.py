"""A source that changes while it is read: what arrives is one version of it, or is named as not delivered."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import SourceMismatchError, StoreUnreachableError
from bridge.store import Entry, FolderStore, Reader, Store, open_store, parse_destination
from bridge.store.transfer import LinePolicy, Progress, TransferEvent, TransferSettings, transfer
from tests.support.azurite import Azurite
from tests.support.samba import Samba
from tests.support.transfer_lab import MIB, digests_in_folder, digests_in_store, make_tree, opened

SIZE = 12 * MIB


@pytest.fixture(params=["container", "folder"])
def target(request: pytest.FixtureRequest, azurite: Azurite, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "target")
    name = azurite.new_container()
    return opened(open_store(parse_destination(azurite.container_url(name)), sas=azurite.sas(name)))


class Disturbed(FolderStore):
    """A folder in which something happens once, when so much of a file has been read; then the line may be cut."""

    def __init__(self, root: Path, happens: Callable[[], None], *, cut: bool) -> None:
        super().__init__(root)
        self._happens, self._cut, self._quiet = happens, cut, False

    @contextmanager
    def open_read(self, path: str, offset: int = 0) -> Iterator[Reader]:
        with super().open_read(path, offset) as reader:
            yield _DisturbedReader(self, reader, offset)

    def read(self, position: int) -> None:
        if position < 6 * MIB or self._quiet:
            return
        self._quiet = True
        self._happens()
        if self._cut:
            raise StoreUnreachableError(store=self.location, detail="the line was cut")


class _DisturbedReader:
    def __init__(self, store: Disturbed, reader: Reader, offset: int) -> None:
        self.size_bytes = reader.size_bytes
        self._store, self._reader, self._position = store, reader, offset

    def readinto(self, buffer: memoryview, /) -> int:
        self._store.read(self._position)
        read = self._reader.readinto(buffer)
        self._position += read
        return read


def replace(file: Path) -> None:
    (file.parent / "new").write_bytes(b"B" * SIZE)
    (file.parent / "new").replace(file)


def write_in_place(file: Path) -> None:
    with file.open("r+b") as there:
        there.seek(SIZE // 2)
        there.write(b"B" * (SIZE // 2))


def nothing(file: Path) -> None:
    """The line is cut, and that is all."""


QUICK = TransferSettings(first_back_off_s=0.01, block_size_bytes=MIB, connections=2)


@pytest.mark.parametrize(
    ("happens", "cut"),
    [(replace, True), (write_in_place, True), (write_in_place, False)],
    ids=["replaced during a cut", "written to during a cut", "written to while it is read"],
)
def test_no_file_arrives_half_old_and_half_new(
    tmp_path: Path, target: Store, happens: Callable[[Path], None], cut: bool
) -> None:
    root = make_tree(tmp_path / "source", {"other.zip": 2 * MIB})
    file = root / "a.zip"
    file.write_bytes(b"A" * SIZE)
    source = Disturbed(root, lambda: happens(file), cut=cut)
    with pytest.raises(SourceMismatchError, match=r"a\.zip \(it was replaced or written to while it was read\)"):
        transfer(source, target, source.list(), settings=QUICK)
    assert sorted(digests_in_store(target)) == ["bagit.txt", "other.zip"], "the others are delivered"
    transfer(source, target, source.list(), settings=QUICK)
    assert digests_in_store(target) == digests_in_folder(root)


def test_a_file_that_stays_as_it_is_goes_on_after_a_cut(tmp_path: Path, target: Store) -> None:
    root = make_tree(tmp_path / "source", {"a.zip": SIZE})
    source = Disturbed(root, lambda: None, cut=True)
    result = transfer(source, target, source.list(), settings=QUICK)
    assert result.retries == 1
    assert digests_in_store(target) == digests_in_folder(root)


def test_a_file_of_a_share_that_becomes_shorter_is_named_and_the_others_are_delivered(
    samba: Samba, target: Store, tmp_path: Path
) -> None:
    root = make_tree(samba.path("bundles") / tmp_path.name, {"a.zip": 30 * MIB, "b.zip": MIB, "c.zip": 5 * MIB})
    whole = digests_in_folder(root)
    source = opened(open_store(parse_destination(samba.url("bundles", tmp_path.name)), credential=samba.credential))
    items: list[Entry] = list(source.list())
    told: list[Any] = []

    def shorten(event: TransferEvent) -> None:
        told.append(event)
        if isinstance(event, Progress) and event.bytes_confirmed > MIB:
            os.truncate(root / "a.zip", MIB // 2)

    slow = TransferSettings(connections=2, policy=LinePolicy(limit_rate_bits_per_s=160_000_000))
    with pytest.raises(SourceMismatchError, match=r"a\.zip \("):
        transfer(source, target, items, settings=slow, on_event=shorten)
    del whole["a.zip"]
    assert digests_in_store(target) == whole
    assert not [event for event in told if type(event).__name__ == "Repairing"], "it is no fault of the target"
