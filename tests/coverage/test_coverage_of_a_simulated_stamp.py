"""Coverage of what a simulated stamp really writes and says, undisturbed and with each fault that costs output."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.collection._window import Window
from bridge.collection.coverage import Coverage, CoverageRequest, assess
from bridge.simulator._command import SimulatedError
from bridge.simulator.stamp import StampOptions, StampState, stamp_commands
from bridge.store import FolderStore
from tests.support.fake_context import FakeContext

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
END = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
ROLES = ("Storage", "SeedRing", "ACS", "ACSBlob", "ECE")


def error_record(error: SimulatedError, *, terminating: bool) -> dict[str, Any]:
    detail = {"message": error.message, "error_id": error.error_id, "target": error.target, "terminating": terminating}
    return {"stream": "error", "text": error.message, "error": detail}


def collect(root: Path, *faults: str, roles: tuple[str, ...] = ROLES, **options: Any) -> Coverage:
    """Runs Get-AzureStackLog into ``data/`` and assesses what it left."""
    payload = root / "data"
    payload.mkdir()
    arguments: dict[str, Any] = {"OutputPath": str(payload)} | options
    if roles:
        arguments["FilterByRole"] = list(roles)
    state = StampState(
        StampOptions(size_bytes=2_000_000, duration_s=0.0, seed=3, starts_at=NOW, output_root=payload, faults=faults)
    )
    # A session hands dates over in the zone of its machine.
    arguments = {"FromDate": START.astimezone(state.zone), "ToDate": END.astimezone(state.zone)} | arguments
    ctx = FakeContext()
    records: list[dict[str, Any]] = []
    with suppress(SimulatedError):
        try:
            next(spec for spec in stamp_commands(state) if spec.name == "Get-AzureStackLog").run(ctx, arguments)
        except SimulatedError as error:
            records.append(error_record(error, terminating=True))
            raise
    records += [error_record(error, terminating=False) for error in ctx.errors]
    records += [{"stream": "warning", "text": text} for text in ctx.warnings]
    records += [{"stream": "verbose", "text": text} for text in ctx.verbose]
    request = CoverageRequest(Window(START, END), made_at=NOW, roles=roles)
    return assess(FolderStore(root), request, records)


def states(coverage: Coverage) -> dict[str, str]:
    return {role.name: str(role.state) for role in coverage.roles}


def test_an_undisturbed_collection_is_complete_in_spite_of_harmless_terminating_errors(tmp_path: Path) -> None:
    coverage = collect(tmp_path)
    assert set(states(coverage).values()) == {"collected"}
    assert coverage.complete
    document = coverage.to_json()
    assert document["output_logs"][0]["terminating_errors"] > 0
    assert document["warnings"] == []
    assert document["known_failures"] == []
    assert document["other_zips"] == []
    found = document["window"]["found"]
    assert found["first"].startswith("2026-11-23T08:0")
    assert "2026-11-23T11:50" < found["last"] <= "2026-11-23T12:00:00Z"
    assert all(role.nodes for role in coverage.roles)


def test_all_roles_of_an_undisturbed_stamp_are_complete(tmp_path: Path) -> None:
    coverage = collect(tmp_path, roles=())
    assert coverage.complete, [role.to_json() for role in coverage.roles if role.state != "collected"]
    assert coverage.to_json()["roles_not_seen"] == []


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("role-fails:Storage", "failed"),
        ("role-empty:Storage", "empty"),
        ("role-truncated:Storage", "truncated"),
    ],
)
@pytest.mark.parametrize("roles", [ROLES, ()], ids=["roles asked", "all roles"])
def test_a_fault_of_one_role_is_the_state_of_that_role_alone(
    tmp_path: Path, fault: str, state: str, roles: tuple[str, ...]
) -> None:
    coverage = collect(tmp_path, fault, roles=roles)
    disturbed = {name: found for name, found in states(coverage).items() if found != "collected"}
    assert disturbed == {"Storage": state}
    assert not coverage.complete
    role = next(role for role in coverage.roles if role.name == "Storage")
    assert role.evidence


def test_a_role_that_the_stamp_does_not_know_is_skipped(tmp_path: Path) -> None:
    coverage = collect(tmp_path, roles=("Storage", "NoSuchRole"))
    assert states(coverage) == {"Storage": "collected", "NoSuchRole": "skipped"}


def test_a_full_disk_is_recognised_and_what_it_cost_is_named(tmp_path: Path) -> None:
    coverage = collect(tmp_path, "staging-disk-full:40")
    assert not coverage.complete
    assert set(states(coverage).values()) <= {"collected", "truncated", "failed"}
    assert {"truncated", "failed"} & set(states(coverage).values())
    assert "disk-full" in [failure["name"] for failure in coverage.to_json()["known_failures"]]


def test_a_machine_that_is_away_leaves_its_roles_truncated(tmp_path: Path) -> None:
    whole = collect(tmp_path)
    role = next(role for role in whole.roles if len(role.nodes) > 1)
    machine = sorted(role.nodes)[0]
    again = tmp_path / "again"
    again.mkdir()
    coverage = collect(again, f"node-missing:{machine}")
    disturbed = next(found for found in coverage.roles if found.name == role.name)
    assert disturbed.state == "truncated"
    assert {node.casefold() for node, state in disturbed.nodes.items() if state == "failed"} == {machine.casefold()}
    assert not coverage.complete


def test_hostile_names_are_survived_and_said(tmp_path: Path) -> None:
    coverage = collect(tmp_path, "hostile-names", "hostile-records")
    assert {name: state for name, state in states(coverage).items() if name in ROLES} == dict.fromkeys(
        ROLES, "collected"
    )
    document = coverage.to_json()
    assert any("unsafe name inside" in problem for file in document["other_zips"] for problem in file["problems"])


@pytest.mark.parametrize("roles", [("VirtualMachines", "ACS"), ("VirtualMachines",), ()], ids=["two", "one", "all"])
def test_a_vm_that_is_off_leaves_its_roles_truncated_unless_its_logs_are_recovered(
    tmp_path: Path, roles: tuple[str, ...]
) -> None:
    (tmp_path / "off").mkdir()
    coverage = collect(tmp_path / "off", "vm-off:AzS-ACS01", roles=roles)
    role = next(role for role in coverage.roles if role.name == "VirtualMachines")
    assert role.state == "truncated"
    assert [node for node, state in role.nodes.items() if state != "collected"] == ["AzS-ACS01"]
    assert "vm-off" in [failure["name"] for failure in coverage.to_json()["known_failures"]]
    assert not coverage.complete
    (tmp_path / "recovered").mkdir()
    assert collect(tmp_path / "recovered", "vm-off:AzS-ACS01", roles=roles, PerformVMLogRecovery=True).complete


@pytest.mark.parametrize("fault", ["wrong-clock:-2h", "wrong-clock:-12h"])
def test_a_clock_that_is_behind_is_suspected_with_the_stamps_own_time(tmp_path: Path, fault: str) -> None:
    coverage = collect(tmp_path, fault)
    assert not coverage.complete
    (clock,) = (text for text in coverage.to_json()["warnings"] if "clock" in text)
    assert "Its output log begins at 2026-11-2" in clock
