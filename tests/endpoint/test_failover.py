"""Machines that are dead, die, refuse or speak HTTPS: which one is used, and what the person is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.endpoint import Command, Parameter, PipelineState, SessionOptions, attach, identify, open_session
from bridge.errors import (
    BridgeError,
    CertificateRejectedError,
    EndpointUnreachableError,
    ExitCode,
    NoSuchConfigurationError,
    NotPermittedError,
    QuotaExceededError,
    SessionGoneError,
)
from bridge.secrets import Credential, Secret
from bridge.simulator import Account, EndpointServer, ProtocolFaults, TlsOptions
from bridge.stamp import Stamp
from tests.support.simulated_endpoint import (
    ALLOWED,
    GET_AZURE_STACK_LOG,
    WRITE_MANY,
    credential_of,
    simulated_endpoint,
    stamp_of,
)

OPTIONS = SessionOptions(connect_timeout_s=2, operation_timeout_s=1, read_timeout_s=4, reconnect_deadline_s=60)
ACCOUNT = Account("AZURESTACK\\operator", Secret("a-passw0rd"))
TICKS = Command("Get-AzureStackLog", (Parameter("Mode", "ticks"), Parameter("Count", 20)))


@contextmanager
def machines(count: int) -> Iterator[tuple[list[EndpointServer], Stamp, Credential]]:
    """Several ERCS machines of one stamp."""
    servers = [
        EndpointServer((GET_AZURE_STACK_LOG, WRITE_MANY), machine=f"AzS-ERCS0{number}", accounts=(ACCOUNT,))
        for number in range(1, count + 1)
    ]
    with ExitStack() as stack:
        started = [stack.enter_context(server) for server in servers]
        yield started, stamp_of(*started), credential_of(started[0])


def test_the_first_machine_that_answers_is_used() -> None:
    with machines(3) as (servers, stamp, credential):
        servers[0].kill()
        servers[1].faults = ProtocolFaults(quota_exceeded=True)
        with open_session(stamp, credential, allow=ALLOWED, options=OPTIONS) as session:
            assert session.endpoint.name == "AzS-ERCS03"
            assert session.ids.endpoint == "AzS-ERCS03"
            assert session.run([TICKS])[-1].text == "finished"


@pytest.mark.parametrize(
    ("faults", "kind", "code"),
    [
        (ProtocolFaults(quota_exceeded=True), QuotaExceededError, ExitCode.BUSY),
        (ProtocolFaults(access_denied=True), NotPermittedError, ExitCode.NOT_PERMITTED),
        (ProtocolFaults(no_such_configuration=True), NoSuchConfigurationError, ExitCode.UNREACHABLE),
        (ProtocolFaults(refuse_connections=True), EndpointUnreachableError, ExitCode.UNREACHABLE),
    ],
    ids=["quota", "access", "configuration", "refused"],
)
def test_each_refusal_of_the_service_is_its_own_error(
    faults: ProtocolFaults, kind: type[BridgeError], code: ExitCode
) -> None:
    with machines(1) as (servers, stamp, credential):
        servers[0].faults = faults
        with pytest.raises(kind) as caught:
            open_session(stamp, credential, allow=ALLOWED, options=OPTIONS)
    assert type(caught.value) is kind
    assert caught.value.exit_code is code
    assert caught.value.advice


def test_a_machine_that_restarts_has_lost_the_session_and_says_so() -> None:
    with machines(1) as (servers, stamp, credential):
        with open_session(stamp, credential, allow=ALLOWED, options=OPTIONS) as session:
            pipeline = session.start([replace(TICKS, parameters=(*TICKS.parameters[:1], Parameter("Count", 100_000)))])
            records = pipeline.records()
            next(records)
            servers[0].kill()
            revive = threading.Timer(1.0, servers[0].revive)
            revive.start()
            with pytest.raises(SessionGoneError):
                list(records)
            revive.join()
        with pytest.raises(SessionGoneError):
            attach(stamp, credential, pipeline.ids, options=OPTIONS, deadline_s=10)


def test_connections_that_the_server_cuts_at_random_lose_nothing() -> None:
    with machines(1) as (servers, stamp, credential):
        with open_session(stamp, credential, allow=ALLOWED, options=OPTIONS) as session:
            servers[0].faults = ProtocolFaults(seed=7, cut_chance=0.15)
            command = replace(TICKS, parameters=(*TICKS.parameters[:1], Parameter("Count", 150)))
            pipeline = session.start([command])
            texts = [record.text for record in pipeline.records()]
            servers[0].faults = ProtocolFaults()
            assert texts[1:] == [*(f"tick {number}" for number in range(150)), "finished"]
            assert pipeline.wait().state is PipelineState.COMPLETED


def test_https_works_where_the_authority_is_given_and_only_there(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    with simulated_endpoint(tls=TlsOptions()) as simulated:
        ca_file.write_text(simulated.server.certificate_pem or "", encoding="ascii")
        trusting = replace(simulated.stamp, use_https=True, ca_file=ca_file)
        with open_session(trusting, simulated.credential, allow=ALLOWED, options=OPTIONS) as session:
            assert session.ids.https
            assert session.ids.port == simulated.server.https_port
            assert session.run([TICKS])[-1].text == "finished"
        with pytest.raises(CertificateRejectedError):
            open_session(replace(trusting, ca_file=None), simulated.credential, allow=ALLOWED, options=OPTIONS)


def test_the_simulated_machine_identifies_itself_without_credentials() -> None:
    with simulated_endpoint() as simulated:
        identity = identify(simulated.stamp.endpoints[0])
    assert "Negotiate" in identity.auth_schemes
