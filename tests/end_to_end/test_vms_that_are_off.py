"""A VM that is off costs its event logs, which the command line says, and which an option has the stamp recover."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.errors import ExitCode
from tests.support.command_line import rehearsal

FAULT = ("--fault", "vm-off:AzS-ACS01", "--size", "1MB", "--duration", "0s", "--seed", "7")


@pytest.mark.slow
def test_event_logs_of_a_vm_that_is_off_are_missing_until_they_are_recovered(tmp_path: Path) -> None:
    with rehearsal(tmp_path, *FAULT) as stamp:
        stamp.secrets["PEP_BRIDGE_PASSWORD"] = stamp.ready["password"]
        asked = ("--since", "4h", "--role", "VirtualMachines,ACS", "--to", str(tmp_path / "out" / "bundles"), "--json")
        off = stamp.run("collect", stamp.stamp, *asked)
        assert off.returncode == ExitCode.PARTIAL, off.stderr
        states = {role["name"]: role["nodes"] for role in off.data["coverage"]["roles"]}
        for nodes in states.values():
            assert nodes["AzS-ACS01"] == "truncated"
            assert {state for node, state in nodes.items() if node != "AzS-ACS01"} == {"collected"}
        (known,) = (each for each in off.data["coverage"]["known_failures"] if each["name"] == "vm-off")
        assert "--recover-vm-logs" in known["fix"]

        recovered = stamp.run("collect", stamp.stamp, *asked, "--recover-vm-logs")
        assert recovered.returncode == ExitCode.OK, recovered.stderr

        plan = tmp_path / "plan.json"
        made = stamp.run("plan", stamp.stamp, *asked, "--recover-vm-logs", "--output", str(plan))
        assert made.returncode == ExitCode.OK, made.stderr
        assert json.loads(plan.read_text(encoding="utf-8"))["options"]["recover_vm_logs"] is True
        replayed = stamp.run("collect", stamp.stamp, "--plan", str(plan), "--json")
        assert replayed.returncode == ExitCode.OK, replayed.stderr
