"""What every store must do alike; run on a folder, a Samba share (plain and encrypted) and an Azurite container."""

from __future__ import annotations

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil
import pytest

from bridge.errors import (
    StoreClosedError,
    StoreCorruptError,
    StoreExistsError,
    StoreNotFoundError,
    UnsafePathError,
)
from bridge.store import Entry, Store
from tests.store.conftest import Place

MIB = 1024 * 1024
UNSAFE = (
    "",
    "/a",
    "a/",
    "a//b",
    "../a",
    "a/../b",
    "./a",
    "C:a",
    "a\\b",
    "a\0b",
    "nul",
    "a/COM1.txt",
    "a.",
    "a ",
    "x" * 256,
)


def write(store: Store, path: str, data: bytes, *, replace: bool = True) -> Entry:
    with store.open_write(path, len(data), replace=replace) as writer:
        writer.write(data)
        return writer.commit()


def read(store: Store, path: str, offset: int = 0, piece: int = MIB) -> bytes:
    buffer, data = memoryview(bytearray(piece)), bytearray()
    with store.open_read(path, offset) as reader:
        while count := reader.readinto(buffer):
            data += buffer[:count]
    return bytes(data)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# -- listing ----------------------------------------------------------------------------------------------------------


def test_a_place_where_nothing_was_written_yet_has_no_files(store: Store) -> None:
    assert list(store.list()) == []
    assert list(store.list("not/there")) == []


def test_a_listing_is_sorted_by_the_whole_path_at_any_depth(store: Store) -> None:
    paths = ["b", "a/z/deep/er.bin", "a.txt", "a/b.txt", "a-b/c", "Z", "a/C.txt"]
    for path in paths:
        write(store, path, path.encode())
    listed = list(store.list())
    assert [entry.path for entry in listed] == sorted(paths)
    assert [entry.size_bytes for entry in listed] == [len(path) for path in sorted(paths)]


def test_a_listing_below_a_folder_has_that_folder_only_and_paths_from_the_root(store: Store) -> None:
    for path in ("a/1", "a/b/2", "ab/3", "a.txt"):
        write(store, path, b"x")
    assert [entry.path for entry in store.list("a")] == ["a/1", "a/b/2"]
    assert [entry.path for entry in store.list("a/")] == ["a/1", "a/b/2"]
    assert list(store.list("a.txt")) == []


def test_a_listing_of_many_files_is_whole(place: Place) -> None:
    count = 300 if place.kind == "container" else 3000
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: place.plant(f"many/{number:05d}-{'long' * 20}.txt", b""), range(count)))
    numbers = [int(entry.path.removeprefix("many/")[:5]) for entry in place.store.list("many")]
    assert numbers == list(range(count))


def test_a_folder_as_deep_as_a_path_may_be_is_listed(store: Store) -> None:
    path = "/".join("d" * 380)
    write(store, path, b"deep")
    assert [entry.path for entry in store.list()] == [path]
    assert read(store, path) == b"deep"


def test_unicode_names_come_back_as_they_were_written(store: Store) -> None:
    paths = ["Überprüfung/ночь.log", "日本/ログ 1.zip", "emoji-😀/a+b & c=d %41 #1;.txt", "cafe\u0301.txt"]
    for path in paths:
        write(store, path, path.encode())
    assert [entry.path for entry in store.list()] == sorted(paths)
    for path in paths:
        assert read(store, path) == path.encode()


def test_unsafe_names_found_there_are_told_and_the_rest_is_listed(place: Place) -> None:
    place.plant("good.txt", b"1")
    place.plant("sub/aux.log", b"2")
    place.plant("sub/zgood.txt", b"3")
    found: list[UnsafePathError] = []
    assert [entry.path for entry in place.store.list(on_unsafe=found.append)] == ["good.txt", "sub/zgood.txt"]
    assert len(found) == 1
    assert "aux.log" in str(found[0].fields["path"])
    with pytest.raises(UnsafePathError):
        list(place.store.list())


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65536, MIB, MIB + 1, 9 * MIB + 12345])
def test_what_was_written_is_read_back_whole(store: Store, size: int) -> None:
    data = noise(size)
    assert write(store, "sub/file.bin", data).size_bytes == size
    assert store.stat("sub/file.bin").size_bytes == size
    assert read(store, "sub/file.bin") == data


@pytest.mark.parametrize("offset", [0, 1, MIB - 1, 5 * MIB, 5 * MIB + 77, 6 * MIB])
def test_reading_begins_at_the_offset(store: Store, offset: int) -> None:
    data = noise(6 * MIB)
    write(store, "file.bin", data)
    assert read(store, "file.bin", offset) == data[offset:]


def test_reading_in_small_pieces_gives_the_same_bytes(store: Store) -> None:
    data = noise(300_000)
    write(store, "file.bin", data)
    assert read(store, "file.bin", piece=7777) == data


def test_a_reader_that_is_left_early_does_not_disturb_the_next(store: Store) -> None:
    data = noise(12 * MIB)
    write(store, "file.bin", data)
    for _ in range(3):
        with store.open_read("file.bin") as reader:
            assert reader.size_bytes == len(data)
            reader.readinto(memoryview(bytearray(10)))
    assert read(store, "file.bin") == data


def test_a_file_that_is_not_there_is_not_found(store: Store) -> None:
    write(store, "a/b.txt", b"x")
    for path in ("nope.txt", "a/nope.txt", "no/such/folder.txt", "a"):
        with pytest.raises(StoreNotFoundError):
            store.stat(path)
        with pytest.raises(StoreNotFoundError), store.open_read(path):
            pass


# -- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_is_not_seen_before_it_is_committed_and_whole_after(store: Store) -> None:
    with store.open_write("sub/file.bin") as writer:
        for _ in range(5):
            writer.write(noise(MIB))
        assert list(store.list()) == []
        with pytest.raises(StoreNotFoundError):
            store.stat("sub/file.bin")
        entry = writer.commit()
    assert entry.size_bytes == 5 * MIB
    assert [found.path for found in store.list()] == ["sub/file.bin"]


def test_a_write_that_is_left_without_commit_leaves_nothing(place: Place) -> None:
    with place.store.open_write("sub/file.bin") as writer:
        writer.write(noise(6 * MIB))
    with suppress(ZeroDivisionError), place.store.open_write("sub/other.bin") as writer:
        writer.write(b"half")
        raise ZeroDivisionError
    assert place.names() == []


def test_a_write_that_is_left_keeps_the_old_file(store: Store) -> None:
    write(store, "file.txt", b"old")
    with store.open_write("file.txt") as writer:
        writer.write(b"new and longer")
    assert read(store, "file.txt") == b"old"


def test_replacing_gives_the_new_contents_whole(store: Store) -> None:
    write(store, "file.txt", noise(2 * MIB))
    before = store.stat("file.txt")
    write(store, "file.txt", b"new")
    assert read(store, "file.txt") == b"new"
    assert store.stat("file.txt").etag != before.etag


def test_a_file_that_is_there_is_not_replaced_against_the_writers_will(place: Place) -> None:
    write(place.store, "lock", b"mine", replace=False)
    for data in (b"yours", noise(6 * MIB)):
        with pytest.raises(StoreExistsError):
            write(place.store, "lock", data, replace=False)
    assert read(place.store, "lock") == b"mine"
    assert place.names() == ["lock"]


@pytest.mark.parametrize("round_", range(5))
def test_of_several_writers_of_a_new_file_exactly_one_wins(place: Place, round_: int) -> None:
    barrier = threading.Barrier(4)

    def race(number: int) -> bool:
        own = place.open_again()
        try:
            with own.open_write("lock", replace=False) as writer:
                writer.write(b"%d" % number)
                barrier.wait(60)
                writer.commit()
        except StoreExistsError:
            return False
        finally:
            own.close()
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(race, range(4)))
    assert won.count(True) == 1
    assert read(place.store, "lock") == b"%d" % won.index(True)


@pytest.mark.parametrize("written", [b"too short", b"much too long"])
def test_a_file_of_another_size_than_announced_is_refused(place: Place, written: bytes) -> None:
    with place.store.open_write("file.txt", 10) as writer:
        writer.write(written)
        with pytest.raises(StoreCorruptError):
            writer.commit()
    assert place.names() == []


def test_memoryviews_and_bytearrays_are_written_too(store: Store) -> None:
    data = bytearray(noise(3 * MIB))
    with store.open_write("file.bin") as writer:
        view = memoryview(data)
        writer.write(view[:100])
        writer.write(view[100:])
        writer.commit()
        # What was handed over belongs to the caller again.
        data[:] = bytes(len(data))
    assert read(store, "file.bin") == noise(3 * MIB)


def test_removing_removes_one_file_and_an_absent_one_is_no_error(store: Store) -> None:
    write(store, "a/b.txt", b"x")
    write(store, "a/c.txt", b"y")
    store.remove("a/b.txt")
    store.remove("a/b.txt")
    store.remove("no/such/file")
    assert [entry.path for entry in store.list()] == ["a/c.txt"]


# -- names, places, ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", UNSAFE)
def test_every_method_refuses_an_unsafe_name(place: Place, path: str) -> None:
    store = place.store
    for use in (store.stat, store.remove, store.at):
        with pytest.raises(UnsafePathError):
            use(path)
    for opened in (store.open_read, store.open_write):
        with pytest.raises(UnsafePathError), opened(path):
            pass
    if path:
        with pytest.raises(UnsafePathError):
            list(store.list("ok/" + path if path.startswith("/") else path.rstrip("/") + "/../x"))
    assert place.names() == []


def test_a_store_one_folder_deeper_is_the_same_store(store: Store) -> None:
    deeper = store.at("run-1/data")
    write(deeper, "a.txt", b"hello")
    assert [entry.path for entry in store.list()] == ["run-1/data/a.txt"]
    assert [entry.path for entry in deeper.list()] == ["a.txt"]
    assert deeper.location.replace("\\", "/").endswith("run-1/data")
    deeper.close()
    assert read(store.at("run-1"), "data/a.txt") == b"hello"


def test_a_closed_store_says_so_and_so_do_its_views(place: Place) -> None:
    own = place.open_again()
    view = own.at("sub")
    write(view, "a.txt", b"x")
    own.close()
    own.close()
    for closed in (own, view):
        with pytest.raises(StoreClosedError):
            closed.stat("a.txt")
        with pytest.raises(StoreClosedError):
            list(closed.list())
        with pytest.raises(StoreClosedError), closed.open_write("b.txt"):
            pass
        with pytest.raises(StoreClosedError):
            closed.free_bytes()


def test_free_space_is_a_number_or_honestly_unknown(place: Place) -> None:
    free = place.store.free_bytes()
    assert free is None if place.kind == "container" else free is not None and free > MIB


def test_threads_read_and_write_at_once(store: Store) -> None:
    def work(number: int) -> bool:
        data = noise(3 * MIB + number, seed=number)
        write(store, f"t{number % 3}/file-{number}.bin", data)
        return read(store, f"t{number % 3}/file-{number}.bin") == data

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(18)))
    assert len(list(store.list())) == 18


def test_a_big_file_streams_through_bounded_memory(store: Store) -> None:
    piece, count = noise(MIB), 192
    process = psutil.Process()
    written, returned = hashlib.sha256(), hashlib.sha256()
    write(store, "warm.up", noise(6 * MIB))
    read(store, "warm.up")
    before = highest = process.memory_info().rss
    with store.open_write("big.bin", count * MIB) as writer:
        for number in range(count):
            data = piece[number:] + piece[:number]
            written.update(data)
            writer.write(data)
            highest = max(highest, process.memory_info().rss)
        writer.commit()
    buffer = memoryview(bytearray(MIB))
    with store.open_read("big.bin") as reader:
        while got := reader.readinto(buffer):
            returned.update(buffer[:got])
            highest = max(highest, process.memory_info().rss)
    assert returned.digest() == written.digest()
    assert highest - before < 64 * MIB


def test_a_failure_names_the_store_and_the_file(store: Store) -> None:
    with pytest.raises(StoreNotFoundError) as caught:
        store.stat("run-1/nope.zip")
    assert store.location in str(caught.value)
    assert "run-1/nope.zip" in str(caught.value)
