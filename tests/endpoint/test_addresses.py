"""A session outlives a change of address: its endpoint's, its own."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.endpoint import Command, LineEvent, LineState, Parameter, SessionOptions, Stream, open_session
from bridge.errors import SessionLostError
from bridge.stamp import EndpointAddress, Stamp
from tests.support.simulated_endpoint import ALLOWED, SimulatedEndpoint, simulated_endpoint
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="127.0.0.2 has to be configured there")
OPTIONS = SessionOptions(
    connect_timeout_s=2, operation_timeout_s=2, read_timeout_s=4, reconnect_deadline_s=60, idle_timeout_s=3600
)
NAME = "azs-ercs01.stamp.test"
TICKS = 80


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimulatedEndpoint]:
    with simulated_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What names mean, to be changed at any time."""
    known: dict[str, str] = {}
    ask = socket.getaddrinfo

    def answer(host: Any, *rest: Any, **more: Any) -> Any:
        return ask(known.get(host, host), *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return known


def ticks() -> Command:
    return Command("Get-AzureStackLog", (Parameter("Mode", "ticks"), Parameter("Count", TICKS)))


def every_tick() -> list[str]:
    return [*(f"tick {number}" for number in range(TICKS)), "finished"]


def test_a_name_that_comes_to_mean_another_address_is_followed_and_no_record_is_lost_or_doubled(
    simulated: SimulatedEndpoint, addresses: dict[str, str]
) -> None:
    target = (simulated.server.host, simulated.server.port)
    events: list[LineEvent] = []
    with TcpProxy(*target, listen_on=("127.0.0.2", 0)) as old:
        with TcpProxy(*target, listen_on=("127.0.0.3", old.port)) as new:
            addresses[NAME] = old.host
            stamp = Stamp("test-stamp", (EndpointAddress("AzS-ERCS01", NAME, old.port),))
            with open_session(
                stamp, simulated.credential, allow=ALLOWED, options=OPTIONS, on_line=events.append
            ) as session:
                texts = []
                for record in session.start([ticks()]).records():
                    texts += [record.text] if record.stream is Stream.OUTPUT else []
                    if record.text == "tick 20":
                        assert new.connections == 0
                        old.refuse()
                        old.reset()
                        move = threading.Timer(1.0, addresses.update, ({NAME: new.host},))
                        move.start()
                move.join()
                assert texts == every_tick()
                assert new.connections > 0
            assert b"multipart/encrypted" in old.heard
            assert b"multipart/encrypted" in new.heard
    assert [event.state for event in events if event.state is LineState.LOST] == []


def test_a_client_that_comes_back_from_another_address_has_its_session(simulated: SimulatedEndpoint) -> None:
    with TcpProxy(simulated.server.host, simulated.server.port) as proxy:
        stamp = Stamp("test-stamp", (EndpointAddress("AzS-ERCS01", proxy.host, proxy.port),))
        with open_session(stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
            before = simulated.server.clients()
            texts = []
            for record in session.start([ticks()]).records():
                texts += [record.text] if record.stream is Stream.OUTPUT else []
                if record.text == "tick 20":
                    proxy.source = "127.0.0.77"
                    proxy.reset()
            assert texts == every_tick()
            assert before == {"127.0.0.1"}
            assert simulated.server.clients() == {"127.0.0.77"}


def test_a_name_that_comes_to_mean_a_machine_without_the_session_ends_at_its_deadline_with_what_to_do(
    simulated: SimulatedEndpoint, addresses: dict[str, str]
) -> None:
    short = SessionOptions(connect_timeout_s=1, operation_timeout_s=1, read_timeout_s=2, reconnect_deadline_s=3)
    with TcpProxy(simulated.server.host, simulated.server.port, listen_on=("127.0.0.2", 0)) as old:
        addresses[NAME] = old.host
        stamp = Stamp("test-stamp", (EndpointAddress("AzS-ERCS01", NAME, old.port),))
        with open_session(stamp, simulated.credential, allow=ALLOWED, options=short) as session:
            records = session.start([ticks()]).records()
            next(records)
            addresses[NAME] = "127.0.0.9"  # nobody listens there
            old.reset()
            with pytest.raises(SessionLostError, match="refused") as caught:
                list(records)
            assert "attach" in caught.value.advice
            addresses[NAME] = old.host
