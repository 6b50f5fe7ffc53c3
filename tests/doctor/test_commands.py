"""``doctor``, ``plan``, ``collect --to auto`` and ``collect --plan`` as their users start them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.collection import Journal
from bridge.errors import ExitCode
from bridge.settings import load_settings
from bridge.simulator.stamp import SimulatedStamp
from cli._console import Globals
from cli._request import build_request
from cli.main import main
from cli.plan import read_planned
from tests.support.command_line import QUIET, SOON, Done, run

Verb = Callable[..., Done]
WINDOW = ("--since", "2026-11-20T08:00+00:00", "--until", "2026-11-20T12:00+00:00")


@pytest.fixture
def verb(
    stamp: SimulatedStamp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Verb:
    """``pep-bridge VERB STAMP ... --json`` against the shared stamp, in this process: a new one costs seconds."""

    def call(name: str, *arguments: str, config: Path | None = None, **environment: str) -> Done:
        for variable, value in (QUIET | SOON | environment).items():
            monkeypatch.setenv(variable, value)
        options = ("--config", str(config or stamp.config_file), "--state-dir", str(tmp_path / "state"))
        monkeypatch.setattr("sys.argv", ["pep-bridge", *options, name, stamp.name, *arguments, "--json"])
        with pytest.raises(SystemExit) as end:
            main()
        told = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Done(end.value.code, told.out, told.err)

    return call


@pytest.fixture
def no_internet() -> Iterator[dict[str, str]]:
    """A probe that nobody answers: the port stays taken and is never listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield {"PEP_BRIDGE_INTERNET_PROBE": f"http://127.0.0.1:{taken.getsockname()[1]}"}


def changed_config(stamp: SimulatedStamp, tmp_path: Path, old: str, new: str) -> Path:
    """The stamp's configuration beside its password file, with one thing changed."""
    password = tmp_path / "password.txt"
    password.touch(mode=0o600)
    password.write_text(stamp.password.reveal(), encoding="utf-8")
    text = stamp.config_file.read_text(encoding="utf-8")
    assert old in text
    config = tmp_path / "config.toml"
    config.write_text(text.replace(old, new), encoding="utf-8")
    return config


def test_doctor_gives_checks_and_route(verb: Verb, internet: str) -> None:
    done = verb("doctor", "--to", "local", PEP_BRIDGE_INTERNET_PROBE=internet)
    assert done.returncode == ExitCode.OK, done.stderr
    assert {check["state"] for check in done.data["checks"]} == {"ok"}
    assert done.data["route"] == "portal"


def test_doctor_without_a_destination_makes_the_other_checks(verb: Verb, no_internet: dict[str, str]) -> None:
    done = verb("doctor", **no_internet)
    assert done.returncode == ExitCode.OK, done.stderr
    [destination] = [check for check in done.data["checks"] if check["name"] == "destination"]
    assert destination["state"] == "skipped"
    assert "--to" in destination["fix"]


@pytest.mark.skipif(os.name != "posix", reason="a file's mode says nothing on Windows")
def test_doctor_finds_a_password_file_that_others_can_read(
    verb: Verb, stamp: SimulatedStamp, tmp_path: Path, no_internet: dict[str, str]
) -> None:
    config = changed_config(stamp, tmp_path, "shared_disk", "shared_disk")
    (tmp_path / "password.txt").chmod(0o644)
    done = verb("doctor", "--to", "local", config=config, **no_internet)
    assert done.returncode == ExitCode.USAGE
    failed = {check["name"]: check["fix"] for check in done.data["checks"] if check["state"] == "failed"}
    assert list(failed) == ["endpoint-password"]
    assert "chmod 600" in failed["endpoint-password"]


def test_doctor_for_people_shows_each_fix_and_the_next_command(
    stamp: SimulatedStamp, tmp_path: Path, no_internet: dict[str, str]
) -> None:
    stamp.portal.take_down()
    options = ("--config", str(stamp.config_file), "--state-dir", str(tmp_path))
    done = run(*options, "doctor", stamp.name, "--to", "local", **no_internet)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "warning  portal" in done.stdout
    assert "fix: Collect through the privileged endpoint" in done.stdout
    assert "route    save-locally" in done.stdout
    assert f"next: pep-bridge collect {stamp.name} --to local" in done.stderr


def test_auto_does_not_replace_a_working_portal(verb: Verb, stamp: SimulatedStamp, no_internet: dict[str, str]) -> None:
    before = len(stamp.state.collections)
    done = verb("collect", "--to", "auto", **no_internet)
    assert done.returncode == ExitCode.PREFLIGHT
    assert stamp.portal.url in done.document["errors"][0]["message"]
    assert "--force" in done.document["errors"][0]["fix"]
    assert len(stamp.state.collections) == before


def test_force_collects_beside_a_working_portal(verb: Verb, no_internet: dict[str, str]) -> None:
    done = verb("collect", "--to", "auto", "--force", *WINDOW, "--role", "ACS", **no_internet)
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.data["bundle_id"]


def test_auto_saves_to_the_configured_destination_when_portal_and_internet_are_away(
    verb: Verb, stamp: SimulatedStamp, no_internet: dict[str, str]
) -> None:
    stamp.portal.take_down()
    done = verb("collect", "--to", "auto", *WINDOW, "--role", "ACS", **no_internet)
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.data["bundle"].startswith(str(stamp.options.output_root))
    assert "route: save-locally" in done.stderr


def test_auto_leaves_sending_to_the_operator_who_has_to_consent(
    verb: Verb, stamp: SimulatedStamp, internet: str
) -> None:
    stamp.portal.take_down()
    done = verb("collect", "--to", "auto", PEP_BRIDGE_INTERNET_PROBE=internet)
    assert done.returncode == ExitCode.PREFLIGHT
    assert f"pep-bridge send {stamp.name}" in done.document["errors"][0]["fix"]


def test_auto_stops_at_a_wrong_password_and_starts_nothing(
    verb: Verb, stamp: SimulatedStamp, tmp_path: Path, no_internet: dict[str, str]
) -> None:
    stamp.portal.take_down()
    done = verb("collect", "--to", "auto", PEP_BRIDGE_PASSWORD="not the password", **no_internet)
    assert done.returncode == ExitCode.AUTHENTICATION
    assert "session" in done.document["errors"][0]["message"]
    with Journal(tmp_path / "state") as journal:
        assert journal.runs() == []


def test_auto_needs_a_configured_destination(verb: Verb, stamp: SimulatedStamp, tmp_path: Path) -> None:
    config = changed_config(
        stamp, tmp_path, "[destinations.local]", "[destinations.a]\nlocation='/x'\n[destinations.b]"
    )
    done = verb("collect", "--to", "auto", config=config)
    assert done.returncode == ExitCode.USAGE
    assert "a, b" in done.document["errors"][0]["message"]


def test_a_plan_is_run_exactly_as_it_was_shown(verb: Verb, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    shown = verb(
        "plan", "--to", "local", *WINDOW, "--role", "ACS,SRP", "--timeout-minutes", "17", "--output", str(file)
    )
    assert shown.returncode == ExitCode.OK, shown.stderr
    done = verb("collect", "--plan", str(file))
    assert done.returncode == ExitCode.OK, done.stderr
    with Journal(tmp_path / "state") as journal:
        ran = journal.runs()[0]
    sent = json.loads(json.dumps(ran.facts["commands"]).replace(ran.bundle_name, "<bundle>"))
    assert sent == shown.data["commands"]
    again = verb("plan", "--to", "local", *WINDOW, "--role", "ACS,SRP")
    assert "1 earlier collection of this stamp" in again.data["expected"]["basis"]


def test_a_plan_needs_no_password_and_asks_the_endpoint_nothing(
    verb: Verb, stamp: SimulatedStamp, tmp_path: Path
) -> None:
    config = changed_config(stamp, tmp_path, 'password_file = "password.txt"', "")
    calls = len(stamp.state.calls)
    done = verb("plan", "--to", "local", "--since", "9h", "--limit-rate", "5Mbit", config=config)
    assert done.returncode == ExitCode.OK, done.stderr
    assert len(stamp.state.calls) == calls
    assert done.data["free_bytes"][str(stamp.options.output_root)] > 0
    assert done.data["line"]["rate_bits_per_s"] == 5_000_000
    assert any("truncated" in warning for warning in done.data["warnings"])


def test_options_beside_a_plan_are_refused(verb: Verb, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    verb("plan", "--to", "local", *WINDOW, "--output", str(file))
    done = verb("collect", "--plan", str(file), "--role", "Storage")
    assert done.returncode == ExitCode.USAGE
    assert "roles" in done.document["errors"][0]["message"]


def test_a_plan_made_for_other_addresses_is_refused(verb: Verb, stamp: SimulatedStamp, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    verb("plan", "--to", "local", *WINDOW, "--output", str(file))
    moved = changed_config(stamp, tmp_path, f"port = {stamp.servers[0].port}", "port = 5985")
    done = verb("collect", "--plan", str(file), config=moved)
    assert done.returncode == ExitCode.USAGE
    assert "addresses" in done.document["errors"][0]["message"]


def test_a_plan_keeps_the_names_of_its_places_so_that_their_accounts_are_found(
    verb: Verb, stamp: SimulatedStamp, tmp_path: Path
) -> None:
    tables = """
[destinations.nas]
location = '\\\\192.0.2.9\\drop'
username = 'NAS\\drop'
password_file = "none.txt"

[destinations.support]
location = "https://account.blob.core.windows.net/logs"
staging = "nas/incoming"

[destinations.local]"""
    config = changed_config(stamp, tmp_path, "[destinations.local]", tables)
    file = tmp_path / "plan.json"
    shown = verb("plan", "--to", "support/case", *WINDOW, "--output", str(file), config=config)
    assert shown.returncode == ExitCode.OK, shown.stderr
    assert any("none.txt" in warning for warning in shown.data["warnings"])
    assert "NAS\\\\drop ***" in json.dumps(shown.data["commands"])
    wanted, _ = read_planned(Globals(config=config), stamp.name, file, {}, None)
    request = build_request(load_settings(config).settings, stamp.name, **wanted)
    assert request.destination.name == "support"
    assert request.destination.location == "https://account.blob.core.windows.net/logs/case"
    assert request.staging is not None
    assert request.staging.name == "nas"
    assert request.staging.location == r"\\192.0.2.9\drop\incoming"
