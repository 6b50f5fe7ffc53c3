"""Hashing where the files stand is as polite as a transfer: rate, quiet hours, a pause that can be left."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bridge.errors import StoreReplacedError, StoreUnreachableError
from bridge.store import Entry, FolderStore, Store, open_store, parse_destination
from bridge.store.transfer import (
    FileHash,
    LinePolicy,
    Paused,
    QuietHours,
    Retrying,
    TransferEvent,
    TransferSettings,
    Unpaused,
    hash_files,
)
from tests.support.azurite import Azurite
from tests.support.samba import Samba
from tests.support.tcp_proxy import TcpProxy
from tests.support.transfer_lab import KIB, MIB, close_opened, opened

NAME = "east"
BERLIN = ZoneInfo("Europe/Berlin")
UNTIL = datetime(2026, 11, 23, 18, tzinfo=BERLIN)


@dataclass(frozen=True)
class Far:
    """A store at the other end of a line that counts what comes."""

    store: Store
    line: TcpProxy
    replace: Callable[[str], object]
    """Puts other content under a name, past the line."""


@pytest.fixture(autouse=True)
def _no_connection_stays_open() -> Iterator[None]:
    yield
    close_opened()


@pytest.fixture(params=["share", "container"])
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Far]:
    """Four files of 8 MiB, on Samba and on Azurite."""
    contents = {f"{number}.zip": random.Random(number).randbytes(8 * MIB) for number in range(4)}
    if request.param == "share":
        samba: Samba = request.getfixturevalue("samba")
        folder = samba.path("bundles") / tmp_path.name
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        with TcpProxy(samba.host, samba.port) as line:
            url = samba.url("bundles", tmp_path.name).replace(f":{samba.port}/", f":{line.port}/")
            store = opened(open_store(parse_destination(url), credential=samba.credential))
            yield Far(store, line, lambda name: (folder / name).write_bytes(bytes(8 * MIB)))
            close_opened()
        return
    azurite: Azurite = request.getfixturevalue("azurite")
    container = azurite.new_container()
    with azurite.owner(container) as owner:
        for name, content in contents.items():
            owner.upload_blob(f"{NAME}/{name}", content)
    with TcpProxy("127.0.0.1", azurite.port) as line:
        url = azurite.container_url(container).replace(f":{azurite.port}/", f":{line.port}/")
        store = opened(open_store(parse_destination(f"{url}/{NAME}"), sas=azurite.sas(container)))
        with azurite.owner(container) as owner:
            yield Far(store, line, lambda name: owner.upload_blob(f"{NAME}/{name}", bytes(8 * MIB), overwrite=True))
        close_opened()


class Hashing:
    """A hashing on a thread of its own, and what it told."""

    def __init__(self, store: Store, settings: TransferSettings) -> None:
        self.events: list[TransferEvent] = []
        self.hashes: list[FileHash] = []
        self.error: Exception | None = None
        self.bytes = 0
        self.cancel = threading.Event()
        self._lock = threading.Lock()
        self._store, self._settings = store, settings
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.hashes.extend(
                hash_files(
                    self._store,
                    settings=self._settings,
                    on_bytes=self._count,
                    on_event=self.events.append,
                    cancel=self.cancel,
                )
            )
        except Exception as error:
            self.error = error

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self.bytes += size_bytes

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("hash-")]


def wait_for(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_whole(hashes: list[FileHash]) -> None:
    assert {found.path: found.sha256 for found in hashes} == {
        f"{number}.zip": hashlib.sha256(random.Random(number).randbytes(8 * MIB)).hexdigest() for number in range(4)
    }


# -- rate --------------------------------------------------------------------------------------------------------------


def test_a_rate_holds_within_five_per_cent_while_files_are_hashed_where_they_stand(far: Far) -> None:
    rate_bytes_per_s = 2_500_000
    hashing = Hashing(far.store, TransferSettings(policy=LinePolicy(8 * rate_bytes_per_s)))
    wait_for(lambda: far.line.bytes_down > 100 * KIB)
    start, before = time.monotonic(), far.line.bytes_down
    time.sleep(4)
    came, took_s = far.line.bytes_down - before, time.monotonic() - start
    hashing.cancel.set()
    hashing.join()
    print(f"{came / took_s / rate_bytes_per_s:.4f} of the rate")
    assert 0.95 <= came / took_s / rate_bytes_per_s <= 1.05


def test_a_new_rate_counts_for_what_is_being_hashed(far: Far) -> None:
    policy = LinePolicy(400_000)  # at this rate it would take eleven minutes
    hashing = Hashing(far.store, TransferSettings(policy=lambda: policy))
    wait_for(lambda: hashing.bytes)
    policy = LinePolicy(None)
    hashing.join()
    assert_whole(hashing.hashes)


def test_a_share_of_windows_own_client_is_held_to_the_rate_too(tmp_path: Path) -> None:
    rate_bytes_per_s = 2_500_000
    (tmp_path / "a.zip").write_bytes(bytes(2_500_000))
    store = FolderStore(tmp_path, location="\\\\nas\\logs")
    start = time.monotonic()
    list(hash_files(store, settings=TransferSettings(policy=LinePolicy(8 * rate_bytes_per_s))))
    assert (time.monotonic() - start) * rate_bytes_per_s / 2_500_000 >= 0.95


# -- quiet hours -------------------------------------------------------------------------------------------------------


def test_quiet_hours_pause_a_hashing_in_the_middle_of_its_files_and_let_it_go_on(far: Far) -> None:
    now = datetime(2026, 11, 23, 7, 59, 50, tzinfo=BERLIN)
    quiet = LinePolicy(120_000_000, QuietHours.parse("08:00-18:00"))
    hashing = Hashing(far.store, TransferSettings(policy=quiet, now=lambda: now))
    wait_for(lambda: hashing.bytes > 3 * MIB)
    now = now.replace(hour=8, minute=0)
    wait_for(lambda: hashing.events)
    time.sleep(0.7)  # what was asked for has come
    hashed, came = hashing.bytes, far.line.bytes_down
    time.sleep(1.5)
    assert hashing.is_running
    assert hashing.bytes == hashed < 32 * MIB, "nothing is hashed in quiet hours"
    assert far.line.bytes_down - came < 16 * KIB, "and nothing comes"
    now = now.replace(hour=18)
    hashing.join()
    assert hashing.events == [Paused(UNTIL), Unpaused()]
    assert_whole(hashing.hashes)
    assert hashing.bytes == 32 * MIB, "what was hashed before is not read again"


def test_a_hashing_that_begins_in_quiet_hours_reads_nothing_and_is_left_at_once(far: Far) -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=BERLIN)
    hashing = Hashing(
        far.store, TransferSettings(policy=LinePolicy(quiet_hours=QuietHours.parse("08:00-18:00")), now=lambda: now)
    )
    wait_for(lambda: hashing.events)
    time.sleep(0.5)
    assert hashing.is_running
    hashing.cancel.set()
    hashing.join()
    assert (hashing.events, hashing.bytes, hashing.hashes, hashing.error) == ([Paused(UNTIL)], 0, [], None)


def test_a_folder_here_is_no_line_and_is_hashed_at_any_hour(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(bytes(3 * MIB))
    events: list[TransferEvent] = []
    settings = TransferSettings(policy=LinePolicy(8_000, paused=True))
    assert len(list(hash_files(FolderStore(tmp_path), settings=settings, on_event=events.append))) == 1
    assert events == []


def test_a_file_that_is_written_to_while_its_reading_rests_is_not_taken_for_one(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(bytes(8 * MIB))
    policy = LinePolicy(40_000_000)
    hashing = Hashing(FolderStore(tmp_path, location="\\\\nas\\logs"), TransferSettings(policy=lambda: policy))
    wait_for(lambda: hashing.bytes)
    policy = LinePolicy(40_000_000, paused=True)
    wait_for(lambda: hashing.events)
    time.sleep(0.3)
    os.utime(file, (1, 1))
    policy = LinePolicy(None)
    hashing.join()
    assert isinstance(hashing.error, StoreReplacedError)
    assert "while its reading rested" in str(hashing.error)
    assert hashing.hashes == []


# -- cuts --------------------------------------------------------------------------------------------------------------


def test_a_hashing_whose_line_is_cut_goes_on_at_the_byte_it_had_reached(far: Far) -> None:
    policy = LinePolicy(60_000_000)
    settings = TransferSettings(policy=lambda: policy, first_back_off_s=0.2, longest_back_off_s=0.4)
    hashing = Hashing(far.store, settings)
    wait_for(lambda: hashing.bytes > 5 * MIB)
    far.line.refuse()
    far.line.reset()
    wait_for(lambda: any(isinstance(event, Retrying) for event in hashing.events))
    assert hashing.is_running
    policy = LinePolicy(None)
    far.line.refuse(False)
    hashing.join()
    assert hashing.error is None
    assert_whole(hashing.hashes)
    assert hashing.bytes == 32 * MIB, "no byte was hashed twice"


def test_a_file_that_was_replaced_while_the_line_was_away_is_not_taken_for_one(far: Far) -> None:
    settings = TransferSettings(policy=LinePolicy(40_000_000), first_back_off_s=0.2, longest_back_off_s=0.4)
    hashing = Hashing(far.store, settings)
    wait_for(lambda: hashing.bytes > 3 * MIB)
    far.line.refuse()
    far.line.reset()
    wait_for(lambda: any(isinstance(event, Retrying) for event in hashing.events))
    far.replace("0.zip")
    far.replace("1.zip")
    far.line.refuse(False)
    hashing.join()
    assert isinstance(hashing.error, StoreReplacedError)


def test_a_line_that_stays_away_ends_a_hashing_with_an_error(far: Far) -> None:
    settings = TransferSettings(
        policy=LinePolicy(40_000_000), first_back_off_s=0.1, longest_back_off_s=0.2, give_up_after_s=1.0
    )
    hashing = Hashing(far.store, settings)
    wait_for(lambda: hashing.bytes > 3 * MIB)
    far.line.refuse()
    far.line.reset()
    hashing.join()
    assert isinstance(hashing.error, StoreUnreachableError)
    assert "nothing has got through" in str(hashing.error)


# -- silence -----------------------------------------------------------------------------------------------------------


def test_who_counts_the_bytes_is_told_of_none_while_a_share_is_silent(samba: Samba, tmp_path: Path) -> None:
    folder = samba.path("bundles") / tmp_path.name
    folder.mkdir()
    (folder / "a.zip").write_bytes(bytes(16 * MIB))
    told: list[int] = []
    cancel = threading.Event()
    with TcpProxy(samba.host, samba.port) as line:
        url = samba.url("bundles", tmp_path.name).replace(f":{samba.port}/", f":{line.port}/")
        store = opened(open_store(parse_destination(url), credential=samba.credential))
        line.stall_after(8 * MIB)

        def count(size_bytes: int) -> None:
            told.append(size_bytes)
            if told[-4:] == [0, 0, 0, 0]:
                cancel.set()

        assert list(hash_files(store, [Entry("a.zip", 16 * MIB)], on_bytes=count, cancel=cancel)) == []
        close_opened()
    assert 0 < sum(told) < 16 * MIB
