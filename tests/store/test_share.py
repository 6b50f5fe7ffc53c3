"""What only a share can get wrong: passwords, permissions, protection on the line, a server that dies."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import cast

import psutil
import pytest

from bridge.errors import (
    StoreAuthenticationError,
    StoreError,
    StoreFullError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUnreachableError,
    UnsafePathError,
)
from bridge.secrets import Credential, Secret
from bridge.store import FolderStore, Store, StoreSettings, open_store, parse_destination
from bridge.store._protocol import LendingReader
from bridge.store.transfer import LinePolicy, TransferSettings, hash_files, transfer
from tests.support.processes import free_port
from tests.support.samba import PASSWORD, Samba
from tests.support.tcp_proxy import TcpProxy
from tests.support.transfer_lab import end_hashing_after_a_stall

MIB = 1024 * 1024


@contextmanager
def opened(
    samba: Samba, share: str = "bundles", settings: StoreSettings | None = None, credential: Credential | None = None
) -> Iterator[Store]:
    destination = parse_destination(samba.url(share))
    with closing(open_store(destination, credential=credential or samba.credential, settings=settings)) as store:
        yield store


def write(store: Store, path: str, data: bytes) -> None:
    with store.open_write(path) as writer:
        writer.write(data)
        writer.commit()


def read(store: Store, path: str, after_first: Callable[[], object] = lambda: None) -> None:
    buffer = memoryview(bytearray(MIB))
    with store.open_read(path) as reader:
        reader.readinto(buffer)
        after_first()
        while reader.readinto(buffer):
            pass


def test_a_wrong_password_is_named_and_not_shown(samba: Samba, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with opened(samba, credential=samba.wrong_credential) as store:
        with pytest.raises(StoreAuthenticationError) as caught:
            list(store.list())
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert PASSWORD not in told
    assert "unknown user name or wrong password" in str(caught.value)


def test_an_unknown_user_is_refused(samba: Samba) -> None:
    with opened(samba, credential=Credential("PEPTEST\\nobody-here", Secret("x" * 9))) as store:
        with pytest.raises(StoreAuthenticationError):
            store.stat("file")


def test_a_share_that_the_server_does_not_have_is_named(samba: Samba) -> None:
    with opened(samba, "no-such-share") as store:
        with pytest.raises(StoreNotFoundError, match="no such share"):
            list(store.list())


def test_a_port_where_nobody_listens_is_unreachable(samba: Samba) -> None:
    destination = parse_destination(f"smb://127.0.0.1:{free_port()}/bundles")
    store = open_store(destination, credential=samba.credential)
    with pytest.raises(StoreUnreachableError, match="refused"):
        list(store.list())


def test_a_server_that_says_nothing_is_given_up_after_the_time_set(samba: Samba) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        destination = parse_destination(f"smb://127.0.0.1:{silent.getsockname()[1]}/bundles")
        store = open_store(destination, credential=samba.credential, settings=StoreSettings(io_timeout_s=0.5))
        with pytest.raises(StoreUnreachableError, match="stopped answering"):
            list(store.list())


def test_a_server_that_speaks_something_else_is_unreachable(samba: Samba) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            line, _ = other.accept()
            with line:
                line.recv(4096)
                line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(200))

        thread = threading.Thread(target=answer)
        thread.start()
        destination = parse_destination(f"smb://127.0.0.1:{other.getsockname()[1]}/bundles")
        with pytest.raises(StoreUnreachableError):
            list(open_store(destination, credential=samba.credential).list())
        thread.join()


def test_a_read_only_share_refuses_every_change_and_can_be_read(samba: Samba) -> None:
    (samba.path("readonly") / "there.txt").write_text("there")
    with opened(samba, "readonly") as store:
        assert [entry.path for entry in store.list()] == ["there.txt"]
        with pytest.raises(StoreReadOnlyError):
            write(store, "new.txt", b"x")
        with pytest.raises(StoreReadOnlyError):
            write(store, "new/sub/file.txt", b"x")
        with pytest.raises(StoreReadOnlyError):
            store.remove("there.txt")
    assert (samba.path("readonly") / "there.txt").exists()


def test_a_share_that_fills_up_is_named_and_what_was_there_stays(samba: Samba) -> None:
    if not samba.small_is_mounted:
        pytest.skip("not run: mounting a small file system needs root")
    with opened(samba, "small") as store:
        write(store, "kept.txt", b"kept")
        with pytest.raises(StoreFullError):
            write(store, "big.bin", bytes(9 * MIB))
        assert [entry.path for entry in store.list()] == ["kept.txt"]
        free = store.free_bytes()
        assert free is not None
        assert 2 * MIB < free < 4 * MIB
        write(store, "after.bin", bytes(MIB))
    assert sorted(file.name for file in samba.path("small").iterdir()) == ["after.bin", "kept.txt"]
    for name in ("after.bin", "kept.txt"):
        (samba.path("small") / name).unlink()


def test_a_link_out_of_the_share_is_not_followed(samba: Samba, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = samba.path() / "links"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    with opened(samba) as store:
        with pytest.raises(StoreError), store.open_read("links/link"):
            pass
        found: list[UnsafePathError] = []
        assert list(store.list("links", on_unsafe=found.append)) == []


def test_a_server_that_dies_while_it_is_read_is_unreachable_and_usable_again_later(own_samba: Samba) -> None:
    with opened(own_samba) as store:
        write(store, "file.bin", bytes(64 * MIB))
        with pytest.raises(StoreUnreachableError):
            read(store, "file.bin", after_first=own_samba.kill)
        with pytest.raises(StoreUnreachableError):
            store.stat("file.bin")
        own_samba.start()
        assert store.stat("file.bin").size_bytes == 64 * MIB


def test_a_server_that_dies_while_it_is_written_keeps_what_had_arrived(own_samba: Samba) -> None:
    from bridge.store._share import ShareStore

    with opened(own_samba) as store:
        assert isinstance(store, ShareStore)

        def write_until_it_dies() -> None:
            with store.open_resume("file.bin", 0) as writer:
                for number in range(64):
                    writer.write(bytes([number]) * MIB)
                    if number == 32:
                        own_samba.kill()

        with pytest.raises(StoreUnreachableError):
            write_until_it_dies()
        own_samba.start()
        there = store.partial_bytes("file.bin")
        assert 20 * MIB < there <= 33 * MIB
        with store.open_resume("file.bin", there // MIB * MIB, 40 * MIB) as writer:
            for number in range(there // MIB, 40):
                writer.write(bytes([number]) * MIB)
            writer.commit()
    written = (own_samba.path() / "file.bin").read_bytes()
    assert written == b"".join(bytes([number]) * MIB for number in range(40))


def test_a_connection_that_was_cut_while_idle_is_replaced_unseen(samba: Samba) -> None:
    with opened(samba) as store:
        write(store, "idle/file.txt", b"x")
        samba.cut_connections()
        assert store.stat("idle/file.txt").size_bytes == 1


def test_of_idle_connections_that_a_firewall_forgot_only_the_first_is_waited_for(samba: Samba) -> None:
    with (
        TcpProxy(samba.host, samba.port) as proxy,
        closing(
            open_store(
                parse_destination(f"smb://{proxy.host}:{proxy.port}/bundles"),
                credential=samba.credential,
                settings=StoreSettings(io_timeout_s=1),
            )
        ) as store,
    ):
        write(store, "night.zip", b"n" * 1000)
        with ExitStack() as readers:
            for _ in range(4):
                readers.enter_context(store.open_read("night.zip"))
        assert proxy.connections == 4
        asked = proxy.heard.count("night.zip".encode("utf-16-le"))
        proxy.swallow_answers()
        with pytest.raises(StoreUnreachableError):
            store.stat("night.zip")
        assert proxy.heard.count("night.zip".encode("utf-16-le")) == asked + 1
        proxy.swallow_answers(False)
        assert store.stat("night.zip").size_bytes == 1000


def test_a_transfer_from_a_share_that_fell_silent_ends_when_it_is_cancelled(samba: Samba, tmp_path: Path) -> None:
    settings = StoreSettings(io_timeout_s=3600)
    with TcpProxy(samba.host, samba.port) as proxy:
        place = parse_destination(f"smb://{proxy.host}:{proxy.port}/bundles")
        with closing(open_store(place, credential=samba.credential, settings=settings)) as store:
            write(store, "silent/one.zip", os.urandom(24 * MIB))
            cancel, stalled = threading.Event(), threading.Event()
            ended: list[BaseException] = []

            def fall_silent(event: object) -> None:
                if proxy.bytes_down > 2 * MIB:
                    proxy.stall()
                    stalled.set()

            def bring() -> None:
                try:
                    transfer(
                        *(store, FolderStore(tmp_path), store.list("silent")),
                        settings=TransferSettings(policy=LinePolicy(limit_rate_bits_per_s=64_000_000)),
                        cancel=cancel,
                        on_event=fall_silent,
                    )
                except BaseException as error:  # looked at below
                    ended.append(error)

            moving = threading.Thread(target=bring, daemon=True)
            moving.start()
            assert stalled.wait(60)
            time.sleep(1)  # what had come is used up; all that is left waits for the server
            cancel.set()
            moving.join(60)
            assert not moving.is_alive(), "an hour is what the line may be silent"
            assert [type(error) for error in ended] == [InterruptedError]
            proxy.stall(False)
            assert store.stat("silent/one.zip").size_bytes == 24 * MIB, "the store can be used again"


def test_hashing_a_share_that_fell_silent_ends_when_nobody_wants_it_any_more(samba: Samba) -> None:
    with TcpProxy(samba.host, samba.port) as proxy:
        place = parse_destination(f"smb://{proxy.host}:{proxy.port}/bundles")
        settings = StoreSettings(io_timeout_s=3600)
        with closing(open_store(place, credential=samba.credential, settings=settings)) as store:
            for number in range(3):
                write(store, f"hashed/{number}.zip", os.urandom(24 * MIB))
            end_hashing_after_a_stall(store, "hashed", proxy)
            assert store.stat("hashed/1.zip").size_bytes == 24 * MIB, "the store can be used again"


def test_a_file_that_somebody_has_open_for_a_moment_is_read_when_it_is_free(samba: Samba) -> None:
    with opened(samba) as mine, opened(samba) as theirs:
        with theirs.open_resume("busy.zip", 0) as writer:  # type: ignore[attr-defined]
            writer.write(b"half")
            held, let_go = threading.Event(), threading.Event()

            def go_on() -> None:
                held.set()
                with mine.open_resume("busy.zip", 0) as own:  # type: ignore[attr-defined]
                    own.write(b"whole")
                    own.commit()
                let_go.set()

            waiting = threading.Thread(target=go_on)
            waiting.start()
            held.wait()
            assert not let_go.wait(0.3), "it is held by the other"
        waiting.join()
        assert let_go.is_set()
        assert samba.path().joinpath("busy.zip").read_bytes() == b"whole"


@pytest.mark.parametrize("share", ["bundles", "encrypted"])
def test_what_is_only_looked_at_is_lent_and_copied_nowhere(samba: Samba, share: str) -> None:
    content = os.urandom(5 * MIB + 12_345)
    with opened(samba, share) as store:
        write(store, "lent.zip", content)
        with store.open_read("lent.zip") as opened_reader:
            reader = cast(LendingReader, opened_reader)
            start = bytearray(1000)
            assert reader.readinto(memoryview(start)) == 1000
            taken = [bytes(start)]
            while part := reader.lend():
                taken.append(bytes(part))
            assert reader.readinto(memoryview(start)) == 0
        assert b"".join(taken) == content
        assert max(map(len, taken)) == MIB  # a READ as it came
        hashed = list(hash_files(store, [store.stat("lent.zip")]))
        assert [one.sha256 for one in hashed] == [hashlib.sha256(content).hexdigest()]


def test_a_server_that_stalls_is_given_up_after_the_time_set(own_samba: Samba) -> None:
    with opened(own_samba, settings=StoreSettings(io_timeout_s=1)) as store:
        write(store, "file.bin", bytes(64 * MIB))
        stopped: list[psutil.Process] = []

        def stall() -> None:
            for process in own_samba.processes():
                process.send_signal(signal.SIGSTOP)
                stopped.append(process)

        try:
            with pytest.raises(StoreUnreachableError, match="stopped answering"):
                read(store, "file.bin", after_first=stall)
        finally:
            for process in stopped:
                process.send_signal(signal.SIGCONT)


def flip_a_bit_of_the_third_chunk() -> Callable[[bytearray], None]:
    chunks = 0

    def change(frame: bytearray) -> None:
        nonlocal chunks
        chunks += len(frame) > MIB
        if chunks == 3:
            frame[len(frame) // 2] ^= 0x01

    return change


def take_the_signature_off_every_read(frame: bytearray) -> None:
    if frame[:4] == b"\xfeSMB" and frame[12] == 8:  # MS-SMB2 2.2.1.2: Command READ
        frame[16] &= ~0x08  # Flags without SMB2_FLAGS_SIGNED
        frame[48:64] = bytes(16)


@pytest.mark.parametrize(
    ("encryption", "change", "told"),
    [
        (False, flip_a_bit_of_the_third_chunk(), "changed on its way"),
        (True, flip_a_bit_of_the_third_chunk(), "changed on its way"),
        (False, take_the_signature_off_every_read, "without a signature"),
    ],
)
def test_what_somebody_changes_on_the_line_is_noticed(
    samba: Samba, encryption: bool, change: Callable[[bytearray], None], told: str
) -> None:
    with opened(samba) as plain:
        write(plain, "tamper/file.bin", bytes(8 * MIB))
    with _proxy(samba.port, change) as (port, _):
        destination = parse_destination(f"smb://127.0.0.1:{port}/bundles")
        settings = StoreSettings(share_encryption=encryption)
        with closing(open_store(destination, credential=samba.credential, settings=settings)) as store:
            with pytest.raises(StoreUnreachableError, match=told):
                read(store, "tamper/file.bin")


def test_nothing_of_a_file_is_readable_on_the_line_when_encryption_is_asked_for(samba: Samba) -> None:
    marker = b"needle-in-the-haystack" * 100
    with _proxy(samba.port, lambda frame: None) as (port, seen):
        destination = parse_destination(f"smb://127.0.0.1:{port}/bundles")
        settings = StoreSettings(share_encryption=True)
        with closing(open_store(destination, credential=samba.credential, settings=settings)) as store:
            write(store, "crypt/file.bin", marker)
            with store.open_read("crypt/file.bin") as reader:
                buffer = bytearray(len(marker))
                reader.readinto(memoryview(buffer))
    assert buffer == marker
    assert b"needle-in" not in seen
    assert len(seen) > 2 * len(marker)


def test_another_client_reads_what_was_written(samba: Samba, tmp_path: Path) -> None:
    smbclient = shutil.which("smbclient")
    if smbclient is None:
        pytest.skip("not run: smbclient is missing here; tools/setup_test_servers.sh installs it")
    data = os.urandom(3 * MIB + 17)
    with opened(samba) as store:
        write(store, "other/sub/file.bin", data)
    target = tmp_path / "got.bin"
    subprocess.run(
        [
            *(smbclient, "-p", str(samba.port), "//127.0.0.1/bundles"),
            *("-A", str(_authentication_file(samba, tmp_path)), "-c", f"get other/sub/file.bin {target}"),
        ],
        check=True,
        capture_output=True,
    )
    assert target.read_bytes() == data


def _authentication_file(samba: Samba, folder: Path) -> Path:
    file = folder / "auth"
    domain, _, name = samba.credential.username.partition("\\")
    file.write_text(f"username={name}\npassword={samba.credential.password.reveal()}\ndomain={domain}\n")
    file.chmod(0o600)
    return file


@contextmanager
def _proxy(server_port: int, change: Callable[[bytearray], None]) -> Iterator[tuple[int, bytearray]]:
    """Its port and what it saw; it passes one connection on and may change each message of the server."""
    seen = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket, change: Callable[[bytearray], None]) -> None:
        with suppress(OSError), source.makefile("rb") as messages:
            while len(prefix := messages.read(4)) == 4:
                frame = bytearray(messages.read(int.from_bytes(prefix, "big")))
                change(frame)
                if len(seen) < 4 * MIB:
                    seen.extend(frame)
                target.sendall(prefix + frame)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", server_port))
            with near, far:
                other = threading.Thread(target=pump, args=(near, far, lambda frame: None))
                other.start()
                pump(far, near, change)
                other.join()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], seen
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)
