"""The command as a process: help, usage errors, the JSON document, secrets on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import ExitCode

ROOT = Path(__file__).parents[2]


def pep_bridge(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1", "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"} | environment,
        stdin=subprocess.DEVNULL,
    )


def verbs() -> list[str]:
    from cli.main import app

    return [command.name or str(getattr(command.callback, "__name__", "")) for command in app.registered_commands]


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_explains_itself_with_an_example(verb: str) -> None:
    done = pep_bridge(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert f"pep-bridge {verb}" in done.stdout.replace("Usage: pep-bridge " + verb, "", 1)


def test_help_imports_nothing_that_is_slow() -> None:
    code = (
        "import sys, runpy; sys.argv = ['pep-bridge', '--help']\n"
        "try: runpy.run_module('cli.main', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "slow = {'pypsrp', 'psrpcore', 'requests', 'smbprotocol', 'azure', 'cryptography', 'pydantic', 'jinja2'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr.strip() == "[]"


def test_no_verb_shows_the_help_and_is_a_usage_error() -> None:
    done = pep_bridge()
    assert done.returncode == ExitCode.USAGE
    assert "collect" in done.stdout


@pytest.mark.parametrize("arguments", [("bogus",), ("verify",), ("verify", "x", "--bogus"), ("collect",)])
def test_a_usage_error_says_where_to_look(arguments: tuple[str, ...]) -> None:
    done = pep_bridge(*arguments)
    assert done.returncode == ExitCode.USAGE
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_usage_error_is_a_json_document_too() -> None:
    done = pep_bridge("verify", "--bogus", "--json")
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert document["command"] == "verify"
    assert document["ok"] is False
    assert document["exit_code"] == done.returncode == ExitCode.USAGE
    assert document["errors"][0]["fix"]


def test_a_sas_on_the_command_line_is_refused_and_not_repeated() -> None:
    done = pep_bridge("deliver", "x", "--to", "https://a.blob.example/c?sv=2019-02-02&sig=Zm9vYmFy", "--json")
    assert done.returncode == ExitCode.USAGE
    assert "PEP_BRIDGE_SAS" in done.stderr
    assert "Zm9vYmFy" not in done.stdout + done.stderr


def test_an_unknown_stamp_is_named_without_a_traceback(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[stamps.east]\nendpoints = ['10.0.0.1']\n", encoding="utf-8")
    done = pep_bridge("--config", str(config), "collect", "west", "--to", str(tmp_path))
    assert done.returncode == ExitCode.USAGE
    assert "'west'" in done.stderr
    assert "east" in done.stderr


def test_a_stamp_is_added_and_listed(tmp_path: Path) -> None:
    config = tmp_path / "new" / "config.toml"
    added = pep_bridge(
        "--config", str(config), "stamp", "add", "east", "--endpoint", "10.0.0.1", "--username", "A\\CloudAdmin"
    )
    assert added.returncode == 0, added.stderr
    listed = json.loads(pep_bridge("--config", str(config), "stamp", "list", "--json").stdout)
    assert listed["data"]["stamps"]["east"]["username"] == "A\\CloudAdmin"


def test_the_origin_of_a_setting_is_told(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[transfer]\nconnections = 2\n", encoding="utf-8")
    done = pep_bridge("--config", str(config), "config", "show", "--origin", PEP_BRIDGE_TRANSFER__LIMIT_RATE="5Mbit")
    assert "transfer.connections = 2  (file)" in done.stdout
    assert "transfer.limit_rate = '5Mbit'  (environment)" in done.stdout


def test_every_exit_code_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for code in ExitCode:
        assert f"\n| {int(code)} | " in readme, code


def test_a_misspelt_destination_does_not_become_a_folder(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        "[stamps.east]\nendpoints = ['10.0.0.1']\nshared_disk = true\n[destinations.nas]\nlocation = '/nowhere'\n",
        encoding="utf-8",
    )
    done = pep_bridge("--config", str(config), "--state-dir", str(tmp_path), "collect", "east", "--to", "nass")
    assert done.returncode == ExitCode.USAGE
    assert "'nass'" in done.stderr
    assert "known: nas)" in done.stderr
    assert "./nass" in done.stderr
    assert not (ROOT / "nass").exists()
