"""A session with the simulated endpoint, over real NTLM and sealing: streamed, refused, stopped, left, taken up."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

import pytest

from bridge.endpoint import (
    Command,
    EndpointSession,
    Parameter,
    Pipeline,
    PipelineState,
    Record,
    SessionIds,
    SessionOptions,
    Stream,
    attach,
    list_commands,
    open_session,
)
from bridge.errors import (
    AuthenticationFailedError,
    CommandFailedError,
    CommandNotAllowedError,
    CommandNotFoundError,
    ExitCode,
    NoSuchConfigurationError,
    ParameterRejectedError,
    SessionGoneError,
    StampBusyError,
)
from bridge.secrets import Credential, Secret
from bridge.stamp import Stamp
from tests.support.simulated_endpoint import ALLOWED, SimulatedEndpoint, simulated_endpoint, stamp_of

OPTIONS = SessionOptions(operation_timeout_s=2, read_timeout_s=10, reconnect_deadline_s=60)
LOG = "Get-AzureStackLog"


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimulatedEndpoint]:
    with simulated_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def session(simulated: SimulatedEndpoint) -> Iterator[EndpointSession]:
    with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, verb="test", options=OPTIONS) as opened:
        yield opened


def log(mode: str, *parameters: Parameter) -> Command:
    return Command(LOG, (Parameter("Mode", mode), *parameters))


def ticks(count: int, pause_ms: int = 20) -> Command:
    return log("ticks", Parameter("Count", count), Parameter("PauseMs", pause_ms))


def outputs(records: list[Record]) -> list[str]:
    return [record.text for record in records if record.stream is Stream.OUTPUT]


def test_every_stream_arrives_and_is_counted(session: EndpointSession) -> None:
    pipeline = session.start([log("ok")])
    streams = [record.stream for record in pipeline.records()]
    assert set(streams) >= {Stream.VERBOSE, Stream.PROGRESS, Stream.WARNING, Stream.INFORMATION, Stream.OUTPUT}
    outcome = pipeline.outcome
    assert outcome is not None
    assert outcome.state is PipelineState.COMPLETED
    assert sum(outcome.counts.values()) == len(streams)


def test_records_arrive_while_the_command_runs(session: EndpointSession) -> None:
    pipeline = session.start([ticks(20, 100)])
    next(pipeline.records())
    assert pipeline.outcome is None
    pipeline.stop()
    assert pipeline.wait().state is PipelineState.STOPPED


def test_typed_parameters_reach_the_command(session: EndpointSession) -> None:
    records = session.run(
        [
            log(
                "types",
                Parameter("OutputSharePath", "\\\\nas\\dröp \U0001f600"),
                Parameter("-FilterByRole"),
                Parameter(None, ("ACS", "ECE")),
                Parameter("FromDate", datetime(2024, 3, 12, 8, 0, tzinfo=UTC)),
                Parameter("-IncludeDumpFile"),
            )
        ]
    )
    seen = dict(line.split("=", 1) for line in outputs(records))
    assert seen["OutputSharePath"] == "\\\\nas\\dröp \U0001f600"
    assert seen["FilterByRole"] == "['ACS', 'ECE']"
    assert datetime.fromisoformat(seen["FromDate"]) == datetime(2024, 3, 12, 8, 0, tzinfo=UTC)
    assert seen["IncludeDumpFile"] == "True"


def test_a_credential_goes_through_the_session_key(session: EndpointSession) -> None:
    credential = Credential("CORP\\svc", Secret("pässwört-1"))
    for _ in range(2):  # the key is asked for once
        records = session.run([log("cred", Parameter("OutputShareCredential", credential))])
        assert outputs(records) == ["user=CORP\\svc pwlen=10"]


def test_a_broken_file_name_does_not_end_the_session(session: EndpointSession) -> None:
    assert outputs(session.run([log("surrogate")])) == ["broken \\ud800 name", "after"]


def test_ten_thousand_objects_arrive_in_order(session: EndpointSession) -> None:
    records = session.run([Command("Write-Many", (Parameter("Count", 10_000),))])
    assert [record.data["Bytes"] for record in records] == list(range(1, 10_001))


def test_a_command_beside_the_list_is_refused_before_anything_is_sent(
    simulated: SimulatedEndpoint, session: EndpointSession
) -> None:
    with pytest.raises(CommandNotAllowedError, match="'test'"):
        session.start([log("ok"), Command("Stop-AzureStack")])
    assert outputs(session.run([log("nonterm")])) == ["after"]


def test_a_terminating_error_comes_as_the_last_record_and_as_an_error(session: EndpointSession) -> None:
    pipeline = session.start([log("term")])
    records = list(pipeline.records())
    assert records[-1].error is not None
    assert records[-1].error.terminating
    outcome = pipeline.wait()
    assert outcome.state is PipelineState.FAILED
    with pytest.raises(CommandFailedError, match="cannot reach share"):
        outcome.raise_for_failure()


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (Command("Get-NoSuchThing"), CommandNotFoundError),
        (Command(LOG, (Parameter("NoSuch", 1),)), ParameterRejectedError),
        (Command(LOG, (Parameter("FromDate", "notadate"),)), ParameterRejectedError),
    ],
)
def test_what_the_endpoint_refuses_exits_with_not_permitted(
    session: EndpointSession, command: Command, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        session.run([command])
    assert getattr(caught.value, "exit_code", None) is ExitCode.NOT_PERMITTED


def test_several_statements_run_in_one_request(session: EndpointSession) -> None:
    first = Command(LOG, (Parameter("Mode", "nonterm"),), end_of_statement=True)
    records = session.run([first, log("surrogate")])
    assert outputs(records) == ["after", "broken \\ud800 name", "after"]


def test_a_second_command_waits_for_the_first(session: EndpointSession) -> None:
    pipeline = session.start([ticks(1000)])
    with pytest.raises(StampBusyError):
        session.start([log("ok")])
    pipeline.stop()
    pipeline.wait()


def test_the_ids_are_known_before_the_command_is_sent(simulated: SimulatedEndpoint, session: EndpointSession) -> None:
    class NotNowError(Exception):
        pass

    kept: list[SessionIds] = []

    def keep_and_fail(ids: SessionIds) -> None:
        kept.append(ids)
        raise NotNowError

    with pytest.raises(NotNowError):
        session.start([ticks(1000)], before_send=keep_and_fail)
    assert SessionIds.from_json(json.loads(json.dumps(kept[0].to_json()))) == kept[0]
    assert kept[0].pipeline_id
    (shell,) = [shell for shell in simulated.server.shells() if session.ids.shell_id in str(shell)]
    assert kept[0].pipeline_id not in str(shell)


def test_a_pipeline_is_stopped_from_another_thread(session: EndpointSession) -> None:
    pipeline = session.start([ticks(100_000, 10)])
    stopper = threading.Timer(0.5, pipeline.stop)
    stopper.start()
    records = list(pipeline.records())
    stopper.join()
    assert records
    assert pipeline.wait().state is PipelineState.STOPPED
    assert outputs(session.run([log("nonterm")])) == ["after"]


def test_a_closed_session_leaves_no_shell(simulated: SimulatedEndpoint) -> None:
    with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
        shell_id = session.ids.shell_id
        assert shell_id in str(simulated.server.shells())
    assert shell_id not in str(simulated.server.shells())


def finish(simulated: SimulatedEndpoint, ids: SessionIds) -> tuple[list[str], Pipeline]:
    again = attach(simulated.stamp, simulated.credential, ids, allow=ALLOWED, options=OPTIONS, deadline_s=120)
    texts = [record.text for record in again.records()]
    again.session.close()
    return texts, again


def test_a_pipeline_that_was_left_is_taken_up_without_a_gap(simulated: SimulatedEndpoint) -> None:
    with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
        pipeline = session.start([ticks(60, 30)])
        leaver = threading.Timer(0.6, pipeline.disconnect)
        leaver.start()
        early = [record.text for record in pipeline.records()]
        leaver.join()
    assert pipeline.wait().state is PipelineState.DISCONNECTED
    late, again = finish(simulated, pipeline.ids)
    expected = ["Starting collection", *(f"tick {number}" for number in range(60)), "finished"]
    assert early + late == expected
    assert again.wait().state is PipelineState.COMPLETED


def test_leaving_the_with_block_early_leaves_the_command_running(simulated: SimulatedEndpoint) -> None:
    class JournalIsFullError(Exception):
        pass

    def start_and_fail(kept: list[Pipeline]) -> None:
        with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
            kept.append(session.start([ticks(30)]))
            raise JournalIsFullError

    pipelines: list[Pipeline] = []
    with pytest.raises(JournalIsFullError):
        start_and_fail(pipelines)
    (pipeline,) = pipelines
    texts, again = finish(simulated, pipeline.ids)
    assert texts[-1] == "finished"
    assert again.wait().state is PipelineState.COMPLETED


def test_a_session_that_is_gone_says_so(simulated: SimulatedEndpoint) -> None:
    with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
        pipeline = session.start([log("ok")])
        pipeline.wait()
    with pytest.raises(SessionGoneError) as caught:
        attach(simulated.stamp, simulated.credential, pipeline.ids, options=OPTIONS)
    assert "output folder" in caught.value.advice


def _collect_until_killed(stamp: Stamp, username: str, pipe: Connection) -> None:
    credential = Credential(username, Secret(pipe.recv()))
    session = open_session(stamp, credential, allow=ALLOWED, options=OPTIONS)
    pipeline = session.start([ticks(400, 10)], before_send=lambda ids: pipe.send(ids.to_json()))
    for record in pipeline.records():
        pipe.send(record.text)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_client_is_replaced_and_the_command_runs_once(takes_over_soon: SimulatedEndpoint) -> None:
    simulated = takes_over_soon
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (simulated.stamp, simulated.credential.username, theirs)
    process = context.Process(target=_collect_until_killed, args=arguments)
    process.start()
    ours.send(simulated.credential.password.reveal())
    ids = SessionIds.from_json(ours.recv())
    early = [ours.recv() for _ in range(30)]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while ours.poll():
        try:
            early.append(ours.recv())
        except EOFError:
            break
    late, again = finish(simulated, ids)
    assert again.wait().state is PipelineState.COMPLETED
    assert late[-1] == "finished"
    seen = early + late
    assert len(seen) == len(set(seen))  # nothing came twice: it was the same collection
    first_late = int(late[0].removeprefix("tick "))
    assert late[:-1] == [f"tick {number}" for number in range(first_late, 400)]


def test_commands_are_listed_with_their_parameters(session: EndpointSession) -> None:
    commands = {command.name: command for command in list_commands(session)}
    many = commands["Write-Many"]
    count = many.parameter("-cou")
    assert count is not None
    assert (count.name, count.type_name, count.mandatory, count.position) == ("Count", "System.Int32", True, 0)
    dump = commands[LOG].parameter("IncludeDumpFile")
    assert dump is not None
    assert dump.switch
    assert commands[LOG].parameter("F") is None  # ambiguous


def test_a_wrong_password_is_refused_once(simulated: SimulatedEndpoint) -> None:
    wrong = Credential(simulated.credential.username, Secret("wrong"))
    twice = stamp_of(simulated.server, simulated.server)
    with pytest.raises(AuthenticationFailedError) as caught:
        open_session(twice, wrong, allow=ALLOWED, options=OPTIONS)
    assert caught.value.exit_code is ExitCode.AUTHENTICATION


def test_a_host_without_the_configuration_is_no_ercs_machine(simulated: SimulatedEndpoint) -> None:
    stamp = Stamp("test-stamp", simulated.stamp.endpoints, configuration_name="NoSuchEndpoint")
    with pytest.raises(NoSuchConfigurationError, match="NoSuchEndpoint") as caught:
        open_session(stamp, simulated.credential, allow=ALLOWED, options=OPTIONS)
    assert caught.value.exit_code is ExitCode.UNREACHABLE


SAS = "https://acc.blob.example/c?sv=2019-02-02&sig=Kn0wnSignature%2Babc%3D"


def test_no_secret_is_logged_or_shown(simulated: SimulatedEndpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    password = simulated.credential.password.reveal()
    share = Credential("CORP\\writer", Secret("Kn0wn-share-passw0rd"))
    shown: list[Any] = []
    with open_session(simulated.stamp, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
        command = log("cred", Parameter("OutputSasUri", SAS), Parameter("OutputShareCredential", share))
        pipeline = session.start([command], before_send=lambda ids: shown.append(ids.to_json()))
        shown += [record.to_json() for record in pipeline.records()]
        shown += [session, pipeline, pipeline.outcome, command.to_json()["parameters"][1:][1:]]
    try:
        wrong = Credential(simulated.credential.username, Secret("Wr0ng-Passw0rd"))
        open_session(simulated.stamp, wrong, allow=ALLOWED, options=OPTIONS)
    except AuthenticationFailedError:
        shown.append(traceback.format_exc())
    told = repr(shown) + caplog.text
    for secret in (password, "Kn0wn-share-passw0rd", "Kn0wnSignature", "Wr0ng-Passw0rd"):
        assert secret not in told
    assert "TlRMTVNT" not in caplog.text  # the base64 of an NTLM message: a password can be guessed from one
    assert "PFMgTj0i" not in caplog.text


def test_time_passes_between_polls_without_an_error(session: EndpointSession) -> None:
    started = time.monotonic()
    assert outputs(session.run([ticks(1, 2500)])) == ["tick 0", "finished"]
    assert time.monotonic() - started > 2  # longer than a poll: the operation time-out came and was no error
