"""What stands between client and endpoint answers in its place: pages of http.sys, of gateways, of printers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from bridge.endpoint import Command, Parameter, SessionIds, SessionOptions, Stream, attach, end_session, open_session
from bridge.errors import CommandUncertainError, EndpointError
from bridge.simulator.wsman._soap import Reply
from bridge.stamp import EndpointAddress, Stamp
from tests.support.simulated_endpoint import ALLOWED, SimulatedEndpoint, simulated_endpoint
from tests.support.tcp_proxy import TcpProxy

OPTIONS = SessionOptions(
    connect_timeout_s=2,
    operation_timeout_s=1,
    read_timeout_s=3,
    answer_timeout_s=5,
    reconnect_deadline_s=20,
    idle_timeout_s=3600,
)
TICKS = 60
HTTP_SYS = (
    b'<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN""http://www.w3.org/TR/html4/strict.dtd">\r\n'
    b"<HTML><HEAD><TITLE>Service Unavailable</TITLE></HEAD>\r\n"
    b"<BODY><h2>Service Unavailable</h2>\r\n<hr><p>HTTP Error 503. The service is unavailable.</p>\r\n"
    b"</BODY></HTML>\r\n"
)
GATEWAY = "<html><p>502 from a gateway"


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimulatedEndpoint]:
    with simulated_endpoint(client_lost_after_s=30, max_shells_per_user=50) as endpoint:
        yield endpoint


def ticks() -> Command:
    return Command("Get-AzureStackLog", (Parameter("Mode", "ticks"), Parameter("Count", TICKS)))


def every_tick() -> list[str]:
    return [*(f"tick {number}" for number in range(TICKS)), "finished"]


@pytest.mark.parametrize("status", ["503 Service Unavailable", "400 Bad Request", "502 Bad Gateway"])
def test_the_page_of_a_service_that_is_down_is_a_broken_line_and_not_the_end(
    simulated: SimulatedEndpoint, status: str
) -> None:
    """Windows' own page for a WinRM that restarts has a document type."""

    def speech() -> Iterable[bytes]:
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=us-ascii\r\nServer: Microsoft-HTTPAPI/2.0\r\n"
        yield f"{head}Connection: close\r\nContent-Length: {len(HTTP_SYS)}\r\n\r\n".encode() + HTTP_SYS

    with TcpProxy(simulated.server.host, simulated.server.port) as proxy:
        stamp = Stamp("test-stamp", (EndpointAddress("AzS-ERCS01", proxy.host, proxy.port),))
        with open_session(stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
            records = session.start([ticks()]).records()
            got = [next(records) for _ in range(5)]
            proxy.answer_with(speech)
            proxy.reset()

            def back() -> None:
                proxy.answer_with(None)
                proxy.reset()

            soon = threading.Timer(1.0, back)
            soon.start()
            got.extend(records)
            soon.join()
    assert [record.text for record in got if record.stream is Stream.OUTPUT] == every_tick()


@pytest.fixture
def arrived() -> list[str]:
    """The actions that reached the endpoint although a gateway answered."""
    return []


@pytest.fixture
def gateway(
    simulated: SimulatedEndpoint, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, arrived: list[str]
) -> Iterator[set[str]]:
    """Requests of these actions reach the endpoint, and their answers are a gateway's."""
    actions: set[str] = set()
    honest: Any = simulated.server._service.handle
    status = getattr(request, "param", 200)
    monkeypatch.setattr("bridge.endpoint._answers._HTTP_SYS", "what the simulator, whose answers these are, is not")

    async def handle(request: Any, caller: Any) -> Any:
        answer = await honest(request, caller)
        action = request.action.rsplit("/", 1)[-1]
        if action not in actions:
            return answer
        arrived.append(action)
        return Reply(GATEWAY, status=status)

    monkeypatch.setattr(simulated.server._service, "handle", handle)
    yield actions
    actions.clear()


@pytest.mark.parametrize("gateway", [200, 403, 502, 503], indirect=True)
def test_a_command_whose_answer_a_gateway_gave_is_found_at_work_and_not_sent_again(
    simulated: SimulatedEndpoint, gateway: set[str], arrived: list[str]
) -> None:
    with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
        gateway.add("Command")
        pipeline = session.start([ticks()])
        gateway.clear()
        texts = [record.text for record in pipeline.records() if record.stream is Stream.OUTPUT]
    assert texts == every_tick()
    assert arrived == ["Command"]


@pytest.mark.parametrize("gateway", [502, 503], indirect=True)
def test_a_session_whose_opening_a_gateway_answered_is_not_left_behind(
    simulated: SimulatedEndpoint, gateway: set[str]
) -> None:
    forgotten: list[SessionIds] = []
    gateway.add("Create")
    with pytest.raises(EndpointError):
        open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS, not_opened=forgotten.append)
    assert simulated.server.shells() == []
    assert forgotten == []


@pytest.mark.slow
def test_a_command_that_nobody_can_ask_about_is_not_said_not_to_run(
    simulated: SimulatedEndpoint, gateway: set[str]
) -> None:
    session = open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS)
    sent: list[SessionIds] = []
    gateway.update({"Command", "Receive"})
    with pytest.raises(CommandUncertainError):
        session.start([ticks()], before_send=sent.append)
    gateway.clear()
    session.abandon()
    session.close()
    again = attach(simulated.stamp, simulated.credential, sent[0], options=OPTIONS)
    texts = [record.text for record in again.records() if record.stream is Stream.OUTPUT]
    again.session.close()
    assert texts[-1] == "finished"


def test_a_command_whose_session_ended_before_its_answer_came_is_not_said_not_to_run(
    simulated: SimulatedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had begun may outlive its session."""
    session = open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS)
    honest: Any = simulated.server._service.handle
    ended: list[str] = []

    async def handle(request: Any, caller: Any) -> Any:
        answer = await honest(request, caller)
        if request.action.endswith("/Command") and not ended:
            ended.append(request.action)
            await asyncio.to_thread(end_session, simulated.stamp, simulated.credential, session.ids, options=OPTIONS)
            return Reply(GATEWAY)
        return answer

    monkeypatch.setattr(simulated.server._service, "handle", handle)
    with pytest.raises(CommandUncertainError):
        session.start([ticks()])
    assert ended
    session.abandon()
    session.close()
