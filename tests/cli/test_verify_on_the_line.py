"""``verify`` of a share reads as politely as ``deliver`` sends: its rate and its pauses, changed while it runs."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bridge.bundle import seal
from bridge.errors import ExitCode
from bridge.files import replace_file
from bridge.store import FolderStore
from tests.support.bundles import DOCUMENTS, INFO, LOGS, digests_of, write_payload
from tests.support.command_line import run, start

if sys.platform == "win32":
    pytest.skip("not run: terminals and SIGHUP of this kind are POSIX", allow_module_level=True)

from tests.support.samba import USERNAME, Samba
from tests.support.terminals import terminal

HOPELESS = "64kbit"  # 3 MB take more than six minutes: whoever sees the end has seen the rate change
SIZE = 3_000_000


@dataclass(frozen=True)
class Far:
    """A sealed bundle on a share, and a configuration."""

    url: str
    folder: Path
    password: str

    def configure(self, text: str) -> None:
        replace_file(self.folder / "config.toml", text.encode())

    def arguments(self, *options: str) -> list[str]:
        before = ["--config", str(self.folder / "config.toml"), "--state-dir", str(self.folder / "state")]
        return [*before, "verify", self.url, "--share-username", USERNAME, *options]

    def start(self, *options: str) -> subprocess.Popen[str]:
        return start(*self.arguments(*options), PEP_BRIDGE_SHARE_PASSWORD=self.password)


@pytest.fixture
def far(tmp_path: Path, samba: Samba) -> Far:
    payload = {f"{LOGS}/Storage-{number}.zip": random.Random(number).randbytes(SIZE // 3) for number in range(3)}
    root = samba.path("bundles") / tmp_path.name / INFO.bundle_name
    write_payload(root, payload)
    seal(FolderStore(root), digests=digests_of(payload), documents=DOCUMENTS, info=INFO)
    url = samba.url("bundles", f"{tmp_path.name}/{INFO.bundle_name}")
    found = Far(url, tmp_path, samba.credential.password.reveal())
    found.configure('[transfer]\nlimit_rate = "1Gbit"\n')
    return found


def now_is_quiet() -> str:
    now = datetime.now().astimezone()
    return f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=2):%H:%M}"


def said_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stderr is not None
    said = ""
    while text not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


def test_the_configuration_changed_meanwhile_goes_over_the_option(far: Far) -> None:
    with far.start("--limit-rate", HOPELESS, "--quiet-hours", now_is_quiet()) as process:
        said_until(process, "quiet hours until")
        far.configure('[transfer]\nlimit_rate = "2Gbit"\nquiet_hours = "04:00-04:01"\n')
        shown, said = process.communicate()
    assert process.returncode == ExitCode.OK, said
    assert "the configuration was read again: at most 2 Gbit/s, quiet 04:00-04:01" in said
    assert "every byte agrees with the manifest" in shown


def test_hangup_of_a_process_without_a_terminal_reads_the_configuration(far: Far) -> None:
    far.configure(f'[transfer]\nlimit_rate = "1Gbit"\nquiet_hours = "{now_is_quiet()}"\n')
    with far.start("--quiet-hours", now_is_quiet()) as process:
        said_until(process, "quiet hours until")
        process.send_signal(signal.SIGHUP)
        said_until(process, "the configuration was read again: at most 1 Gbit/s")
        far.configure("")
        _, said = process.communicate()
    assert process.returncode == ExitCode.OK, said


def test_ctrl_c_in_quiet_hours_ends_it_and_says_that_nothing_is_known(far: Far) -> None:
    with far.start("--quiet-hours", now_is_quiet()) as process:
        said = said_until(process, "quiet hours until")
        process.send_signal(signal.SIGINT)
        shown, rest = process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED, rest
    assert "reading: 0 B of 3.0 MB, quiet hours until" in said
    assert "the next check begins anew" in rest
    assert shown == ""


def test_keys_pause_a_verification_and_make_it_faster(far: Far) -> None:
    with terminal(*far.arguments("--limit-rate", HOPELESS), PEP_BRIDGE_SHARE_PASSWORD=far.password) as screen:
        screen.wait_for("limit 64 kbit/s; keys: p pause, - slower, + faster, r read the configuration")
        screen.type("p")
        screen.wait_for("paused; p goes on", "of 3.0 MB, paused")
        screen.type("p")
        screen.wait_for("going on")
        screen.type("+" * 14)
        assert screen.wait() == ExitCode.OK, screen.text
        assert "verified" in screen.text


def test_a_quick_check_reads_no_payload_and_waits_for_no_hour(far: Far) -> None:
    done = run(*far.arguments("--fast", "--quiet-hours", now_is_quiet()), PEP_BRIDGE_SHARE_PASSWORD=far.password)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "quiet" not in done.stderr
