"""What is written for a machine's scheduler is taken by it, runs exactly the command, and enables nothing."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from defusedxml import ElementTree

from bridge.errors import ExitCode
from bridge.watch import Service, scheduled_task, systemd_units
from tests.support.command_line import run

ODD = (
    "/opt/pep bridge/pep-bridge",
    "watch",
    "east",
    "--to",
    r"\\nas\drop 100%\$x",
    'say "hi"',
    "",
    "a\nExecStart=/bin/false",
)
TASK = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    config = tmp_path / "config.toml"
    config.write_text("[stamps.east]\nendpoints = ['127.0.0.1']\nusername = 'A\\B'\n")
    return ["--config", str(config), "--state-dir", str(tmp_path / "state"), "watch", "install", "east"]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("not run: no systemd-analyze on this machine")
    command = ("/bin/echo", *ODD[1:])
    units = systemd_units(Service("east", command, timedelta(minutes=5)))
    for name, content in units.items():
        (tmp_path / name).write_text(content)
    done = subprocess.run(
        [analyze, "verify", *(str(tmp_path / name) for name in units)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_argument_begins_another_line_of_the_unit() -> None:
    unit = systemd_units(Service("east\n[Service]\nUser=root", ODD, timedelta(minutes=5)))
    lines = "".join(unit.values()).splitlines()
    assert [line for line in lines if line.startswith(("ExecStart=", "User="))] == [
        next(line for line in lines if line.startswith("ExecStart="))
    ]
    [start] = [line for line in lines if line.startswith("ExecStart=")]
    assert r'"\\\\nas\\drop 100%%\\$$x"' in start
    assert '""' in start


def test_the_windows_task_is_well_formed_disabled_and_without_a_time_limit() -> None:
    task = ElementTree.fromstring(scheduled_task(Service("east & <west>", ODD, timedelta(minutes=15), r"CORP\ops")))
    assert task.findtext(f".//{TASK}Command") == ODD[0]
    assert task.findtext(f".//{TASK}Settings/{TASK}Enabled") == "false"
    assert task.findtext(f".//{TASK}ExecutionTimeLimit") == "PT0S"
    assert task.findtext(f".//{TASK}Interval") == "PT15M"
    assert task.findtext(f".//{TASK}UserId") == r"CORP\ops"
    given = task.findtext(f".//{TASK}Arguments") or ""
    assert r'"\\nas\drop 100%\$x"' in given
    assert r'"say \"hi\""' in given


def test_install_prints_and_writes_nothing(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, "--to", str(tmp_path / "out"), "--offload", "8h", "--every", "10m", "--print", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    unit, timer = done.data["files"].values()
    assert "--offload 8h --every 10m --once" in unit
    assert "OnUnitInactiveSec=600s" in timer
    assert not (tmp_path / "state").exists()


def test_install_needs_consent_and_then_writes_files_for_either_scheduler(arguments: list[str], tmp_path: Path) -> None:
    there = ("--to", str(tmp_path / "out"), "--dir", str(tmp_path / "units"))
    refused = run(*arguments, *there)
    assert refused.returncode == ExitCode.USAGE
    assert "--agree" in refused.stderr
    done = run(*arguments, *there, "--agree", "--for", "systemd")
    assert done.returncode == ExitCode.OK, done.stderr
    assert "enable --now pep-bridge-watch-east.timer" in done.stderr
    assert run(*arguments, *there, "--for", "windows").returncode == ExitCode.OK  # agreed to already
    written = sorted(path.name for path in (tmp_path / "units").iterdir())
    assert written == [f"pep-bridge-watch-east.{end}" for end in ("service", "timer", "xml")]
    task = (tmp_path / "units" / "pep-bridge-watch-east.xml").read_bytes()
    assert task.startswith(b"\xff\xfe")
    assert "--agree" not in task.decode("utf-16")
    ElementTree.fromstring(task)


@pytest.mark.parametrize("wrong", ["--ofload", "--password-stdin", "--persist"])
def test_an_option_that_the_service_could_not_use_is_told_at_once(arguments: list[str], wrong: str) -> None:
    done = run(*arguments, "--to", "x", "--print", wrong)
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert "Unexpected" not in done.stderr
