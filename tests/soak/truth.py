"""Coverage held against the truth: an undisturbed run's payload, and what the stamp's faults took from each role."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bridge.bundle import read_bundle
from bridge.collection import RunRecord, RunState
from bridge.errors import ExitCode
from bridge.store import Store
from tests.soak.world import ROLES, World, need

_STATE_OF_FAULT = {"role-fails": {"failed"}, "role-empty": {"empty"}, "role-truncated": {"truncated"}}
"""What a role that was reached must be called. One that hangs never ends, so it is not collected, whatever it is."""
_LEFT_ALONE = {"hostile-names"}
"""Its records and file names are made to look like words about roles: no role is blamed wrongly for sure."""


def payload_in(bundle: Store) -> dict[str, str]:
    """Name and digest of every zip of a sealed bundle: the output log and the folder's name hold times."""
    return {
        file.path.rsplit("/", 1)[-1]: file.sha256
        for file in read_bundle(bundle).files()
        if file.path.endswith(".zip") and file.sha256
    }


def check_coverage(
    world: World, run: RunRecord, bundle: Store, reference: Mapping[str, str], harm: Mapping[str, list[str]]
) -> None:
    """What a sealed bundle says of each role is what is there, and why something is not. ``harm`` names the faults
    that meet each role."""
    coverage = _read_json(bundle, "coverage.json")
    found = {role["name"]: role for role in coverage["roles"]}
    need(set(ROLES) <= set(found), f"coverage of {run.id} does not speak of {set(ROLES) - set(found)}")
    payload = payload_in(bundle)
    lacking = {role: _lacking(role, payload, reference) for role in ROLES}
    _check_state(run, coverage, lacking)
    completed = (run.facts.get("end") or {}).get("state") == "completed"
    for role in ROLES:
        said, faults = found[role], harm.get(role, [])
        if lacking[role]:
            need(
                said["state"] != "collected",
                f"coverage of {run.id} calls {role} collected, which lacks {lacking[role]} ({faults or 'no fault'})",
            )
        elif completed and not _names_of(world) & _LEFT_ALONE:
            need(said["state"] == "collected", f"all of {role} is there, and coverage calls it {_words(said)}")
        if completed:
            _check_named(said, faults, json.dumps(coverage))


def check_exit_codes(world: World) -> None:
    """What a client ended with says what came of the run."""
    for answer in world.answers:
        state, code = answer.get("state"), answer.get("exit_code")
        if code is None or state is None:
            continue
        if state == RunState.DONE:
            need(code == ExitCode.OK, f"{answer['verb']} ended {code} with a run that is done")
        elif state == RunState.PARTIAL:
            need(code != ExitCode.OK, f"{answer['verb']} ended 0 with a run that is partial")
        elif state == RunState.FAILED:
            need(code not in {ExitCode.OK, ExitCode.PARTIAL}, f"{answer['verb']} ended {code} with a run that failed")


def _check_state(run: RunRecord, coverage: Mapping[str, Any], lacking: Mapping[str, list[str]]) -> None:
    if run.state is RunState.DONE:
        missing = sorted(name for names in lacking.values() for name in names)
        need(not missing, f"run {run.id} is done, and lacks, or has otherwise than undisturbed: {missing}")
        need(coverage["complete"], f"run {run.id} is done, and its coverage says that it is not complete")
    elif run.state is RunState.PARTIAL and (run.facts.get("end") or {}).get("state") == "completed":
        left_out = run.facts.get("complete") and coverage["complete"]
        need(not left_out or bool(run.facts.get("warnings")), f"run {run.id} is partial, and nothing says why")


def _check_named(said: Mapping[str, Any], faults: list[str], text: str) -> None:
    for fault in faults:
        name, _, machine = fault.partition(":")
        if name in _STATE_OF_FAULT and "staging-disk-full" not in faults:
            need(
                said["state"] in _STATE_OF_FAULT[name],
                f"{said['name']} met {name}, and coverage calls it {_words(said)}",
            )
        # Of a VM that is off only the others' event logs tell: where a full disk cut those, nobody knows.
        if machine and (name != "vm-off" or "staging-disk-full" not in faults):
            need(machine in said["nodes"], f"{said['name']} met {fault}, and coverage does not name the machine in it")
            need(said["nodes"][machine] != "collected", f"{said['name']} met {fault}: {machine} is called collected")
        if name == "staging-disk-full" and said["state"] != "collected":
            need('"disk-full"' in text, f"{said['name']} met {name}, and coverage does not say that the disk was full")


def _lacking(role: str, payload: Mapping[str, str], reference: Mapping[str, str]) -> list[str]:
    return [name for name, digest in reference.items() if name.startswith(f"{role}-") and payload.get(name) != digest]


def _names_of(world: World) -> set[str]:
    return {fault.split(":")[0] for fault in world.plan.faults}


def _read_json(bundle: Store, path: str) -> Any:
    with bundle.open_read(path) as file:
        content = bytearray(file.size_bytes)
        read = 0
        while more := file.readinto(memoryview(content)[read:]):
            read += more
    return json.loads(content[:read])


def _words(said: Mapping[str, Any]) -> str:
    return f"{said['state']} ({said['explanation']})"
