"""Whatever the sizes and directions, what arrives is what was there, and its digests are right."""

from __future__ import annotations

import hashlib
import random
import secrets
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.storage.extensions.checksums import crc64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import DeliveryFailedError, JournalError, StoreError, StoreNotFoundError, UsageError
from bridge.store import Entry, FolderStore, Store, parse_destination
from bridge.store.transfer import (
    FileFinished,
    FileResult,
    TransferEvent,
    TransferItem,
    TransferJournal,
    TransferSettings,
    hash_files,
    transfer,
)
from bridge.store.transfer._block_ids import BlockKey
from bridge.store.transfer._checksum import Algorithm, BlockChecksum, checksum_of
from bridge.store.transfer._journal import Delivered
from tests.support.azurite import Azurite
from tests.support.samba import Samba
from tests.support.transfer_lab import KIB, MIB, digests_in_folder, digests_in_store, make_tree, opened_store

MIX = {
    "data/empty": 0,
    "data/one": 1,
    "data/exactly-a-block": 4 * MIB,
    "data/one-more": 4 * MIB + 1,
    "data/two-blocks-and-some": 9 * MIB + 12345,
    "data/Grüße 100% #1 + ☃.log": 4321,
    **{f"data/small/{number}": number * 97 for number in range(100)},
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("mix"), MIX)


@pytest.fixture
def stores(azurite: Azurite, samba: Samba, tmp_path: Path) -> Iterator[dict[str, Store]]:
    name = azurite.new_container()
    made: dict[str, Store] = {}
    for which in ("", "another "):
        place = which.strip() or "west"
        made[f"{which}folder"] = FolderStore(tmp_path / place)
        share = samba.url("bundles", f"{tmp_path.name}-{name}-{place}")
        made[f"{which}share"] = opened_store(parse_destination(share), credential=samba.credential)
        blobs = f"{azurite.container_url(name)}/{place}"
        made[f"{which}container"] = opened_store(parse_destination(blobs), sas=azurite.sas(name))
    yield made
    made["folder"].close()
    made["another folder"].close()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("folder", "share"),
        ("share", "container"),
        ("container", "folder"),
        ("folder", "container"),
        ("container", "share"),
        ("share", "folder"),
        ("folder", "another folder"),
        ("share", "another share"),
        ("container", "another container"),
    ],
)
def test_every_direction_gives_the_same_bytes_and_digests(
    stores: dict[str, Store], tree: Path, first: str, second: str
) -> None:
    expected = digests_in_folder(tree)
    source, target = stores[first], stores[second]
    transfer(FolderStore(tree), source, FolderStore(tree).list())
    finished: list[FileResult] = []

    def collect(event: TransferEvent) -> None:
        if isinstance(event, FileFinished):
            finished.append(event.result)

    result = transfer(source, target, source.list(), on_event=collect)
    assert digests_in_store(target) == expected
    assert {done.path: (done.size_bytes, done.sha256) for done in finished} == expected
    assert {found.path: (found.size_bytes, found.sha256) for found in hash_files(target)} == expected
    assert (result.files, result.copied) == (len(expected), len(expected))
    again = transfer(source, target, source.list())
    assert (again.skipped, again.bytes_sent) == (len(expected), 0)


def test_a_file_that_differs_on_the_target_is_replaced_and_others_are_left_alone(
    stores: dict[str, Store], tree: Path
) -> None:
    for kind in ("folder", "share", "container"):
        target = stores[kind]
        transfer(FolderStore(tree), target, FolderStore(tree).list())
        with target.open_write("data/one-more", 4 * MIB + 1) as writer:
            writer.write(bytes(4 * MIB + 1))
            writer.commit()
        result = transfer(FolderStore(tree), target, FolderStore(tree).list())
        assert digests_in_store(target) == digests_in_folder(tree)
        assert (result.copied, result.skipped) == (1, len(digests_in_folder(tree)) - 1)


@pytest.mark.parametrize("announced", [True, False], ids=["digest announced", "digest unknown"])
@pytest.mark.parametrize("kind", ["folder", "share", "container"])
def test_small_files_among_which_some_are_there_already_arrive_as_they_are(
    stores: dict[str, Store], tmp_path: Path, kind: str, announced: bool
) -> None:
    """What is there is known by reading the source; the others are read, and lie in the same buffer, by then."""
    source, target = FolderStore(tmp_path / "few"), stores[kind]
    contents = {f"{number}.log": f"{number} ".encode() * 100 for number in range(6)}
    for path, content in contents.items():
        with source.open_write(path, len(content)) as writer:
            writer.write(content)
            writer.commit()
        if path in {"2.log", "4.log"}:  # as another tool would: with no digest beside it
            with target.open_write(path, len(content)) as writer:
                writer.write(content)
                writer.commit()
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()} if announced else {}
    items = [TransferItem(entry.path, entry.size_bytes, digests.get(entry.path)) for entry in source.list()]
    transfer(source, target, items, settings=TransferSettings(connections=1))
    assert digests_in_store(target) == digests_in_folder(tmp_path / "few")


@pytest.mark.parametrize("announced", [True, False], ids=["digest announced", "digest unknown"])
@pytest.mark.parametrize("kind", ["folder", "share", "container"])
def test_a_delivered_file_that_somebody_has_overwritten_is_not_believed_to_be_there(
    stores: dict[str, Store], tree: Path, tmp_path: Path, kind: str, announced: bool
) -> None:
    """The journal says that it was delivered, and its size is right: only the time of its last write is another."""
    source, target = FolderStore(tree), stores[kind]
    digests = digests_in_folder(tree) if announced else {}
    items = [
        TransferItem(entry.path, entry.size_bytes, digests.get(entry.path, (0, None))[1], etag=entry.etag)
        for entry in source.list()
    ]
    with TransferJournal(tmp_path / "journal.sqlite") as journal:
        transfer(source, target, items, journal=journal)
        for path in ("data/one-more", "data/small/7"):
            with target.open_write(path, MIX[path]) as writer:
                writer.write(bytes(MIX[path]))
                writer.commit()
        result = transfer(source, target, items, journal=journal)
        again = transfer(source, target, items, journal=journal)
    assert digests_in_store(target) == digests_in_folder(tree)
    assert (result.copied, result.skipped) == (2, len(MIX) - 1)  # with bagit.txt there is one file more
    assert (again.copied, again.skipped) == (0, len(MIX) + 1)


def test_names_that_differ_only_in_case_are_refused_by_a_store_that_would_keep_one_file_for_both(
    stores: dict[str, Store], tmp_path: Path
) -> None:
    source = FolderStore(make_tree(tmp_path / "twins", {"data/A.zip": 100, "data/a.zip": 100}))
    last = [source.stat("bagit.txt")]
    with pytest.raises(DeliveryFailedError, match=r"'data/[Aa]\.zip' differs only in case from 'data/[Aa]\.zip'"):
        transfer(source, stores["share"], source.list("data"), last=last)
    with pytest.raises(StoreNotFoundError):
        stores["share"].stat("bagit.txt")
    for other in ("folder", "container"):
        transfer(source, stores[other], source.list("data"), last=last)
        assert digests_in_store(stores[other]) == digests_in_store(source)


@pytest.mark.parametrize("known", [True, False], ids=["a list", "one by one"])
def test_folders_that_differ_only_in_case_are_refused_by_a_store_that_would_keep_one_for_both(
    samba: Samba, stores: dict[str, Store], tmp_path: Path, known: bool
) -> None:
    names = {"data/L/Case/a.zip": 100, "data/L/case/b.zip": 100, "data/L/case/c/d.zip": 100}
    source = FolderStore(make_tree(tmp_path / "twins", names))
    listed = list(source.list())
    place = samba.path() / f"folders-{secrets.token_hex(4)}"
    share = opened_store(parse_destination(samba.url("bundles", place.name)), credential=samba.credential)
    with pytest.raises(DeliveryFailedError, match=r"'data/L/case' differs only in case from 'data/L/Case'") as caught:
        transfer(source, share, listed if known else iter(listed))
    assert caught.value.fields["cause"] == "NameCollisionError"
    left = {path.relative_to(place).as_posix() for path in place.rglob("*")}
    assert not left if known else "data/L/case" not in left, "nothing was sent that cannot stay as it is"
    assert not any("pep-case" in name for name in left)
    for other in ("folder", "container"):
        transfer(source, stores[other], listed if known else iter(listed))
        assert digests_in_store(stores[other]) == digests_in_store(source)


def test_asking_whether_names_are_told_apart_leaves_nothing_in_the_target(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "twins", {"data/Case/a.zip": 100, "data/case/a.zip": 100, "data/case/A.zip": 100})
    transfer(FolderStore(source), FolderStore(tmp_path / "target"), list(FolderStore(source).list()))
    found, wanted = ({path.relative_to(root) for path in root.rglob("*")} for root in (tmp_path / "target", source))
    assert found == wanted


def test_names_that_a_share_tells_apart_though_they_are_alike_are_taken(samba: Samba, tmp_path: Path) -> None:
    """Python's folding takes these for one, a server's table of capitals does not."""
    source = FolderStore(make_tree(tmp_path / "alike", {"data/Strasse/a.zip": 100, "data/Straße/a.zip": 100}))
    folder = f"alike-{secrets.token_hex(4)}"
    share = opened_store(parse_destination(samba.url("bundles", folder)), credential=samba.credential)
    transfer(source, share, list(source.list()))
    assert digests_in_store(share) == digests_in_store(source)


def test_with_a_journal_a_second_delivery_reads_nothing_again(azurite: Azurite, tree: Path, tmp_path: Path) -> None:
    name = azurite.new_container()
    target = opened_store(parse_destination(azurite.container_url(name)), sas=azurite.sas(name, "cw"))

    class Counting(FolderStore):
        opened = 0

        def open_read(self, path: str, offset: int = 0):  # type: ignore[no-untyped-def]
            Counting.opened += 1
            return super().open_read(path, offset)

    source = Counting(tree)
    with TransferJournal(tmp_path / "journal.sqlite") as journal:
        transfer(source, target, source.list(), journal=journal)
        opened = Counting.opened
        (tree / "data/one").write_bytes(b"!")
        result = transfer(source, target, source.list(), journal=journal)
    assert Counting.opened - opened <= 2, "only the changed file is read: once to compare, once to send"
    assert (result.copied, result.skipped) == (1, len(MIX))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(
        st.one_of(st.integers(0, 3 * KIB), st.integers(60 * KIB, 70 * KIB), st.integers(0, 2 * MIB)), max_size=12
    ),
    connections=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_any_mix_of_sizes_arrives_whole(azurite: Azurite, sizes: list[int], connections: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = make_tree(Path(folder), {f"data/{number}": size for number, size in enumerate(sizes)}, seed)
        name = azurite.new_container()
        target = opened_store(parse_destination(azurite.container_url(name)), sas=azurite.sas(name))
        chosen = TransferSettings(connections=connections, block_size_bytes=64 * KIB)
        transfer(FolderStore(source), target, FolderStore(source).list(), settings=chosen)
        assert digests_in_store(target) == digests_in_folder(source)


# -- hashing -----------------------------------------------------------------------------------------------------------


def test_hashes_come_in_the_order_of_the_listing_whatever_the_threads_do(tree: Path) -> None:
    store = FolderStore(tree)
    counted = 0
    lock = threading.Lock()

    def count(size: int) -> None:
        nonlocal counted
        with lock:
            counted += size

    found = list(hash_files(store, workers=5, on_bytes=count))
    assert [done.path for done in found] == [entry.path for entry in store.list()]
    assert {done.path: (done.size_bytes, done.sha256) for done in found} == digests_in_folder(tree)
    assert counted == sum(done.size_bytes for done in found)
    assert [done.path for done in hash_files(store, "data/small")] == [entry.path for entry in store.list("data/small")]


def test_a_file_that_cannot_be_read_is_reported_or_raised(tree: Path) -> None:
    store = FolderStore(tree)
    entries = [Entry("data/one", 1), Entry("data/gone", 5), Entry("data/empty", 0)]
    failed: list[str] = []

    def report(path: str, error: StoreError) -> None:
        assert isinstance(error, StoreNotFoundError)
        failed.append(path)

    assert [done.path for done in hash_files(store, entries, on_error=report)] == ["data/one", "data/empty"]
    assert failed == ["data/gone"]
    with pytest.raises(StoreNotFoundError):
        list(hash_files(store, entries))


def test_an_abandoned_hashing_leaves_no_thread(tree: Path) -> None:
    hashing = hash_files(FolderStore(tree))
    next(hashing)
    hashing.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hash-")]


# -- checksums, block ids, journal -------------------------------------------------------------------------------------


@given(st.binary(max_size=5000))
def test_the_crc64_is_the_one_that_the_vendors_own_client_computes(data: bytes) -> None:
    theirs = crc64.compute(data, 0).to_bytes(8, "little")
    assert checksum_of(memoryview(data), Algorithm.CRC64).digest == theirs


def test_the_crc64_of_a_large_block_is_the_vendors_too() -> None:
    data = random.Random(5).randbytes(4 * MIB + 3)
    theirs = crc64.compute(data, 0).to_bytes(8, "little")
    assert checksum_of(memoryview(bytearray(data)), Algorithm.CRC64).digest == theirs


@given(st.integers(0, 2**63), st.integers(0, 2**32 - 1), st.sampled_from(Algorithm), st.binary(max_size=100))
def test_a_block_id_says_what_it_stands_for(offset: int, size: int, algorithm: Algorithm, data: bytes) -> None:
    key = BlockKey(offset, size, checksum_of(memoryview(data), algorithm))
    encoded = key.encode()
    assert BlockKey.decode(encoded) == key
    assert len(encoded) == 40, "ids of one blob must have one length"


@given(st.text())
def test_another_tools_block_id_is_no_key_of_ours(text: str) -> None:
    key = BlockKey.decode(text)
    assert key is None or key.encode() == text


def test_a_journal_belongs_to_one_delivery_and_survives_being_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.sqlite"
    key = BlockKey(0, 4, BlockChecksum(Algorithm.MD5, hashlib.md5(b"abcd", usedforsecurity=False).digest()))
    with TransferJournal(path) as journal:
        journal.belongs_to("a", "b")
        journal.record_block("large", key)
        journal.record([Delivered("small", 1, "00", "m", None)])
    with TransferJournal(path) as journal:
        journal.belongs_to("a", "b")
        assert journal.staged("large") == [key]
        assert journal.delivered("small") == Delivered("small", 1, "00", "m", None)
        journal.record([Delivered("large", 4, "11", None, None)])
        assert journal.staged("large") == []
        with pytest.raises(JournalError, match="belongs to the target b"):
            journal.belongs_to("a", "c")


@pytest.mark.parametrize("chosen", [{"connections": 0}, {"connections": 65}, {"block_size_bytes": 101 * MIB}])
def test_settings_that_cannot_work_are_refused(chosen: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        TransferSettings(**chosen)  # type: ignore[arg-type]


def test_an_announced_digest_that_is_right_lets_a_file_pass(tree: Path, tmp_path: Path) -> None:
    items = [TransferItem(path, size, sha256.upper()) for path, (size, sha256) in digests_in_folder(tree).items()]
    assert transfer(FolderStore(tree), FolderStore(tmp_path / "to"), items).copied == len(items)
