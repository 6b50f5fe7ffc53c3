"""Sessions that earlier runs left over are ended, and a machine that is away costs no run more than one try a round."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bridge.collection import Access, Event, Journal, LineChanged, Outcome, Request, RunState, Settings, collect
from bridge.errors import SessionLostError
from bridge.secrets import Credential
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.stamp import EndpointAddress, Stamp
from tests.support.fake_endpoint import FakeEndpoint, fake_ports
from tests.support.runs import QUICK, make_request


def run(
    request: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, settings: Settings = QUICK
) -> tuple[Outcome, list[str]]:
    """What came of it, and what was told of sessions that could not be ended."""
    told: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, LineChanged) and "left over" in event.detail:
            told.append(event.detail)

    outcome = collect(
        request, access, state_dir=state_dir, settings=settings, ports=fake_ports(endpoint), on_event=note
    )
    assert outcome.state is RunState.DONE, outcome
    return outcome, told


def left_over(state_dir: Path) -> list[str]:
    with Journal(state_dir) as journal:
        return [ids["endpoint"] for each in journal.runs() for ids in each.facts.get("opening", ())]


def leave_over(request: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint, count: int) -> None:
    """Sessions that may have been opened on the first machine, which has gone away with them since."""
    endpoint.dead = {"AzS-ERCS01"}
    for _ in range(count):
        run(request, access, state_dir, endpoint)
    endpoint.ended.clear()


def test_a_machine_that_is_away_is_tried_once_before_the_command_and_once_after_it(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    leave_over(request_to, access, state_dir, endpoint, 3)
    _, told = run(request_to, access, state_dir, endpoint)
    assert [ids["endpoint"] for ids in endpoint.ended] == ["AzS-ERCS01", "AzS-ERCS01"]
    assert endpoint.ended_before_sent == 1
    assert len(told) == 2
    assert left_over(state_dir) == ["AzS-ERCS01"] * 4  # none of them is known to have ended


def test_the_sessions_of_a_machine_that_is_back_are_all_ended(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    leave_over(request_to, access, state_dir, endpoint, 3)
    endpoint.dead = set()
    run(request_to, access, state_dir, endpoint)
    assert len({ids["shell_id"] for ids in endpoint.ended}) == 3
    assert left_over(state_dir) == []


def test_a_machine_that_is_away_does_not_keep_the_sessions_of_another_one(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    leave_over(request_to, access, state_dir, endpoint, 2)
    endpoint.dead = {"AzS-ERCS02"}
    turned = replace(request_to, stamp=replace(request_to.stamp, endpoints=tuple(reversed(request_to.stamp.endpoints))))
    run(turned, access, state_dir, endpoint)
    assert left_over(state_dir) == []


def test_the_session_that_a_machine_refused_is_not_remembered(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.refusing, endpoint.dead = {"AzS-ERCS01"}, {"AzS-ERCS02"}
    run(request_to, access, state_dir, endpoint)
    assert left_over(state_dir) == ["AzS-ERCS02"]


def test_a_real_machine_that_refused_is_forgotten_and_one_that_hung_up_is_remembered(
    tmp_path: Path, state_dir: Path
) -> None:
    options = StampOptions(size_bytes=100_000, duration_s=0.3, seed=7, output_root=tmp_path)
    with SimulatedStamp(options) as sim, nobody() as refused, hanging_up() as cut:
        machines = (
            EndpointAddress("AzS-ERCS08", "127.0.0.1", refused),
            EndpointAddress("AzS-ERCS09", "127.0.0.1", cut),
            *sim.endpoints,
        )
        request = make_request(tmp_path / "out", stamp=Stamp(sim.name, machines, username=sim.username))
        access = Access(Credential(sim.username, sim.password))
        outcome = collect(request, access, state_dir=state_dir, settings=QUICK)
    assert outcome.bundle is not None, outcome
    assert left_over(state_dir) == ["AzS-ERCS09"]


@contextmanager
def nobody() -> Iterator[int]:
    """A port that refuses."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def hanging_up() -> Iterator[int]:
    """A port that takes a request and hangs up without an answer: nobody knows what became of it."""

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangUp) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.server_address[1]
        server.shutdown()
        serving.join()


def test_what_is_not_ended_in_time_before_the_command_is_ended_after_it(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    leave_over(request_to, access, state_dir, endpoint, 3)
    endpoint.dead = set()
    run(request_to, access, state_dir, endpoint, replace(QUICK, leftovers_s=0.0))
    assert endpoint.ended_before_sent == 0
    assert len(endpoint.ended) == 3
    assert left_over(state_dir) == []


def test_a_session_whose_line_was_down_when_it_was_given_up_is_ended_by_the_next_run(
    request_to: Request, access: Access, state_dir: Path, endpoint: FakeEndpoint
) -> None:
    """The command was not sent, and the session that was opened for it could not be closed either."""
    endpoint.fails_to_send = SessionLostError(host="AzS-ERCS01", detail="the line broke")
    failed = collect(request_to, access, state_dir=state_dir, settings=QUICK, ports=fake_ports(endpoint))
    assert failed.state is RunState.FAILED
    assert left_over(state_dir) == ["AzS-ERCS01"]
    endpoint.fails_to_send = None
    run(request_to, access, state_dir, endpoint)
    assert left_over(state_dir) == []
