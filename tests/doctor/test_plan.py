"""A plan says what will run and what to expect; a file that is not exactly that plan is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.collection import Journal, Place, Request, RunRecord, RunState, Window
from bridge.doctor import (
    Planned,
    PlannedOptions,
    check_plan,
    make_forecast,
    make_plan,
    plan_document,
    read_plan,
    write_plan,
)
from bridge.errors import PlanRefusedError
from bridge.stamp import EndpointAddress, Stamp

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
STAMP = Stamp(
    "east", (EndpointAddress("ERCS01", "192.0.2.1"),), username="E\\Admin", timezone="W. Europe Standard Time"
)
GIB = 1024**3


def request(hours: float = 4, ends: datetime = NOW, **changes: Any) -> Request:
    fields: dict[str, Any] = {"destination": Place.parse(r"\\nas\drop", name="nas"), **changes}
    return Request(STAMP, Window(ends - timedelta(hours=hours), ends), **fields)


def planned(wanted: Request | None = None, runs: tuple[RunRecord, ...] = (), **more: Any) -> Planned:
    return make_plan(wanted or request(), runs, share_username="C\\drop", now=NOW, **more)


@pytest.fixture
def past(tmp_path: Path) -> Callable[..., list[RunRecord]]:
    """Finished runs of the stamp, as the journal tells them: (hours, roles, bytes, seconds)."""

    def make(*runs: tuple[float, tuple[str, ...], int, float]) -> list[RunRecord]:
        with Journal(tmp_path / "state") as journal:
            for number, (hours, roles, size_bytes, _) in enumerate(runs):
                run_id = f"20261122T10{number:02}00Z-0000000{number}"
                journal.create(run_id, request(hours, roles=roles), f"bundle-{number}", at=NOW)
                for state in (RunState.PREFLIGHTED, RunState.LOCKED, RunState.RUNNING, RunState.SEALING):
                    journal.move(run_id, state)
                journal.move(run_id, RunState.DONE, size_bytes=size_bytes)
            found = sorted(journal.runs(stamp="EAST"), key=lambda run: run.id)
        return [
            replace(run, ended=run.created + timedelta(seconds=spec[3])) for run, spec in zip(found, runs, strict=True)
        ]

    return make


# -- what is said -----------------------------------------------------------------------------------------------------


def test_the_window_is_shown_by_three_clocks() -> None:
    window = planned().to_json()["window"]
    assert window["utc"] == {"since": "2026-11-23T08:00:00+00:00", "until": "2026-11-23T12:00:00+00:00"}
    assert window["stamp"] == {"since": "2026-11-23T09:00:00+01:00", "until": "2026-11-23T13:00:00+01:00"}
    assert datetime.fromisoformat(window["local"]["since"]) == NOW - timedelta(hours=4)
    assert window["hours"] == 4


def test_the_exact_command_is_shown_without_a_secret() -> None:
    [command] = planned(request(roles=("Storage",))).commands
    given = {name.strip("-:"): value for name, value in command["parameters"]}
    assert command["name"] == "Get-AzureStackLog"
    assert given["OutputSharePath"] == r"\\nas\drop\<bundle>\data"
    assert given["FilterByRole"] == ["Storage"]
    assert given["TimeOutInMinutes"] == 240
    assert "C\\drop" in given["OutputShareCredential"]["text"]
    assert "not-shown" not in json.dumps(planned().to_json())


def test_without_history_the_vendors_figures_are_used_and_named() -> None:
    forecast = planned().forecast
    assert forecast.size.typical == 2 * GIB
    assert forecast.size.high == 8 * GIB
    assert forecast.duration.typical is None
    assert forecast.duration.high == 240 * 60
    assert "vendor" in forecast.basis


def test_the_vendors_example_of_a_slow_line_comes_out() -> None:
    """2 GB in about 57 minutes and 8 GB in about 3 h 49 min at 5 Mbit/s ("Diagnostic log collection")."""
    line = planned().forecast.line_time(5_000_000)
    assert line.typical is not None
    assert round(line.typical / 60) == 57
    assert round(line.high / 60) == 229


def test_runs_with_the_same_filters_are_the_best_witnesses(past: Callable[..., list[RunRecord]]) -> None:
    roles = ("Storage", "ACS")
    runs = past((4, roles, 100, 60), (4, roles, 300, 120), (8, roles, 400, 240), (4, (), 10_000, 999))
    forecast = make_forecast(request(8, roles=("acs", "storage")), runs)
    assert (forecast.size.low, forecast.size.typical, forecast.size.high) == (200, 400, 600)
    assert (forecast.duration.low, forecast.duration.typical, forecast.duration.high) == (120, 240, 240)
    assert "3 earlier collections" in forecast.basis


def test_one_run_gives_a_wide_spread(past: Callable[..., list[RunRecord]]) -> None:
    forecast = make_forecast(request(4), past((4, (), 1000, 60)))
    assert (forecast.size.low, forecast.size.typical, forecast.size.high) == (500, 1000, 2000)


def test_runs_with_other_filters_are_scaled_and_called_rough(past: Callable[..., list[RunRecord]]) -> None:
    forecast = make_forecast(request(4, roles=("Storage",)), past((4, ("ACS", "SRP"), 1000, 60)))
    assert forecast.size.typical == 500
    assert "rough" in forecast.basis


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (request(8), "truncated"),
        (request(1, ends=NOW - timedelta(days=6)), "five days"),
        (request(roles=("Storage", "NoSuchRole")), "NoSuchRole"),
        (request(roles=("ECE",), resource_providers=("ACR",)), "AmbiguousParameterSet"),
        (replace(request(), stamp=replace(STAMP, timezone="Mars Standard Time")), "Mars Standard Time"),
    ],
)
def test_what_may_go_wrong_is_warned_of(wanted: Request, words: str) -> None:
    assert [warning for warning in planned(wanted).warnings if words in warning]


def test_a_good_plan_warns_of_nothing() -> None:
    assert planned(free_bytes={r"\\nas\drop": 100 * GIB}).warnings == ()


def test_too_little_space_is_warned_of() -> None:
    [warning] = planned(free_bytes={r"\\nas\drop": GIB}).warnings
    assert r"\\nas\drop" in warning


# -- the file ---------------------------------------------------------------------------------------------------------


OPTIONS = PlannedOptions(
    since=NOW - timedelta(hours=4), until=NOW, to="nas", destination=r"\\nas\drop", timeout_minutes=240
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    write_plan(path, plan_document(planned(), OPTIONS, NOW))
    return path


def check(file: Path, wanted: Request | None = None, commands: list[dict[str, Any]] | None = None) -> None:
    found = planned().commands if commands is None else commands
    check_plan(file, read_plan(file), wanted or request(), lambda: found)


def test_a_plan_that_was_written_is_accepted(file: Path) -> None:
    check(file)
    assert read_plan(file).options == OPTIONS


@pytest.mark.skipif(os.name != "posix", reason="a file's mode says nothing on Windows")
def test_a_plan_is_written_for_its_owner_alone(file: Path) -> None:
    assert file.stat().st_mode & 0o077 == 0


def change(file: Path, **changes: Any) -> None:
    document = json.loads(file.read_text(encoding="utf-8"))
    for path, value in changes.items():
        inner = document
        *way, last = path.split("__")
        for part in way:
            inner = inner[part]
        inner[last] = value
    file.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"kind": "something else"}, "kind"),
        ({"options__shell": "rm -rf"}, "options.shell"),
        ({"options__since": "2026-11-23T08:00:00"}, "options.since"),
        ({"options__timeout_minutes": 10**9}, "options.timeout_minutes"),
        ({"options__roles": ["Storage\u0007"]}, "options.roles"),
        ({"options__roles": ["R"] * 2000}, "options.roles"),
        ({"options__to": "x" * 5000}, "options.to"),
        ({"endpoints": []}, "endpoints"),
    ],
)
def test_a_file_that_is_no_plan_names_what_is_wrong(file: Path, changes: dict[str, Any], words: str) -> None:
    change(file, **changes)
    with pytest.raises(PlanRefusedError, match=words.replace(".", r"\.")):
        read_plan(file)


@pytest.mark.parametrize("content", [b"", b"not json", b"[" * 200_000, b"\xff\xfe\x00", b" " * 2_000_000, b"{}"])
def test_hostile_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(PlanRefusedError):
        read_plan(tmp_path / "plan.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes of this kind here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plan.json")
    with pytest.raises(PlanRefusedError, match="no plain file"):
        read_plan(tmp_path / "plan.json")


def test_a_plan_of_another_stamp_is_refused(file: Path) -> None:
    with pytest.raises(PlanRefusedError, match="for the stamp east, not for west"):
        check(file, replace(request(), stamp=replace(STAMP, name="west")))


def test_a_plan_for_other_addresses_is_refused_before_a_password_goes_there(file: Path) -> None:
    moved = replace(STAMP, endpoints=(EndpointAddress("ERCS01", "198.51.100.66"),))
    with pytest.raises(PlanRefusedError, match="addresses"):
        check(file, replace(request(), stamp=moved))


def test_a_destination_that_now_leads_elsewhere_is_refused(file: Path) -> None:
    with pytest.raises(PlanRefusedError, match="was made for"):
        check(file, request(destination=Place.parse(r"\\other\drop", name="nas")))


def test_commands_that_differ_are_refused(file: Path) -> None:
    with pytest.raises(PlanRefusedError, match="commands"):
        check(file, commands=planned(request(5)).commands)


def test_a_plan_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PlanRefusedError, match="cannot be written"):
        write_plan(tmp_path / "file" / "plan.json", plan_document(planned(), OPTIONS, NOW))
