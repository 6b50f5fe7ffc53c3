"""A broken or hostile endpoint costs neither memory nor a night: a clear error, and the session can be had back."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Iterator

import pytest

from bridge.endpoint import (
    Command,
    Parameter,
    PipelineState,
    Record,
    SessionOptions,
    Stream,
    attach,
    identify,
    open_session,
)
from bridge.endpoint._messages import MAX_MESSAGE_BYTES, MessageType
from bridge.errors import BridgeError, EndpointUnreachableError, ExitCode, SessionLostError
from bridge.stamp import EndpointAddress, Stamp
from tests.support import hostile_endpoint as hostile
from tests.support.simulated_endpoint import ALLOWED, SimulatedEndpoint, simulated_endpoint
from tests.support.tcp_proxy import TcpProxy

OPTIONS = SessionOptions(
    connect_timeout_s=2,
    operation_timeout_s=1,
    read_timeout_s=3,
    answer_timeout_s=2,
    reconnect_deadline_s=5,
    idle_timeout_s=3600,
)
MOST_BYTES = 64 << 20
TICKS = 60

ENDLESS = [
    hostile.endless_header,
    hostile.endless_headers,
    hostile.trickled_head,
    hostile.huge_announcement,
    hostile.endless_body,
    hostile.body_until_the_end_of_time,
    hostile.trickled_body,
    hostile.answer_in_clear,
]
Speech = Callable[[], Iterable[bytes]]


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimulatedEndpoint]:
    with simulated_endpoint(client_lost_after_s=0.5, max_shells_per_user=50) as endpoint:
        yield endpoint


@pytest.fixture
def proxy(simulated: SimulatedEndpoint) -> Iterator[TcpProxy]:
    with TcpProxy(simulated.server.host, simulated.server.port) as between:
        yield between


@pytest.fixture
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def ticks() -> Command:
    return Command("Get-AzureStackLog", (Parameter("Mode", "ticks"), Parameter("Count", TICKS)))


def every_tick() -> list[str]:
    return [*(f"tick {number}" for number in range(TICKS)), "finished"]


def outputs(records: list[Record]) -> list[str]:
    return [record.text for record in records if record.stream is Stream.OUTPUT and record.raw is None]


@pytest.mark.parametrize("speech", ENDLESS, ids=lambda speech: str(speech.__name__))
def test_a_machine_that_answers_so_from_the_beginning_gives_no_session_and_the_next_is_tried(
    simulated: SimulatedEndpoint, proxy: TcpProxy, little_memory: None, speech: Speech
) -> None:
    proxy.answer_with(speech)
    good = simulated.stamp.endpoints[0]
    bad = EndpointAddress("AzS-ERCS09", proxy.host, proxy.port)
    with pytest.raises(EndpointUnreachableError) as caught:
        open_session(Stamp("test-stamp", (bad,)), simulated.credential, allow=ALLOWED, options=OPTIONS)
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    with open_session(Stamp("two", (bad, good)), simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
        assert session.endpoint.name == good.name


@pytest.mark.parametrize("speech", ENDLESS, ids=lambda speech: str(speech.__name__))
def test_a_line_on_which_somebody_answers_so_ends_with_a_lost_session_that_can_be_had_back(
    simulated: SimulatedEndpoint, proxy: TcpProxy, little_memory: None, speech: Speech
) -> None:
    stamp = Stamp("test-stamp", (EndpointAddress("AzS-ERCS01", proxy.host, proxy.port),))
    session = open_session(stamp, simulated.credential, allow=ALLOWED, options=OPTIONS)
    pipeline = session.start([ticks()])
    records = pipeline.records()
    got = [next(records) for _ in range(5)]
    proxy.answer_with(speech)
    proxy.reset()
    with pytest.raises(SessionLostError) as caught:
        got.extend(records)
    assert "attach" in caught.value.advice
    session.abandon()
    session.close()
    again = attach(simulated.stamp, simulated.credential, pipeline.ids, options=OPTIONS, deadline_s=30)
    late = list(again.records())
    again.session.close()
    assert outputs(late)[-1] == "finished"
    assert len(set(outputs(got + late))) == len(outputs(got + late))


@pytest.mark.parametrize("speech", ENDLESS[:-1], ids=lambda speech: str(speech.__name__))
def test_who_only_asks_what_a_machine_is_gets_an_error_too(
    proxy: TcpProxy, little_memory: None, speech: Speech
) -> None:
    proxy.answer_with(speech)
    with pytest.raises(EndpointUnreachableError):
        identify(EndpointAddress("AzS-ERCS09", proxy.host, proxy.port), timeout_s=1)


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
UNUSABLE: dict[str, tuple[hostile.OutputAnswer, str]] = {
    "entities": (hostile.whole(f"{ENTITIES}<s>&b;</s>"), "document type"),
    "entities in another encoding": (
        hostile.whole(hostile.raw(f"{ENTITIES}<s>&b;</s>".encode("utf-16"))),
        "utf-8",
    ),
    "no UTF-8": (hostile.whole(hostile.raw(b"<s>\xff\xfe\xfa</s>")), "utf-8"),
    "five megabytes": (hostile.whole(" " * (5 << 20)), "bytes"),
    "no XML": (hostile.whole("<html><p>a printer"), "WS-Management"),
    "nothing": (hostile.whole(""), "WS-Management"),
    "no body": (hostile.in_place_of("s:Body", "s:Nobody"), "WS-Management"),
    "another request's": (hostile.in_place_of("RelatesTo>", "RelatesTo>x"), ""),
    "a stream without a name": (hostile.in_place_of(' Name="stdout"', ""), "cannot be read"),
    "a stream that was not asked for": (hostile.in_place_of('Name="stdout"', 'Name="stderr"'), "cannot be read"),
    "no base64": (hostile.in_place_of("ZGF0YQ==", "ZGF0Y"), "cannot be read"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_answer_that_is_no_answer_loses_the_session_with_the_reason_and_costs_no_other_record(
    simulated: SimulatedEndpoint, little_memory: None, name: str
) -> None:
    reply, reason = UNUSABLE[name]
    session = open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS)
    pipeline = session.start([ticks()])
    records = pipeline.records()
    got = [next(records) for _ in range(5)]
    with hostile.answering_instead(simulated.server, [reply] * 50):
        with pytest.raises(SessionLostError, match=f"(?i){reason}") as caught:
            got.extend(records)
    assert isinstance(caught.value, BridgeError)
    session.abandon()
    session.close()
    again = attach(simulated.stamp, simulated.credential, pipeline.ids, options=OPTIONS, deadline_s=30)
    got += list(again.records())
    again.session.close()
    assert outputs(got) == every_tick()


OUTPUT, STATE = int(MessageType.PIPELINE_OUTPUT), int(MessageType.PIPELINE_STATE)
OWN = 1 << 40  # ids that the simulator does not use
STRING = hostile.message(OUTPUT, "<S>mine</S>")
LIST = hostile.message(OUTPUT, '<Obj RefId="0"><TN RefId="0"><T>X</T></TN><LST><S>mine</S></LST></Obj>')
FRAGMENTS: dict[str, tuple[list[bytes], list[str], int]] = {
    # fragments, what is read of them, how much of it cannot be read
    "a size of four gigabytes": ([hostile.fragment(OWN, 0, 3, b"x", claimed=0xFFFFFFFF)], [], 1),
    "an end without a beginning": ([hostile.fragment(OWN, 1, 2, STRING)], [], 1),
    "the wrong order": (
        [
            hostile.fragment(OWN, 0, 1, STRING[:9]),
            hostile.fragment(OWN, 2, 2, STRING[20:]),
            hostile.fragment(OWN, 1, 0, STRING[9:20]),
        ],
        [],
        1,
    ),
    "every fragment twice": (
        [
            hostile.fragment(OWN, 0, 1, STRING[:9]),
            hostile.fragment(OWN, 0, 1, STRING[:9]),
            hostile.fragment(OWN, 1, 0, STRING[9:20]),
            hostile.fragment(OWN, 1, 0, STRING[9:20]),
            hostile.fragment(OWN, 2, 2, STRING[20:]),
            hostile.fragment(OWN, 2, 2, STRING[20:]),
        ],
        ["mine"],
        0,
    ),
    "a message twice": ([hostile.fragment(OWN, 0, 3, STRING)] * 2, ["mine"], 0),
    "no message": ([hostile.fragment(OWN, 0, 3, b"short")], [], 1),
    "a list": ([hostile.fragment(OWN, 0, 3, LIST)], ["mine"], 0),
    "an error without an exception": (
        [hostile.fragment(OWN, 0, 3, hostile.message(int(MessageType.ERROR_RECORD), "<S>just text</S>"))],
        [],
        0,
    ),
    "progress that is a number": (
        [hostile.fragment(OWN, 0, 3, hostile.message(int(MessageType.PROGRESS_RECORD), "<I32>7</I32>"))],
        [],
        0,
    ),
    "a protocol message in the middle": (
        [hostile.fragment(OWN, 0, 3, hostile.message(int(MessageType.SESSION_CAPABILITY), "<S>no capability</S>"))],
        [],
        1,
    ),
    "a session key that is none": (
        [hostile.fragment(OWN, 0, 3, hostile.message(int(MessageType.ENCRYPTED_SESSION_KEY), "<S>key</S>"))],
        [],
        1,
    ),
    "a lone surrogate": ([hostile.fragment(OWN, 0, 3, hostile.message(OUTPUT, "<S>\ud800</S>"))], ["\\ud800"], 0),
    "bytes that are no UTF-8": (
        [hostile.fragment(OWN, 0, 3, hostile.message(OUTPUT, "").ljust(41, b"\xff"))],
        [],
        1,
    ),
}


@pytest.mark.parametrize("name", FRAGMENTS)
def test_fragments_that_lie_cost_their_own_message_and_nothing_else(
    simulated: SimulatedEndpoint, little_memory: None, name: str
) -> None:
    parts, read, unreadable = FRAGMENTS[name]
    with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
        pipeline = session.start([ticks()])
        records = pipeline.records()
        got = [next(records) for _ in range(5)]
        with hostile.answering_instead(simulated.server, [hostile.fragments(*parts)]):
            got.extend(records)
    outcome = pipeline.wait()
    assert outcome.state is PipelineState.COMPLETED
    assert outcome.unreadable == unreadable
    ours = [text for text in outputs(got) if not text.startswith(("tick", "finished"))]
    assert ours == read
    assert [text for text in outputs(got) if text not in ours] == every_tick()


@pytest.mark.parametrize(
    "state", ["<S>Completed</S>", '<Obj RefId="0"><MS><S N="PipelineState">4</S></MS></Obj>', "<Obj", ""]
)
def test_an_end_that_cannot_be_read_fails_the_pipeline_and_says_so(simulated: SimulatedEndpoint, state: str) -> None:
    with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
        pipeline = session.start([ticks()])
        with hostile.answering_instead(
            simulated.server, [hostile.fragments(hostile.fragment(OWN, 0, 3, hostile.message(STATE, state)))]
        ):
            list(pipeline.records())
        outcome = pipeline.wait()
        if state:
            assert outcome.state is PipelineState.FAILED
            assert outcome.error is not None
            assert "could not be read" in outcome.error.message
        else:
            assert outcome.state is PipelineState.COMPLETED  # an empty message says nothing


def test_messages_of_which_the_end_never_comes_are_kept_up_to_a_bound(
    simulated: SimulatedEndpoint, little_memory: None
) -> None:
    part = b"x" * 90_000
    flood = [
        hostile.fragments(*(hostile.fragment(OWN + number, 0, 1, part) for number in range(step * 3, step * 3 + 3)))
        for step in range(5 * MAX_MESSAGE_BYTES // (4 * 3 * len(part)))
    ]
    with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
        pipeline = session.start([ticks()])
        with hostile.answering_instead(simulated.server, flood):
            records = list(pipeline.records())
    assert outputs(records) == every_tick()
    assert pipeline.wait().unreadable > 0
