"""A session ends with its collection, also where that ended while it was being left, or its stop could not be sent."""

from __future__ import annotations

from pathlib import Path

from bridge.collection import Access, Control, Event, Journal, Landed, Request, RunState, collect
from bridge.secrets import Credential
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.stamp import EndpointAddress, Stamp
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_runs import run
from tests.support.runs import QUICK, make_request
from tests.support.tcp_proxy import TcpProxy


def test_a_collection_that_ends_while_its_stop_cannot_be_sent_leaves_no_session_that_nobody_knows_of(
    tmp_path: Path, state_dir: Path
) -> None:
    """A stop takes a connection of its own; the one that brings the records may still stand."""
    control = Control()
    options = StampOptions(size_bytes=100_000, duration_s=3.0, seed=7, output_root=tmp_path)
    with SimulatedStamp(options) as sim, TcpProxy(sim.endpoints[0].host, sim.endpoints[0].port) as line:

        def stop_on_a_bad_line(event: Event) -> None:
            if isinstance(event, Landed):
                line.refuse()
                control.stop()

        stamp = Stamp(sim.name, (EndpointAddress("AzS-ERCS01", line.host, line.port),), username=sim.username)
        outcome = collect(
            make_request(tmp_path / "out", stamp=stamp),
            Access(Credential(sim.username, sim.password)),
            state_dir=state_dir,
            settings=QUICK,
            control=control,
            on_event=stop_on_a_bad_line,
        )
        assert outcome.state.is_final, outcome
        left = [shell.shell_id for server in sim.servers for shell in server.shells()]
    with Journal(state_dir) as journal:
        for_the_next_run = journal.run(outcome.run_id).facts.get("opening", ())
    assert [ids["shell_id"] for ids in for_the_next_run] == left


def test_a_collection_that_ends_while_its_session_is_left_leaves_none(
    request_to: Request, access: Access, state_dir: Path
) -> None:
    endpoint = FakeEndpoint(pause_s=0.2)
    endpoint.ends_while_left = True
    outcome = run(request_to, access, state_dir, endpoint, detach=True)
    assert outcome.state is RunState.DONE, outcome
    assert endpoint.sessions == set()
