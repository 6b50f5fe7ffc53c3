"""Reads WSMan requests and writes answers and faults in the words of Windows hosts (MS-WSMV 2.2, 3.1.4)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape, quoteattr

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

SHELL: Final = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER: Final = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
ENUMERATION: Final = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
HOST_PROCESS_LOST: Final = 1726
"""The fault of a shell whose process has gone."""
ANONYMOUS: Final = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"

NAMES: Final = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "p": "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
    "rsp": SHELL,
    "ps": "http://schemas.microsoft.com/powershell",
    "n": ENUMERATION,
}
_ENVELOPE: Final = (
    '<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
    f' xmlns:x="{TRANSFER}" xmlns:n="{ENUMERATION}"'
    ' xmlns:e="http://schemas.xmlsoap.org/ws/2004/08/eventing"'
    ' xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"'
    f' xmlns:rsp="{SHELL}" xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd">'
)
_IDENTIFY: Final = (
    "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd",
    "http://schemas.dmtf.org/wbem/wsman/identify/1/wsmanidentity.xsd",  # a slip that is widespread in clients
)
_FAULT_ACTION: Final = "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"
_DURATION: Final = re.compile(r"^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$")
_DEFAULT_TIMEOUT_S: Final = 60.0
_LARGEST_ENVELOPE_BYTES: Final = 512_000


@dataclass(frozen=True, slots=True)
class Request:
    """One WSMan request."""

    action: str
    message_id: str
    resource_uri: str
    to: str
    body: Element
    timeout_s: float
    max_envelope_bytes: int
    session_id: str
    locale: str
    selectors: Mapping[str, str]
    options: Mapping[str, str]

    @property
    def shell_id(self) -> str:
        """The ShellId selector, upper case, or an empty string."""
        return self.selectors.get("ShellId", "").upper()


@dataclass(slots=True)
class Reply:
    """An answer: its envelope, and what to do if it could not be delivered."""

    text: str
    status: int = 200
    undelivered: Callable[[], None] | None = field(default=None)


@dataclass(eq=False)
class FaultError(Exception):
    """A SOAP fault as a Windows host words it."""

    code: int
    message: str
    subcode: str = "w:InternalError"
    value: str = "s:Receiver"
    reason: str | None = None
    detail: str | None = None
    provider: tuple[str, str] | None = None

    def envelope(self, machine: str, relates_to: str) -> str:
        """The whole answer."""
        detail = (
            f"<w:FaultDetail>http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/{self.detail}</w:FaultDetail>"
            if self.detail
            else ""
        )
        message = escape(self.message)
        if self.provider is not None:
            name, path = self.provider
            message = f"<f:ProviderFault provider={quoteattr(name)} path={quoteattr(path)}>{message}</f:ProviderFault>"
        fault = (
            f"<s:Fault><s:Code><s:Value>{self.value}</s:Value><s:Subcode><s:Value>{self.subcode}</s:Value></s:Subcode>"
            f'</s:Code><s:Reason><s:Text xml:lang="en-US">{escape(self.reason or self.message)}</s:Text></s:Reason>'
            f'<s:Detail>{detail}<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"'
            f' Code="{self.code}" Machine={quoteattr(machine)}><f:Message>{message}</f:Message></f:WSManFault>'
            "</s:Detail></s:Fault>"
        )
        return envelope(_FAULT_ACTION, relates_to, fault)


def envelope(action: str, relates_to: str, body: str) -> str:
    """An answer with the headers of a Windows host."""
    relates = f"<a:RelatesTo>{escape(relates_to)}</a:RelatesTo>" if relates_to else ""
    return (
        f"{_ENVELOPE}<s:Header><a:Action>{action}</a:Action><a:MessageID>uuid:{new_id()}</a:MessageID>"
        f"<p:ActivityId>{new_id()}</p:ActivityId><a:To>{ANONYMOUS}</a:To>{relates}</s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    )


def answer(request: Request, body: str) -> str:
    """The answer to a request: action + ``Response``."""
    return envelope(request.action + "Response", request.message_id, body)


def new_id() -> str:
    """A GUID as Windows writes it."""
    return str(uuid.uuid4()).upper()


def parse_request(data: bytes) -> Request:
    """Reads an envelope.

    A sealed text may end in NUL bytes that are counted in its length (seen from PowerShell on Linux): they are no XML.

    Raises:
        FaultError: It is no WSMan envelope, or a header of it is not usable.
    """
    try:
        root = ElementTree.fromstring(data.rstrip(b"\0"))
    except (ParseError, DefusedXmlException, UnicodeDecodeError, ValueError) as problem:
        raise _malformed() from problem
    header, body = root.find("s:Header", NAMES), root.find("s:Body", NAMES)
    if header is None or body is None:
        raise _malformed()

    def text(path: str, default: str = "") -> str:
        return (header.findtext(path, default, NAMES) or default).strip()

    locale = header.find("w:Locale", NAMES)
    return Request(
        action=text("a:Action"),
        message_id=text("a:MessageID"),
        resource_uri=text("w:ResourceURI"),
        to=text("a:To"),
        body=body,
        timeout_s=_timeout(text("w:OperationTimeout")),
        max_envelope_bytes=_envelope_size(text("w:MaxEnvelopeSize")),
        session_id=text("p:SessionId"),
        locale=(locale.get("{http://www.w3.org/XML/1998/namespace}lang") if locale is not None else None) or "en-US",
        selectors=_pairs(header, "w:SelectorSet/w:Selector"),
        options=_pairs(header, "w:OptionSet/w:Option"),
    )


def is_identify(data: bytes) -> bool:
    """Whether the body asks ``wsmid:Identify`` (DSP0226 11)."""
    try:
        root = ElementTree.fromstring(data.rstrip(b"\0"))
    except (ParseError, DefusedXmlException, ValueError):
        return False
    return any(root.find(f"s:Body/{{{namespace}}}Identify", NAMES) is not None for namespace in _IDENTIFY)


def identify_response(product_version: str) -> str:
    """What a Windows host says of itself; the exact versions only to somebody who is authenticated."""
    return (
        '<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body>'
        '<wsmid:IdentifyResponse xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">'
        "<wsmid:ProtocolVersion>http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd</wsmid:ProtocolVersion>"
        "<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
        f"<wsmid:ProductVersion>{escape(product_version)}</wsmid:ProductVersion>"
        "</wsmid:IdentifyResponse></s:Body></s:Envelope>"
    )


def _pairs(header: Element, path: str) -> dict[str, str]:
    return {item.get("Name", ""): (item.text or "").strip() for item in header.findall(path, NAMES)}


def parse_duration(text: str) -> float | None:
    """Seconds of an xs:duration, or None."""
    match = _DURATION.match(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _timeout(text: str) -> float:
    if not text:
        return _DEFAULT_TIMEOUT_S
    found = parse_duration(text)
    if found is None:
        raise FaultError(
            2150858767,
            "The WS-Management service cannot process the request. The XML contains an invalid timeout field in the"
            f" SOAP header: {text}. ",
            "a:InvalidMessageInformationHeader",
            "s:Sender",
            "The WS-Management service cannot process the request. The request contains one or more invalid SOAP"
            " headers. ",
        )
    return found


def _envelope_size(text: str) -> int:
    return min(int(text), _LARGEST_ENVELOPE_BYTES) if text.isdigit() else _LARGEST_ENVELOPE_BYTES


def _malformed() -> FaultError:
    return FaultError(
        2150858817,
        "The WS-Management service cannot process the request because the XML is invalid. ",
        "w:SchemaValidationError",
        "s:Sender",
    )


# -- faults that clients rely on ---------------------------------------------------------------------------------------


def timed_out() -> FaultError:
    """2150858793: nothing to receive within OperationTimeout; the client polls again (recorded)."""
    return FaultError(
        2150858793,
        "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  ",
        "w:TimedOut",
    )


def shell_not_found(shell_id: str) -> FaultError:
    """2150858843: no such shell (public reports of Windows hosts)."""
    return _invalid_selectors(
        f"The request for the Windows Remote Shell with ShellId {shell_id} failed because the shell was not found on"
        " the server. Possible causes are: the specified ShellId is incorrect or the shell no longer exists on the"
        " server. Provide the correct ShellId or create a new shell and retry the operation. "
    )


def command_not_found() -> FaultError:
    """2150858843: no such command in the shell (recorded)."""
    return _invalid_selectors(
        "The Windows Remote Shell received a request to perform an operation on a command identifier that does not"
        " exist. Either the command has completed execution or the client specified an invalid command identifier. "
    )


def _invalid_selectors(message: str) -> FaultError:
    return FaultError(
        2150858843,
        message,
        "w:InvalidSelectors",
        "s:Sender",
        "The WS-Management service cannot process the request because the request contained invalid selectors for the"
        " resource. ",
        "UnexpectedSelectors",
    )


def shell_in_use() -> FaultError:
    """2150859213 (0x803381CD): somebody is still connected to the shell."""
    # GUESS: the code is known from public reports, the wording and the subcode are not.
    return FaultError(
        2150859213,
        "The WS-Management service cannot process the request. The shell is in use by a connected client and cannot be"
        " connected to. ",
        "w:Concurrency",
        "s:Receiver",
    )


def idle_timeout_out_of_bounds(longest_s: float) -> FaultError:
    """2150859250: IdleTimeOut is longer than the machine's MaxIdleTimeoutms."""
    # GUESS: the code is that of wsmerror.h, the wording is not known.
    return FaultError(
        2150859250,
        "The WS-Management service cannot process the request. The IdleTimeOut is longer than what the service allows:"
        f" {longest_s:g} seconds. ",
        "w:InvalidParameter",
        "s:Sender",
    )


def shell_disconnected() -> FaultError:
    """2150859204 (0x803381C4): the shell was disconnected; Reconnect or Connect comes first."""
    # GUESS: the code is known from public reports, the wording is not.
    return FaultError(
        2150859204,
        "The WS-Management service cannot process the request because the shell is disconnected. Reconnect to the shell"
        " and retry the operation. ",
        "w:InvalidSelectors",
        "s:Sender",
    )


def host_process_lost(why: str) -> FaultError:
    """1726: the process that serves the shell has gone (public reports of Windows hosts, up to ``why``)."""
    return FaultError(
        HOST_PROCESS_LOST,
        "The WSMan provider host process did not return a proper response.  A provider in the host process may have"
        f" behaved improperly. {why} ",
    )


def too_many_shells(limit: int) -> FaultError:
    """2150859173: MaxShellsPerUser (public reports)."""
    return FaultError(
        2150859173,
        f"The WS-Management service cannot process the request. This user is allowed a maximum number of {limit}"
        " concurrent shells, which has been exceeded. Close existing shells or raise the quota for this user. ",
        "w:QuotaLimit",
    )


def access_denied() -> FaultError:
    """5: the account may not use this endpoint (public reports)."""
    return FaultError(5, "Access is denied. ", "w:AccessDenied", "s:Sender")


def no_such_configuration(name: str) -> FaultError:
    """2150858752 region: the session configuration does not exist; the message is that of real hosts."""
    # GUESS: the message is known from public reports; subcode and number follow InvalidResourceURI of DSP0226.
    return FaultError(
        2150858811,
        f"The WS-Management service cannot process the request. Cannot find the {name} session configuration in the"
        " WSMan: drive on the LOCALHOST computer. ",
        "w:InvalidResourceURI",
        "s:Sender",
        detail="InvalidResourceURI",
    )


def aborted() -> FaultError:
    """995: a pending Receive whose shell was closed or disconnected."""
    # GUESS: ERROR_OPERATION_ABORTED is what public reports of closed shells show.
    return FaultError(
        995,
        "The I/O operation has been aborted because of either a thread exit or an application request. ",
    )


def action_not_supported(action: str) -> FaultError:
    """The resource does not know the action (DSP0226)."""
    return FaultError(
        2150858771,
        f"The WS-Management service cannot process the request because the action is not supported: {action} ",
        "a:ActionNotSupported",
        "s:Sender",
    )


def invalid_parameter(provider: tuple[str, str] | None = None) -> FaultError:
    """87 (recorded)."""
    return FaultError(
        87, "The parameter is incorrect. ", "w:InvalidParameter", "s:Sender", detail="InvalidValue", provider=provider
    )
