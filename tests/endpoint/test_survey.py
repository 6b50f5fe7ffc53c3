"""What the machines of an endpoint let themselves be asked without anything being started there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bridge.endpoint import Command, Parameter, SessionOptions, open_session, survey
from bridge.secrets import Credential, Secret
from bridge.simulator import Account, EndpointServer, ProtocolFaults
from bridge.stamp import EndpointAddress, Stamp
from tests.support import hostile_endpoint as hostile
from tests.support.simulated_endpoint import ALLOWED, GET_AZURE_STACK_LOG, credential_of, stamp_of
from tests.support.tcp_proxy import TcpProxy

OPTIONS = SessionOptions(connect_timeout_s=2, operation_timeout_s=1, read_timeout_s=4, reconnect_deadline_s=3)
ACCOUNTS = (Account("AZURESTACK\\operator", Secret("a-passw0rd")), Account("AZURESTACK\\other", Secret("b-passw0rd")))
TICKS = Command("Get-AzureStackLog", (Parameter("Mode", "ticks"), Parameter("Count", 100_000)))


@pytest.fixture
def machines() -> Iterator[list[EndpointServer]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(EndpointServer((GET_AZURE_STACK_LOG,), machine=f"AzS-ERCS0{number}", accounts=ACCOUNTS))
            for number in (1, 2, 3)
        ]


def test_each_machine_says_what_runs_there_for_this_user_and_nothing_is_started(
    machines: list[EndpointServer],
) -> None:
    stamp, credential = stamp_of(*machines), credential_of(machines[0])
    second = Stamp("test-stamp", stamp.endpoints[1:2])
    other = Credential(ACCOUNTS[1].username, ACCOUNTS[1].password)
    with open_session(second, credential, allow=ALLOWED, options=OPTIONS) as session:
        with open_session(second, other, allow=ALLOWED, options=OPTIONS):
            pipeline = session.start([TICKS])
            reports = survey(stamp, credential)
            assert [report.answers for report in reports] == [True, True, True]
            assert [report.shells for report in reports][::2] == [(), ()]
            [shell] = reports[1].shells or ()
            assert shell.shell_id == session.ids.shell_id
            assert (shell.configuration, shell.owner, shell.connected) == (
                "PrivilegedEndpoint",
                credential.username,
                True,
            )
            assert [len(machine.shells()) for machine in machines] == [0, 2, 0]
            pipeline.stop()
            pipeline.wait()


def test_after_a_machine_has_died_the_others_are_looked_at_all_the_same(machines: list[EndpointServer]) -> None:
    machines[0].kill()
    reports = survey(stamp_of(*machines), credential_of(machines[1]), deadline_s=3)
    assert [report.answers for report in reports] == [False, True, True]
    assert "refused" in reports[0].detail
    assert [report.shells for report in reports] == [None, (), ()]


def test_without_a_credential_nobody_is_asked_for_shells(machines: list[EndpointServer]) -> None:
    reports = survey(stamp_of(*machines))
    assert [(report.answers, report.shells) for report in reports] == [(True, None)] * 3


def test_a_machine_that_does_not_permit_the_question_is_not_known_and_not_empty(
    machines: list[EndpointServer],
) -> None:
    machines[1].faults = ProtocolFaults(no_enumeration=True)
    reports = survey(stamp_of(*machines), credential_of(machines[0]))
    assert [report.shells for report in reports] == [(), None, ()]
    assert "does not tell its shells" in reports[1].detail


def test_a_refused_password_is_tried_once(machines: list[EndpointServer]) -> None:
    wrong = Credential(ACCOUNTS[0].username, Secret("wrong"))
    with ExitStack() as stack:
        proxies = [stack.enter_context(TcpProxy(machine.host, machine.port)) for machine in machines]
        addresses = tuple(EndpointAddress(f"ERCS{n}", proxy.host, proxy.port) for n, proxy in enumerate(proxies))
        reports = survey(Stamp("test-stamp", addresses), wrong)
        asked = [b"Authorization:" in bytes(proxy.heard) for proxy in proxies]
    assert asked == [True, False, False]
    assert all("refused the credentials" in report.detail for report in reports)
    assert [report.shells for report in reports] == [None, None, None]


def test_a_machine_that_trickles_does_not_hold_up_what_is_known_of_the_others(machines: list[EndpointServer]) -> None:
    with TcpProxy(machines[0].host, machines[0].port) as slow:
        slow.answer_with(hostile.trickled_head)
        good = stamp_of(machines[1]).endpoints
        stamp = Stamp("test-stamp", (EndpointAddress("slow", slow.host, slow.port), *good))
        reports = survey(stamp, credential_of(machines[1]), deadline_s=1)
    assert [report.answers for report in reports] == [False, True]
    assert reports[1].shells == ()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("survey")]
