"""A session outlives what a line does to it: cuts, resets, idle closes, stalls; encrypted, without a lost record."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from pypsrp.wsman import NAMESPACES

from bridge.endpoint import (
    Command,
    EndpointSession,
    LineEvent,
    LineState,
    Parameter,
    PipelineState,
    Record,
    SessionIds,
    SessionOptions,
    Stream,
    attach,
    open_session,
)
from bridge.endpoint._line import RequestLostError
from bridge.errors import (
    AuthenticationFailedError,
    BridgeError,
    CommandUncertainError,
    ExitCode,
    NotPermittedError,
    SessionLostError,
)
from bridge.simulator import ProtocolFaults
from bridge.stamp import EndpointAddress, Stamp
from tests.support.simulated_endpoint import ALLOWED, SimulatedEndpoint, simulated_endpoint
from tests.support.tcp_proxy import TcpProxy

OPTIONS = SessionOptions(
    connect_timeout_s=2, operation_timeout_s=2, read_timeout_s=4, reconnect_deadline_s=60, idle_timeout_s=3600
)
LOG = "Get-AzureStackLog"


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimulatedEndpoint]:
    with simulated_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def proxy(simulated: SimulatedEndpoint) -> Iterator[TcpProxy]:
    with TcpProxy(simulated.server.host, simulated.server.port) as between:
        yield between


@contextmanager
def session_through(
    proxy: TcpProxy, simulated: SimulatedEndpoint, events: list[LineEvent], options: SessionOptions = OPTIONS
) -> Iterator[EndpointSession]:
    stamp = Stamp("test-stamp", (EndpointAddress("AzS-ERCS01", proxy.host, proxy.port),))
    with open_session(stamp, simulated.credential, allow=ALLOWED, options=options, on_line=events.append) as session:
        yield session


def ticks(count: int, pause_ms: int) -> Command:
    return Command(LOG, (Parameter("Mode", "ticks"), Parameter("Count", count), Parameter("PauseMs", pause_ms)))


def every_tick(count: int) -> list[str]:
    return [*(f"tick {number}" for number in range(count)), "finished"]


def outputs(records: list[Record]) -> list[str]:
    return [record.text for record in records if record.stream is Stream.OUTPUT]


def repeatedly(work: Callable[[], object], pause_s: float, until: threading.Event) -> threading.Thread:
    def loop() -> None:
        while not until.wait(pause_s):
            work()

    thread = threading.Thread(target=loop)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["reset", "cut"])
def test_connections_that_break_again_and_again_lose_nothing(
    simulated: SimulatedEndpoint, proxy: TcpProxy, kind: str
) -> None:
    events: list[LineEvent] = []
    done = threading.Event()
    with session_through(proxy, simulated, events) as session:
        pipeline = session.start([ticks(250, 20)])
        breaker = repeatedly(getattr(proxy, kind), 0.4, done)
        try:
            records = list(pipeline.records())
        finally:
            done.set()
            breaker.join()
    assert outputs(records) == every_tick(250)
    assert pipeline.wait().state is PipelineState.COMPLETED
    states = [event.state for event in events]
    assert LineState.DOWN in states
    assert LineState.UP in states
    assert LineState.LOST not in states


def test_answers_cut_in_their_middle_lose_nothing(simulated: SimulatedEndpoint, proxy: TcpProxy) -> None:
    events: list[LineEvent] = []
    with session_through(proxy, simulated, events) as session:
        pipeline = session.start([Command("Write-Many", (Parameter("Count", 5000),))])
        proxy.cut_after(250_000)  # more than one answer, less than all
        proxy.reset()
        records = list(pipeline.records())
    assert [record.data["Bytes"] for record in records] == list(range(1, 5001))
    assert LineState.DOWN in [event.state for event in events]


def test_an_idle_connection_that_the_server_closed_is_no_error(simulated: SimulatedEndpoint, proxy: TcpProxy) -> None:
    events: list[LineEvent] = []
    with session_through(proxy, simulated, events) as session:
        assert proxy.cut() > 0
        records = session.run([ticks(1, 1)])
        assert outputs(records) == every_tick(1)


def test_a_session_is_closed_although_its_connection_was_cut(simulated: SimulatedEndpoint, proxy: TcpProxy) -> None:
    with session_through(proxy, simulated, []) as session:
        assert session.ids.shell_id in str(simulated.server.shells())
        assert proxy.cut() > 0
    assert session.ids.shell_id not in str(simulated.server.shells())


def test_a_shell_that_the_endpoint_marked_as_disconnected_is_taken_up_again(
    simulated: SimulatedEndpoint, proxy: TcpProxy
) -> None:
    with session_through(proxy, simulated, []) as session:
        pipeline = session.start([ticks(60, 20)])
        records = []
        for record in pipeline.records():
            records.append(record)
            if record.text == "tick 10":
                with session.second_shell() as shell:
                    request = ET.Element(f"{{{NAMESPACES['rsp']}}}Disconnect")
                    shell.wsman.disconnect(shell.resource_uri, request, selector_set=shell._selector_set)
        assert pipeline.wait().state is PipelineState.COMPLETED
    assert outputs(records) == every_tick(60)


def test_a_line_that_breaks_after_the_end_takes_nothing_away(simulated: SimulatedEndpoint, proxy: TcpProxy) -> None:
    events: list[LineEvent] = []
    with session_through(proxy, simulated, events) as session:
        pipeline = session.start([ticks(1, 1)])
        records = []
        for record in pipeline.records():
            records.append(record)
            if record.text == "finished":
                proxy.refuse()
                proxy.reset()
        assert pipeline.wait().state is PipelineState.COMPLETED
        assert outputs(records) == every_tick(1)
    assert "could not be closed" in events[-1].detail


def test_a_line_that_is_away_for_a_while_comes_back(simulated: SimulatedEndpoint, proxy: TcpProxy) -> None:
    events: list[LineEvent] = []
    with session_through(proxy, simulated, events) as session:
        pipeline = session.start([ticks(100, 20)])
        records = []
        for record in pipeline.records():
            records.append(record)
            if len(records) == 20:
                proxy.refuse()
                proxy.reset()
                threading.Timer(3.0, proxy.refuse, (False,)).start()
    assert outputs(records) == every_tick(100)
    retrying = [event for event in events if event.state is LineState.RETRYING]
    assert retrying
    assert all(event.retry_in_s > 0 and event.detail for event in retrying)


def test_a_stalled_line_is_waited_out(simulated: SimulatedEndpoint, proxy: TcpProxy) -> None:
    events: list[LineEvent] = []
    with session_through(proxy, simulated, events) as session:
        pipeline = session.start([ticks(100, 20)])
        records = []
        for record in pipeline.records():
            records.append(record)
            if len(records) == 20:
                proxy.stall()
                threading.Timer(6.0, proxy.stall, (False,)).start()
    assert outputs(records) == every_tick(100)


def test_a_line_that_stays_away_ends_with_how_to_go_on(simulated: SimulatedEndpoint, proxy: TcpProxy) -> None:
    events: list[LineEvent] = []
    short = SessionOptions(
        connect_timeout_s=1, operation_timeout_s=1, read_timeout_s=2, reconnect_deadline_s=3, idle_timeout_s=60
    )
    with session_through(proxy, simulated, events, short) as session:
        pipeline = session.start([ticks(100_000, 20)])
        records = pipeline.records()
        next(records)
        proxy.refuse()
        proxy.reset()
        with pytest.raises(SessionLostError) as caught:
            list(records)
        assert caught.value.exit_code is ExitCode.UNREACHABLE
        assert "attach" in caught.value.advice
        assert events[-1].state is LineState.LOST
        proxy.refuse(False)
        pipeline.stop()


def test_a_command_is_carried_out_once_when_its_answer_was_lost(simulated: SimulatedEndpoint, proxy: TcpProxy) -> None:
    events: list[LineEvent] = []
    with session_through(proxy, simulated, events) as session:
        shell = session.ids.shell_id
        proxy.stall()

        def wake() -> None:
            proxy.reset()
            proxy.stall(False)

        waker = threading.Timer(5.0, wake)
        waker.start()
        pipeline = session.start([ticks(50, 20)])
        waker.join()
        records = list(pipeline.records())
        assert outputs(records) == every_tick(50)
        assert shell in str(simulated.server.shells())


@pytest.mark.slow
def test_a_command_whose_fate_is_unknown_is_said_to_be_so_and_can_be_taken_up(
    takes_over_soon: SimulatedEndpoint,
) -> None:
    simulated, kept = takes_over_soon, list[SessionIds]()
    short = SessionOptions(
        connect_timeout_s=1, operation_timeout_s=1, read_timeout_s=2, reconnect_deadline_s=3, idle_timeout_s=600
    )
    with (
        TcpProxy(simulated.server.host, simulated.server.port) as proxy,
        session_through(proxy, simulated, [], short) as session,
    ):
        proxy.swallow_answers()
        breaker = threading.Timer(1.0, proxy.refuse)
        breaker.start()
        with pytest.raises(CommandUncertainError) as caught:
            session.start([ticks(400, 20)], before_send=kept.append)
        breaker.join()
    assert "attach" in caught.value.advice
    again = attach(simulated.stamp, simulated.credential, kept[0], allow=ALLOWED, options=OPTIONS, deadline_s=120)
    records = list(again.records())
    again.session.close()
    assert outputs(records) == every_tick(400)


def test_a_pipeline_is_stopped_while_the_line_is_bad(simulated: SimulatedEndpoint, proxy: TcpProxy) -> None:
    events: list[LineEvent] = []
    with session_through(proxy, simulated, events) as session:
        pipeline = session.start([ticks(100_000, 20)])
        records = pipeline.records()
        next(records)
        proxy.reset()
        stopper = threading.Timer(0.2, pipeline.stop)
        stopper.start()
        for _ in records:
            pass
        stopper.join()
    assert pipeline.wait().state is PipelineState.STOPPED


def long_command(count: int) -> Command:
    """A command that needs more than one fragment."""
    roles = Parameter("FilterByRole", ("R" * 1000,) * 300)
    return replace(ticks(count, 20), parameters=(*ticks(count, 20).parameters, roles))


def losing(session: EndpointSession, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """The line breaks under the n-th Send of the session, which arrives."""
    shell = session._shell
    send, sent = shell.send, list[int]()

    def lose(*arguments: Any, **named: Any) -> None:
        sent.append(1)
        send(*arguments, **named)
        if len(sent) == which:
            raise RequestLostError("the connection was reset")

    monkeypatch.setattr(shell, "send", lose)


def test_a_long_command_whose_last_part_was_lost_may_run_and_an_earlier_one_does_not(
    simulated: SimulatedEndpoint, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[SessionIds] = []
    with session_through(proxy, simulated, []) as session:
        parts: list[str] = []
        send = session._shell.send

        def count(*arguments: Any, **named: Any) -> None:
            parts.append("sent")
            send(*arguments, **named)

        monkeypatch.setattr(session._shell, "send", count)
        session.run([long_command(1)])
        assert len(parts) > 1
        monkeypatch.undo()
        losing(session, monkeypatch, 1)
        with pytest.raises(SessionLostError) as early:
            session.start([long_command(10)])
        assert type(early.value) is SessionLostError
        monkeypatch.undo()
    with session_through(proxy, simulated, []) as session:
        losing(session, monkeypatch, len(parts))
        with pytest.raises(CommandUncertainError):
            session.start([long_command(10)], before_send=kept.append)
    again = attach(simulated.stamp, simulated.credential, kept[0], allow=ALLOWED, options=OPTIONS, deadline_s=120)
    texts = outputs(list(again.records()))
    again.session.close()
    assert texts == every_tick(10)


@pytest.mark.parametrize("kind", [AuthenticationFailedError, NotPermittedError, SessionLostError])
def test_a_command_is_never_told_as_not_running_when_nobody_could_ask(
    simulated: SimulatedEndpoint, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch, kind: type[BridgeError]
) -> None:
    with session_through(proxy, simulated, []) as session:
        monkeypatch.setattr(session._shell, "command", raising(RequestLostError("the connection was reset")))
        monkeypatch.setattr(session, "receive", raising(kind(host="h", username="u", detail="d")))
        with pytest.raises(CommandUncertainError):
            session.start([ticks(1, 1)])
        monkeypatch.undo()
        session.close()


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_the_servers_own_idle_cut_of_an_encrypted_connection_is_no_error() -> None:
    events: list[LineEvent] = []
    with simulated_endpoint(faults=ProtocolFaults(close_idle_after_s=0.5)) as simulated:
        with open_session(
            simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS, on_line=events.append
        ) as session:
            time.sleep(1.5)
            assert simulated.server.clients() == set()
            assert outputs(session.run([ticks(3, 1)])) == every_tick(3)
    assert [event.state for event in events] == [LineState.DOWN, LineState.UP]


def test_connections_that_are_cut_while_a_receive_waits_lose_nothing() -> None:
    events: list[LineEvent] = []
    with simulated_endpoint(faults=ProtocolFaults(cut_waiting_after_s=0.3)) as simulated:
        with open_session(
            simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS, on_line=events.append
        ) as session:
            assert outputs(session.run([ticks(8, 700)])) == every_tick(8)
    assert [event.state for event in events].count(LineState.DOWN) > 3
    assert LineState.LOST not in [event.state for event in events]


def test_a_line_that_stays_silent_without_an_end_is_given_up_at_the_deadline_and_had_back_later(
    simulated: SimulatedEndpoint, proxy: TcpProxy
) -> None:
    events: list[LineEvent] = []
    short = SessionOptions(
        connect_timeout_s=1, operation_timeout_s=1, read_timeout_s=2, reconnect_deadline_s=4, idle_timeout_s=600
    )
    got: list[Record] = []
    with simulated_endpoint(client_lost_after_s=1.0) as own, TcpProxy(own.server.host, own.server.port) as silent:
        with session_through(silent, own, events, short) as session:
            pipeline = session.start([ticks(300, 10)])
            records = pipeline.records()
            got += [next(records) for _ in range(5)]
            silent.stall()
            with pytest.raises(SessionLostError, match="no answer in time"):
                got.extend(records)
            session.abandon()
        silent.stall(False)
        again = attach(own.stamp, own.credential, pipeline.ids, options=OPTIONS, deadline_s=60)
        late = outputs(list(again.records()))
        again.session.close()
    assert late[-1] == "finished"
    assert not set(late) & set(outputs(got))
    assert events[-1].state is LineState.LOST


def test_everything_that_is_said_over_http_is_sealed(simulated: SimulatedEndpoint, proxy: TcpProxy) -> None:
    with session_through(proxy, simulated, []) as session:
        proxy.reset()
        session.run([ticks(2, 1)])
    heard = bytes(proxy.heard)
    assert heard.count(b"POST /wsman") > 8
    assert b"application/HTTP-SPNEGO-session-encrypted" in heard
    assert b"<s:Envelope" not in heard
    assert b"Envelope xmlns" not in heard
