"""Looking into zips: every claim of a zip is checked against its file, and no zip raises."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.collection.coverage._output_log import Testimony as OutputLogs
from bridge.collection.coverage._text import Names
from bridge.collection.coverage._zip import (
    MAX_RATIO,
    Extent,
    Member,
    ZipLook,
    ZipState,
    look_inside,
    look_into,
    read_sample,
)
from bridge.errors import StoreAccessError, StoreUnreachableError
from bridge.store import FolderStore, Reader


def look(folder: Path, content: bytes) -> ZipLook:
    (folder / "x.zip").write_bytes(content)
    return look_into(Extent(FolderStore(folder), "x.zip", len(content)))


def whole(folder: Path) -> Extent:
    return Extent(FolderStore(folder), "x.zip", (folder / "x.zip").stat().st_size)


def zip_of(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_members_and_sizes_are_those_that_the_zipfile_module_sees(tmp_path: Path) -> None:
    members = {f"folder/ü{number}.log": b"x" * number for number in range(3000)}
    seen = look(tmp_path, zip_of(members, zipfile.ZIP_DEFLATED))
    assert seen.state is ZipState.GOOD
    assert seen.members == len(members)
    assert seen.content_bytes == sum(map(len, members.values()))
    assert seen.problems == []
    assert [sample.size_bytes for sample in seen.samples] == [2999, 2998, 2997, 2996]


def test_a_zip_written_without_seeking_is_whole(tmp_path: Path) -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise io.UnsupportedOperation

        def seek(self, offset: int, whence: int = 0) -> int:
            raise io.UnsupportedOperation

    buffer = Unseekable()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.log", b"text" * 1000)
    seen = look(tmp_path, buffer.getvalue())
    assert (seen.state, seen.members, seen.content_bytes) == (ZipState.GOOD, 1, 4000)


def test_a_zip64_directory_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        with archive.open("a.log", "w", force_zip64=True) as file:
            file.write(b"x" * 1000)
        for number in range(70_000):
            archive.writestr(f"{number}", b"")
    seen = look(tmp_path, buffer.getvalue())
    assert (seen.state, seen.members, seen.content_bytes) == (ZipState.GOOD, 70_001, 1000)
    assert seen.problems == []


def test_a_member_larger_than_4_gib_has_its_size_from_the_zip64_field(tmp_path: Path) -> None:
    content = zip_of({"a.bin": bytes(5 << 20)}, zipfile.ZIP_DEFLATED)
    directory, end = content.rfind(b"PK\x01\x02"), content.rfind(b"PK\x05\x06")
    header, record = bytearray(content[directory:end]), bytearray(content[end:])
    extra = struct.pack("<HHQ", 1, 8, 5 << 30)
    struct.pack_into("<L", header, 24, 0xFFFFFFFF)
    struct.pack_into("<H", header, 30, len(extra))
    struct.pack_into("<L", record, 12, len(header) + len(extra))
    seen = look(tmp_path, content[:directory] + header + extra + record)
    assert (seen.state, seen.content_bytes) == (ZipState.GOOD, 5 << 30)


def test_a_bomb_is_named_and_not_unpacked(tmp_path: Path) -> None:
    content = bytearray(zip_of({"a.log": b"x" * 1000}))
    at = content.rfind(b"PK\x01\x02")
    struct.pack_into("<L", content, at + 24, 0xFFFFFFF0)
    seen = look(tmp_path, bytes(content))
    assert seen.content_bytes > len(content) * MAX_RATIO
    assert any("do not unpack" in problem for problem in seen.problems)


def test_a_sample_of_a_bomb_is_bounded(tmp_path: Path) -> None:
    content = zip_of({"a.log": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    seen = look(tmp_path, content)
    pieces = read_sample(whole(tmp_path), seen.samples[0]).pieces
    assert sum(map(len, pieces)) <= 1 << 20


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "C:/x", "a/nul", "..\\..\\x", "x" * 300])
def test_unsafe_names_inside_are_named(tmp_path: Path, name: str) -> None:
    seen = look(tmp_path, zip_of({name: b"x"}))
    assert seen.state is ZipState.GOOD
    assert any(problem.startswith("unsafe name inside") for problem in seen.problems)


def test_members_beyond_the_file_are_damage(tmp_path: Path) -> None:
    content = bytearray(zip_of({"a.log": b"x" * 1000}))
    at = content.rfind(b"PK\x01\x02")
    struct.pack_into("<L", content, at + 42, 0x7FFFFFFF)
    assert look(tmp_path, bytes(content)).state is ZipState.DAMAGED


def test_overlapping_members_are_named(tmp_path: Path) -> None:
    content = bytearray(zip_of({"a.log": b"x" * 1000, "b.log": b"y" * 1000}))
    last = content.rfind(b"PK\x01\x02")
    struct.pack_into("<L", content, last + 42, 0)
    struct.pack_into("<L", content, last + 20, 1500)
    assert any("overlap" in problem for problem in look(tmp_path, bytes(content)).problems)


def test_a_zip_that_cannot_be_read_is_unread(tmp_path: Path) -> None:
    class Refusing(FolderStore):
        def open_read(self, path: str, offset: int = 0):  # type: ignore[no-untyped-def]
            raise StoreAccessError(store="container", detail="the SAS does not allow reading")

    seen = look_into(Extent(Refusing(tmp_path), "x.zip", 100))
    assert seen.state is ZipState.UNREAD
    assert "SAS" in seen.problems[0]


@pytest.mark.parametrize("ask", ["zip", "nested", "sample", "log"])
def test_what_cannot_be_read_just_now_is_not_judged(tmp_path: Path, ask: str) -> None:
    class Cut(FolderStore):
        def open_read(self, path: str, offset: int = 0):  # type: ignore[no-untyped-def]
            raise StoreUnreachableError(store="share", detail="the line was cut")

    file, member = Extent(Cut(tmp_path), "x.zip", 100), Member("a.log", 20, 20, 0, 0, encrypted=False)
    ways: dict[str, Callable[[], object]] = {
        "zip": lambda: look_into(file),
        "nested": lambda: look_inside(file, member),
        "sample": lambda: read_sample(file, member),
        "log": lambda: OutputLogs(Names((), ())).read_log(file.store, "x.log", 100),
    }
    with pytest.raises(StoreUnreachableError):
        ways[ask]()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_no_damage_raises(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(zip_of({"a.log": b"2026-11-23T10:00:00Z", "b/c.zip": zip_of({"d.log": b"x"})}))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[data.draw(st.integers(0, 50)) : data.draw(st.integers(50, len(content)))])
    seen = look(tmp_path, cut)
    for sample in seen.samples:
        read_sample(whole(tmp_path), sample)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.binary(max_size=100))
def test_bytes_around_an_end_record_do_not_raise(tmp_path: Path, before: bytes, after: bytes) -> None:
    assert look(tmp_path, before + b"PK\x05\x06" + after).state in set(ZipState)


def test_a_zip_of_usual_size_costs_one_read_and_a_sample_at_most_two(tmp_path: Path) -> None:
    class Counting(FolderStore):
        opened = 0

        @contextmanager
        def open_read(self, path: str, offset: int = 0) -> Iterator[Reader]:
            self.opened += 1
            with super().open_read(path, offset) as reader:
                yield reader

    (tmp_path / "x.zip").write_bytes(zip_of({"a.log": b"x" * 100_000, "b.bin": bytes(300_000)}))
    store = Counting(tmp_path)
    zip_ = Extent(store, "x.zip", (tmp_path / "x.zip").stat().st_size)
    seen = look_into(zip_)
    assert store.opened == 1
    assert [len(piece) for piece in read_sample(zip_, seen.samples[0]).pieces] == [20_445, 16_384]
    assert store.opened == 3


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("size", [1, 1000, 16_384, 20_000, 50_000, 1_000_000])
def test_a_sample_is_the_beginning_and_for_stored_members_the_end(tmp_path: Path, compression: int, size: int) -> None:
    content = b"".join(f"{number:07}\n".encode() for number in range(size // 8 + 1))[:size]
    seen = look(tmp_path, zip_of({"a.log": content}, compression))
    pieces = read_sample(whole(tmp_path), seen.samples[0]).pieces
    assert content.startswith(pieces[0])
    if compression == zipfile.ZIP_STORED:
        assert content.endswith(pieces[-1])
    assert len(pieces[0]) >= min(size, 16_384)
