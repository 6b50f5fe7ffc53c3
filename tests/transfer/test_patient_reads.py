"""A reading that can wait outlives a cut line; it ends where nobody wants it, or where the line stays away."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import StoreReplacedError, StoreUnreachableError
from bridge.store import Reader, open_store, parse_destination
from bridge.store.transfer import PatientReads, Retrying, TransferEvent, TransferSettings
from tests.support.azurite import Azurite
from tests.support.samba import Samba
from tests.support.tcp_proxy import TcpProxy
from tests.support.transfer_lab import MIB, close_opened, opened

CONTENT = random.Random(1).randbytes(8 * MIB)
SOON = TransferSettings(first_back_off_s=0.1, longest_back_off_s=0.2)


class Reading:
    """A file at the other end of a line, and somebody who reads it patiently."""

    def __init__(self, line: TcpProxy, url: str, settings: TransferSettings, **secret: object) -> None:
        self.line = line
        self.events: list[TransferEvent] = []
        self.cancel = threading.Event()
        store = opened(open_store(parse_destination(url), **secret))  # type: ignore[arg-type]
        self.store = PatientReads(store, settings=settings, on_event=self.meet, cancel=self.cancel)
        self.is_back_after = 3

    def meet(self, event: TransferEvent) -> None:
        """The line is back when it was waited for some times."""
        self.events.append(event)
        if len(self.events) == self.is_back_after:
            self.line.refuse(False)

    def cut(self) -> None:
        self.line.refuse()
        self.line.reset()


@pytest.fixture(params=["share", "container"])
def reading(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reading]:
    if request.param == "share":
        samba: Samba = request.getfixturevalue("samba")
        (samba.path("bundles") / f"{tmp_path.name}.zip").write_bytes(CONTENT)
        with TcpProxy(samba.host, samba.port) as line:
            url = samba.url("bundles").replace(f":{samba.port}/", f":{line.port}/")
            yield Reading(line, url, SOON, credential=samba.credential)
            close_opened()
        return
    azurite: Azurite = request.getfixturevalue("azurite")
    container = azurite.new_container()
    with azurite.owner(container) as owner:
        owner.upload_blob(f"{tmp_path.name}.zip", CONTENT)
    with TcpProxy("127.0.0.1", azurite.port) as line:
        url = azurite.container_url(container).replace(f":{azurite.port}/", f":{line.port}/")
        yield Reading(line, url, SOON, sas=azurite.sas(container))
        close_opened()


def read(reader: Reader, most_bytes: int) -> bytes:
    buffer = bytearray(most_bytes)
    filled = 0
    with memoryview(buffer) as view:
        while filled < most_bytes and (count := reader.readinto(view[filled:])):
            filled += count
    return bytes(buffer[:filled])


def test_a_reading_that_is_cut_goes_on_at_the_byte_reached(reading: Reading, tmp_path: Path) -> None:
    with reading.store.open_read(f"{tmp_path.name}.zip", MIB) as reader:
        begun = read(reader, MIB)
        reading.cut()
        rest = read(reader, 8 * MIB)
    assert begun + rest == CONTENT[MIB:]
    assert len(reading.events) >= 3
    assert {(event.path, type(event)) for event in reading.events} == {(f"{tmp_path.name}.zip", Retrying)}  # type: ignore[union-attr]


def test_an_opening_waits_for_the_line_too(reading: Reading, tmp_path: Path) -> None:
    with reading.store.open_read(f"{tmp_path.name}.zip") as reader:
        read(reader, 10)
    reading.cut()
    with reading.store.open_read(f"{tmp_path.name}.zip") as reader:
        assert reader.size_bytes == len(CONTENT)
        assert read(reader, 9 * MIB) == CONTENT
    assert len(reading.events) >= 3


def test_who_is_called_away_while_the_line_is_cut_is_let_go(reading: Reading, tmp_path: Path) -> None:
    reading.is_back_after = 1_000
    threading.Timer(0.5, reading.cancel.set).start()
    with reading.store.open_read(f"{tmp_path.name}.zip") as reader:
        reading.cut()
        with pytest.raises(InterruptedError):
            read(reader, 9 * MIB)


def test_a_line_that_stays_away_ends_it(samba: Samba, tmp_path: Path) -> None:
    (samba.path("bundles") / f"{tmp_path.name}.zip").write_bytes(CONTENT)
    with TcpProxy(samba.host, samba.port) as line:
        url = samba.url("bundles").replace(f":{samba.port}/", f":{line.port}/")
        settings = TransferSettings(first_back_off_s=0.1, longest_back_off_s=0.2, give_up_after_s=0.5)
        reading = Reading(line, url, settings, credential=samba.credential)
        reading.is_back_after = 1_000
        with reading.store.open_read(f"{tmp_path.name}.zip") as reader:
            reading.cut()
            with pytest.raises(StoreUnreachableError, match="nothing has got through"):
                read(reader, 9 * MIB)
        close_opened()


def test_a_file_that_grew_while_the_line_was_cut_is_not_read_on(samba: Samba, tmp_path: Path) -> None:
    there = samba.path("bundles") / f"{tmp_path.name}.zip"
    there.write_bytes(CONTENT)
    with TcpProxy(samba.host, samba.port) as line:
        url = samba.url("bundles").replace(f":{samba.port}/", f":{line.port}/")
        reading = Reading(line, url, SOON, credential=samba.credential)
        with reading.store.open_read(there.name) as reader:
            reading.cut()
            there.write_bytes(CONTENT + b"more")
            with pytest.raises(StoreReplacedError, match="written to while"):
                read(reader, 9 * MIB)
        close_opened()
