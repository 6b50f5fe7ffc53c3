"""A shell of a privileged endpoint, request by request: created, connected to, left, polled for its runspace pool."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from xml.etree import ElementTree as ET  # builds requests; what comes from the endpoint is read by _clixml

from pypsrp.exceptions import WSManFaultError
from pypsrp.shell import WinRS
from pypsrp.wsman import NAMESPACES, OptionSet, SelectorSet

from bridge.endpoint._answers import UnusableAnswerError, understanding
from bridge.endpoint._clixml import CliObject, UnreadableCliXmlError
from bridge.endpoint._faults import OPERATION_TIMED_OUT, error_for
from bridge.endpoint._line import LONGEST_IDLE_TIMEOUT_S, Line
from bridge.endpoint._messages import (
    DamagedMessage,
    Defragmenter,
    Message,
    MessageType,
    PoolState,
    read_error,
    read_message,
)
from bridge.endpoint._pipeline import THIRD_PARTY, SessionIds
from bridge.endpoint._psrp import PsrpClient
from bridge.errors import BridgeError, EndpointError
from bridge.stamp import Stamp

_RESOURCE = "http://schemas.microsoft.com/powershell/"
_PROTOCOL_VERSION = "2.3"  # Windows PowerShell 5.1
_IDLE_TIMEOUT_OUT_OF_BOUNDS = 2150859250


def new_shell(line: Line, stamp: Stamp, psrp: PsrpClient, idle_timeout_s: int) -> WinRS:
    return WinRS(
        line.wsman,
        resource_uri=_RESOURCE + stamp.configuration_name,
        id=str(psrp.pool_id).upper(),
        input_streams="stdin pr",
        output_streams="stdout",
        idle_time_out=min(idle_timeout_s, LONGEST_IDLE_TIMEOUT_S),
    )


def shell_of(line: Line, ids: SessionIds) -> WinRS:
    """The shell of known ids, over this line."""
    shell = WinRS(line.wsman, resource_uri=_RESOURCE + ids.configuration, id=ids.shell_id)
    shell.opened = True
    shell._selector_set = selectors(ids.shell_id)
    return shell


def selectors(shell_id: str) -> SelectorSet:
    selectors = SelectorSet()
    selectors.add_option("ShellId", shell_id)
    return selectors


def _protocol_options() -> OptionSet:
    options = OptionSet()
    options.add_option("protocolversion", _PROTOCOL_VERSION, {"MustComply": "true"})
    return options


def create_shell(shell: WinRS, psrp: PsrpClient) -> None:
    content = ET.Element("creationXml", xmlns="http://schemas.microsoft.com/powershell")
    content.text = base64.b64encode(psrp.opening()).decode("ascii")
    with understanding():
        try:
            shell.open(_protocol_options(), content)
        except WSManFaultError as fault:
            if fault.code != _IDLE_TIMEOUT_OUT_OF_BOUNDS:
                raise
            shell.idle_time_out = None  # the endpoint allows less than was asked for: take its own measure
            shell.open(_protocol_options(), content)


def await_opened(shell: WinRS, psrp: PsrpClient, timeout_s: float, host: str) -> None:
    deadline = time.monotonic() + timeout_s
    stream = Defragmenter()
    while True:
        for message in poll_pool(shell, psrp, stream):
            if message.type != MessageType.RUNSPACEPOOL_STATE:
                continue
            try:
                said = read_message(message)
            except UnreadableCliXmlError as error:
                raise UnusableAnswerError(f"the state of the session cannot be read: {error}") from error
            state = said.get("RunspaceState") if isinstance(said, CliObject) else None
            if state == PoolState.OPENED:
                return
            if state in (PoolState.BROKEN, PoolState.CLOSED) and isinstance(said, CliObject):
                raise _broken_pool(said, host)
        if time.monotonic() > deadline:
            raise EndpointError(detail=f"{host} did not open the session within {timeout_s:.0f} s")


def _broken_pool(said: CliObject, host: str) -> BridgeError:
    part = said.parts.get("ExceptionAsErrorRecord")
    if part is None:
        return EndpointError(detail=f"{host} closed the session while it was opened")
    return error_for(read_error(part, terminating=True), "the session configuration")


def poll_pool(shell: WinRS, psrp: PsrpClient, stream: Defragmenter) -> Iterator[Message]:
    try:
        with understanding():
            _, _, streams = shell.receive("stdout")
    except WSManFaultError as fault:
        if fault.code != OPERATION_TIMED_OUT:
            raise
        return
    for message in psrp.read(streams["stdout"], stream):
        if isinstance(message, DamagedMessage):
            raise UnusableAnswerError(message.detail)
        yield message


def connect_shell(shell: WinRS, psrp: PsrpClient, ids: SessionIds) -> list[int]:
    """Takes the shell over; the numbers of the messages in the answer."""
    request = ET.Element(f"{{{NAMESPACES['rsp']}}}Connect")
    content = ET.SubElement(request, "connectXml", xmlns="http://schemas.microsoft.com/powershell")
    content.text = base64.b64encode(psrp.connecting()).decode("ascii")
    body = shell.wsman.connect(shell.resource_uri, request, _protocol_options(), selectors(ids.shell_id))
    with understanding():
        answer = body.find("rsp:ConnectResponse/pwsh:connectResponseXml", NAMESPACES)
        data = base64.b64decode(answer.text) if answer is not None and answer.text else b""
    numbers = []
    for message in psrp.read(data, Defragmenter()):
        if isinstance(message, DamagedMessage):
            raise UnusableAnswerError(message.detail)
        numbers.append(message.object_id)
    return numbers


def disconnect_shell(shell: WinRS, ids: SessionIds, *, buffer_mode: str | None = None) -> None:
    request = ET.Element(f"{{{NAMESPACES['rsp']}}}Disconnect")
    if buffer_mode is not None:
        ET.SubElement(request, f"{{{NAMESPACES['rsp']}}}BufferMode").text = buffer_mode
    shell.wsman.disconnect(shell.resource_uri, request, selector_set=selectors(ids.shell_id))


def buffer_mode_of(shell: WinRS, ids: SessionIds) -> str:
    """What the endpoint does with output that nobody takes, as the shell's own description says (MS-WSMV 2.2.4.37);
    empty where it does not say."""
    try:
        with understanding():
            body = shell.wsman.get(shell.resource_uri, selector_set=selectors(ids.shell_id))
            return str(body.findtext("rsp:Shell/rsp:BufferMode", "", NAMESPACES))
    except THIRD_PARTY:
        return ""


def connect_command(shell: WinRS, ids: SessionIds) -> None:
    request = ET.Element(f"{{{NAMESPACES['rsp']}}}Connect", CommandId=ids.pipeline_id or "")
    shell.wsman.connect(shell.resource_uri, request, selector_set=selectors(ids.shell_id))
