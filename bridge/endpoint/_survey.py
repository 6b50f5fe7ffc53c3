"""What can be learnt of a stamp's endpoint machines without starting anything: who answers, and what runs there for us.

Shells are asked for as PowerShell's ``Get-PSSession -ComputerName`` does (wsen:Enumerate, MS-WSMV 3.1.4.8.2). Whether a
privileged endpoint permits that to its operators is not public. The question goes to the resource of all shells, which
the root security descriptor of WS-Management guards, and not to the endpoint's own, which lets an operator in: a
refusal is to be expected, and means nothing but "not known".
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from xml.etree import ElementTree as ET  # builds requests; answers pass check_xml before they are parsed

from pypsrp.wsman import NAMESPACES

from bridge.endpoint._answers import understanding
from bridge.endpoint._faults import opening_error
from bridge.endpoint._line import Line, SessionOptions
from bridge.endpoint._pipeline import THIRD_PARTY
from bridge.endpoint._probes import identify
from bridge.errors import AuthenticationFailedError, BridgeError, EndpointError
from bridge.secrets import Credential
from bridge.stamp import EndpointAddress, Stamp

_SHELLS = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
_POWERSHELL = "http://schemas.microsoft.com/powershell/"
_MOST_SHELLS = 1000


@dataclass(frozen=True, slots=True)
class LiveShell:
    """A shell that exists on a machine, as the machine describes it (MS-WSMV 2.2.4.37)."""

    shell_id: str
    configuration: str
    owner: str
    connected: bool


@dataclass(frozen=True, slots=True)
class MachineReport:
    """What one machine of the endpoint let itself be asked.

    ``shells`` is None where that is not known: it does not answer, nobody asked, or it refused; ``detail`` says which.
    ``date`` is the machine's clock when it answered (whole seconds), where it gave one.
    """

    endpoint: EndpointAddress
    answers: bool
    shells: tuple[LiveShell, ...] | None
    detail: str
    date: datetime | None = None


def survey(
    stamp: Stamp, credential: Credential | None = None, *, deadline_s: float = 10.0
) -> tuple[MachineReport, ...]:
    """Looks at every machine of the stamp's endpoint, each within its own deadline; nothing is started there.

    All are asked at once who they are, without credentials. With a credential those that answered are then asked, in
    turn, for the shells of its user; after one refused password no other machine is asked, or the account would soon be
    locked.

    Args:
        stamp: Whose machines.
        credential: Whose shells are looked for; None sends no password anywhere.
        deadline_s: For one machine, and for each of the two questions.

    Returns:
        One report a machine, in the stamp's order. What cannot be had is said in it, not raised.
    """
    with ThreadPoolExecutor(max_workers=max(len(stamp.endpoints), 1), thread_name_prefix="survey") as pool:
        reports = list(pool.map(lambda address: _greet(stamp, address, deadline_s), stamp.endpoints))
    if credential is None:
        return tuple(reports)
    refused = ""
    for number, report in enumerate(reports):
        if not report.answers:
            continue
        if refused:
            reports[number] = replace(report, detail=f"not asked for shells: {refused}")
            continue
        try:
            shells = live_shells(stamp, credential, report.endpoint, deadline_s=deadline_s)
        except AuthenticationFailedError as error:
            refused = str(error)
            reports[number] = replace(report, detail=refused)
        except BridgeError as error:
            reports[number] = replace(report, detail=f"it does not tell its shells: {error}")
        else:
            reports[number] = replace(report, shells=shells, detail="")
    return tuple(reports)


def live_shells(
    stamp: Stamp, credential: Credential, address: EndpointAddress, *, deadline_s: float = 10.0
) -> tuple[LiveShell, ...]:
    """The shells on one machine that it shows to this user.

    Raises:
        AuthenticationFailedError: The credentials were refused.
        NotPermittedError: The machine does not let this user enumerate shells.
        EndpointError: It is not to be reached, or answers something else.
    """
    whole_s = max(1, round(deadline_s))
    options = SessionOptions(
        connect_timeout_s=whole_s, operation_timeout_s=whole_s, read_timeout_s=whole_s + 1, answer_timeout_s=deadline_s
    )
    line = Line(address, credential, options, use_https=stamp.use_https, ca_file=stamp.ca_file)
    question = ET.Element(f"{{{NAMESPACES['wsen']}}}Enumerate")
    ET.SubElement(question, f"{{{NAMESPACES['wsman']}}}OptimizeEnumeration")
    ET.SubElement(question, f"{{{NAMESPACES['wsman']}}}MaxElements").text = str(_MOST_SHELLS)
    try:
        with _as_bridge_errors(stamp, credential, line), understanding():
            body = line.wsman.enumerate(_SHELLS, question)
            found = body.findall("wsen:EnumerateResponse/wsman:Items/rsp:Shell", NAMESPACES)
            return tuple(_shell(each) for each in found)
    finally:
        line.close()


@contextmanager
def _as_bridge_errors(stamp: Stamp, credential: Credential, line: Line) -> Iterator[None]:
    try:
        yield
    except THIRD_PARTY as error:
        raise opening_error(
            error,
            host=line.address.host,
            port=line.port,
            stamp=stamp.name,
            username=credential.username,
            configuration="the list of shells",
        ) from error


def _greet(stamp: Stamp, address: EndpointAddress, deadline_s: float) -> MachineReport:
    try:
        identity = identify(address, use_https=stamp.use_https, ca_file=stamp.ca_file, timeout_s=deadline_s)
    except EndpointError as error:
        return MachineReport(address, answers=False, shells=None, detail=str(error.fields.get("detail") or error))
    return MachineReport(address, answers=True, shells=None, detail="not asked for shells", date=identity.date)


def _shell(element: Any) -> LiveShell:
    def text(name: str) -> str:
        return (element.findtext(f"rsp:{name}", "", NAMESPACES) or "").strip()

    return LiveShell(
        shell_id=text("ShellId").upper(),
        configuration=text("ResourceUri").removeprefix(_POWERSHELL),
        owner=text("Owner"),
        connected=text("State") == "Connected",
    )
