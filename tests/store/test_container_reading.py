"""A container is read in ranges asked ahead: whole over bad lines, in bounded memory, and no more than is needed."""

from __future__ import annotations

import hashlib
import itertools
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import trustme

from bridge.errors import (
    StoreClosedError,
    StoreCorruptError,
    StoreNotFoundError,
    StoreReplacedError,
    StoreUnreachableError,
    UsageError,
)
from bridge.secrets import Secret
from bridge.store import Reader, Store, StoreSettings, open_store, parse_destination
from bridge.store._blob_reads import BUFFERS
from bridge.store._container import ContainerStore
from bridge.store._rate import RateLimiter
from bridge.store.transfer import hash_files
from tests.support.azurite import Azurite
from tests.support.range_service import RangeService, content_at
from tests.support.tcp_proxy import TcpProxy
from tests.support.transfer_lab import KIB, MIB, TunnelProxy, end_hashing_after_a_stall

SAS = Secret("sv=2019-02-02&sr=c&sp=rl&se=2099-01-01T00:00:00Z&sig=c2VjcmV0c2VjcmV0")
CONTENT = hashlib.shake_256(b"content").digest(13 * MIB + 77)


def store_on(port: int, settings: StoreSettings | None = None) -> ContainerStore:
    return ContainerStore(f"http://127.0.0.1:{port}/account/container", SAS, settings=settings)


@pytest.fixture(scope="module")
def container(azurite: Azurite) -> str:
    name = azurite.new_container()
    with azurite.owner(name) as owner:
        for path, size in (("large.zip", len(CONTENT)), ("small.log", 5000), ("empty", 0)):
            owner.upload_blob(path, CONTENT[:size])
    return name


def through(proxy: TcpProxy, azurite: Azurite, name: str, settings: StoreSettings | None = None) -> ContainerStore:
    url = azurite.container_url(name).replace(f":{azurite.port}/", f":{proxy.port}/")
    return ContainerStore(url, azurite.sas(name), settings=settings)


def rest_of(reader: Reader, at_once: int = MIB) -> bytes:
    data, buffer = bytearray(), memoryview(bytearray(at_once))
    while read := reader.readinto(buffer):
        data += buffer[:read]
    return bytes(data)


def read_on(reader: Reader, into: bytearray) -> None:
    buffer = memoryview(bytearray(MIB))
    while read := reader.readinto(buffer):
        into += buffer[:read]


def listed(store: Store, path: str) -> bytes:
    entry = next(entry for entry in store.list() if entry.path == path)
    assert isinstance(store, ContainerStore)
    with store.open_listed(entry) as reader:
        return rest_of(reader)


@pytest.mark.parametrize("at_once", [1, 1000, 64 * KIB, MIB, 32 * MIB])
@pytest.mark.parametrize("offset", [0, 1, 5 * MIB + 3, len(CONTENT) - 1, len(CONTENT)])
def test_a_blob_is_read_from_anywhere_in_steps_of_any_size(
    azurite: Azurite, container: str, offset: int, at_once: int
) -> None:
    expected = CONTENT[offset:]
    with closing(ContainerStore(azurite.container_url(container), azurite.sas(container))) as store:
        with store.open_read("large.zip", offset) as reader:
            assert reader.size_bytes == len(CONTENT)
            if at_once == 1:  # a few are enough
                one = memoryview(bytearray(1))
                assert [reader.readinto(one) and one[0] for _ in expected[:20]] == list(expected[:20])
                expected = expected[20:]
            assert rest_of(reader, max(at_once, 1000)) == expected
            assert reader.readinto(memoryview(bytearray(10))) == 0


def test_an_empty_blob_has_a_size_and_an_end(azurite: Azurite, container: str) -> None:
    with closing(ContainerStore(azurite.container_url(container), azurite.sas(container))) as store:
        with store.open_read("empty") as reader:
            assert (reader.size_bytes, reader.readinto(memoryview(bytearray(10)))) == (0, 0)
        assert listed(store, "empty") == b""


def test_a_line_that_is_reset_again_and_again_gives_each_byte_about_once(azurite: Azurite, container: str) -> None:
    with TcpProxy("127.0.0.1", azurite.port) as proxy:
        proxy.cut_after(900_000)
        with closing(through(proxy, azurite, container, StoreSettings(retries=2))) as store:
            with store.open_read("large.zip") as reader:
                assert rest_of(reader) == CONTENT
            assert listed(store, "large.zip") == CONTENT
        assert proxy.connections > 2 * len(CONTENT) // 900_000, "the line must really have been reset"
        # What the proxy had taken from the service and a reset threw away counts too.
        assert proxy.bytes_down < 2 * len(CONTENT) * 1.3


def test_a_line_that_stalls_is_left_and_reading_goes_on_where_it_was(azurite: Azurite, container: str) -> None:
    with TcpProxy("127.0.0.1", azurite.port) as proxy:
        with closing(through(proxy, azurite, container, StoreSettings(retries=20, io_timeout_s=0.5))) as store:
            with store.open_read("large.zip") as reader:
                buffer = memoryview(bytearray(MIB))
                begun = bytearray()
                while len(begun) < 2 * MIB:
                    begun += buffer[: reader.readinto(buffer)]
                proxy.stall(True)
                threading.Timer(1.5, proxy.stall, [False]).start()
                before = proxy.connections
                assert bytes(begun) + rest_of(reader) == CONTENT
    assert proxy.connections > before, "a silent connection is given up"


def test_after_an_error_the_same_reader_goes_on_at_the_byte_it_had_reached(azurite: Azurite, container: str) -> None:
    with TcpProxy("127.0.0.1", azurite.port) as proxy:
        with closing(through(proxy, azurite, container, StoreSettings(retries=0))) as store:
            with store.open_read("large.zip") as reader:
                got, buffer = bytearray(), memoryview(bytearray(MIB))
                while len(got) < 3 * MIB:
                    got += buffer[: reader.readinto(buffer)]
                proxy.refuse(True)
                proxy.reset()
                with pytest.raises(StoreUnreachableError) as failure:
                    read_on(reader, got)
                assert failure.value.__context__ is None, "nothing that could hold the SAS comes along"
                assert failure.value.advice
                assert len(got) < len(CONTENT)
                proxy.refuse(False)
                assert bytes(got) + rest_of(reader) == CONTENT


@pytest.mark.parametrize("way", ["open_read", "open_listed"])
def test_a_blob_that_is_replaced_meanwhile_is_named(azurite: Azurite, way: str) -> None:
    name = azurite.new_container()
    with azurite.owner(name) as owner, closing(ContainerStore(azurite.container_url(name), azurite.sas(name))) as store:
        owner.upload_blob("file", CONTENT)
        (entry,) = store.list()
        with store.open_listed(entry) if way == "open_listed" else store.open_read("file") as reader:
            buffer = memoryview(bytearray(2 * MIB))
            if way == "open_read":
                reader.readinto(buffer)
            owner.upload_blob("file", CONTENT[::-1], overwrite=True)
            with pytest.raises(StoreReplacedError, match="file: it was replaced while it was being read") as failure:
                rest_of(reader)
    assert isinstance(failure.value, StoreCorruptError)
    assert failure.value.advice


def test_what_follows_a_cut_in_the_very_first_range_is_asked_for_of_the_same_version() -> None:
    """The first question names no version; once a part has come, the version is known."""
    with RangeService({"a.json": 15_000}) as service, closing(store_on(service.port)) as store:
        service.cut_after = 6000
        with store.open_read("a.json") as reader:
            assert rest_of(reader) == content_at(0, 15_000)
    assert [first for _, first, _ in service.ranges] == [0, 6000]
    assert service.conditions == [None, '"0x1"']


def test_a_blob_that_is_removed_meanwhile_is_named(azurite: Azurite) -> None:
    name = azurite.new_container()
    with azurite.owner(name) as owner, closing(ContainerStore(azurite.container_url(name), azurite.sas(name))) as store:
        owner.upload_blob("file", CONTENT)
        with store.open_read("file") as reader:
            reader.readinto(memoryview(bytearray(MIB)))
            owner.delete_blob("file")
            # To a condition that fails because nothing is there services answer the one or the other.
            with pytest.raises((StoreNotFoundError, StoreReplacedError), match="file: "):
                rest_of(reader)


def test_a_small_read_asks_for_little_and_a_small_file_comes_with_one_question() -> None:
    with RangeService({"role.zip": 50 * MIB, "small.json": 3000}) as service, closing(store_on(service.port)) as store:
        tail = 50 * MIB - 65_000
        with store.open_read("role.zip", tail) as reader:
            assert rest_of(reader, 65_000) == content_at(tail, 65_000)
        with store.open_read("role.zip", 7 * MIB) as reader:
            assert reader.readinto(memoryview(bytearray(300))) == 300
        with store.open_read("small.json") as reader:
            assert rest_of(reader) == content_at(0, 3000)
        asked = {
            name: sum(last - first + 1 for one, first, last in service.ranges if one == name) for name in service.blobs
        }
        assert asked == {"role.zip": 65_000 + 16 * KIB, "small.json": 3000}
        assert [name for name, *_ in service.ranges].count("small.json") == 1


def test_ranges_are_asked_ahead_in_parallel_and_nobody_asks_for_one_twice() -> None:
    size = 60 * MIB + 5
    with RangeService({"role.zip": size}) as service, closing(store_on(service.port)) as store:
        with store.open_read("role.zip") as reader:
            buffer = memoryview(bytearray(MIB))
            begun = sum(reader.readinto(buffer) for _ in range(6))
            waited_until = time.monotonic() + 20
            while sum(last - first + 1 for _, first, last in service.ranges) < begun + MIB // 2:
                assert time.monotonic() < waited_until, "nothing is asked for while nobody reads"
                time.sleep(0.01)
            digest = hashlib.sha256(rest_of(reader))
        assert digest.digest() == hashlib.sha256(content_at(begun, size - begun)).digest()
        spans = sorted((first, last) for _, first, last in service.ranges)
        assert spans[0][0] == 0
        assert all(after == before + 1 for (_, before), (after, _) in itertools.pairwise(spans))
        assert spans[-1][1] == size - 1


def test_who_stops_reading_early_leaves_nothing_running() -> None:
    with RangeService({"role.zip": 200 * MIB}) as service, closing(store_on(service.port)) as store:
        for _ in range(3 * BUFFERS):  # buffers that were not given back would run out
            with store.open_read("role.zip") as reader:
                buffer = memoryview(bytearray(MIB))
                for _ in range(4):
                    reader.readinto(buffer)
        with store.open_read("role.zip") as reader:
            assert rest_of(reader) == content_at(0, 200 * MIB)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("container-read")]


def test_many_readers_share_the_buffers_and_none_waits_for_another() -> None:
    with RangeService({f"{number}.zip": 9 * MIB + number for number in range(20)}) as service:
        with closing(store_on(service.port)) as store:
            readers = [store.open_read(f"{number}.zip") for number in range(20)]
            opened = [reader.__enter__() for reader in readers]
            got = [rest_of(reader) for reader in opened]
            for reader in readers:
                reader.__exit__(None, None, None)
    assert got == [content_at(0, 9 * MIB + number) for number in range(20)]


@contextmanager
def side_by_side(store: ContainerStore) -> Iterator[list[Reader]]:
    """Every blob of a container, opened at once as a transfer opens them."""
    with ExitStack() as opened:
        yield [opened.enter_context(store.open_listed(entry)) for entry in list(store.list())]


def in_turn(readers: list[Reader], between: Callable[[int], None] = lambda turn: None) -> list[bytes]:
    """What all readers give, a step of each in turn."""
    got, buffer = [bytearray() for _ in readers], memoryview(bytearray(MIB))
    for turn in itertools.count():
        between(turn)
        before = sum(map(len, got))
        for whole, reader in zip(got, readers, strict=True):
            whole.extend(buffer[: reader.readinto(buffer)])
        if sum(map(len, got)) == before:
            break
    return [bytes(whole) for whole in got]


def test_blobs_that_are_read_side_by_side_come_in_one_long_answer_each() -> None:
    sizes = {f"{number}.zip": 9 * MIB + number for number in range(4)} | {"large.zip": 40 * MIB}
    with RangeService(sizes) as service, closing(store_on(service.port)) as store:
        with side_by_side(store) as readers:
            got = in_turn(readers)
        asked = [name for name, *_ in service.ranges]
        assert [asked.count(f"{number}.zip") for number in range(4)] == [1, 1, 1, 1]
        assert asked.count("large.zip") == 2, "now and then it is looked at whether there are still others"
        assert set(service.conditions) == {'"0x1"'}
    assert got == [content_at(0, size) for _, size in sorted(sizes.items())]


def test_a_long_answer_that_is_cut_goes_on_at_its_byte() -> None:
    sizes = {f"{number}.zip": 9 * MIB + number for number in range(5)}
    with RangeService(sizes) as service, closing(store_on(service.port)) as store:
        cuts = [700 * KIB + 17, 40 * KIB, 999]

        def cut(turn: int) -> None:
            if cuts and service.cut_after is None:
                service.cut_after = cuts.pop()

        with side_by_side(store) as readers:
            got = in_turn(readers, cut)
        assert not cuts
        assert sum(last - first + 1 for _, first, last in service.ranges) > sum(sizes.values())
    assert got == [content_at(0, size) for _, size in sorted(sizes.items())]


def test_a_limit_that_is_set_in_the_middle_of_a_long_answer_is_heeded() -> None:
    sizes = {f"{number}.zip": 31 * MIB for number in range(4)}
    with RangeService(sizes) as service, closing(store_on(service.port)) as store:
        limiter = RateLimiter(threading.Event())
        with store.paced(limiter), side_by_side(store) as readers:
            buffer = memoryview(bytearray(MIB))
            for reader in readers:
                reader.readinto(buffer)
            limiter.set_rate(16_000_000)
            for reader in readers:
                reader.readinto(buffer)
            started = time.monotonic()
            while time.monotonic() - started < 4:
                for reader in readers:
                    reader.readinto(buffer)
        sent = sum(size for at, size in service.sent if 1 < at - started <= 4)
    assert 0.85 * 6_000_000 <= sent <= 1.15 * 6_000_000


def test_a_closed_store_ends_its_readers() -> None:
    with RangeService({"role.zip": 200 * MIB}) as service:
        store = store_on(service.port)
        with store.open_read("role.zip") as reader:
            buffer = memoryview(bytearray(MIB))
            for _ in range(5):
                reader.readinto(buffer)
            store.close()
            with pytest.raises(StoreClosedError):
                rest_of(reader)


def test_a_service_that_gives_another_part_than_asked_for_is_not_believed() -> None:
    with (
        RangeService({"role.zip": 3 * MIB}) as service,
        closing(store_on(service.port, StoreSettings(retries=0))) as store,
    ):
        (entry,) = store.list()
        service.blobs["role.zip"] = 3 * MIB - 10
        with store.open_listed(entry) as reader, pytest.raises(StoreCorruptError, match="ends before its size"):
            rest_of(reader)


def test_reading_asks_no_faster_than_the_limiter_lets_it() -> None:
    with RangeService({"role.zip": 100 * MIB}) as service, closing(store_on(service.port)) as store:
        limiter = RateLimiter(threading.Event())
        limiter.set_rate(16_000_000)
        with store.paced(limiter), store.open_read("role.zip") as reader:
            buffer = memoryview(bytearray(MIB))
            started = time.monotonic()
            while time.monotonic() - started < 5:
                reader.readinto(buffer)
        sent = sum(size for at, size in service.sent if at - started <= 5)
    assert 0.9 * 10_000_000 <= sent <= 1.1 * 10_000_000


# -- TLS and proxies ---------------------------------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure_service(authority: trustme.CA) -> Iterator[RangeService]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    with RangeService({"role.zip": 9 * MIB}, tls=tls) as service:
        yield service


@pytest.mark.parametrize("proxied", [False, True])
def test_a_container_is_listed_and_read_over_tls_and_through_a_proxy(
    secure_service: RangeService,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    proxied: bool,
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    destination = parse_destination(f"https://localhost:{secure_service.port}/container")
    with TunnelProxy(secure_service.port) as proxy:
        if proxied:
            monkeypatch.setenv("https_proxy", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
            monkeypatch.setenv("no_proxy", "")
        store = open_store(destination, sas=SAS, settings=StoreSettings(ca_file=str(ca_file), retries=0))
        # In this service's paths the account comes first; over its own host name there is none.
        secure_service.blobs = {"zip": 9 * MIB}
        with closing(store), store.open_read("role/zip") as reader:
            assert rest_of(reader) == content_at(0, 9 * MIB)
            assert [entry.path for entry in store.list()] == ["zip"]
    assert bool(proxy.asked) == proxied
    assert all("Proxy-Authorization: Basic dXNlcjpwQHNz" in asked for asked in proxy.asked)


def test_a_certificate_of_an_unknown_authority_is_named_with_what_to_set(secure_service: RangeService) -> None:
    destination = parse_destination(f"https://localhost:{secure_service.port}/container")
    with closing(open_store(destination, sas=SAS)) as store:
        with pytest.raises(StoreUnreachableError, match="ca_file"), store.open_read("role.zip"):
            pass


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("nothing of use", "no certificate in PEM")])
def test_an_authority_file_that_cannot_be_used_is_named_before_anything_is_sent(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    destination = parse_destination("https://account.blob.example.com/container")
    with pytest.raises(UsageError, match=reason) as failure:
        open_store(destination, sas=SAS, settings=StoreSettings(ca_file=str(ca_file)))
    assert str(ca_file) in str(failure.value)
    assert "PEM" in failure.value.advice


# -- memory ------------------------------------------------------------------------------------------------------------

_CHILD = """
import sys
from pathlib import Path
from bridge.secrets import Secret
from bridge.store import FolderStore, open_store, parse_destination
from bridge.store.transfer import hash_files, transfer
port, sas, folder = sys.argv[1:]
source = open_store(parse_destination(f"http://127.0.0.1:{port}/account/container"), sas=Secret(sas))
hashed = sum(done.size_bytes for done in hash_files(source))
result = transfer(source, FolderStore(folder), source.list())
assert result.size_bytes == hashed
source.close()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(hashed, int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    "blobs",
    [{"one.zip": 1536 * MIB}, {f"{number:02}.zip": 25 * MIB for number in range(60)}],
    ids=["one-large", "sixty"],
)
def test_reading_stays_below_128_mib_of_memory(tmp_path: Path, blobs: dict[str, int]) -> None:
    with RangeService(blobs) as service:
        words = [sys.executable, "-c", _CHILD, str(service.port), SAS.reveal(), str(tmp_path / "out")]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    read, peak = map(int, done.stdout.split())
    assert read == sum(blobs.values())
    print(f"{read >> 20} MiB read twice with at most {peak >> 20} MiB of memory")
    assert peak <= 128 * MIB


def test_files_of_a_container_are_hashed_as_they_are(azurite: Azurite, container: str) -> None:
    with closing(ContainerStore(azurite.container_url(container), azurite.sas(container))) as store:
        found = {done.path: done.sha256 for done in hash_files(store)}
    assert found == {
        path: hashlib.sha256(CONTENT[:size]).hexdigest()
        for path, size in (("large.zip", len(CONTENT)), ("small.log", 5000), ("empty", 0))
    }


def test_hashing_a_container_that_fell_silent_ends_when_nobody_wants_it_any_more(azurite: Azurite) -> None:
    name = azurite.new_container()
    with azurite.owner(name) as owner:
        for number in range(3):
            owner.upload_blob(f"hashed/{number}.zip", CONTENT)
    with (
        TcpProxy("127.0.0.1", azurite.port) as proxy,
        closing(through(proxy, azurite, name, StoreSettings(io_timeout_s=3600))) as store,
    ):
        end_hashing_after_a_stall(store, "hashed", proxy)
        assert store.stat("hashed/1.zip").size_bytes == len(CONTENT), "the store can be used again"
