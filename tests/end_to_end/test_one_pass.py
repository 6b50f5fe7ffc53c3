"""Each payload byte is read once and, where it goes elsewhere, sent once: counted beside the tool, not by it.

A share is counted on its line, a folder of this machine by what the system says the process has read and written.
Beside the payload there are the directories of the zips and small samples of them, from which coverage is told.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.bundle import Verdict, verify
from bridge.collection import Access, Outcome, Place, Request, RunState, Window, collect
from bridge.collection._parts import open_place
from bridge.secrets import Credential, Secret
from bridge.stamp import EndpointAddress, Stamp
from tests.support.azurite import Azurite
from tests.support.runs import QUICK
from tests.support.samba import Samba
from tests.support.tcp_proxy import TcpProxy
from tests.support.transfer_lab import MIB, BodyCountingProxy

if sys.platform != "linux":
    pytest.skip("not run: smbd and a process's own counts of what it read are Linux's", allow_module_level=True)

from tests.soak.stamp_process import StampProcess

PAYLOAD_BYTES = 96 * MIB
LOOKED_INTO_BYTES = 8 * MIB
"""What may be read beside the payload: directories and samples of the zips, listings, the run's own files.

It depends on how many zips there are, not on how large they are."""
WINDOW_END = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Site:
    """A stamp, and who asks it."""

    stamp: StampProcess
    folder: Path

    def collect(
        self, destination: Place, *, at: Credential | Secret | None = None, staging: Place | None = None, **more: Any
    ) -> Outcome:
        ready = self.stamp.ready
        request = Request(
            Stamp(
                ready["stamp"],
                tuple(EndpointAddress(each["name"], each["host"], each["port"]) for each in ready["endpoints"]),
                username=ready["username"],
            ),
            Window(WINDOW_END - timedelta(hours=4), WINDOW_END),
            destination,
            roles=("Storage", "ACS", "SeedRing"),
            staging=staging,
            shared_disk=True,
        )
        access = Access(Credential(ready["username"], Secret(ready["password"])), at, more.get("staging_access"))
        outcome = collect(request, access, state_dir=self.folder / "state", settings=QUICK)
        assert outcome.state is RunState.DONE, outcome.errors
        return outcome


@dataclass
class Counted:
    """Bytes that went each way."""

    read: int = 0
    written: int = 0


@pytest.fixture
def site(tmp_path: Path, samba: Samba) -> Iterator[Site]:
    with StampProcess(
        tmp_path / "stamp.log",
        size_bytes=PAYLOAD_BYTES,
        duration_s=1.0,
        seed=3,
        faults=(),
        output_root=tmp_path,
        smb_port=samba.port,
    ) as stamp:
        yield Site(stamp, tmp_path)


@contextmanager
def counted_by_the_system() -> Iterator[Counted]:
    """What this process reads and writes by any system call: files, sockets and pipes."""
    process, counted = psutil.Process(os.getpid()), Counted()
    before = process.io_counters()
    yield counted
    after = process.io_counters()
    counted.read = after.read_chars - before.read_chars
    counted.written = after.write_chars - before.write_chars


def payload_below(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / "data").rglob("*") if path.is_file())


def is_whole(outcome: Outcome, secret: Credential | Secret | None = None) -> bool:
    store = open_place(Place.parse(str(outcome.bundle)), secret)
    try:
        return verify(store).verdict is Verdict.VERIFIED
    finally:
        store.close()


def test_sealing_in_a_folder_reads_each_byte_once_and_writes_none_of_them(site: Site) -> None:
    with counted_by_the_system() as counted:
        outcome = site.collect(Place.parse(str(site.folder / "out")))
    payload = payload_below(Path(str(outcome.bundle)))
    assert payload > PAYLOAD_BYTES * 0.8
    assert payload <= counted.read < payload + LOOKED_INTO_BYTES
    assert counted.written < LOOKED_INTO_BYTES
    assert is_whole(outcome)


def test_sealing_on_a_share_reads_each_byte_once_and_writes_none_of_them(site: Site, samba: Samba) -> None:
    folder = f"once-{time.monotonic_ns()}"
    with TcpProxy("127.0.0.1", samba.port) as line:
        place = Place.parse(f"smb://127.0.0.1:{line.port}/bundles/{folder}")
        outcome = site.collect(place, at=samba.credential)
        down, up = line.bytes_down, line.bytes_up
    payload = payload_below(samba.path("bundles") / folder / outcome.bundle_name)
    assert payload > PAYLOAD_BYTES * 0.8
    assert payload <= down < payload + LOOKED_INTO_BYTES
    assert up < LOOKED_INTO_BYTES


def test_staged_on_a_share_and_delivered_to_a_container_each_byte_is_read_once_and_sent_once(
    site: Site, samba: Samba, azurite: Azurite
) -> None:
    folder, container = f"once-{time.monotonic_ns()}", azurite.new_container()
    with TcpProxy("127.0.0.1", samba.port) as line, BodyCountingProxy(azurite.port) as service:
        url = azurite.container_url(container)
        place = Place.parse(url.replace(f":{azurite.port}/", f":{service.port}/"))
        outcome = site.collect(
            place,
            at=azurite.sas(container, "racwdl"),
            staging=Place.parse(f"smb://127.0.0.1:{line.port}/bundles/{folder}"),
            staging_access=samba.credential,
        )
        down, up, sent = line.bytes_down, line.bytes_up, service.put_bytes
        assert is_whole(outcome, azurite.sas(container, "racwdl"))
    payload = payload_below(samba.path("bundles") / folder / outcome.bundle_name)
    assert payload > PAYLOAD_BYTES * 0.8
    assert payload <= down < payload + LOOKED_INTO_BYTES
    assert up < LOOKED_INTO_BYTES
    assert payload <= sent < payload + LOOKED_INTO_BYTES


def test_staged_in_a_folder_and_delivered_to_another_each_byte_is_read_once_and_written_once(site: Site) -> None:
    near = Place.parse(str(site.folder / "near"))
    with counted_by_the_system() as counted:
        outcome = site.collect(Place.parse(str(site.folder / "far")), staging=near)
    payload = payload_below(Path(str(outcome.bundle)))
    assert payload <= counted.read < payload + LOOKED_INTO_BYTES
    assert payload <= counted.written < payload + LOOKED_INTO_BYTES
    assert is_whole(outcome)
