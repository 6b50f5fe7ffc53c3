"""What only a folder can get wrong: permissions, links, full and read-only disks."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import (
    BeingWrittenError,
    StoreError,
    StoreFullError,
    StoreNotFoundError,
    StoreReadOnlyError,
    UnsafePathError,
)
from bridge.store import FolderStore, _folder_streams, _os_files
from bridge.store._folder import _opener
from bridge.store._names import partial_name
from bridge.store._os_files import make_folders, once_let_go, os_path

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")
pytestmark = posix_only


def write(store: FolderStore, path: str, data: bytes = b"x") -> None:
    with store.open_write(path) as writer:
        writer.write(data)
        writer.commit()


def test_files_and_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write(FolderStore(tmp_path / "new" / "root"), "a/b/c.txt")
    finally:
        os.umask(old)
    made = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in made}
    assert modes == {"new": 0o700, "root": 0o700, "a": 0o700, "b": 0o700, "c.txt": 0o600}


def test_a_link_to_a_file_elsewhere_is_neither_read_nor_listed_nor_replaced(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(secret)
    store = FolderStore(root)
    for opened in (store.open_read, store.open_write):
        with pytest.raises(UnsafePathError), opened("link"):
            pass
    found: list[UnsafePathError] = []
    assert list(store.list(on_unsafe=found.append)) == []
    assert [error.fields["path"] for error in found] == ["'link'"]
    assert secret.read_text() == "secret"


def test_a_folder_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "file").write_text("x")
    (root / "sub").symlink_to(outside)
    store = FolderStore(root)
    found: list[UnsafePathError] = []
    assert list(store.list(on_unsafe=found.append)) == []
    assert len(found) == 1
    with pytest.raises(UnsafePathError):
        store.stat("sub/file")
    with pytest.raises(UnsafePathError), store.open_write("sub/deeper/new"):
        pass
    assert sorted(path.name for path in outside.iterdir()) == ["file"]


@pytest.fixture(params=["at once", "in two steps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Files are opened in one call where the system has it, and by looking first where it has not."""
    if request.param == "in two steps":
        monkeypatch.setattr("bridge.store._folder._opener", lambda: None)
    elif _opener() is None:
        pytest.skip("not run: the system has no openat2, or does not let it through")
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_only_a_plain_file_below_no_link_is_opened(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    outside.mkdir()
    (outside / "file").write_text("secret")
    (root / "sub" / "deep" / "file").write_text("good")
    (root / "sub" / "link").symlink_to(outside / "file")
    (root / "linked").symlink_to(outside)
    (root / "inner").symlink_to(root / "sub")  # a link is a link, wherever it leads
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
        store = FolderStore(tmp_path / "root")
        with store.open_read("sub/deep/file") as reader:
            buffer = bytearray(10)
            assert buffer[: reader.readinto(memoryview(buffer))] == b"good"
        for path in ("sub/link", "linked/file", "inner/deep/file", "linked"):
            with pytest.raises(UnsafePathError, match="a link"), store.open_read(path):
                pass
        for path in ("pipe", "socket", "sub"):
            with pytest.raises(StoreNotFoundError, match="not a file"), store.open_read(path):
                pass
        for path in ("none", "sub/none", "none/file", "sub/deep/file/none"):
            with pytest.raises(StoreNotFoundError), store.open_read(path):
                pass
    (tmp_path / "by-link").symlink_to(root)
    with FolderStore(tmp_path / "by-link").open_read("sub/deep/file"):
        pass  # the root itself is the caller's choice


def test_a_folder_that_is_exchanged_for_a_link_while_files_are_opened_is_never_followed(tmp_path: Path) -> None:
    if _opener() is None:
        pytest.skip("not run: the system has no openat2, or does not let it through")
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "file").write_text("secret")
    (root / "real").mkdir(parents=True)
    (root / "real" / "file").write_text("good")
    (root / "link").symlink_to(outside)
    ended = threading.Event()

    def exchange() -> None:
        while not ended.is_set():
            for name in ("real", "link"):
                (root / name).rename(root / "sub")
                (root / "sub").rename(root / name)

    exchanging = threading.Thread(target=exchange)
    exchanging.start()
    outcomes = {"good": 0, "link": 0, "none": 0}
    store, buffer = FolderStore(root), bytearray(10)
    try:
        tried_until = time.monotonic() + 60
        while min(outcomes.values()) < 20 and time.monotonic() < tried_until:
            try:
                with store.open_read("sub/file") as reader:
                    assert buffer[: reader.readinto(memoryview(buffer))] == b"good"
                    outcomes["good"] += 1
            except UnsafePathError:
                outcomes["link"] += 1
            except StoreNotFoundError:
                outcomes["none"] += 1
    finally:
        ended.set()
        exchanging.join()
    assert min(outcomes.values()) >= 20, outcomes


def test_a_pipe_under_the_name_of_a_file_stops_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    store = FolderStore(tmp_path)
    with pytest.raises(StoreNotFoundError), store.open_read("pipe"):
        pass
    found: list[UnsafePathError] = []
    assert list(store.list(on_unsafe=found.append)) == []
    assert len(found) == 1


def test_a_name_that_is_not_text_is_told(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/bad\xff.log")).write_text("x")
    found: list[UnsafePathError] = []
    assert list(FolderStore(tmp_path).list(on_unsafe=found.append)) == []
    assert len(found) == 1


def test_a_full_disk_is_named_and_what_was_there_stays(tiny_disk: Path) -> None:
    store = FolderStore(tiny_disk)
    write(store, "kept.txt", b"kept")
    with pytest.raises(StoreFullError):
        write(store, "big.bin", bytes(4 * 1024 * 1024))
    assert [entry.path for entry in store.list()] == ["kept.txt"]
    free = store.free_bytes()
    assert free is not None
    assert 900_000 < free <= 1024 * 1024


def test_a_read_only_disk_is_named(tiny_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    store = FolderStore(tiny_disk)
    with pytest.raises(StoreReadOnlyError), store.open_write("file.txt"):
        pass


@pytest.mark.skipif(sys.platform != "win32" and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreReadOnlyError), FolderStore(tmp_path).open_write("file.txt"):
        pass


def test_a_name_of_255_bytes_is_written_although_its_partial_file_needs_a_name_too(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    write(store, "x" * 251 + ".log")
    assert len(list(store.list())) == 1


def test_free_space_is_known_before_the_folder_is_made(tmp_path: Path) -> None:
    assert FolderStore(tmp_path / "not" / "yet").free_bytes()


def test_the_system_path_of_a_folder_is_absolute() -> None:
    assert Path(os_path("relative")).is_absolute()


def test_a_folder_of_a_unc_path_is_told_as_one(tmp_path: Path) -> None:
    store = FolderStore(tmp_path, location="\\\\server\\share")
    assert store.at("run/data").location == "\\\\server\\share\\run\\data"


def test_a_second_writer_never_gets_at_a_file_that_the_first_has_just_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one continues the half-written file, and comes while the first gives it its name."""
    data = b"x" * 100_000
    first, second = FolderStore(tmp_path), FolderStore(tmp_path)
    met: list[StoreError] = []
    rename = os.replace

    def rename_slowly(source: str, target: str) -> None:
        with pytest.raises(StoreError, match="another transfer") as refused, second.open_resume("a.zip", 50_000):
            pass
        met.append(refused.value)
        rename(source, target)

    monkeypatch.setattr(os, "replace", rename_slowly)
    with first.open_resume("a.zip", 0, len(data)) as writer:
        writer.write(data)
        writer.commit()
    assert len(met) == 1
    assert (tmp_path / "a.zip").read_bytes() == data


def test_a_file_that_somebody_removes_at_once_was_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def rename_and_lose(source: str, target: str) -> None:
        rename(source, target)
        Path(target).unlink()

    monkeypatch.setattr(os, "replace", rename_and_lose)
    with FolderStore(tmp_path).open_write("probe", 3) as writer:
        writer.write(b"abc")
        assert writer.commit().size_bytes == 3


def test_a_drive_that_is_gone_ends_the_making_of_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows the anchor of a drive or share that is gone is its own parent, and no folder."""
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    with pytest.raises(FileNotFoundError):
        make_folders(Path("/gone/west"))


# -- Windows: what somebody else has open for a moment ----------------------------------------------------------------


def held(code: int | None) -> PermissionError:
    """What a rename raises on Windows; elsewhere no error has such a code."""
    error = PermissionError(13, "The process cannot access the file because it is being used by another process")
    if code is not None:
        error.winerror = code  # type: ignore[attr-defined,unused-ignore]
    return error


class Holding:
    """Stands before a call of the system and refuses the first ones, as if somebody had the file open."""

    def __init__(self, call: Callable[..., object], code: int | None, times: int = 2) -> None:
        self.calls = 0
        self._call, self._code, self._times = call, code, times

    def __call__(self, *given: object, **more: object) -> object:
        self.calls += 1
        if self.calls <= self._times:
            raise held(self._code)
        return self._call(*given, **more)

    def as_method(self) -> Callable[..., object]:
        def method(*given: object, **more: object) -> object:
            return self(*given, **more)

        return method


@pytest.mark.parametrize("code", [5, 32])
@pytest.mark.parametrize("replace", [True, False], ids=["replacing", "new"])
def test_a_file_that_a_scanner_holds_for_a_moment_gets_its_name_when_it_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, replace: bool
) -> None:
    where = (os, "replace") if replace else (_folder_streams, "rename_to_new")
    holding = Holding(getattr(*where), code)
    monkeypatch.setattr(*where, holding)
    with FolderStore(tmp_path).open_write("data/a.zip", 4, replace=replace) as writer:
        writer.write(b"done")
        writer.commit()
    assert holding.calls == 3
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["a.zip"]
    assert (tmp_path / "data/a.zip").read_bytes() == b"done"


def test_a_file_that_a_scanner_holds_for_a_moment_is_removed_when_it_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    write(store, "data/a.zip")
    with store.open_resume("data/b.zip", 0) as writer:
        writer.write(b"half")
    unlink, rmdir = Holding(Path.unlink, 32), Holding(Path.rmdir, 32)
    monkeypatch.setattr(Path, "unlink", unlink.as_method())
    monkeypatch.setattr(Path, "rmdir", rmdir.as_method())
    store.remove("data/a.zip")
    assert unlink.calls == 3
    unlink.calls = 0
    store.clear_folder("data")
    assert (unlink.calls, rmdir.calls) == (3, 3)
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_file_that_windows_does_not_let_go_is_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    with store.open_resume("a.zip", 0) as writer:
        writer.write(b"half")
    monkeypatch.setattr(_os_files, "_HELD_FOR_S", 0.05)
    monkeypatch.setattr(Path, "unlink", Holding(Path.unlink, 32, times=1000).as_method())
    with pytest.raises(BeingWrittenError):
        store.remove_partial("a.zip")
    assert store.partial_bytes("a.zip") == 4


def test_a_link_under_the_name_of_a_half_written_file_is_removed_and_not_followed(tmp_path: Path) -> None:
    root, secret = tmp_path / "root", tmp_path / "secret"
    root.mkdir()
    secret.write_text("secret")
    store = FolderStore(root)
    (root / partial_name("a.zip")).symlink_to(secret)
    store.remove_partial("a.zip")
    assert list(root.iterdir()) == []
    assert secret.read_text() == "secret"


@pytest.mark.parametrize("code", [None, 19, 112])
def test_what_is_refused_for_another_reason_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    holding = Holding(os.replace, code)
    monkeypatch.setattr(os, "replace", holding)
    with pytest.raises(StoreError):
        write(FolderStore(tmp_path), "a.zip")
    assert holding.calls == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_held_for_longer_is_given_up_after_two_seconds() -> None:
    now = [100.0]
    holding = Holding(lambda: None, 32, times=1000)

    def sleep(seconds: float) -> None:
        assert 0 < seconds <= 0.2
        now[0] += seconds

    with pytest.raises(PermissionError):
        once_let_go(holding, monotonic=lambda: now[0], sleep=sleep)
    assert 102.0 <= now[0] <= 102.2
    assert 10 < holding.calls < 30


def test_what_is_held_for_almost_two_seconds_is_waited_for() -> None:
    now = [100.0]

    def rename() -> str:
        if now[0] < 101.9:
            raise held(5)
        return "renamed"

    def sleep(seconds: float) -> None:
        now[0] += seconds

    assert once_let_go(rename, monotonic=lambda: now[0], sleep=sleep) == "renamed"


def test_a_rename_that_is_refused_for_good_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    write(store, "a.zip", b"old")
    monkeypatch.setattr(os, "replace", Holding(os.replace, 5, times=1000))
    monkeypatch.setattr(_os_files, "_HELD_FOR_S", 0.05)
    with pytest.raises(StoreReadOnlyError):
        write(store, "a.zip", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.zip": b"old"}
