"""The shape of every kind of WSMan answer equals one that pypsrp's recordings of real Windows hosts hold."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any
from xml.etree import ElementTree

import pytest
from pypsrp.complex_objects import RunspacePoolState
from pypsrp.exceptions import WinRMTransportError, WSManFaultError
from pypsrp.powershell import RunspacePool

from bridge.simulator import EndpointServer
from tests.support.pep_client import command, wsman
from tests.support.recorded_commands import RECORDED_COMMANDS

ACTION = "{http://schemas.xmlsoap.org/ws/2004/08/addressing}Action"
ANSWER = re.compile(r"\s+response: ['\"]?(<s:Envelope.*</s:Envelope>)")
KINDS = ("Create", "Receive", "Command", "Signal", "Disconnect", "Reconnect", "Connect", "Delete", "fault")

Shape = tuple[str, tuple[str, ...], tuple[Any, ...]]


def shape(element: ElementTree.Element) -> Shape:
    """Names with their namespaces in order, and names of attributes; what repeats counts once, texts do not count."""
    children = dict.fromkeys(shape(child) for child in element)
    return element.tag, tuple(sorted(element.attrib)), tuple(children)


def kind_of(root: ElementTree.Element) -> str:
    return root.findtext(f".//{ACTION}", "").rpartition("/")[2].removesuffix("Response")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[Shape]]:
    """The shapes of the answers in pypsrp's source distribution; nothing of it is kept."""
    folder = tmp_path_factory.mktemp("recordings")
    wanted = f"pypsrp=={version('pypsrp')}"
    arguments = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", wanted]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, timeout=240, check=False)
    archives = list(folder.glob("pypsrp-*.tar.gz"))
    if done.returncode != 0 or not archives:
        pytest.skip(f"not run: pip cannot fetch the source of {wanted}, which holds the recordings")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    found: dict[str, set[Shape]] = {}
    for path in folder.glob("pypsrp-*/tests/tests_pypsrp/responses/*.yml"):
        for match in filter(None, map(ANSWER.match, path.read_text(encoding="utf-8").splitlines())):
            root = ElementTree.fromstring(match[1])
            found.setdefault(kind_of(root), set()).add(shape(root))
    return found


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, set[Shape]]]:
    """The shapes of ours, over a session in which every kind of request is made."""
    found: dict[str, set[Shape]] = {}
    with EndpointServer(RECORDED_COMMANDS) as server, wsman(server, operation_timeout=1) as connection:
        send = connection.transport.send

        def keep(message: bytes, *rest: Any, **more: Any) -> Any:
            try:
                answer = send(message, *rest, **more)
            except WinRMTransportError as fault:
                _note(fault.response_text, found)
                raise
            _note(answer, found)
            return answer

        connection.transport.send = keep
        with RunspacePool(connection, configuration_name="PrivilegedEndpoint") as pool:
            assert command(pool, "Get-AzureStackLog", Mode="ok").invoke() == ["done"]
            slow = command(pool, "Get-AzureStackLog", Mode="slow", Seconds=60)
            slow.begin_invoke()
            slow.stop()
            pool.disconnect()
            pool.connect()
            pool.disconnect()
            other = RunspacePool(connection, configuration_name="PrivilegedEndpoint")
            other.id = other.shell.id = pool.id
            other.shell.opened = other._new_client = True
            other.state = RunspacePoolState.DISCONNECTED
            other.connect()
            nobody = RunspacePool(connection, configuration_name="PrivilegedEndpoint")
            nobody.shell.opened = True
            with pytest.raises(WSManFaultError):
                nobody.shell.close()
        yield found


def _note(answer: bytes | str, found: dict[str, set[Shape]]) -> None:
    root = ElementTree.fromstring(answer)
    found.setdefault(kind_of(root), set()).add(shape(root))


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_has_a_shape_that_a_windows_host_sent(
    recorded: dict[str, set[Shape]], answers: dict[str, set[Shape]], kind: str
) -> None:
    if kind not in answers:
        pytest.fail(f"no {kind} was answered: {sorted(answers)}")
    assert [each for each in answers[kind] if each not in recorded[kind]] == []
