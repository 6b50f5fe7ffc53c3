"""An operator with the real command before a simulated stamp that can be asked what really happened on it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.bundle import Verdict, verify
from bridge.collection import Journal, RunState
from bridge.store import FolderStore
from tests.soak.stamp_process import StampProcess
from tests.support.command_line import Done, run, start
from tests.support.terminals import Terminal, terminal


@dataclass(frozen=True)
class Site:
    """A stamp of its own, and the machine of an operator who collects from it."""

    stamp: StampProcess
    folder: Path

    def arguments(self, *arguments: str) -> list[str]:
        config = str(self.stamp.ready["config"])
        return ["--config", config, "--state-dir", str(self.folder / "state"), *arguments]

    def collect(self) -> list[str]:
        return self.arguments("collect", self.stamp.ready["stamp"], "--role", "Storage,ACS", "--to", str(self.place))

    def start(self) -> subprocess.Popen[str]:
        return start(*self.collect(), "--json")

    @contextmanager
    def in_terminal(self) -> Iterator[Terminal]:
        with terminal(*self.collect()) as found:
            yield found

    def attach(self) -> Done:
        return run(*self.arguments("attach", "--json"))

    @property
    def place(self) -> Path:
        return self.folder / "out"

    @property
    def state(self) -> RunState:
        with Journal(self.folder / "state") as journal:
            found = journal.latest()
        assert found is not None
        return found.state

    def outcomes(self) -> list[str]:
        """How each collection that the stamp ever began has ended, or that it runs."""
        return [each["outcome"] for each in self.stamp.report()["collections"]]

    def shells(self) -> list[str]:
        found: list[str] = self.stamp.report()["shells"]
        return found

    def output_arrives(self) -> None:
        """Waits until there is something that must not be lost."""
        until(lambda: any(self.place.rglob("*.zip")))

    def has_verified(self, bundle: str) -> bool:
        return verify(FolderStore(Path(bundle))).verdict is Verdict.VERIFIED


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, "it does not come to pass"
        time.sleep(0.05)


@contextmanager
def site(folder: Path, duration_s: float) -> Iterator[Site]:
    with StampProcess(
        folder / "stamp.log", size_bytes=2_000_000, duration_s=duration_s, seed=3, faults=(), output_root=folder
    ) as stamp:
        yield Site(stamp, folder)
