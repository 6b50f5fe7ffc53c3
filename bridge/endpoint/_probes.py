"""What can be learnt of an endpoint: is it there, is it WSMan, and which commands with which parameters it has."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
from defusedxml import ElementTree

from bridge.endpoint._answers import AnswerGuard, UnusableAnswerError
from bridge.endpoint._commands import Command, Parameter
from bridge.endpoint._faults import tls_error
from bridge.endpoint._records import Record, Stream
from bridge.endpoint._session import EndpointSession
from bridge.endpoint._words import connection_detail
from bridge.errors import EndpointUnreachableError, NotWSManError
from bridge.stamp import HTTPS_PORT, EndpointAddress

_IDENTIFY = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">'
    "<s:Header/><s:Body><wsmid:Identify/></s:Body></s:Envelope>"
)
_LONGEST_ANSWER_BYTES = 64 * 1024
_SOAP = "application/soap+xml;charset=UTF-8"
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)(?:\s|,|$)")

# One parameter of a syntax line: [[-Name] <type>], [-Name <type>], -Name <type>, [-Name] <type>, [-Switch].
_IN_SYNTAX = re.compile(
    r"(?P<optional>\[)?(?P<position>\[)?-(?P<name>[\w-]+)(?(position)\])(?:\s+<(?P<type>[^>]+)>)?(?(optional)\])"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a machine says of itself before any credential is sent (DSP0226 section 11, wsmid:Identify).

    ``product_version`` is like ``OS: 10.0.17763 SP: 0.0 Stack: 3.0``; the OS part is 0.0.0 where the host hides it.
    Vendor and versions are None where the host answers Identify only after authentication. ``date`` is the host's clock
    (the answer's Date header, whole seconds), where it gave one.
    """

    address: EndpointAddress
    vendor: str | None
    product_version: str | None
    protocol_version: str | None
    auth_schemes: tuple[str, ...]
    date: datetime | None = None


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """One parameter of a command on the endpoint.

    ``type_name`` is the .NET name where the endpoint gave it (``System.String[]``), else PowerShell's short one
    (``string[]``). ``sets`` are the numbers of the syntax lines that have it; it is ``mandatory`` where it is in each.
    """

    name: str
    type_name: str
    mandatory: bool = False
    switch: bool = False
    aliases: tuple[str, ...] = ()
    sets: tuple[int, ...] = ()
    position: int | None = None


@dataclass(frozen=True, slots=True)
class CommandInfo:
    """One command that the endpoint shows; ``syntax`` has a line for each parameter set."""

    name: str
    command_type: str
    parameters: tuple[ParameterInfo, ...]
    syntax: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    def parameter(self, name: str) -> ParameterInfo | None:
        """The parameter that a name stands for, as PowerShell finds it: itself, an alias, or a unique beginning."""
        wanted = name.strip("-:").casefold()
        for parameter in self.parameters:
            if wanted in (parameter.name.casefold(), *(alias.casefold() for alias in parameter.aliases)):
                return parameter
        begins = [parameter for parameter in self.parameters if parameter.name.casefold().startswith(wanted)]
        return begins[0] if len(begins) == 1 else None


def check_tcp(host: str, port: int, *, timeout_s: float = 3.0) -> None:
    """Opens and closes a TCP connection.

    Raises:
        EndpointUnreachableError: There was none to be had.
    """
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return
    except OSError as error:
        raise EndpointUnreachableError(stamp=host, host=host, port=port, detail=connection_detail(error)) from error


def identify(
    address: EndpointAddress, *, use_https: bool = False, ca_file: Path | None = None, timeout_s: float = 5.0
) -> Identity:
    """Asks a machine what it is, without credentials.

    Raises:
        EndpointUnreachableError: Nothing answers there.
        NotWSManError: Something else answers.
        CertificateRejectedError: The certificate was not accepted.
    """
    port = (address.https_port or HTTPS_PORT) if use_https else address.port
    guard = AnswerGuard(2 * timeout_s)
    with requests.Session() as session:
        guard.over(session)
        session.trust_env = False  # the endpoint is on the stamp's own network: no proxy, no netrc
        session.verify = str(ca_file) if ca_file is not None else True
        url = f"{'https' if use_https else 'http'}://{_in_url(address.host)}:{port}/wsman"
        try:
            with guard.watching():
                said = _post(session, url, {"WSMANIDENTIFY": "unauthenticated"}, _IDENTIFY, timeout_s)
            with guard.watching():
                offered = _post(session, url, {}, "", timeout_s)
        except UnusableAnswerError as error:
            raise NotWSManError(host=address.host, port=port, detail=str(error)) from error
        except requests.exceptions.SSLError as error:
            raise tls_error(error, address.host, port) from error
        except requests.exceptions.InvalidHeader as error:
            raise NotWSManError(host=address.host, port=port, detail="it does not speak HTTP") from error
        except requests.exceptions.RequestException as error:
            if "BadStatusLine" in repr(error) or "RemoteDisconnected" in repr(error):
                raise NotWSManError(host=address.host, port=port, detail="it does not speak HTTP") from error
            raise EndpointUnreachableError(
                stamp=address.name, host=address.host, port=port, detail=connection_detail(error)
            ) from error
    schemes = _schemes(offered.offer) or _schemes(said.offer)
    if said.status == 401 and schemes:
        return Identity(address, None, None, None, schemes, offered.date)
    found = _identity_fields(said.content) if said.status == 200 else None
    if found is None:
        raise NotWSManError(host=address.host, port=port, detail=f"HTTP status {said.status} to wsmid:Identify")
    return Identity(
        address,
        found.get("ProductVendor"),
        found.get("ProductVersion"),
        found.get("ProtocolVersion"),
        schemes,
        offered.date,
    )


def list_commands(session: EndpointSession, names: Sequence[str] = ()) -> tuple[CommandInfo, ...]:
    """The commands that the endpoint shows, with their parameters.

    ``Get-Command`` (which must be on the session's allow-list) gives the parameter sets; the protocol's own request
    for metadata, which Import-PSSession uses too, gives the types and aliases.

    Args:
        names: Names or wildcards; empty for every command.

    Raises:
        BridgeError: What ``EndpointSession.run`` raises.
    """
    asked = (Parameter("Name", tuple(names)),) if names else ()
    output = [record.data for record in session.run([Command("Get-Command", asked)]) if record.stream is Stream.OUTPUT]
    shown = [data for data in output if isinstance(data, dict)]
    metadata = {
        str(record.data.get("Name")): record.data for record in _metadata(session, names) if "Name" in record.data
    }
    aliases = [data for data in shown if data.get("CommandType") == "Alias"]
    commands = (data for data in shown if data.get("CommandType") != "Alias")
    infos = (_command_info(data, metadata.get(str(data.get("Name")), {}), aliases) for data in commands)
    return tuple(sorted(infos, key=lambda info: info.name.casefold()))


def _metadata(session: EndpointSession, names: Sequence[str]) -> Iterator[Record]:
    pipeline = session.start_metadata(list(names) or ["*"])
    for record in pipeline.records():
        if record.stream is Stream.OUTPUT and isinstance(record.data, dict):
            yield record


def _command_info(
    data: Mapping[str, Any], metadata: Mapping[str, Any], aliases: Sequence[Mapping[str, Any]]
) -> CommandInfo:
    own_name = str(data.get("Name", ""))
    syntax = tuple(str(line) for line in _list(data.get("ParameterSets")))
    typed = metadata.get("Parameters")
    known = dict(typed) if isinstance(typed, dict) else {}
    plain = data.get("Parameters")
    names = [*known, *(plain if isinstance(plain, dict) else ())]
    in_syntax = [_read_syntax(line) for line in syntax]
    names += [name for line in in_syntax for name in line]
    parameters = (_parameter_info(name, known.get(name), in_syntax) for name in dict.fromkeys(names))
    own_aliases = tuple(
        str(alias.get("Name"))
        for alias in aliases
        if own_name in (alias.get("ResolvedCommandName"), alias.get("Definition"), alias.get("ReferencedCommand"))
    )
    return CommandInfo(own_name, str(data.get("CommandType", "")), tuple(parameters), syntax, own_aliases)


def _parameter_info(name: str, typed: Any, in_syntax: Sequence[Mapping[str, _Written]]) -> ParameterInfo:
    typed = typed if isinstance(typed, dict) else {}
    uses = {number: line[name] for number, line in enumerate(in_syntax) if name in line}
    first = next(iter(uses.values()), None)
    switch = typed.get("SwitchParameter")
    short = first.type_name if first is not None else None
    type_name = typed.get("ParameterType") or short
    return ParameterInfo(
        name=name,
        type_name=str(type_name or ("System.Management.Automation.SwitchParameter" if first else "System.Object")),
        mandatory=bool(uses) and len(uses) == len(in_syntax) and all(use.mandatory for use in uses.values()),
        switch=bool(switch) if switch is not None else first is not None and short is None,
        aliases=tuple(str(alias) for alias in _list(typed.get("Aliases"))),
        sets=tuple(uses),
        position=first.position if first is not None else None,
    )


@dataclass(frozen=True, slots=True)
class _Written:
    mandatory: bool
    position: int | None
    type_name: str | None


def _read_syntax(line: str) -> dict[str, _Written]:
    """The parameters of one line of ``Get-Command -Syntax``; ``[-Name] <type>`` without a bracket around is
    mandatory."""
    found: dict[str, _Written] = {}
    position = 0
    for match in _IN_SYNTAX.finditer(line):
        optional, positional = bool(match["optional"]), bool(match["position"])
        if optional and not positional and line[match.end() - 1] == "]" and match["type"] is None:
            # [-Name] followed by <type> is a positional, mandatory parameter; without it, an optional switch.
            after = re.match(r"\s+<([^>]+)>", line[match.end() :])
            if after is not None:
                found[match["name"]] = _Written(True, position, after[1])
                position += 1
                continue
        found[match["name"]] = _Written(not optional, position if positional else None, match["type"])
        position += positional
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    offer: str
    content: bytes
    date: datetime | None


def _post(session: requests.Session, url: str, headers: Mapping[str, str], body: str, timeout_s: float) -> _Answer:
    with session.post(
        url,
        data=body.encode(),
        headers={"Content-Type": _SOAP, "Accept-Encoding": "identity", **headers},
        timeout=timeout_s,
        stream=True,
        allow_redirects=False,
    ) as answer:
        content = b""
        for chunk in answer.iter_content(_LONGEST_ANSWER_BYTES):
            content += chunk
            if len(content) >= _LONGEST_ANSWER_BYTES:
                break
        offer = answer.headers.get("WWW-Authenticate", "")
        return _Answer(answer.status_code, offer, content, _http_date(answer.headers.get("Date", "")))


def _http_date(text: str) -> datetime | None:
    """RFC 9110 section 5.6.7; a host may send none, or nonsense."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _schemes(header: str) -> tuple[str, ...]:
    parts = (_SCHEME.match(part) for part in header.split(","))
    return tuple(dict.fromkeys(part[1] for part in parts if part is not None))


def _identity_fields(content: bytes) -> dict[str, str] | None:
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError):
        return None
    response = next((element for element in root.iter() if element.tag.endswith("}IdentifyResponse")), None)
    if response is None:
        return None
    return {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in response}


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
