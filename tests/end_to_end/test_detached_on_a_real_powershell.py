"""``collect --detach``, ``status``, ``attach`` and ``stop`` typed at a stamp whose sessions a real PowerShell runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.errors import ExitCode
from tests.support.command_line import Done, Rehearsal, rehearsal
from tests.support.engine_scenarios import until

pytestmark = [pytest.mark.engine, pytest.mark.slow]
ROLES = ("Storage", "ACS", "SeedRing")
COLLECT = ("--since", "2026-11-20T08:00+00:00", "--until", "2026-11-20T12:00+00:00", "--role", ",".join(ROLES))


@pytest.fixture
def stamp(pwsh: str, tmp_path: Path) -> Iterator[Rehearsal]:
    with rehearsal(tmp_path, "--engine", "pwsh", "--duration", "12s", "--size", "3MB") as found:
        yield found


def engines(folder: Path) -> list[psutil.Process]:
    """The PowerShell processes of the stamp that was started in this folder."""
    simulators = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder / "ready.json") in (process.info["cmdline"] or [])
    ]
    return [child for each in simulators for child in each.children() if "-sshs" in child.cmdline()]


def detached(stamp: Rehearsal) -> str:
    done = stamp.run("collect", stamp.stamp, *COLLECT, "--to", "local", "--detach", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.data["state"] == "detached"
    return str(done.data["run"])


def states(done: Done) -> dict[str, str]:
    assert done.returncode == ExitCode.OK, done.stderr
    return {str(run["id"]): str(run["state"]) for run in done.data["runs"]}


def records_of(bundle: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(bundle) / "session.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_collection_that_was_left_is_finished_by_another_process_with_every_record(
    stamp: Rehearsal, tmp_path: Path
) -> None:
    run = detached(stamp)
    [engine] = engines(tmp_path)
    assert states(stamp.run("status", "--json"))[run] == "detached"
    done = stamp.run("attach", run, "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.data["state"] == "done"
    assert {role["name"]: role["state"] for role in done.data["coverage"]["roles"]} == dict.fromkeys(ROLES, "collected")
    texts = [record["text"] for record in records_of(done.data["bundle"])]
    for role in ROLES:
        assert sum(f"Role '{role}'" in text for text in texts) == 1
    assert stamp.run("verify", done.data["bundle"]).returncode == ExitCode.OK
    assert len(list((tmp_path / "out").glob("*/bagit.txt"))) == 1
    assert until(lambda: not engine.is_running(), 60)


def test_a_collection_that_was_left_is_stopped_and_leaves_no_process(stamp: Rehearsal, tmp_path: Path) -> None:
    run = detached(stamp)
    [engine] = engines(tmp_path)
    stopped = stamp.run("stop", run, "--json")
    assert stopped.returncode == ExitCode.OK, stopped.stderr
    assert stopped.data["state"] == "stopped"
    assert until(lambda: not engine.is_running(), 60)
    assert engines(tmp_path) == []
    refused = stamp.run("collect", stamp.stamp, *COLLECT, "--to", "local")
    assert refused.returncode == ExitCode.BUSY, refused.stderr  # five minutes of cooling down
