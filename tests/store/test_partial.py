"""Going on with a half-written file: on a folder and on a Samba share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import cast

import pytest

from bridge.errors import BeingWrittenError, SourceMismatchError, StoreError, StoreNotFoundError
from bridge.store import FolderStore, FolderTree, PartialStore
from bridge.store.transfer import TransferItem, transfer
from tests.store.conftest import Place

DATA = bytes(range(256)) * 20_000


# A container has blocks instead (test_container.py).
on_files = pytest.mark.parametrize("place", ["folder", "share", "encrypted share"], indirect=True)


@pytest.fixture
def partial(place: Place) -> PartialStore:
    return cast("PartialStore", place.store)


def read_partial(store: PartialStore, path: str) -> bytes:
    buffer, data = memoryview(bytearray(100_000)), bytearray()
    with store.open_read_partial(path) as reader:
        while count := reader.readinto(buffer):
            data += buffer[:count]
    return bytes(data)


def read_whole(store: PartialStore, path: str) -> bytes:
    buffer, data = memoryview(bytearray(100_000)), bytearray()
    with store.open_read(path) as reader:
        while count := reader.readinto(buffer):
            data += buffer[:count]
    return bytes(data)


def write_part(store: PartialStore, path: str, data: bytes, offset: int = 0) -> None:
    with store.open_resume(path, offset) as writer:
        writer.write(data)


@on_files
def test_what_was_written_is_kept_out_of_sight_and_continued(place: Place, partial: PartialStore) -> None:
    write_part(partial, "sub/file.zip", DATA[:3_000_001])
    assert list(partial.list()) == []
    with pytest.raises(StoreNotFoundError):
        partial.stat("sub/file.zip")

    again = cast("PartialStore", place.open_again())
    assert again.partial_bytes("sub/file.zip") == 3_000_001
    assert read_partial(again, "sub/file.zip") == DATA[:3_000_001]
    with again.open_resume("sub/file.zip", 3_000_001, len(DATA)) as writer:
        writer.write(DATA[3_000_001:])
        entry = writer.commit()
    assert entry.size_bytes == len(DATA)
    assert read_whole(again, "sub/file.zip") == DATA
    assert again.partial_bytes("sub/file.zip") == 0
    assert place.names() == ["sub/file.zip"]
    again.close()


@on_files
def test_going_on_before_the_end_cuts_off_the_rest(partial: PartialStore) -> None:
    write_part(partial, "file.zip", DATA)
    with partial.open_resume("file.zip", 1000, 1003) as writer:
        writer.write(b"end")
        writer.commit()
    assert read_whole(partial, "file.zip") == DATA[:1000] + b"end"


@on_files
def test_going_on_beyond_what_is_there_is_refused(partial: PartialStore) -> None:
    write_part(partial, "file.zip", b"12345")
    with pytest.raises(StoreError, match="only 5 bytes are there"), partial.open_resume("file.zip", 6):
        pass
    assert partial.partial_bytes("file.zip") == 5


@on_files
def test_offset_zero_starts_anew(partial: PartialStore) -> None:
    write_part(partial, "file.zip", DATA)
    write_part(partial, "file.zip", b"new")
    assert read_partial(partial, "file.zip") == b"new"


@on_files
def test_nothing_half_written_is_zero_bytes_and_can_be_removed_again_and_again(
    place: Place, partial: PartialStore
) -> None:
    assert partial.partial_bytes("no/such/file.zip") == 0
    write_part(partial, "file.zip", b"x")
    partial.remove_partial("file.zip")
    partial.remove_partial("file.zip")
    assert partial.partial_bytes("file.zip") == 0
    assert place.names() == []


@on_files
def test_the_same_half_written_file_is_found_through_a_store_that_is_rooted_deeper(partial: PartialStore) -> None:
    write_part(partial, "run/data/file.zip", b"half")
    assert cast("PartialStore", partial.at("run/data")).partial_bytes("file.zip") == 4


@on_files
def test_what_somebody_writes_is_neither_removed_nor_written_by_another(place: Place, partial: PartialStore) -> None:
    other = cast("PartialStore", place.open_again())
    with partial.open_resume("sub/file.zip", 0, len(DATA)) as writer:
        writer.write(DATA[:2_000_000])
        with pytest.raises(BeingWrittenError, match=r"sub/file.zip: another transfer is writing it") as refused:
            other.remove_partial("sub/file.zip")
        assert "Wait until it has ended" in refused.value.advice
        with pytest.raises(BeingWrittenError), other.open_resume("sub/file.zip", 0):
            pass
        writer.write(DATA[2_000_000:])
        writer.commit()
    assert read_whole(other, "sub/file.zip") == DATA
    other.close()


@on_files
def test_clearing_a_folder_leaves_what_somebody_writes(place: Place, partial: PartialStore) -> None:
    other = place.open_again()
    assert isinstance(other, FolderTree)
    write_part(partial, "bundle/left.zip", b"half")
    write_part(partial, "bundle/data/left.zip", b"half")
    with (
        partial.open_resume("bundle/data/one.zip", 0) as one,
        partial.open_write("bundle/data/two.zip") as two,
    ):
        one.write(DATA)
        two.write(DATA)
        other.clear_folder("bundle")
        assert len(place.names()) == 2
        one.commit()
        two.commit()
    assert place.names() == ["bundle/data/one.zip", "bundle/data/two.zip"]
    assert read_whole(partial, "bundle/data/one.zip") == read_whole(partial, "bundle/data/two.zip") == DATA
    other.close()


def test_that_the_source_is_another_is_told_also_where_somebody_else_writes_the_file_by_then(tmp_path: Path) -> None:
    class TakenUp(FolderStore):
        """Another delivery goes on with the half-written file as soon as this one has let go of it."""

        def remove_partial(self, path: str) -> None:
            with FolderStore(self.root).open_resume(path, 0):
                super().remove_partial(path)

    (tmp_path / "source").mkdir()
    for name in ("a.zip", "b.zip"):
        (tmp_path / "source" / name).write_bytes(DATA)
    target = TakenUp(tmp_path / "target")
    items = [TransferItem("a.zip", len(DATA), "0" * 64), TransferItem("b.zip", len(DATA))]
    with pytest.raises(SourceMismatchError, match=r"a\.zip"):
        transfer(FolderStore(tmp_path / "source"), target, items)
    assert [entry.path for entry in target.list()] == ["b.zip"], "the other files go on"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_writer_leaves_a_part_that_is_continued(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from bridge.store import FolderStore
        with FolderStore(sys.argv[1]).open_resume("file.zip", 0) as writer:
            writer.write(bytes(range(256)) * 4000)
            print("written", flush=True)
            time.sleep(60)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"written\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = FolderStore(tmp_path)
    assert list(store.list()) == []
    assert store.partial_bytes("file.zip") == 256 * 4000
    assert read_partial(store, "file.zip") == DATA[: 256 * 4000]
