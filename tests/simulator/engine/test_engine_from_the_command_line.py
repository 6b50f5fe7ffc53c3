"""``simulate --engine pwsh`` and the main job against it, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bridge.errors import ExitCode
from tests.support.command_line import Rehearsal, rehearsal, run
from tests.support.engine_scenarios import until

COLLECT = ("--since", "2026-11-20T08:00+00:00", "--until", "2026-11-20T12:00+00:00", "--role", "Storage,ACS,SeedRing")


def engines(folder: Path) -> list[psutil.Process]:
    """The PowerShell processes of the stamp that was started in this folder."""
    simulators = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder / "ready.json") in (process.info["cmdline"] or [])
    ]
    return [child for each in simulators for child in each.children() if "-sshs" in child.cmdline()]


def test_without_a_powershell_simulate_says_how_to_get_one(tmp_path: Path) -> None:
    done = run("simulate", "--engine", "pwsh", PEP_BRIDGE_PWSH=str(tmp_path / "no-pwsh"))
    assert done.returncode == ExitCode.USAGE
    assert "No PowerShell can be used: PEP_BRIDGE_PWSH names" in done.stderr
    assert "Install PowerShell 7.3 or later" in done.stderr


def test_stdio_and_a_powershell_do_not_go_together(tmp_path: Path) -> None:
    done = run("simulate", "--engine", "pwsh", "--stdio")
    assert done.returncode == ExitCode.USAGE
    assert "do not go together" in done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def stamp(pwsh: str, folder: Path) -> Iterator[Rehearsal]:
    with rehearsal(folder, "--engine", "pwsh", "--duration", "8s", "--size", "3MB") as found:
        yield found


@pytest.mark.engine
def test_a_collection_through_a_real_powershell_has_full_coverage_and_leaves_no_process(
    stamp: Rehearsal, folder: Path
) -> None:
    done = stamp.run("collect", stamp.stamp, *COLLECT, "--to", "local", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    assert {role["name"]: role["state"] for role in done.data["coverage"]["roles"]} == {
        "Storage": "collected",
        "ACS": "collected",
        "SeedRing": "collected",
    }
    assert until(lambda: not engines(folder))


@pytest.mark.slow
@pytest.mark.engine
def test_killing_the_powershell_in_a_collection_leaves_a_partial_bundle_and_a_clear_error(
    stamp: Rehearsal, folder: Path
) -> None:
    out = folder / "out"
    before = set(out.rglob("*.zip"))
    with stamp.start("collect", stamp.stamp, *COLLECT, "--to", "local", "--json") as collecting:
        assert until(lambda: set(out.rglob("*.zip")) - before, 120)
        [process] = engines(folder)
        process.kill()
        stdout, stderr = collecting.communicate(timeout=240)
    assert collecting.returncode == ExitCode.PARTIAL, stderr
    assert "The process that ran the command on 127.0.0.1 died in the middle of it" in stderr
    assert '"state": "partial"' in stdout
    [sealed] = [each for each in out.glob("*/bagit.txt") if each.stat().st_mtime > process.create_time()]
    assert stamp.run("verify", str(sealed.parent)).returncode == ExitCode.OK


@pytest.mark.engine
def test_a_killed_simulator_takes_its_powershell_with_it(pwsh: str, tmp_path: Path) -> None:
    with rehearsal(tmp_path, "--engine", "pwsh", "--duration", "60s") as found:
        with found.start("collect", found.stamp, *COLLECT, "--to", "local") as collecting:
            assert until(lambda: engines(tmp_path), 120)
            [engine] = engines(tmp_path)
            engine.parent().kill()  # type: ignore[union-attr]
            assert until(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE, 60)
            collecting.kill()
            collecting.communicate()
