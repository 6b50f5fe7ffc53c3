"""Two processes deliver one bundle to one place at once: what is there afterwards is the bundle, whoever was faster."""

from __future__ import annotations

import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.bundle import seal
from bridge.errors import ExitCode
from bridge.store import FolderStore
from tests.support.azurite import Azurite
from tests.support.bundles import DOCUMENTS, INFO, LOGS, digests_of, write_payload
from tests.support.command_line import run, start
from tests.support.samba import Samba

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="not run: Windows has no smbd and no SIGKILL"),
    pytest.mark.slow,
]
SIZE = 6_000_000
RATE = ("--limit-rate", "40Mbit")
"""Slow enough that both are at work at once, and that one can be killed in its middle."""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    payload = {f"{LOGS}/Storage-{number}.zip": random.Random(number).randbytes(SIZE // 3) for number in range(3)}
    root = tmp_path / INFO.bundle_name
    write_payload(root, payload)
    seal(FolderStore(root), digests=digests_of(payload), documents=DOCUMENTS, info=INFO)
    return root


@dataclass(frozen=True)
class Far:
    """A place to deliver to, and what it asks of who comes."""

    place: str
    username: str | None = None
    secrets: dict[str, str] = field(default_factory=dict)

    def options(self, name: str) -> tuple[str, ...]:
        return (name, self.username) if self.username else ()


@pytest.fixture(params=["folder", "share", "container"])
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Far:
    if request.param == "folder":
        return Far(str(tmp_path / "far"))
    if request.param == "share":
        samba: Samba = request.getfixturevalue("samba")
        secrets = {"PEP_BRIDGE_SHARE_PASSWORD": samba.credential.password.reveal()}
        return Far(samba.url("bundles", f"twice-{time.monotonic_ns()}"), samba.credential.username, secrets)
    azurite: Azurite = request.getfixturevalue("azurite")
    container = azurite.new_container()
    return Far(azurite.container_url(container), secrets={"PEP_BRIDGE_SAS": azurite.sas(container).reveal()})


@pytest.mark.parametrize(
    ("machines", "killed"), [(2, False), (1, True)], ids=["two machines", "one machine, one killed"]
)
def test_two_deliveries_of_one_bundle_at_once_leave_a_whole_copy(
    bundle: Path, far: Far, tmp_path: Path, machines: int, killed: bool
) -> None:
    options = far.options("--share-username")
    states = [tmp_path / "state-0", tmp_path / f"state-{machines - 1}"]
    commands = [("--state-dir", str(state), "deliver", str(bundle), "--to", far.place, *options) for state in states]
    both = [start(*command, *RATE, **far.secrets) for command in commands]
    if killed:
        assert both[0].stderr is not None
        both[0].stderr.readline()
        time.sleep(0.5)
        both[0].send_signal(signal.SIGKILL)
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert not any("Traceback" in text for text in said), said
    assert set(codes) <= {ExitCode.OK, ExitCode.DELIVERY, -signal.SIGKILL}, said
    if not killed:
        assert ExitCode.OK in codes, said
    again = run(*commands[0], **far.secrets)
    assert again.returncode == ExitCode.OK, again.stderr
    checked = run(
        "--state-dir", str(states[0]), "verify", f"{far.place}/{bundle.name}", *far.options("--username"), **far.secrets
    )
    assert checked.returncode == ExitCode.OK, checked.stderr
