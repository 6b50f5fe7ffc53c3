"""Who leaves a session, loses it or stops it: what the endpoint keeps, who gets it, and that nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.endpoint import (
    Command,
    EndpointSession,
    LineEvent,
    Parameter,
    Pipeline,
    PipelineState,
    Record,
    SessionOptions,
    Stream,
    Value,
    attach,
    end_session,
    open_session,
)
from bridge.errors import EndpointUnreachableError, SessionGoneError, SessionLostError
from bridge.simulator import ProtocolFaults
from bridge.simulator.engine import PowerShellEngine
from bridge.simulator.wsman._shells import PowerShellShell
from bridge.stamp import EndpointAddress, Stamp
from tests.support.simulated_endpoint import ALLOWED, SimulatedEndpoint, simulated_endpoint
from tests.support.tcp_proxy import TcpProxy

OPTIONS = SessionOptions(
    connect_timeout_s=2, operation_timeout_s=1, read_timeout_s=3, reconnect_deadline_s=30, idle_timeout_s=3600
)
SMALL_BUFFER_BYTES = 4000
PATIENCE_S = 30.0
SHORT = SessionOptions(connect_timeout_s=1, operation_timeout_s=1, read_timeout_s=2, reconnect_deadline_s=2)


@pytest.fixture
def simulated() -> Iterator[SimulatedEndpoint]:
    with simulated_endpoint(client_lost_after_s=1.0) as endpoint:
        yield endpoint


def ticks(count: int, pause_ms: int = 10) -> Command:
    parameters: dict[str, Value] = {"Mode": "ticks", "Count": count, "PauseMs": pause_ms}
    return Command("Get-AzureStackLog", tuple(Parameter(name, value) for name, value in parameters.items()))


def every_tick(count: int) -> list[str]:
    return [*(f"tick {number}" for number in range(count)), "finished"]


def outputs(records: list[Record]) -> list[str]:
    return [record.text for record in records if record.stream is Stream.OUTPUT]


def warnings(records: list[Record]) -> list[str]:
    return [record.text for record in records if record.stream is Stream.WARNING]


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def running(simulated: SimulatedEndpoint) -> list[str]:
    return [command for shell in simulated.server.shells() for command in shell.commands]


def has_written_all(simulated: SimulatedEndpoint) -> bool:
    """Whether every command has ended, although nobody has taken what it wrote."""
    shells = [shell for shell in simulated.server._service.shells.values() if isinstance(shell, PowerShellShell)]
    return all(box._finished for shell in shells for name, box in shell._outboxes.items() if name)


def left(simulated: SimulatedEndpoint, command: Command) -> tuple[Pipeline, list[Record]]:
    """A pipeline that its client has left after the first records, and what that client got of it."""
    session = open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS)
    pipeline = session.start([command])
    got = []
    for record in pipeline.records():
        got.append(record)
        if len(got) == 5:
            pipeline.disconnect()
    session.close()
    assert pipeline.wait().state is PipelineState.DISCONNECTED
    return pipeline, got


def taken_back(simulated: SimulatedEndpoint, pipeline: Pipeline) -> list[Record]:
    again = attach(simulated.stamp, simulated.credential, pipeline.ids, options=OPTIONS, deadline_s=PATIENCE_S)
    records = list(again.records())
    again.session.close()
    assert again.wait().state is PipelineState.COMPLETED
    return records


def test_a_command_that_was_left_goes_on_to_its_end_although_its_buffer_is_full(simulated: SimulatedEndpoint) -> None:
    simulated.server.faults = ProtocolFaults(dropping_buffer_bytes=SMALL_BUFFER_BYTES)
    pipeline, got = left(simulated, ticks(200))
    assert [shell.buffer_mode for shell in simulated.server.shells()] == ["Drop"]
    eventually(lambda: has_written_all(simulated))  # nobody has come back, and it has ended all the same
    warning, *rest = taken_back(simulated, pipeline)
    late = outputs(rest)
    expected = every_tick(200)
    assert late == expected[-len(late) :], "the end is kept, without a gap"
    count = len(expected) - len(outputs(got)) - len(late)
    assert count > 1, "the buffer should have been too small for this test"
    assert warning.text.startswith(f"{count} records are missing here: nobody was connected")


def test_who_was_killed_before_it_wrote_down_how_far_the_records_came_leaves_that_unknown(
    simulated: SimulatedEndpoint,
) -> None:
    pipeline, got = left(simulated, ticks(200))
    unknown = replace(pipeline.ids, received=None)
    again = attach(simulated.stamp, simulated.credential, unknown, options=OPTIONS, deadline_s=PATIENCE_S)
    warning, *late = again.records()
    again.session.close()
    assert "it was not written down how far the records had come" in warning.text
    assert warnings(late) == []
    assert outputs(got + late) == every_tick(200)


def test_who_is_lost_after_it_attached_to_a_session_that_had_been_left_leaves_that_unknown(
    simulated: SimulatedEndpoint,
) -> None:
    """The mode Drop stays the shell's."""
    pipeline, _ = left(simulated, ticks(200))
    lost = attach(simulated.stamp, simulated.credential, pipeline.ids, options=OPTIONS, deadline_s=PATIENCE_S)
    next(lost.records())
    assert lost.ids.received is None, "what comes from now on is not counted by the old number"
    lost.session.abandon()
    lost.session.close()
    again = attach(simulated.stamp, simulated.credential, lost.ids, options=OPTIONS, deadline_s=PATIENCE_S)
    assert "it was not written down how far the records had come" in next(again.records()).text
    again.session.close()


def test_a_pipeline_that_is_left_again_and_again_lacks_nothing_and_nobody_is_alarmed(
    simulated: SimulatedEndpoint,
) -> None:
    pipeline, got = left(simulated, ticks(200, 5))
    while pipeline.wait().state is PipelineState.DISCONNECTED:
        pipeline = attach(simulated.stamp, simulated.credential, pipeline.ids, options=OPTIONS, deadline_s=PATIENCE_S)
        seen = len(got)
        for record in pipeline.records():
            got.append(record)
            if len(got) == seen + 60:
                pipeline.disconnect()
        pipeline.session.close()
    assert outputs(got) == every_tick(200)
    assert warnings(got) == []


@pytest.mark.engine
def test_a_real_powershell_numbers_its_messages_so_that_what_was_dropped_is_counted(pwsh: str) -> None:
    engine = PowerShellEngine(Path(pwsh))
    with simulated_endpoint(client_lost_after_s=1.0, engine=engine) as real:
        pipeline, got = left(real, ticks(100))
        eventually(lambda: has_written_all(real))
        whole = got + taken_back(real, pipeline)
        assert outputs(whole) == every_tick(100)
        assert warnings(whole) == []
        real.server.faults = ProtocolFaults(dropping_buffer_bytes=SMALL_BUFFER_BYTES)
        pipeline, got = left(real, ticks(100))
        eventually(lambda: has_written_all(real))
        late = taken_back(real, pipeline)
    (warning,) = warnings(late)
    count = len(every_tick(100)) - len(outputs(got + late))
    assert count > 1
    assert warning.startswith(f"{count} records are missing here: nobody was connected")


def test_a_drop_in_the_middle_of_a_message_costs_that_message_and_is_said(simulated: SimulatedEndpoint) -> None:
    simulated.server.faults = ProtocolFaults(dropping_buffer_bytes=150_000)  # a message of 100 KB has four fragments
    session = open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS)
    pipeline = session.start([Command("Get-AzureStackLog", (Parameter("Mode", "big"), Parameter("Count", 30)))])
    pipeline.disconnect()
    session.close()
    eventually(lambda: has_written_all(simulated))
    again = attach(simulated.stamp, simulated.credential, pipeline.ids, options=OPTIONS, deadline_s=PATIENCE_S)
    warning, damaged, *rest = again.records()
    again.session.close()
    assert warning.stream is Stream.WARNING
    assert "oldest records of that time are missing" in warning.text
    assert damaged.raw is not None
    assert [record.text.partition(" ")[0] for record in rest] == ["29", "finished"]
    assert again.wait().state is PipelineState.COMPLETED
    assert again.wait().unreadable == 1


def test_nothing_is_dropped_where_the_buffer_is_large_enough(simulated: SimulatedEndpoint) -> None:
    pipeline, got = left(simulated, ticks(200))
    eventually(lambda: has_written_all(simulated))
    whole = got + taken_back(simulated, pipeline)
    assert outputs(whole) == every_tick(200)
    assert warnings(whole) == []


def test_a_machine_that_blocks_whatever_it_is_asked_stalls_the_command_until_somebody_comes(
    simulated: SimulatedEndpoint,
) -> None:
    simulated.server.faults = ProtocolFaults(disconnected_buffer_bytes=SMALL_BUFFER_BYTES)
    pipeline, got = left(simulated, ticks(200, 1))
    time.sleep(2)
    assert running(simulated), "it should stand still"
    whole = got + taken_back(simulated, pipeline)
    assert outputs(whole) == every_tick(200)
    assert warnings(whole) == []


def test_a_client_that_vanished_finds_everything_for_its_session_blocks(simulated: SimulatedEndpoint) -> None:
    simulated.server.faults = ProtocolFaults(dropping_buffer_bytes=SMALL_BUFFER_BYTES)
    with TcpProxy(simulated.server.host, simulated.server.port) as proxy:
        stamp = Stamp("test-stamp", (EndpointAddress("AzS-ERCS01", proxy.host, proxy.port),))
        session = open_session(stamp, simulated.credential, allow=ALLOWED, options=OPTIONS)
        pipeline = session.start([ticks(200, 5)])
        records = pipeline.records()
        got = [next(records) for _ in range(5)]
        proxy.refuse()
        proxy.reset()
        session.abandon()
        with pytest.raises(SessionLostError):
            got.extend(records)
        session.close()
    eventually(lambda: not simulated.server.shells()[0].connected)
    assert [shell.buffer_mode for shell in simulated.server.shells()] == ["Block"]
    late = taken_back(simulated, pipeline)
    assert outputs(got + late) == every_tick(200)
    assert [record for record in late if record.stream is Stream.WARNING] == []


def test_an_endpoint_that_does_not_know_the_buffer_mode_is_left_all_the_same(
    simulated: SimulatedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.endpoint._session._WHILE_LEFT", "Sideways")
    pipeline, got = left(simulated, ticks(100))
    assert [shell.buffer_mode for shell in simulated.server.shells()] == ["Block"]
    assert outputs(got + taken_back(simulated, pipeline)) == every_tick(100)


@contextmanager
def hung_client(simulated: SimulatedEndpoint) -> Iterator[tuple[Pipeline, list[Record], TcpProxy, list[Exception]]]:
    """A client that reads a long command; its line can be stalled, which is how a hung process looks from outside."""
    events: list[LineEvent] = []
    got: list[Record] = []
    errors: list[Exception] = []
    with TcpProxy(simulated.server.host, simulated.server.port) as proxy:
        stamp = Stamp("test-stamp", (EndpointAddress("AzS-ERCS01", proxy.host, proxy.port),))
        patient = SessionOptions(operation_timeout_s=1, read_timeout_s=60, idle_timeout_s=3600)
        session = open_session(stamp, simulated.credential, allow=ALLOWED, options=patient, on_line=events.append)
        pipeline = session.start([ticks(400, 10)])

        def read() -> None:
            try:
                got.extend(pipeline.records())
            except SessionLostError as error:
                errors.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            eventually(lambda: got)
            yield pipeline, got, proxy, errors
        finally:
            proxy.stall(False)
            session.abandon()
            proxy.reset()
            reader.join()
            session.close()


def test_who_attaches_waits_while_the_old_client_still_receives_and_gets_in_once_it_has_left(
    simulated: SimulatedEndpoint,
) -> None:
    told: list[LineEvent] = []
    with hung_client(simulated) as (pipeline, got, _, errors):
        leaver = threading.Timer(4.0, pipeline.disconnect)
        leaver.start()
        again = attach(
            simulated.stamp,
            simulated.credential,
            pipeline.ids,
            options=OPTIONS,
            deadline_s=PATIENCE_S,
            on_line=told.append,
        )
        late = list(again.records())
        again.session.close()
        leaver.join()
    assert any("another client still holds the session" in event.detail for event in told)
    assert outputs(got + late) == every_tick(400)
    assert errors == []


def test_a_hung_client_is_replaced_and_takes_no_record_when_it_wakes_up(simulated: SimulatedEndpoint) -> None:
    with hung_client(simulated) as (pipeline, got, proxy, errors):
        proxy.stall()
        again = attach(simulated.stamp, simulated.credential, pipeline.ids, options=OPTIONS, deadline_s=PATIENCE_S)
        records = again.records()
        late = [next(records) for _ in range(20)]
        proxy.stall(False)
        eventually(lambda: errors)
        late += list(records)
        again.session.close()
    assert "2150859213" in str(errors[0])
    assert outputs(got + late) == every_tick(400)


def test_the_idle_time_out_that_was_asked_for_is_the_shells(simulated: SimulatedEndpoint) -> None:
    with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
        assert [shell.idle_timeout_s for shell in simulated.server.shells()] == [3600]
        assert session.ids.idle_timeout_s == 3600


def test_a_machine_that_allows_less_idle_time_gives_a_session_and_says_how_much() -> None:
    with simulated_endpoint(max_idle_timeout_s=1800, idle_timeout_s=1200) as simulated:
        with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
            assert [shell.idle_timeout_s for shell in simulated.server.shells()] == [1200]
            assert session.ids.idle_timeout_s == 1200


def test_more_idle_time_than_windows_grants_is_not_asked_for(simulated: SimulatedEndpoint) -> None:
    long, told = replace(OPTIONS, idle_timeout_s=60_000), list[LineEvent]()
    with open_session(
        simulated.stamp, simulated.credential, allow=ALLOWED, options=long, on_line=told.append
    ) as session:
        assert [shell.idle_timeout_s for shell in simulated.server.shells()] == [43_200]
        assert session.ids.idle_timeout_s == 43_200
    assert "for 720 minutes only" in told[0].detail


def test_a_session_with_a_longer_idle_time_outlives_the_machines_own(simulated: SimulatedEndpoint) -> None:
    with simulated_endpoint(idle_timeout_s=0.5) as quick:
        pipeline, got = left(quick, ticks(300))
        time.sleep(2)
        assert outputs(got + taken_back(quick, pipeline)) == every_tick(300)


def through(proxy: TcpProxy) -> Stamp:
    return Stamp("test-stamp", (EndpointAddress("AzS-ERCS01", proxy.host, proxy.port),))


def read_to_the_end(pipeline: Pipeline) -> threading.Thread:
    def read() -> None:
        try:
            pipeline.wait()
        except SessionLostError:
            return

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def test_a_stop_while_the_line_is_away_for_a_moment_stops_the_pipeline_and_leaves_no_shell(
    simulated: SimulatedEndpoint,
) -> None:
    with TcpProxy(simulated.server.host, simulated.server.port) as proxy:
        with open_session(through(proxy), simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
            pipeline = session.start([ticks(100_000)])
            reader = read_to_the_end(pipeline)
            proxy.refuse()
            proxy.reset()
            back = threading.Timer(3.0, proxy.refuse, (False,))
            back.start()
            pipeline.stop()
            reader.join()
            back.join()
            assert pipeline.wait().state is PipelineState.STOPPED
    assert simulated.server.shells() == []


def test_a_stop_that_cannot_be_told_says_so_and_is_made_up_for_by_ending_the_session_later(
    simulated: SimulatedEndpoint,
) -> None:
    with TcpProxy(simulated.server.host, simulated.server.port) as proxy:
        session = open_session(through(proxy), simulated.credential, allow=ALLOWED, options=SHORT)
        pipeline = session.start([ticks(100_000)])
        reader = read_to_the_end(pipeline)
        proxy.refuse()
        proxy.reset()
        with pytest.raises(SessionLostError):
            pipeline.stop()
        session.abandon()
        reader.join()
        session.close()
        assert running(simulated)
        with pytest.raises(EndpointUnreachableError):
            end_session(through(proxy), simulated.credential, pipeline.ids, options=SHORT)
        proxy.refuse(False)
        end_session(through(proxy), simulated.credential, pipeline.ids, options=SHORT)
        assert simulated.server.shells() == []
        end_session(through(proxy), simulated.credential, pipeline.ids, options=SHORT)  # again: no error


def stop_on_a_dead_machine(simulated: SimulatedEndpoint) -> tuple[EndpointSession, Pipeline, Iterator[Record]]:
    """A session with a command at work, whose stop could not be sent."""
    session = open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=SHORT)
    pipeline = session.start([ticks(100_000)])
    records = pipeline.records()
    next(records)
    simulated.server.kill()
    with pytest.raises(SessionLostError):
        pipeline.stop()
    return session, pipeline, records


def test_a_stop_on_a_machine_that_died_ends_at_the_deadline_and_on_one_that_is_back_at_once(
    simulated: SimulatedEndpoint,
) -> None:
    session, pipeline, records = stop_on_a_dead_machine(simulated)
    simulated.server.revive()
    pipeline.stop()  # the machine no longer knows it: nothing to stop, no error
    list(records)
    assert pipeline.wait().state is PipelineState.STOPPED
    session.close()
    end_session(simulated.stamp, simulated.credential, pipeline.ids, options=SHORT)
    assert simulated.server.shells() == []
    with pytest.raises(SessionGoneError):
        attach(simulated.stamp, simulated.credential, pipeline.ids, options=SHORT, deadline_s=5)


def test_a_session_that_is_left_while_its_command_ends_is_closed(simulated: SimulatedEndpoint) -> None:
    """Who leaves and the last record may meet; then nobody has a reason to come back."""
    session = open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS)
    pipeline = session.start([ticks(1)])
    for record in pipeline.records():
        if record.text == "finished":
            eventually(lambda: has_written_all(simulated))
            session.disconnect()
    assert pipeline.wait().state is PipelineState.COMPLETED
    session.close()
    assert simulated.server.shells() == []


def test_a_session_whose_command_has_ended_and_was_forgotten_is_ended_by_who_attaches(
    simulated: SimulatedEndpoint,
) -> None:
    session = open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS)
    pipeline = session.start([ticks(1)])
    pipeline.wait()
    session.abandon()  # killed between the command's end and the session's
    session.close()
    assert len(simulated.server.shells()) == 1
    with pytest.raises(SessionGoneError):
        attach(simulated.stamp, simulated.credential, pipeline.ids, options=OPTIONS, deadline_s=PATIENCE_S)
    assert simulated.server.shells() == []


def test_a_session_that_ends_after_a_stop_that_could_not_be_sent_was_not_stopped(
    simulated: SimulatedEndpoint,
) -> None:
    session, _, records = stop_on_a_dead_machine(simulated)
    simulated.server.revive()  # without its sessions
    with pytest.raises(SessionGoneError):
        list(records)
    session.close()
