"""A session entered over WinRM shows its output (Out-Default writes to the host) and can be left (exit pops it)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pypsrp.host import PSHost, PSHostUserInterface
from pypsrp.powershell import PowerShell, RunspacePool

from bridge.simulator import EndpointServer
from tests.support.pep_client import wsman
from tests.support.recorded_commands import RECORDED_COMMANDS

POP_RUNSPACE = 53  # MS-PSRP 2.2.3.17; pypsrp does not know it


class Screen(PSHostUserInterface):  # type: ignore[misc]
    """Keeps what a person would read."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def WriteLine2(self, runspace: Any, pipeline: Any, value: str) -> None:  # noqa: N802 - MS-PSRP 2.2.3.17
        self.lines.append(value)

    def WriteWarningLine(self, runspace: Any, pipeline: Any, message: str) -> None:  # noqa: N802
        self.lines.append(f"WARNING: {message}")


class Person(PSHost):  # type: ignore[misc]
    """A host that can be left."""

    def __init__(self) -> None:
        self.screen = Screen()
        self.left = 0
        super().__init__(None, None, False, "pep-bridge", None, self.screen, "1.0")

    def run_method(self, method_identifier: Any, args: Any, runspace: Any, pipeline: Any = None) -> Any:
        if int(getattr(method_identifier, "value", method_identifier)) == POP_RUNSPACE:
            self.left += 1
            return None
        return super().run_method(method_identifier, args, runspace, pipeline)


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
def entered(person: Person) -> Iterator[Any]:
    with EndpointServer(RECORDED_COMMANDS) as server, wsman(server) as connection:
        with RunspacePool(connection, configuration_name="PrivilegedEndpoint", host=person) as pool:
            yield pool


def typed(pool: Any, person: Person, name: str, **parameters: Any) -> Any:
    """A line as Enter-PSSession sends it: with Out-Default at its end."""
    line = PowerShell(pool)
    line.add_cmdlet(name).add_parameters(parameters)
    line.add_cmdlet("Out-Default")
    line.invoke()
    return line


def test_output_of_an_entered_session_goes_to_the_host(entered: Any, person: Person) -> None:
    line = typed(entered, person, "Get-AzureStackLog", Mode="ok")
    assert list(line.output) == []
    assert person.screen.lines == ["WARNING: One node did not answer", "done"]
    typed(entered, person, "Get-AzureStackLog", Mode="types", OutputSharePath="\\\\nas\\drop")
    assert "share=\\\\nas\\drop" in person.screen.lines


def test_exit_is_answered_by_popping_the_runspace_and_the_session_lives(entered: Any, person: Person) -> None:
    PowerShell(entered).add_cmdlet("Exit-PSSession").invoke()
    assert person.left == 1
    typed(entered, person, "Get-AzureStackLog", Mode="nonterm")
    assert "after" in person.screen.lines
