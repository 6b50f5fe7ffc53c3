"""A destination that the endpoint may not write to is told as that, and where nothing arrived no folder is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.collection import Access, Event, Journal, Outcome, Request, RunState, StateChanged, collect
from bridge.endpoint import ErrorDetail
from bridge.errors import EndpointUnreachableError, ExitCode
from bridge.secrets import Credential
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.stamp import Stamp
from tests.support.fake_endpoint import FakeEndpoint, fake_ports
from tests.support.runs import QUICK, make_request


def bundles_in(folder: Path) -> list[str]:
    return [found.name for found in folder.iterdir() if not found.name.startswith(".")]


def test_a_folder_that_the_endpoint_may_not_write_to_is_a_matter_of_the_destination(
    tmp_path: Path, state_dir: Path
) -> None:
    (tmp_path / "allowed").mkdir()
    options = StampOptions(size_bytes=100_000, duration_s=0.3, seed=7, output_root=tmp_path / "allowed")
    with SimulatedStamp(options) as sim:
        request = make_request(tmp_path / "out", stamp=Stamp(sim.name, tuple(sim.endpoints), username=sim.username))
        access = Access(Credential(sim.username, sim.password))
        outcome = collect(request, access, state_dir=state_dir, settings=QUICK)
    assert (outcome.state, outcome.exit_code) == (RunState.FAILED, ExitCode.PREFLIGHT), outcome
    [error] = outcome.errors
    assert error.name == "OutputRefusedError"
    assert "is denied" in str(error)
    assert "The ERCS machine itself must be able to write there" in error.advice
    assert bundles_in(tmp_path / "out") == []


def failing(request: Request, access: Access, state_dir: Path, message: str, category: str, kind: str) -> Outcome:
    """A run whose command fails before it writes anything; ``{bundle}`` in the message is the run's own folder."""
    endpoint = FakeEndpoint({}, ends_log=False)

    def fail(event: Event) -> None:
        if isinstance(event, StateChanged) and event.state is RunState.LOCKED:
            with Journal(state_dir) as journal:
                bundle = journal.run(event.run_id).bundle_name
            endpoint.error = ErrorDetail(message.format(bundle=bundle), "It,Get-AzureStackLog", category, kind)

    outcome = collect(request, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint), on_event=fail)
    endpoint.join()
    assert outcome.state is RunState.FAILED, outcome
    return outcome


@pytest.mark.parametrize(
    ("message", "category", "kind", "name", "code"),
    [
        ("Access to '\\\\nas\\{bundle}' is denied.", "PermissionDenied", "X", "OutputRefusedError", ExitCode.PREFLIGHT),
        ("No {bundle}.", "X", "System.IO.DirectoryNotFoundException", "OutputRefusedError", ExitCode.PREFLIGHT),
        (
            "{bundle}: There is not enough space on the disk.",
            "WriteError",
            "System.IO.IOException",
            "StoreFullError",
            ExitCode.NO_SPACE,
        ),
        ("Access to the vault is denied.", "PermissionDenied", "X", "CommandFailedError", ExitCode.UNEXPECTED),
        ("{bundle} is not my fault.", "NotSpecified", "X", "CommandFailedError", ExitCode.UNEXPECTED),
    ],
)
def test_only_an_error_about_the_own_folder_is_told_as_one_of_the_destination(
    request_to: Request,
    access: Access,
    state_dir: Path,
    message: str,
    category: str,
    kind: str,
    name: str,
    code: ExitCode,
) -> None:
    outcome = failing(request_to, access, state_dir, message, category, kind)
    assert ([error.name for error in outcome.errors], outcome.exit_code) == ([name], code)


def test_a_run_that_could_not_start_leaves_no_folder(
    request_to: Request, access: Access, state_dir: Path, tmp_path: Path
) -> None:
    gone = EndpointUnreachableError(stamp="azs-sim", port=5985, detail="nobody answers", failures=[])
    endpoint = FakeEndpoint(open_error=gone)
    outcome = collect(request_to, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint))
    assert outcome.exit_code is ExitCode.UNREACHABLE
    assert bundles_in(tmp_path / "bundles") == []


def test_a_folder_in_which_something_lies_all_the_same_is_kept(
    request_to: Request, access: Access, state_dir: Path, tmp_path: Path
) -> None:
    """Somebody else's file in the bundle's folder, and not in its payload."""

    def put(event: Event) -> None:
        if isinstance(event, StateChanged) and event.state is RunState.RUNNING:
            [bundle] = (tmp_path / "bundles").glob("azs-sim-*")
            (bundle / "note.txt").write_text("mine")

    error = ErrorDetail("it broke", "Broken,Get-AzureStackLog", "NotSpecified", "System.Exception")
    endpoint = FakeEndpoint({}, error=error, ends_log=False)
    collect(request_to, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint), on_event=put)
    endpoint.join()
    [kept] = (tmp_path / "bundles").glob("azs-sim-*")
    assert [found.name for found in kept.iterdir()] == ["note.txt"]
