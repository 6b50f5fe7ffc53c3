"""The history: what the portal's page showed, what became of each bundle, and tables that harm nobody."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.collection import Journal, RunState, read_history
from bridge.errors import ExitCode
from tests.support.command_line import run
from tests.support.runs import make_request

THEN = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """An old proactive run that failed, and a new one that was delivered at the second attempt."""
    folder = tmp_path / "state"
    with Journal(folder) as journal:
        proactive = replace(make_request(tmp_path), trigger="proactive")
        old = journal.create("20261101T120000Z-00000001", proactive, "b-old", at=THEN)
        journal.move(old.id, RunState.FAILED, "=cmd|' /C calc'!A0")
        new = journal.create("20261102T120000Z-00000002", make_request(tmp_path), "b-new", at=THEN + timedelta(days=1))
        for state in (RunState.PREFLIGHTED, RunState.LOCKED, RunState.RUNNING, RunState.SEALING):
            journal.move(new.id, state)
        journal.move(new.id, RunState.PARTIAL, bundle="/drop/b-new", bundle_id="ab" * 32, size_bytes=7, complete=False)
        journal.note_delivery("b-new", "/nas/b-new", "begun")
        journal.note_delivery("b-new", "/nas/b-new", "failed", error="the line was cut")
        journal.note_delivery("b-new", "/nas/b-new", "begun")
        journal.note_delivery("b-new", "/nas/b-new", "done")
    roles = [{"state": "collected"}, {"state": "collected"}, {"state": "failed"}]
    assessed = folder / "runs" / new.id / "assessed.json"
    assessed.parent.mkdir(parents=True)
    assessed.write_text(json.dumps({"complete": False, "coverage": {"roles": roles}}))
    return folder


def test_a_row_has_coverage_and_deliveries_with_attempts_and_the_last_error(state_dir: Path) -> None:
    with Journal(state_dir) as journal:
        new, old = read_history(journal)
    assert new.coverage == {"collected": 2, "failed": 1}
    [delivery] = new.to_json()["deliveries"]
    assert (delivery["state"], delivery["attempts"], delivery["last_error"]) == ("done", 2, "the line was cut")
    assert (old.coverage, old.deliveries) == ({}, ())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["b-new", "b-old"]),
        (("--status", "failed"), ["b-old"]),
        (("--status", "failed,partial"), ["b-new", "b-old"]),
        (("--type", "manual"), ["b-new"]),
        (("--type", "offload"), []),
        (("--since", "2026-11-02T00:00+00:00"), ["b-new"]),
        (("--stamp", "west"), []),
    ],
)
def test_filters_leave_what_was_asked_for(state_dir: Path, options: tuple[str, ...], expected: list[str]) -> None:
    done = run("--state-dir", str(state_dir), "history", "--json", *options)
    assert [row["bundle_name"] for row in done.data["runs"]] == expected


def test_a_filter_that_names_nothing_is_refused_and_not_an_empty_answer(state_dir: Path) -> None:
    done = run("--state-dir", str(state_dir), "history", "--status", "finished")
    assert done.returncode == ExitCode.USAGE
    assert "partial" in done.stderr


def test_the_table_has_the_columns_of_the_portal_and_where_the_bundle_is(state_dir: Path) -> None:
    done = run("--state-dir", str(state_dir), "history", COLUMNS="300")
    for word in ("time collected", "status", "logs start", "logs end", "type", "size", "coverage"):
        assert word in done.stdout.splitlines()[0]
    for word in (
        "2 collected, 1 failed",
        "ab" * 32,
        "/drop/b-new",
        "/nas/b-new: done after 2 attempts (the line was cut)",
    ):
        assert word in done.stdout


def test_an_exported_table_is_for_its_owner_and_no_cell_of_it_is_a_formula(state_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "history.csv"
    assert run("--state-dir", str(state_dir), "history", "--export", str(file)).returncode == ExitCode.OK
    with file.open(encoding="utf-8-sig", newline="") as text:
        new, old = csv.DictReader(text)
    assert (new["bundle_id"], new["complete"], new["type"]) == ("ab" * 32, "False", "manual")
    assert old["reason"] == "'=cmd|' /C calc'!A0"
    if os.name == "posix":
        assert file.stat().st_mode & 0o077 == 0


def test_an_exported_document_is_what_json_shows(state_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "history.json"
    shown = run("--state-dir", str(state_dir), "history", "--export", str(file), "--json").data["runs"]
    assert json.loads(file.read_text(encoding="utf-8"))["runs"] == shown
    refused = run("--state-dir", str(state_dir), "history", "--export", str(tmp_path / "history.xlsx"))
    assert refused.returncode == ExitCode.USAGE
