"""A delivery that is killed, cut, stalled or refused goes on where it was, and says truthfully how it ended."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import (
    ApiVersionError,
    DeliveryFailedError,
    SourceMismatchError,
    StoreFullError,
    StoreReadOnlyError,
)
from bridge.secrets import Secret
from bridge.store import FolderStore, Reader, Store, StoreSettings, parse_destination
from bridge.store._rate import RateLimiter
from bridge.store.transfer import (
    ContainerAccess,
    FileFinished,
    LinePolicy,
    Repairing,
    Retrying,
    TransferEvent,
    TransferItem,
    TransferJournal,
    TransferResult,
    TransferSettings,
    transfer,
)
from bridge.store.transfer._blob_wire import BlobWire
from bridge.store.transfer._block_ids import BlockKey
from bridge.store.transfer._checksum import Algorithm, checksum_of
from tests.support.azurite import Azurite
from tests.support.processes import free_port
from tests.support.samba import Samba
from tests.support.tcp_proxy import TcpProxy
from tests.support.transfer_lab import (
    KIB,
    MIB,
    BodyCountingProxy,
    FlippingProxy,
    digests_in_folder,
    digests_in_store,
    make_tree,
    opened_store,
)

BLOCK = 64 * KIB
CONNECTIONS = 2
SIZES = {
    "data/role-a.zip": 3 * MIB + 17,
    "data/role-b.zip": 4 * MIB,
    "data/sub/role-c.zip": 5 * MIB - 1,
    **{f"data/small/{number:03}.log": 500 + number * 211 for number in range(120)},
    "data/empty.log": 0,
}


def container(azurite: Azurite, name: str, *, permissions: str = "racwdl", port: int | None = None) -> Store:
    url = azurite.container_url(name)
    if port is not None:
        url = url.replace(f":{azurite.port}/", f":{port}/")
    return opened_store(parse_destination(f"{url}/west"), sas=azurite.sas(name, permissions))


def send(source: Path, target: Store, events: list[TransferEvent] | None = None, **more: Any) -> TransferResult:
    folder = FolderStore(source)
    items = [entry for entry in folder.list() if entry.path != "bagit.txt"]
    told = events if events is not None else []
    return transfer(folder, target, items, last=[folder.stat("bagit.txt")], on_event=told.append, **more)


def settings(**more: Any) -> TransferSettings:
    return TransferSettings(**{"connections": CONNECTIONS, "block_size_bytes": BLOCK, "first_back_off_s": 0.05, **more})


def start_child(source: Path, url: str, sas: Secret, journal: Path, rate: int | None) -> subprocess.Popen[str]:
    # MD5 from the start: asking Azurite for CRC64, which it does not know, would cost a block each time.
    given = {"block_size_bytes": BLOCK, "connections": CONNECTIONS, "checksum": "md5", "rate": rate}
    environment = {**os.environ, "PEP_BRIDGE_SAS": sas.reveal(), "PEP_BRIDGE_TEST_SETTINGS": json.dumps(given)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.transfer_child", str(source), url, "west", str(journal)],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is the operating system's there")
@pytest.mark.parametrize(("permissions", "kills"), [("racwdl", 20), ("cw", 8)], ids=["may-read", "write-only"])
def test_killed_at_random_moments_it_sends_only_the_blocks_in_flight_twice(
    azurite: Azurite, tmp_path: Path, permissions: str, kills: int
) -> None:
    source = make_tree(tmp_path / "source", SIZES)
    name = azurite.new_container()
    moments = random.Random(20)
    in_flight: list[int] = []
    with BodyCountingProxy(azurite.port) as proxy:
        url = azurite.container_url(name).replace(f":{azurite.port}/", f":{proxy.port}/")
        sas = azurite.sas(name, permissions)
        for _ in range(kills):
            before = set(proxy.bodies)
            child = start_child(source, url, sas, tmp_path / "journal.sqlite", rate=8_000_000)
            assert child.stdout is not None
            if child.stdout.readline() == "ready\n":
                threading.Event().wait(moments.uniform(0, 8.0 / kills))
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL, "the kills must hit a delivery that is under way"
            child.stdout.close()
            proxy.drained()
            opened_by_it = set(proxy.bodies) - before
            assert len(opened_by_it) <= CONNECTIONS
            in_flight += [proxy.in_flight(connection, BLOCK) for connection in opened_by_it]
        before_the_last = proxy.put_bytes
        child = start_child(source, url, sas, tmp_path / "journal.sqlite", rate=None)
        output, _ = child.communicate()
        sent = proxy.put_bytes
    assert child.returncode == 0, output
    assert digests_in_store(container(azurite, name)) == digests_in_folder(source)
    total = sum(size for size, _ in digests_in_folder(source).values())
    assert 0 < before_the_last < total + sum(in_flight), "something must be left for the last one"
    assert max(in_flight) <= BLOCK, (
        "a connection has one block under way, or one lot of small files as large as a block"
    )
    twice = sent - total
    print(f"{kills} kills: {total} bytes to deliver, {twice} of content sent twice, {sum(in_flight)} were in flight")
    assert 0 <= twice <= sum(in_flight)


def test_a_line_that_is_cut_reset_and_stalled_loses_no_work(azurite: Azurite, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", SIZES)
    name = azurite.new_container()
    events: list[TransferEvent] = []
    ended = threading.Event()
    with BodyCountingProxy(azurite.port) as counting, TcpProxy("127.0.0.1", counting.port) as proxy:

        def spoil() -> None:
            turns: list[Callable[[], object]] = [
                proxy.reset,
                proxy.cut,
                lambda: proxy.stall(True),
                lambda: proxy.stall(False),
                lambda: proxy.refuse(True),
            ]
            turns += [proxy.reset, lambda: proxy.refuse(False)]
            number = 0
            while not ended.wait(0.15):
                turns[number % len(turns)]()
                number += 1
            proxy.stall(False)
            proxy.refuse(False)

        spoiler = threading.Thread(target=spoil)
        spoiler.start()
        try:
            target = container(azurite, name, port=proxy.port)
            send(source, target, events, settings=settings(policy=LinePolicy(60_000_000), io_timeout_s=2.0))
        finally:
            ended.set()
            spoiler.join()
        arrived = counting.put_bytes
    assert digests_in_store(container(azurite, name)) == digests_in_folder(source)
    failures = sum(isinstance(event, Retrying) for event in events)
    assert failures
    twice = arrived - sum(size for size, _ in digests_in_folder(source).values())
    assert 0 <= twice <= failures * BLOCK, "a failure costs a connection what it had under way"
    finished = [event.result.path for event in events if isinstance(event, FileFinished)]
    assert sorted(finished) == sorted(digests_in_folder(source)), "each file is told of once"
    assert finished[-1] == "bagit.txt"


def upload(azurite: Azurite, name: str, source: Path) -> None:
    with azurite.owner(name) as owner:
        for path in digests_in_folder(source):
            owner.upload_blob(f"west/{path}", (source / path).read_bytes())


def fetch(source: Store, target: Path, events: list[TransferEvent] | None = None, **more: Any) -> TransferResult:
    known = more.pop("known", {})
    items = [
        TransferItem(entry.path, entry.size_bytes, known.get(entry.path, (0, None))[1], entry.etag)
        for entry in source.list()
        if entry.path != "bagit.txt"
    ]
    last = [source.stat("bagit.txt")]
    told = events if events is not None else []
    return transfer(source, FolderStore(target), items, last=last, on_event=told.append, **more)


def test_a_container_is_fetched_whole_over_a_line_that_is_cut_reset_and_stalled(
    azurite: Azurite, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", SIZES)
    name = azurite.new_container()
    upload(azurite, name, tree)
    ended = threading.Event()
    with BodyCountingProxy(azurite.port) as counting, TcpProxy("127.0.0.1", counting.port) as proxy:

        def spoil() -> None:
            turns: list[Callable[[], object]] = [proxy.reset, proxy.cut, lambda: proxy.refuse(True), proxy.reset]
            turns += [lambda: proxy.refuse(False), lambda: proxy.stall(True), lambda: None, lambda: proxy.stall(False)]
            number = 0
            while not ended.wait(0.2):
                turns[number % len(turns)]()
                number += 1
            proxy.stall(False)
            proxy.refuse(False)

        url = azurite.container_url(name).replace(f":{azurite.port}/", f":{proxy.port}/")
        source = opened_store(
            parse_destination(f"{url}/west"),
            sas=azurite.sas(name),
            settings=StoreSettings(io_timeout_s=0.5, retries=1),
        )
        items = [entry for entry in source.list() if entry.path != "bagit.txt"]
        last = [source.stat("bagit.txt")]
        proxy.cut_after(300_000)
        proxy.reset()
        spoiler = threading.Thread(target=spoil)
        spoiler.start()
        try:
            transfer(
                source,
                FolderStore(tmp_path / "copy"),
                items,
                last=last,
                settings=settings(policy=LinePolicy(40_000_000)),
            )
        finally:
            ended.set()
            spoiler.join()
        down = proxy.bytes_down
    assert digests_in_folder(tmp_path / "copy") == digests_in_folder(tree)
    total = sum(size for size, _ in digests_in_folder(tree).values())
    print(f"{total} bytes to fetch, {down} came down in {proxy.connections} connections")
    assert down < 1.5 * total, "what came before a cut is not asked for again"


def test_a_half_fetched_file_is_taken_up_without_fetching_its_first_part_again(
    azurite: Azurite, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", {"data/role.zip": 6 * MIB})
    content = (tree / "data/role.zip").read_bytes()
    name = azurite.new_container()
    upload(azurite, name, tree)
    begun = FolderStore(tmp_path / "copy")
    with begun.open_resume("data/role.zip", 0, len(content)) as writer:
        writer.write(content[: 5 * MIB])
    with TcpProxy("127.0.0.1", azurite.port) as proxy:
        source = container(azurite, name, port=proxy.port)
        result = fetch(source, tmp_path / "copy", known=digests_in_folder(tree))
        down = proxy.bytes_down
    assert digests_in_folder(tmp_path / "copy") == digests_in_folder(tree)
    assert result.resumed == 1
    assert MIB < down < 1.2 * MIB


def test_a_half_fetched_file_that_is_wrong_is_fetched_anew_and_it_is_said(azurite: Azurite, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", {"data/role.zip": 3 * MIB})
    content = bytearray((tree / "data/role.zip").read_bytes())
    name = azurite.new_container()
    upload(azurite, name, tree)
    content[10] ^= 1
    with FolderStore(tmp_path / "copy").open_resume("data/role.zip", 0, len(content)) as writer:
        writer.write(bytes(content[: 2 * MIB]))
    events: list[TransferEvent] = []
    source = container(azurite, name)
    result = fetch(source, tmp_path / "copy", events, known=digests_in_folder(tree))
    assert digests_in_folder(tmp_path / "copy") == digests_in_folder(tree)
    assert result.repaired == 1
    assert [event.path for event in events if isinstance(event, Repairing)] == ["data/role.zip"]


def test_a_blob_that_was_replaced_after_it_was_listed_is_named_and_the_others_are_fetched(
    azurite: Azurite, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", {"data/a.zip": 3 * MIB, "data/b.zip": 2 * MIB, "data/c.log": 100})
    name = azurite.new_container()
    upload(azurite, name, tree)
    source = container(azurite, name)
    items = list(source.list())
    with azurite.owner(name) as owner:
        owner.upload_blob("west/data/a.zip", bytes(3 * MIB), overwrite=True)
        owner.delete_blob("west/data/c.log")
    with pytest.raises(SourceMismatchError) as failure:
        transfer(source, FolderStore(tmp_path / "copy"), items, settings=settings())
    assert "data/a.zip (it was replaced or removed after it was listed)" in str(failure.value)
    assert "data/c.log (it" in str(failure.value)
    assert sorted(digests_in_folder(tmp_path / "copy")) == ["bagit.txt", "data/b.zip"]


def test_a_block_changed_on_the_way_is_refused_and_sent_again(azurite: Azurite, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {"data/role.zip": 2 * MIB})
    name = azurite.new_container()
    events: list[TransferEvent] = []
    with FlippingProxy(azurite.port, flip_at=MIB) as proxy:
        result = send(source, container(azurite, name, port=proxy.port), events, settings=settings())
    assert proxy.flipped == 1
    assert digests_in_store(container(azurite, name)) == digests_in_folder(source)
    assert [event.path for event in events if isinstance(event, Repairing)] == ["data/role.zip"]
    assert result.repaired == 1


def test_a_small_file_changed_on_the_way_is_refused_and_sent_again(azurite: Azurite, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {f"data/{number}.log": 20_000 for number in range(10)})
    name = azurite.new_container()
    events: list[TransferEvent] = []
    with FlippingProxy(azurite.port, flip_at=105_000) as proxy:
        send(source, container(azurite, name, port=proxy.port), events, settings=settings())
    assert proxy.flipped == 1
    assert digests_in_store(container(azurite, name)) == digests_in_folder(source)
    assert [type(event) for event in events].count(Repairing) == 1


class FadingSas:
    """A SAS whose owner takes the right to write away after so many requests."""

    def __init__(self, good: Secret, read_only: Secret, *, after: int) -> None:
        self._good, self._read_only, self._left = good, read_only, after

    def reveal(self) -> str:
        self._left -= 1
        return (self._good if self._left > 0 else self._read_only).reveal()


def test_a_container_that_turns_read_only_half_way_keeps_what_arrived_and_goes_on_when_mended(
    azurite: Azurite, tmp_path: Path
) -> None:
    source = make_tree(tmp_path / "source", SIZES)
    name = azurite.new_container()
    read_only = azurite.sas(name, "rl")
    target = container(azurite, name)
    target.sas = FadingSas(azurite.sas(name), read_only, after=100)  # type: ignore[attr-defined]
    with TransferJournal(tmp_path / "journal.sqlite") as journal:
        with pytest.raises(DeliveryFailedError) as failure:
            send(source, target, settings=settings(), journal=journal)
        assert failure.value.exit_code == 11
        assert isinstance(failure.value.__cause__, StoreReadOnlyError)
        assert "bagit.txt" not in digests_in_store(container(azurite, name)), "an unfinished bundle has no bagit.txt"
        result = send(source, container(azurite, name), settings=settings(), journal=journal)
    assert digests_in_store(container(azurite, name)) == digests_in_folder(source)
    assert result.bytes_sent < sum(SIZES.values()) - 3 * MIB
    assert result.resumed + result.skipped > 0


def test_a_folder_whose_disk_fills_keeps_what_arrived_and_goes_on_when_there_is_space(
    tmp_path: Path, small_disk: Path
) -> None:
    source = make_tree(tmp_path / "source", {"data/a.zip": 2 * MIB, "data/b.zip": 5 * MIB})
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 * MIB))
    target = FolderStore(small_disk / "west")
    with pytest.raises(DeliveryFailedError) as failure:
        send(source, target, settings=settings())
    assert failure.value.exit_code == 11
    assert isinstance(failure.value.__cause__, StoreFullError)
    assert not (small_disk / "west" / "bagit.txt").exists()
    ballast.unlink()
    events: list[TransferEvent] = []
    result = send(source, target, events, settings=settings())
    assert digests_in_folder(small_disk / "west") == digests_in_folder(source)
    assert result.resumed + result.skipped > 0
    assert result.bytes_sent < 7 * MIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = sys.platform == "linux" and os.geteuid() == 0
    if not mounted or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=False).returncode:
        pytest.skip("not run: mounting a small disk needs root on Linux")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_share_that_fills_keeps_what_arrived_and_goes_on_when_there_is_space(samba: Samba, tmp_path: Path) -> None:
    if not samba.small_is_mounted:
        pytest.skip("not run: mounting a small file system needs root")
    sizes = {"data/a.zip": 700 * KIB, "data/b.zip": 2 * MIB, **{f"data/{n}.log": 3000 + n for n in range(40)}}
    source = make_tree(tmp_path / "source", sizes)
    place = samba.path("small")
    ballast = place / "ballast"
    ballast.write_bytes(bytes(2 * MIB))
    target = opened_store(parse_destination(samba.url("small", "west")), credential=samba.credential)
    with TransferJournal(tmp_path / "journal.sqlite") as journal:
        with pytest.raises(DeliveryFailedError) as failure:
            send(source, target, settings=settings(), journal=journal)
        assert failure.value.exit_code == 11
        assert isinstance(failure.value.__cause__, StoreFullError)
        there = {file.name for file in (place / "west").rglob("*") if file.is_file()}
        assert "bagit.txt" not in there, "an unfinished bundle has no bagit.txt"
        assert "b.zip" not in there, "no file stands under its name before it is whole"
        arrived = {path: found for path, found in digests_in_folder(place / "west").items() if "/." not in path}
        assert arrived.items() <= digests_in_folder(source).items(), "what stands under its name is right"
        ballast.unlink()
        result = send(source, target, settings=settings(), journal=journal)
    assert digests_in_folder(place / "west") == digests_in_folder(source)
    assert result.skipped == len(arrived)
    assert result.resumed == 1, "the half-written file was gone on with"
    assert result.bytes_sent < sum(sizes.values()) - MIB


@pytest.mark.parametrize("kind", ["folder", "share"])
def test_a_half_written_file_is_continued_after_its_written_part_was_checked(
    samba: Samba, tmp_path: Path, kind: str
) -> None:
    source = make_tree(tmp_path / "source", {"data/role.zip": 6 * MIB})
    content = (source / "data/role.zip").read_bytes()
    place = tmp_path / "target" if kind == "folder" else samba.path("bundles") / tmp_path.name
    target = FolderStore(place)
    if kind == "share":
        destination = parse_destination(samba.url("bundles", tmp_path.name))
        target = opened_store(destination, credential=samba.credential)  # type: ignore[assignment]
    spoiled = bytearray(content[: 4 * MIB])
    spoiled[3 * MIB] ^= 1
    with target.open_resume("data/role.zip", 0, len(content)) as writer:
        writer.write(bytes(spoiled))
    result = send(source, target)
    assert digests_in_folder(place) == digests_in_folder(source)
    assert result.resumed == 1
    # 2.5 MiB are surely good (compared by half a MiB at a time), what follows the flipped byte is written anew.
    assert 3 * MIB <= result.bytes_sent <= 3.5 * MIB + KIB


def test_a_half_written_file_that_becomes_shorter_while_it_is_looked_at_is_somebody_elses(tmp_path: Path) -> None:
    class Taken(FolderStore):
        """Another delivery begins the half-written file anew, just after its size was seen."""

        def partial_bytes(self, path: str) -> int:
            return super().partial_bytes(path) + 1000

    source = make_tree(tmp_path / "source", {"role.zip": MIB})
    content = (source / "role.zip").read_bytes()
    target = Taken(tmp_path / "target")
    with target.open_resume("role.zip", 0, MIB) as writer:
        writer.write(content[: MIB // 2])
    item = TransferItem("role.zip", MIB, hashlib.sha256(content).hexdigest())
    with pytest.raises(DeliveryFailedError, match="another transfer is writing it"):
        transfer(FolderStore(source), target, [item])
    assert FolderStore(tmp_path / "target").partial_bytes("role.zip") == MIB // 2, "it is left to who writes it"


def test_of_two_copies_into_one_folder_the_second_ends_at_once_and_the_first_is_whole(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {"data/role.zip": 8 * MIB})
    target = tmp_path / "target"
    begun, outcome = threading.Event(), list[TransferResult]()

    def first() -> None:
        def tell(event: TransferEvent) -> None:
            if list((target / "data").glob(".pep-*")) if (target / "data").exists() else False:
                begun.set()

        folder = FolderStore(source)
        slow = settings(policy=LinePolicy(40_000_000))
        outcome.append(transfer(folder, FolderStore(target), list(folder.list()), settings=slow, on_event=tell))

    running = threading.Thread(target=first)
    running.start()
    assert begun.wait(30)
    with pytest.raises(DeliveryFailedError, match="another transfer is writing it") as failure:
        send(source, FolderStore(target), settings=settings())
    assert "Wait until it has ended" in failure.value.advice
    running.join()
    assert outcome[0].copied == 2
    assert digests_in_folder(target) == digests_in_folder(source)
    assert send(source, FolderStore(target), settings=settings()).skipped == 2


@pytest.mark.parametrize("known", [True, False], ids=["digest known", "digest unknown"])
def test_a_half_written_file_costs_the_source_no_more_than_a_whole_one(tmp_path: Path, known: bool) -> None:
    source = make_tree(tmp_path / "source", {"data/role.zip": 8 * MIB})
    content = (source / "data/role.zip").read_bytes()
    target = FolderStore(tmp_path / "target")
    with target.open_resume("data/role.zip", 0, len(content)) as writer:
        writer.write(content[: 6 * MIB])
    counting = CountingFolder(source)
    sha256 = digests_in_folder(source)["data/role.zip"][1] if known else None
    result = transfer(counting, target, [TransferItem("data/role.zip", len(content), sha256)])
    assert result.resumed == 1
    assert (tmp_path / "target" / "data" / "role.zip").read_bytes() == content
    assert counting.bytes_read == (2 * MIB if known else 8 * MIB)


class CountingFolder(FolderStore):
    """A folder that counts what is read from it."""

    bytes_read = 0

    @contextmanager
    def open_read(self, path: str, offset: int = 0) -> Iterator[Reader]:
        with super().open_read(path, offset) as reader:
            yield _CountingReader(self, reader)


class _CountingReader:
    def __init__(self, store: CountingFolder, reader: Reader) -> None:
        self.size_bytes = reader.size_bytes
        self._store, self._reader = store, reader

    def readinto(self, buffer: memoryview, /) -> int:
        read = self._reader.readinto(buffer)
        self._store.bytes_read += read
        return read


@pytest.mark.slow
def test_a_copy_to_a_folder_killed_at_random_moments_goes_on(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", SIZES)
    moments = random.Random(7)
    for _ in range(8):
        child = start_child(source, str(tmp_path), Secret("unused"), tmp_path / "journal.sqlite", rate=60_000_000)
        assert child.stdout is not None
        if child.stdout.readline() == "ready\n":
            threading.Event().wait(moments.uniform(0, 0.15))
        child.kill()
        child.wait()
        child.stdout.close()
    child = start_child(source, str(tmp_path), Secret("unused"), tmp_path / "journal.sqlite", rate=None)
    output, _ = child.communicate()
    assert child.returncode == 0
    assert digests_in_store(FolderStore(tmp_path / "west")) == digests_in_folder(source)
    result = json.loads(output.splitlines()[-1])
    assert result["resumed"] + result["skipped"] > 0
    assert [path for path in (tmp_path / "west").rglob("*") if path.name.startswith(".")] == [], (
        "no partial file is left"
    )


@pytest.mark.parametrize("already", [30, 55, 70, 98])
def test_a_file_of_as_many_blocks_as_a_blob_may_have_goes_on_from_any_of_them(
    azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, already: int
) -> None:
    small = 4 * KIB
    monkeypatch.setattr("bridge.store.transfer._container.MAX_BLOCKS", 100)
    monkeypatch.setattr("bridge.store.transfer._container.MAX_BLOCK_BYTES", 20 * small)
    source = make_tree(tmp_path / "source", {"memory.dmp": 99 * small})
    name = azurite.new_container()
    stage(container(azurite, name), source / "memory.dmp", range(already), small)
    result = send(source, container(azurite, name), settings=settings(block_size_bytes=small))
    assert result.resumed == 1
    assert result.bytes_sent < (99 - already) * small + 64 * KIB, "what was staged is not sent again"
    with azurite.owner(name) as owner, owner.get_blob_client("west/memory.dmp") as blob:
        committed, _ = blob.get_block_list("committed")
    assert {int(block.size) for block in committed} == {small}, "blocks do not grow where there is room for small ones"
    assert digests_in_store(container(azurite, name)) == digests_in_folder(source)


def test_a_list_of_staged_blocks_with_too_many_holes_is_not_gone_on_from(
    azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hole would take one of the blocks that a blob may have."""
    small = 4 * KIB
    monkeypatch.setattr("bridge.store.transfer._container.MAX_BLOCKS", 60)
    monkeypatch.setattr("bridge.store.transfer._container._MOST_HOLES", 10)
    source = make_tree(tmp_path / "source", {"memory.dmp": 99 * small})
    name = azurite.new_container()
    stage(container(azurite, name), source / "memory.dmp", range(1, 99, 2), small)
    send(source, container(azurite, name), settings=settings(block_size_bytes=small))
    assert digests_in_store(container(azurite, name)) == digests_in_folder(source)


def stage(store: Any, file: Path, numbers: Iterable[int], size: int) -> None:
    """What an attempt that was killed has left of a file."""
    limiter = RateLimiter(threading.Event())
    wire = BlobWire(ContainerAccess.of(store), tls=None, limiter=limiter, timeout_s=20, on_sent=lambda sent: None)
    content = memoryview(file.read_bytes())
    for number in numbers:
        piece = content[number * size :][:size]
        key = BlockKey(number * size, size, checksum_of(piece, Algorithm.MD5))
        wire.put_block(file.name, key.encode(), piece, key.checksum)
    wire.connection.close()


def test_blocks_that_another_tool_has_staged_are_cleared_out_of_the_way(azurite: Azurite, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {"data/role.zip": MIB})
    name = azurite.new_container()
    with azurite.owner(name) as owner, owner.get_blob_client("west/data/role.zip") as blob:
        blob.stage_block("AAAA", b"another tool's block")
    send(source, container(azurite, name), settings=settings())
    assert digests_in_store(container(azurite, name)) == digests_in_folder(source)


def test_staged_blocks_that_the_service_has_dropped_since_are_sent_again(azurite: Azurite, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {"data/role.zip": MIB})
    name = azurite.new_container()
    write_only = container(azurite, name, permissions="cw")
    content = (source / "data/role.zip").read_bytes()
    with TransferJournal(tmp_path / "journal.sqlite") as journal:
        checksum = checksum_of(memoryview(content[:BLOCK]), Algorithm.MD5)
        journal.record_block("data/role.zip", BlockKey(0, BLOCK, checksum))  # an answer of more than a week ago
        events: list[TransferEvent] = []
        result = send(source, write_only, events, settings=settings(), journal=journal)
    assert digests_in_store(container(azurite, name)) == digests_in_folder(source)
    assert result.repaired == 1


def test_a_source_that_is_not_what_its_manifest_says_is_named_and_not_delivered(
    azurite: Azurite, tmp_path: Path
) -> None:
    source = make_tree(tmp_path / "source", {"data/good.zip": MIB, "data/large.zip": MIB, "data/small.log": 100})
    digests = digests_in_folder(source)
    for path in ("data/large.zip", "data/small.log"):
        content = bytearray((source / path).read_bytes())
        content[50] ^= 1
        (source / path).write_bytes(content)
    items = [
        TransferItem(path, size, sha256) for path, (size, sha256) in sorted(digests.items()) if path != "bagit.txt"
    ]
    last = [TransferItem("bagit.txt", digests["bagit.txt"][0])]
    target = container(azurite, azurite.new_container())
    with pytest.raises(SourceMismatchError) as failure:
        transfer(FolderStore(source), target, items, last=last, settings=settings())
    assert "data/large.zip" in str(failure.value)
    assert "data/small.log" in str(failure.value)
    assert "good" not in str(failure.value)
    assert [entry.path for entry in target.list()] == ["data/good.zip"]


def test_a_target_that_cannot_be_reached_is_given_up_in_time_and_said(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {"data/role.zip": MIB})
    sas = Secret("sv=2019-02-02&sr=c&sp=rwl&se=2099-01-01T00:00:00Z&sig=c2VjcmV0c2VjcmV0")
    target = opened_store(parse_destination(f"http://127.0.0.1:{free_port()}/account/container"), sas=sas)
    events: list[TransferEvent] = []
    with pytest.raises(DeliveryFailedError) as failure:
        send(source, target, events, settings=settings(connect_give_up_after_s=1.0))
    assert "nothing has got through" in str(failure.value)
    assert any(isinstance(event, Retrying) for event in events)


def test_a_version_that_the_service_does_not_know_is_named(azurite: Azurite, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", {"data/role.zip": MIB})
    name = azurite.new_container()
    target = opened_store(
        parse_destination(azurite.container_url(name)),
        sas=azurite.sas(name),
        settings=StoreSettings(api_version="2099-01-01"),
    )
    with pytest.raises(DeliveryFailedError) as failure:
        send(source, target, settings=settings())
    assert isinstance(failure.value.__cause__, ApiVersionError)
    assert "2099-01-01" in str(failure.value)
