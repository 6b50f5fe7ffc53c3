"""A command's context without a session: keeps what a simulated command says."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from bridge.simulator._command import SimulatedError


@dataclass
class FakeContext:
    """Stands in for the session's side of ``CommandContext``."""

    session_id: str = "11111111-2222-3333-4444-555555555555"
    username: str = "AZURESTACK\\CloudAdmin"
    machine: str = "AzS-ERCS01"
    stopping: threading.Event = field(default_factory=threading.Event)
    output: list[Any] = field(default_factory=list)
    errors: list[SimulatedError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    verbose: list[str] = field(default_factory=list)
    debug: list[str] = field(default_factory=list)
    host_lines: list[str] = field(default_factory=list)
    progress: list[tuple[str, str, int]] = field(default_factory=list)
    stop_at_percent: int | None = None

    def write_output(self, value: Any) -> None:
        self.output.append(value)

    def write_error(self, error: SimulatedError) -> None:
        self.errors.append(error)

    def write_warning(self, message: str) -> None:
        self.warnings.append(message)

    def write_verbose(self, message: str) -> None:
        self.verbose.append(message)

    def write_debug(self, message: str) -> None:
        self.debug.append(message)

    def write_information(self, message: str, *, tags: tuple[str, ...] = (), from_host: bool = False) -> None:
        self.host_lines.append(message)

    def write_progress(
        self,
        activity: str,
        status: str,
        *,
        percent: int = -1,
        activity_id: int = 0,
        parent_id: int = -1,
        operation: str | None = None,
        seconds_remaining: int = -1,
        completed: bool = False,
    ) -> None:
        self.progress.append((activity, status, percent))
        if self.stop_at_percent is not None and percent >= self.stop_at_percent:
            self.stopping.set()

    @property
    def all_text(self) -> str:
        """Everything that was said."""
        said = [*self.output, *self.warnings, *self.verbose, *self.debug, *self.host_lines, *self.progress]
        return "\n".join([*map(str, said), *(f"{error.message} {error.target}" for error in self.errors)])
