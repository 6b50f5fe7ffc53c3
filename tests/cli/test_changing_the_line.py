"""The rate of a delivery is changed while it runs: by keys, by the configuration, by a signal; and seen on the wire."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.bundle import seal
from bridge.errors import ExitCode
from bridge.files import replace_file
from bridge.store import FolderStore
from tests.support.bundles import DOCUMENTS, INFO, LOGS, digests_of, write_payload
from tests.support.command_line import rehearsal, start

if sys.platform == "win32":
    pytest.skip("not run: terminals and SIGHUP of this kind are POSIX", allow_module_level=True)

from tests.support.azurite import Azurite
from tests.support.terminals import Terminal, terminal

HOPELESS = "64kbit"  # 3 MB take more than six minutes: whoever sees the end has seen the rate change
SIZE = 3_000_000


@dataclass(frozen=True)
class Delivery:
    """A sealed bundle, a container, and a configuration."""

    folder: Path
    url: str
    sas: str

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    def configure(self, rate: str) -> None:
        replace_file(self.config, f'[transfer]\nlimit_rate = "{rate}"\n'.encode())

    def arguments(self, *options: str) -> list[str]:
        before = ["--config", str(self.config), "--state-dir", str(self.folder / "state")]
        return [*before, "deliver", str(self.folder / INFO.bundle_name), "--to", self.url, *options]

    @contextmanager
    def in_terminal(self, *options: str) -> Iterator[Terminal]:
        with terminal(*self.arguments(*options), PEP_BRIDGE_SAS=self.sas) as found:
            yield found

    def start(self, *options: str) -> subprocess.Popen[str]:
        return start(*self.arguments(*options), PEP_BRIDGE_SAS=self.sas)


@pytest.fixture
def delivery(tmp_path: Path, azurite: Azurite) -> Delivery:
    payload = {f"{LOGS}/Storage-{number}.zip": random.Random(number).randbytes(SIZE // 3) for number in range(3)}
    root = tmp_path / INFO.bundle_name
    write_payload(root, payload)
    seal(FolderStore(root), digests=digests_of(payload), documents=DOCUMENTS, info=INFO)
    container = azurite.new_container()
    found = Delivery(tmp_path, azurite.container_url(container), azurite.sas(container).reveal())
    found.configure("1Gbit")
    return found


def test_keys_make_a_running_delivery_faster_and_the_terminal_is_given_back_as_it_was(delivery: Delivery) -> None:
    with delivery.in_terminal("--limit-rate", HOPELESS) as screen:
        before = screen.settings
        screen.wait_for("delivered: ", "limit 64 kbit/s; keys: p pause, - slower, + faster")
        assert screen.takes_single_keys
        screen.type("\x1bOP\x1b[A")  # F1 and the upward arrow mean nothing
        screen.type("-")
        screen.wait_for("at most 64 kbit/s from now on")  # there is a least one
        for _ in range(12):
            screen.type("+")
        screen.wait_for("at most 128 kbit/s from now on", "at most 262 Mbit/s from now on")
        assert screen.wait() == ExitCode.OK, screen.text
        assert screen.settings == before
        assert "bundle id" in screen.text


def test_the_key_for_the_configuration_lets_its_word_count(delivery: Delivery) -> None:
    with delivery.in_terminal("--limit-rate", HOPELESS) as screen:
        screen.wait_for("r read the configuration")
        screen.type("r")
        screen.wait_for("the configuration was read again: at most 1 Gbit/s")
        assert screen.wait() == ExitCode.OK, screen.text


def test_a_paused_delivery_sends_nothing_until_it_goes_on(delivery: Delivery) -> None:
    with delivery.in_terminal("--limit-rate", HOPELESS) as screen:
        screen.wait_for("keys: p pause")
        screen.type("pr")  # without the pause, the configuration's rate would finish it in a moment
        screen.wait_for("paused; p goes on", "at most 1 Gbit/s", "MB, paused", "keys: p go on")
        assert "bundle id" not in screen.text
        screen.type("p")
        screen.wait_for("going on")
        assert screen.wait() == ExitCode.OK, screen.text


def test_the_configuration_changed_meanwhile_goes_over_the_option(delivery: Delivery) -> None:
    with delivery.start("--limit-rate", HOPELESS, "--json") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("delivering ")
        assert process.stderr.readline().startswith("delivered: ")
        delivery.configure("2Gbit")
        _, said = process.communicate()
    assert process.returncode == ExitCode.OK, said
    assert "the configuration was read again: at most 2 Gbit/s" in said


def test_hangup_of_a_process_without_a_terminal_reads_the_configuration_and_ends_nothing(delivery: Delivery) -> None:
    with delivery.start("--limit-rate", HOPELESS) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("delivering ")
        assert process.stderr.readline().startswith("delivered: ")
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate()
    assert process.returncode == ExitCode.OK, said
    assert "the configuration was read again: at most 1 Gbit/s" in said


def test_hangup_sent_by_hand_does_the_same_in_a_terminal(delivery: Delivery) -> None:
    with delivery.in_terminal("--limit-rate", HOPELESS) as screen:
        screen.wait_for("delivered: ")
        screen.process.send_signal(signal.SIGHUP)
        screen.wait_for("the configuration was read again")
        assert screen.wait() == ExitCode.OK


def test_a_terminal_that_is_closed_ends_a_delivery_that_goes_on_later(delivery: Delivery) -> None:
    with delivery.in_terminal("--limit-rate", HOPELESS) as screen:
        screen.wait_for("delivered: ")
        screen.close()
        assert screen.process.wait() == ExitCode.INTERRUPTED
    with delivery.start() as process:
        _, said = process.communicate()
    assert process.returncode == ExitCode.OK, said


def test_ctrl_c_gives_the_terminal_back_as_it_was(delivery: Delivery) -> None:
    with delivery.in_terminal("--limit-rate", HOPELESS) as screen:
        before = screen.settings
        screen.wait_for("keys: ")
        screen.type("\x03")
        assert screen.wait() == ExitCode.INTERRUPTED
        assert screen.settings == before


def test_a_suspended_delivery_gives_the_terminal_back_and_takes_it_again(delivery: Delivery) -> None:
    command = [sys.executable, "-m", "cli.main", *delivery.arguments("--limit-rate", HOPELESS)]
    with terminal(program=("/bin/sh", "-i"), PEP_BRIDGE_SAS=delivery.sas, PS1="$ ") as screen:
        screen.type(" ".join(command) + "\n")
        screen.wait_for("keys: ")
        screen.type("\x1a")
        screen.wait_for("Stopped")
        assert not screen.takes_single_keys
        screen.type("fg\n")
        deadline = time.monotonic() + 60
        while not screen.takes_single_keys and time.monotonic() < deadline:
            time.sleep(0.1)
        screen.type("r")
        screen.wait_for("the configuration was read again", "bundle id")
        screen.type("exit\n")
        screen.wait()


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_where_stdin_is_no_terminal_no_key_is_read_nor_shown(delivery: Delivery, options: tuple[str, ...]) -> None:
    with delivery.start(*options) as process:
        _, said = process.communicate()
    assert process.returncode == ExitCode.OK, said
    assert "keys" not in said


def test_the_upload_of_a_collection_is_left_and_its_rate_changed_in_the_terminal(
    tmp_path: Path, azurite: Azurite
) -> None:
    container = azurite.new_container()
    with rehearsal(tmp_path, "--duration", "1s", "--size", "4MB") as stamp:
        places = ("--staging", "local", "--to", azurite.container_url(container))
        collect = ("collect", stamp.stamp, "--since", "4h", "--role", "Storage", *places, "--limit-rate", HOPELESS)
        sas = azurite.sas(container).reveal()
        with terminal(*stamp.arguments(*collect), PEP_BRIDGE_SAS=sas) as screen:
            screen.wait_for(
                "delivering", "limit 64 kbit/s; keys: p pause", "Ctrl-C: leave; 'pep-bridge attach' finishes"
            )
            screen.type("\x03")
            assert screen.wait() == ExitCode.INTERRUPTED
            assert "leaving; nothing runs at the endpoint any more" in screen.text
            assert "again within three seconds" not in screen.text
            assert "nothing runs at the endpoint, but its bundle is not finished" in screen.text
        with terminal(*stamp.arguments("attach", "--limit-rate", HOPELESS), PEP_BRIDGE_SAS=sas) as screen:
            screen.wait_for("delivering", "limit 64 kbit/s; keys: p pause")
            screen.type("+" * 14)
            assert screen.wait() == ExitCode.OK, screen.text
            assert "at most 1.05 Gbit/s from now on" in screen.text
            assert "bundle id" in screen.text
