"""A simulated stamp in a process of its own: options on its first line, then a report for every line it is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bridge.simulator.stamp import SimulatedStamp, StampOptions

_FAULTS_OF_A_ROLE = ("role-hangs", "role-fails", "role-empty", "role-truncated")
"""In the order in which the stamp comes to them: the first hides the others."""


class StampProcess:
    """The stamp as its parent sees it. ``ready`` is the document of ``simulate --ready-file``."""

    def __init__(self, log: Path, **options: Any) -> None:
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.stamp_process"],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # a Ctrl-C at the harness is the harness's to handle
            )
        self.ready = self._ask(
            {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        )

    def __enter__(self) -> StampProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def report(self) -> dict[str, Any]:
        """The collections, the calls of Get-AzureStackLog, and the shells that exist now."""
        return self._ask({})

    def harm(self, roles: Sequence[str]) -> dict[str, list[str]]:
        """The faults that take something from each of the roles of one collection; with ``:MACHINE`` from that one."""
        return self._ask({"harm_to": list(roles)})

    def _ask(self, document: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(document) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the simulated stamp ended with {self.process.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found


def main() -> None:
    options = json.loads(sys.stdin.readline())
    options["faults"] = tuple(options["faults"])
    options["output_root"] = Path(options["output_root"])
    with SimulatedStamp(StampOptions(**options)) as sim:
        print(json.dumps(sim.ready_document()), flush=True)
        while line := sys.stdin.readline():
            roles = json.loads(line).get("harm_to")
            print(json.dumps(_report(sim) if roles is None else _harm(sim, tuple(roles))), flush=True)
    sys.stdout.flush()
    os._exit(0)  # a role that hangs must not keep the process


def _report(sim: SimulatedStamp) -> dict[str, Any]:
    return {
        "collections": [
            {"machine": each.machine, "location": each.location, "outcome": each.outcome}
            for each in sim.state.collections
        ],
        "calls": sum(call.name == "Get-AzureStackLog" for call in sim.state.calls),
        "dangerous_calls": [call.name for call in sim.state.dangerous_calls],
        "shells": [f"{server.machine} {shell.shell_id}" for server in sim.servers for shell in server.shells()],
    }


def _harm(sim: SimulatedStamp, roles: tuple[str, ...]) -> dict[str, list[str]]:
    faults, inventory = sim.state.faults, sim.state.inventory
    found = {}
    for role in roles:
        whole = [fault for fault in _FAULTS_OF_A_ROLE if sim.state.role_has(fault, role, roles)][:1]
        parts = [
            f"{fault}:{machine}"
            for fault in ("node-missing", "vm-off")
            for machine in inventory.machines_of(role)
            if machine.casefold() in faults.values(fault) and not whole
        ]
        found[role] = whole + parts + ["staging-disk-full"] * faults.has("staging-disk-full")
    return found


if __name__ == "__main__":
    main()
