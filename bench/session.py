"""What the bridge's session costs over bare pypsrp: opening, the first record, 10,000 records.

    python -m bench.session [--rounds N] [--records N]

Both speak to one simulated endpoint in a process of its own, in turn; medians and their ratio are printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.endpoint import Command, Parameter, open_session
from bridge.secrets import Credential, Secret
from bridge.stamp import EndpointAddress, Stamp

MEASURED = ("open_s", "first_record_s", "records_s", "records_cpu_s")


@dataclass(frozen=True)
class Target:
    """The simulated endpoint of a measurement."""

    port: int
    username: str
    password: Secret


def ours(target: Target, count: int) -> dict[str, float]:
    """One session of the bridge."""
    stamp = Stamp("bench", (EndpointAddress("AzS-ERCS01", "127.0.0.1", target.port),))
    credential = Credential(target.username, target.password)
    clock = _Clock()
    with open_session(stamp, credential, allow={"Write-Many"}) as session:
        clock.lap("open_s")
        pipeline = session.start([_many(1)])
        next(pipeline.records())
        clock.lap("first_record_s")
        pipeline.wait()
        clock.start()
        if len(session.run([_many(count)])) != count:
            raise RuntimeError("records are missing")
        clock.lap("records_s")
    return clock.laps


def bare(target: Target, count: int) -> dict[str, float]:
    """One session of pypsrp by itself."""
    from pypsrp.powershell import PowerShell, RunspacePool
    from pypsrp.wsman import WSMan

    password = target.password.reveal()
    clock = _Clock()
    wsman = WSMan("127.0.0.1", port=target.port, username=target.username, password=password, ssl=False, auth="ntlm")
    with RunspacePool(wsman, configuration_name="PrivilegedEndpoint") as pool:
        clock.lap("open_s")
        PowerShell(pool).add_cmdlet("Write-Many").add_parameter("Count", 1).invoke()
        clock.lap("first_record_s")
        clock.start()
        if len(PowerShell(pool).add_cmdlet("Write-Many").add_parameter("Count", count).invoke()) != count:
            raise RuntimeError("records are missing")
        clock.lap("records_s")
    wsman.close()
    return clock.laps


def measure(rounds: int, count: int) -> dict[str, dict[str, float]]:
    """Medians of both, in turn, and what one costs of the other."""
    command = [sys.executable, "-m", "bench.session", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        if server.stdin is None or server.stdout is None:
            raise RuntimeError("the endpoint has no pipes")
        try:
            port, username, password = json.loads(server.stdout.readline())
            target = Target(port, username, Secret(password))
            runs: dict[str, list[dict[str, float]]] = {"ours": [], "pypsrp": []}
            for _ in range(rounds):
                runs["ours"].append(ours(target, count))
                runs["pypsrp"].append(bare(target, count))
        finally:
            server.stdin.close()
    medians = {
        who: {name: round(statistics.median(lap[name] for lap in laps), 4) for name in MEASURED}
        for who, laps in runs.items()
    }
    ratio = {name: round(medians["ours"][name] / medians["pypsrp"][name], 2) for name in MEASURED}
    return {**medians, "ratio": ratio}


def run(base: Path, programs: Path, scale: float, runs: int) -> str:
    """The table of the session."""
    count = max(100, int(10_000 * scale))
    found = measure(runs, count)
    titles = {
        "open_s": "opening, s",
        "first_record_s": "first record, s",
        "records_s": f"{count:,} records, s",
        "records_cpu_s": f"{count:,} records, CPU s",
    }
    lines = [
        "### A session at the simulated endpoint",
        "",
        f"Medians of {runs} rounds in turn, in one process.",
        "",
        "| what | pep-bridge | bare pypsrp | ratio |",
        "|---|---:|---:|---:|",
    ]
    for name, title in titles.items():
        lines.append(
            f"| {title} | {found['ours'][name]:.3f} | {found['pypsrp'][name]:.3f} | {found['ratio'][name]:.2f} |"
        )
    return "\n".join(lines) + "\n"


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.start()

    def start(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self, name: str) -> None:
        self.laps[name] = time.perf_counter() - self._wall
        self.laps[name.removesuffix("_s") + "_cpu_s"] = time.process_time() - self._cpu
        self.start()


def _many(count: int) -> Command:
    return Command("Write-Many", (Parameter("Count", count),))


def _serve() -> None:
    from tests.support.simulated_endpoint import simulated_endpoint

    with simulated_endpoint() as simulated:
        credential = simulated.credential
        print(json.dumps([simulated.server.port, credential.username, credential.password.reveal()]), flush=True)
        sys.stdin.read()


def main(show: Callable[[str], Any] = print) -> int:
    parser = argparse.ArgumentParser(description="What the session costs over bare pypsrp.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        _serve()
        return 0
    show(json.dumps(measure(arguments.rounds, arguments.records), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
