"""pep-bridge as its users start it: processes, exit codes, JSON documents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
QUIET = {"NO_COLOR": "1", "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring", "COLUMNS": "200"}
SOON = {"PEP_BRIDGE_COLLECTION__SETTLE": "1s", "PEP_BRIDGE_COLLECTION__SETTLE_AFTER_STOP": "3s"}
"""What the simulated stamp writes is there when its command ends. The README's commands keep the defaults."""


@dataclass
class Done:
    """A finished command."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """The ``--json`` document."""
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document["data"]
        return found


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A command that goes on; in a session of its own, so that its signals are its alone."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=os.environ | QUIET | SOON | environment,
        start_new_session=True,
    )


def run(*arguments: str, **environment: str) -> Done:
    """A command to its end."""
    with start(*arguments, **environment) as process:
        stdout, stderr = process.communicate()
    return Done(process.returncode, stdout, stderr)


@dataclass
class Rehearsal:
    """A simulated stamp in its own process, and commands against it."""

    ready: dict[str, Any]
    state_dir: Path
    secrets: dict[str, str] = field(default_factory=dict)

    @property
    def stamp(self) -> str:
        return str(self.ready["stamp"])

    def arguments(self, *arguments: str) -> list[str]:
        return ["--config", self.ready["config"], "--state-dir", str(self.state_dir), *arguments]

    def run(self, *arguments: str, **environment: str) -> Done:
        return run(*self.arguments(*arguments), **(self.secrets | environment))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return start(*self.arguments(*arguments), **(self.secrets | environment))


@contextmanager
def rehearsal(folder: Path, *options: str) -> Iterator[Rehearsal]:
    """``simulate`` with these options until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    ready_file = folder / "ready.json"
    arguments = ["simulate", "--ready-file", str(ready_file), "--output-root", str(folder / "out"), *options]
    with start(*arguments) as process:
        try:
            deadline = time.monotonic() + 60
            while not ready_file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    raise RuntimeError(f"the simulated stamp did not start: {process.communicate()}")
                time.sleep(0.05)
            yield Rehearsal(json.loads(ready_file.read_text(encoding="utf-8")), folder / "state")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
