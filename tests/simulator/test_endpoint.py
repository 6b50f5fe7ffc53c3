"""The simulated endpoint over WSMan, asked by pypsrp."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from pypsrp.complex_objects import PSCredential, PSInvocationState, RunspacePoolState
from pypsrp.exceptions import AuthenticationError, WinRMTransportError, WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool

from bridge.simulator import CommandContext, CommandSpec, EndpointServer, ProtocolFaults, TlsOptions
from tests.support.pep_client import command, opened, wsman
from tests.support.recorded_commands import RECORDED_COMMANDS

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 20.0
_LINE = "x" * 1000


class Gauge:
    """Counts what a command has written, and sees it end."""

    def __init__(self) -> None:
        self.written = 0
        self.ended = threading.Event()

    def run(self, context: CommandContext, bound: Mapping[str, Any]) -> None:
        try:
            for number in range(3000):
                context.write_output(f"{number} {_LINE}")
                self.written = number + 1
        finally:
            self.ended.set()


@pytest.fixture
def gauge() -> Gauge:
    return Gauge()


@pytest.fixture
def server(gauge: Gauge) -> Iterator[EndpointServer]:
    commands = (*RECORDED_COMMANDS, CommandSpec("Write-Gauge", gauge.run))
    with EndpointServer(commands, client_lost_after_s=1.0, output_buffer_bytes=64 << 10) as running:
        yield running


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def settled(value: Callable[[], int]) -> int:
    """A number once it stopped growing."""
    last = -1
    while (now := value()) != last:
        last = now
        time.sleep(0.3)
    return last


def test_records_of_all_streams_arrive_and_the_state_is_completed(server: EndpointServer) -> None:
    with opened(server) as pool:
        pipeline = command(pool, "Get-AzureStackLog", Mode="ok")
        assert pipeline.invoke() == ["done"]
        assert pipeline.state == PSInvocationState.COMPLETED
        assert [record.percent_complete for record in pipeline.streams.progress] == [33, 66, 99, -1]
        assert [str(record) for record in pipeline.streams.warning] == ["One node did not answer"]


def test_a_wrong_password_is_refused(server: EndpointServer) -> None:
    with pytest.raises(AuthenticationError), opened(server, password="not the password"):
        pass


def test_an_unknown_user_is_refused(server: EndpointServer) -> None:
    with pytest.raises(AuthenticationError), opened(server, username="AZURESTACK\\Nobody"):
        pass


def test_an_account_of_another_endpoint_of_the_process_is_refused(server: EndpointServer) -> None:
    from bridge.simulator import Account, throw_away_account

    stranger: Account = throw_away_account("CORP\\stranger")
    with EndpointServer(accounts=(stranger,)):
        with pytest.raises(AuthenticationError):
            with opened(server, username=stranger.username, password=stranger.password.reveal()):
                pass


def test_an_unencrypted_request_is_refused(server: EndpointServer) -> None:
    with pytest.raises(WinRMTransportError) as caught, opened(server, encryption="never"):
        pass
    assert caught.value.code == 500


def test_an_unknown_configuration_is_worded_as_by_a_real_host(server: EndpointServer) -> None:
    with pytest.raises(WSManFaultError, match="Cannot find the Nothing session configuration in the WSMan: drive"):
        with opened(server, configuration="Nothing"):
            pass


def test_https_carries_sessions_and_enforces_channel_binding() -> None:
    with EndpointServer(RECORDED_COMMANDS, tls=TlsOptions()) as server:
        secure: dict[str, Any] = {"port": server.https_port, "ssl": True, "cert_validation": False}
        secure["encryption"] = "auto"
        with opened(server, **secure) as pool:
            assert command(pool, "Get-AzureStackLog", Mode="nonterm").invoke() == ["after"]
        with pytest.raises(AuthenticationError), opened(server, **secure, negotiate_send_cbt=False):
            pass


def test_identify_needs_no_credentials_and_hides_the_version(server: EndpointServer) -> None:
    identify = (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:i="http://schemas.dmtf.org/wbem/wsman/'
        'identity/1/wsmanidentity.xsd"><s:Header/><s:Body><i:Identify/></s:Body></s:Envelope>'
    )
    url = f"http://{server.host}:{server.port}/wsman"
    headers = {"WSMANIDENTIFY": "unauthenticated", "Content-Type": "application/soap+xml;charset=UTF-8"}
    answer = requests.post(url, identify, headers=headers, timeout=10)
    assert answer.status_code == 200
    assert "OS: 0.0.0 SP: 0.0 Stack: 3.0" in answer.text
    assert requests.post(url, identify, timeout=10).status_code == 401


def test_a_credential_goes_through_the_session_key(server: EndpointServer) -> None:
    with opened(server) as pool:
        pool.exchange_keys()
        credential = PSCredential(username="CORP\\svc", password="a secret word!")
        out = command(pool, "Get-AzureStackLog", Mode="cred", OutputShareCredential=credential).invoke()
        assert out == ["user=CORP\\svc pwlen=14"]


def test_a_stopped_pipeline_says_so(server: EndpointServer) -> None:
    with opened(server) as pool:
        pipeline = command(pool, "Get-AzureStackLog", Mode="slow", Seconds=60)
        pipeline.begin_invoke()
        eventually(lambda: bool(server.shells()[0].commands))
        pipeline.stop()
        assert pipeline.state == PSInvocationState.STOPPED


def test_a_long_poll_without_data_ends_with_the_time_out_fault_and_goes_on(server: EndpointServer) -> None:
    def wait(context: CommandContext, bound: Mapping[str, Any]) -> None:
        time.sleep(2.5)
        context.write_output("late")

    with EndpointServer((CommandSpec("Wait-Long", wait),)) as slow:
        with opened(slow, operation_timeout=1) as pool:
            pipeline = command(pool, "Wait-Long")
            pipeline.begin_invoke()
            with pytest.raises(WSManFaultError) as caught:
                pool.connection.receive(*_receive_of(pool, pipeline))
            assert caught.value.code == 2150858793
            assert pipeline.end_invoke() == ["late"]


def _receive_of(pool: Any, pipeline: Any) -> tuple[Any, ...]:
    import xml.etree.ElementTree as ET

    from pypsrp.wsman import NAMESPACES

    receive = ET.Element(f"{{{NAMESPACES['rsp']}}}Receive")
    of = {} if pipeline is None else {"CommandId": pipeline._command_id}
    stream = ET.SubElement(receive, f"{{{NAMESPACES['rsp']}}}DesiredStream", of)
    stream.text = "stdout"
    return pool.shell.resource_uri, receive, None, pool.shell._selector_set, 1


def test_the_sixth_shell_of_a_user_is_refused_and_fits_again_after_one_is_closed(server: EndpointServer) -> None:
    pools = [RunspacePool(wsman(server), configuration_name="PrivilegedEndpoint") for _ in range(6)]
    for pool in pools[:5]:
        pool.open()
    with pytest.raises(WSManFaultError, match="maximum number of 5 concurrent shells") as caught:
        pools[5].open()
    assert caught.value.code == 2150859173
    pools[0].close()
    again = RunspacePool(wsman(server), configuration_name="PrivilegedEndpoint")
    again.open()
    for pool in [*pools[1:5], again]:
        pool.close()
    assert server.shells() == []


def test_sessions_do_not_see_each_others_output(server: EndpointServer) -> None:
    answers: dict[int, list[Any]] = {}

    def ask(number: int) -> None:
        with opened(server) as pool:
            answers[number] = command(pool, "Write-Many", Count=50 + number).invoke()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {number: len(items) for number, items in answers.items()} == {n: 50 + n for n in range(4)}


def test_a_command_waits_for_its_reader(server: EndpointServer, gauge: Gauge) -> None:
    with opened(server) as pool:
        pipeline = command(pool, "Write-Gauge")
        pipeline.begin_invoke()
        assert settled(lambda: gauge.written) < 200, "the command wrote far ahead of its reader"
        assert len(pipeline.end_invoke()) == 3000


def test_closing_a_session_ends_a_command_that_nobody_reads(server: EndpointServer, gauge: Gauge) -> None:
    with opened(server) as pool:
        command(pool, "Write-Gauge").begin_invoke()
        eventually(lambda: gauge.written > 0)
    assert gauge.ended.wait(_PATIENCE_S)


def test_another_client_takes_over_and_loses_nothing(server: EndpointServer, gauge: Gauge) -> None:
    first = RunspacePool(wsman(server), configuration_name="PrivilegedEndpoint")
    first.open()
    pipeline = command(first, "Write-Gauge")
    pipeline.begin_invoke()
    eventually(lambda: gauge.written > 0)
    first.disconnect()
    assert settled(lambda: gauge.written) < 200, "the buffer of a disconnected command must fill up and block"

    second = _same_pool(wsman(server), first.id)
    other = PowerShell(second)
    other.id = other._command_id = pipeline.id
    other.state = PSInvocationState.DISCONNECTED
    second.pipelines[other.id] = other
    second.connect()
    output = other.connect()
    assert [int(line.split(" ")[0]) for line in output] == list(range(3000))
    second.close()


def _same_pool(connection: Any, pool_id: str) -> Any:
    pool = RunspacePool(connection, configuration_name="PrivilegedEndpoint")
    pool.id = pool.shell.id = pool_id
    pool.shell.opened = True
    pool._new_client = True
    pool.state = RunspacePoolState.DISCONNECTED
    return pool


def test_connect_is_refused_while_the_client_is_there_and_let_in_after_it_is_lost(server: EndpointServer) -> None:
    first = RunspacePool(wsman(server), configuration_name="PrivilegedEndpoint")
    first.open()
    second = _same_pool(wsman(server), first.id)
    with pytest.raises(WSManFaultError) as caught:
        second.connect()
    assert caught.value.code == 2150859213
    first.connection.transport.session.close()
    eventually(lambda: not server.shells()[0].connected)
    second.connect()
    second.close()


def test_the_same_client_reconnects(server: EndpointServer) -> None:
    with opened(server) as pool:
        pool.disconnect()
        assert not server.shells()[0].connected
        pool.connect()
        assert command(pool, "Get-AzureStackLog", Mode="nonterm").invoke() == ["after"]


def test_a_disconnected_shell_answers_nothing_before_it_is_connected_again(server: EndpointServer) -> None:
    with opened(server) as pool:
        pool.disconnect()
        with pytest.raises(WSManFaultError) as caught:
            pool.connection.receive(*_receive_of(pool, None))
        assert caught.value.code == 2150859204
        pool.connect()


def test_a_request_that_comes_again_is_not_done_twice(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(server) as pool:
        sent: list[bytes] = []
        send = pool.connection.transport.send

        def record(message: bytes, *rest: Any, **more: Any) -> Any:
            sent.append(message)
            return send(message, *rest, **more)

        monkeypatch.setattr(pool.connection.transport, "send", record)
        pipeline = command(pool, "Get-AzureStackLog", Mode="nonterm")
        pipeline.begin_invoke()
        first = sent[-1]
        assert b"/shell/Command" in first
        assert pipeline._command_id.encode() in send(first)
        assert pipeline.end_invoke() == ["after"]


def test_shells_are_enumerated_for_their_owner(server: EndpointServer) -> None:
    with opened(server) as pool:
        (found,) = RunspacePool.get_runspace_pools(wsman(server))
        assert found.id == pool.id.upper()


def test_an_idle_shell_ends_after_its_time_out() -> None:
    with EndpointServer(RECORDED_COMMANDS, idle_timeout_s=0.6) as server:
        pool = RunspacePool(wsman(server), configuration_name="PrivilegedEndpoint")
        pool.open()
        pool.shell.idle_time_out = None
        eventually(lambda: server.shells() == [])
        with pytest.raises(WSManFaultError, match="was not found on the server") as caught:
            command(pool, "Get-Command").invoke()
        assert caught.value.code == 2150858843


def test_a_shell_is_created_once_whoever_asks_again_for_its_id(server: EndpointServer) -> None:
    """The first one would be there for ever, out of anybody's reach."""
    with wsman(server) as connection, RunspacePool(connection, configuration_name="PrivilegedEndpoint") as pool:
        again = RunspacePool(connection, configuration_name="PrivilegedEndpoint")
        again.id = again.shell.id = pool.id
        with pytest.raises(WSManFaultError):
            again.open()
        assert len(server.shells()) == 1
    assert server.shells() == []


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        (ProtocolFaults(quota_exceeded=True), 2150859173),
        (ProtocolFaults(access_denied=True), 5),
    ],
)
def test_faults_of_the_service_are_answered_on_create(
    server: EndpointServer, faults: ProtocolFaults, code: int
) -> None:
    server.faults = faults
    with pytest.raises(WSManFaultError) as caught, opened(server):
        pass
    assert caught.value.code == code


def test_a_refused_connection_looks_like_one(server: EndpointServer) -> None:
    server.faults = ProtocolFaults(refuse_connections=True)
    with pytest.raises(requests.exceptions.ConnectionError), opened(server):
        pass


def test_a_dead_machine_refuses_and_is_back_without_its_sessions(server: EndpointServer) -> None:
    pool = RunspacePool(wsman(server), configuration_name="PrivilegedEndpoint")
    pool.open()
    server.kill()
    with pytest.raises(requests.exceptions.ConnectionError):
        wsman(server).enumerate("http://schemas.microsoft.com/wbem/wsman/1/windows/shell")
    server.revive()
    assert server.shells() == []
    with opened(server) as again:
        assert command(again, "Get-AzureStackLog", Mode="nonterm").invoke() == ["after"]


def test_a_cut_connection_is_a_reset_and_the_session_loses_nothing(server: EndpointServer, gauge: Gauge) -> None:
    with opened(server) as pool:
        pipeline = command(pool, "Write-Gauge")
        pipeline.begin_invoke()
        server.faults = ProtocolFaults(cut_every=3)
        cuts = 0
        while pipeline.state == PSInvocationState.RUNNING:
            try:
                pipeline.poll_invoke()
            except (requests.exceptions.ConnectionError, WinRMTransportError):
                cuts += 1
                _start_afresh(pool.connection)
            if cuts > 4:
                server.faults = ProtocolFaults()
        server.faults = ProtocolFaults()
        assert cuts > 0
        assert [int(line.split(" ")[0]) for line in pipeline.output] == list(range(3000))


def _start_afresh(connection: Any) -> None:
    """What a client does after a lost connection: a new one, authenticated anew, with new sealing."""
    transport = connection.transport
    transport.close()
    transport.session = None
    transport.encryption = None


def test_an_idle_connection_is_closed_when_asked(server: EndpointServer) -> None:
    server.faults = ProtocolFaults(close_idle_after_s=0.3)
    with requests.Session() as session:
        session.post(f"http://{server.host}:{server.port}/wsman", timeout=10)
        adapter = session.get_adapter("http://")
        time.sleep(0.8)
        assert adapter is not None
        assert session.post(f"http://{server.host}:{server.port}/wsman", timeout=10).status_code == 401


def test_a_stalled_answer_comes_late_and_whole(server: EndpointServer) -> None:
    with opened(server) as pool:
        server.faults = ProtocolFaults(stall_chance=1.0, stall_s=0.4)
        before = time.monotonic()
        assert command(pool, "Get-AzureStackLog", Mode="nonterm").invoke() == ["after"]
        assert time.monotonic() - before >= 0.8, "Command and Receive, at least, must have waited"
        server.faults = ProtocolFaults()


def test_an_answer_that_stalls_for_too_long_is_a_time_out_for_the_client(server: EndpointServer) -> None:
    with opened(server, operation_timeout=1, read_timeout=2) as pool:
        server.faults = ProtocolFaults(stall_chance=1.0, stall_s=30.0)
        with pytest.raises(requests.exceptions.ReadTimeout):
            command(pool, "Get-AzureStackLog", Mode="nonterm").invoke()
        server.faults = ProtocolFaults()
        _start_afresh(pool.connection)
        assert command(pool, "Get-AzureStackLog", Mode="nonterm").invoke() == ["after"]


def test_a_client_whose_idle_connection_was_closed_goes_on_with_a_new_one(server: EndpointServer) -> None:
    with opened(server) as pool:
        server.faults = ProtocolFaults(close_idle_after_s=0.5)
        assert command(pool, "Get-AzureStackLog", Mode="nonterm").invoke() == ["after"]
        time.sleep(1.2)
        # http.sys does the same after about 120 s; pypsrp then sends what it had sealed for the old connection.
        with pytest.raises(WinRMTransportError) as caught:
            command(pool, "Get-AzureStackLog", Mode="nonterm").invoke()
        assert caught.value.code == 400
        server.faults = ProtocolFaults()
        _start_afresh(pool.connection)
        assert command(pool, "Get-AzureStackLog", Mode="nonterm").invoke() == ["after"]


def test_a_machine_that_dies_with_open_connections_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with EndpointServer(RECORDED_COMMANDS, tls=TlsOptions()) as server, contextlib.ExitStack() as open_until_the_end:
        assert server.https_port is not None
        pool = open_until_the_end.enter_context(opened_and_left(server))
        command(pool, "Get-AzureStackLog", Mode="slow", Seconds=60).begin_invoke()
        for port in (server.port, server.port, server.https_port):  # one of them in the middle of a TLS handshake
            open_until_the_end.enter_context(socket.create_connection((server.host, port)))
        eventually(lambda: bool(server.shells()[0].commands))
        server.kill()
        server.revive()
        open_until_the_end.enter_context(socket.create_connection((server.host, server.port)))
        server.kill()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@contextlib.contextmanager
def opened_and_left(server: EndpointServer) -> Iterator[Any]:
    """An open pool that nobody closes, for a machine that dies; the connection's socket is closed."""
    connection = wsman(server)
    pool = RunspacePool(connection, configuration_name="PrivilegedEndpoint")
    pool.open()
    yield pool
    connection.transport.close()


def test_what_a_killed_simulator_left_behind_is_taken_away_by_the_next(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    start = "from bridge.simulator import EndpointServer; s = EndpointServer(); s.start(); print(flush=True); input()"

    def simulator() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    with simulator() as killed, simulator() as alive:
        files = {process.pid: next(tmp_path.glob(f"*-{process.pid}-*")) for process in (killed, alive)}
        assert all(path.name.startswith("pep-bridge-simulator-accounts-") for path in files.values())
        killed.kill()
        killed.wait(30)
        assert files[killed.pid].exists()
        with simulator() as third:
            assert not files[killed.pid].exists()
            assert files[alive.pid].exists()
            third.kill()
        alive.kill()


def test_the_credential_file_is_gone_when_the_last_endpoint_stops() -> None:
    code = """
import os
from pathlib import Path
from bridge.simulator import EndpointServer

with EndpointServer():
    path = Path(os.environ["NTLM_USER_FILE"])
    assert path.exists()
assert not path.exists()
assert "NTLM_USER_FILE" not in os.environ
print("gone")
"""
    # In a process of its own: here, other tests' endpoints may be running.
    environment = {name: value for name, value in os.environ.items() if name != "NTLM_USER_FILE"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "gone\n", done.stderr
