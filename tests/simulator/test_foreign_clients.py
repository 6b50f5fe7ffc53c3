"""Clients that share no code with the simulated endpoint: gss-ntlmssp authenticates and seals, curl authenticates."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import shutil
import struct
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bridge.simulator import EndpointServer, TlsOptions
from tests.support.psrp_replay import Message, fragment, load, messages_of
from tests.support.recorded_commands import RECORDED_COMMANDS

gssapi = pytest.importorskip("gssapi", reason="not run: the Python package gssapi is missing")

NTLM = "1.3.6.1.4.1.311.2.2.10"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
RESOURCE = "http://schemas.microsoft.com/powershell/PrivilegedEndpoint"
BOUNDARY = "Encrypted Boundary"
RSP = f"{{{SHELL}}}"


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with EndpointServer(RECORDED_COMMANDS, tls=TlsOptions(strict_channel_binding=False)) as running:
        yield running


class GssClient:
    """WSMan over one HTTP connection, sealed by gss-ntlmssp."""

    def __init__(self, server: EndpointServer, password: str | None = None) -> None:
        mechanism = gssapi.OID.from_int_seq(NTLM)
        if mechanism not in gssapi.raw.indicate_mechs():
            pytest.skip("not run: gss-ntlmssp (Debian package gss-ntlmssp) is missing")
        name = gssapi.Name(server.account.username, gssapi.NameType.user)
        secret = (password or server.account.password.reveal()).encode()
        acquired = gssapi.raw.acquire_cred_with_password(name, secret, usage="initiate", mechs=[mechanism])
        flags = gssapi.RequirementFlag.integrity | gssapi.RequirementFlag.confidentiality
        self.context = gssapi.SecurityContext(
            name=gssapi.Name("HTTP@localhost", gssapi.NameType.hostbased_service),
            creds=gssapi.Credentials(acquired.creds),
            mech=mechanism,
            flags=flags,
            usage="initiate",
        )
        self.connection = http.client.HTTPConnection(server.host, server.port, timeout=30)

    def close(self) -> None:
        self.connection.close()

    def authenticate(self) -> int:
        token = self.context.step()
        status = 401
        while token is not None:
            header = f"Negotiate {base64.b64encode(token).decode()}"
            self.connection.request("POST", "/wsman", b"", {"Authorization": header})
            response = self.connection.getresponse()
            response.read()
            status = response.status
            answer = (response.headers.get("WWW-Authenticate") or "").partition(" ")[2]
            token = self.context.step(base64.b64decode(answer)) if status == 401 and answer else None
        return status

    def call(self, action: str, body: str, *, shell: str | None = None, trailing: str = "") -> ElementTree.Element:
        """One request; ``trailing`` stands at the end of the sealed text, counted in its length."""
        text = (_envelope(action, body, shell) + trailing).encode()
        wrapped = self.context.wrap(text, True).message
        sealed = struct.pack("<i", 16) + wrapped  # the first 16 bytes are the signature
        head = (
            f"--{BOUNDARY}\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
            f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={len(text)}\r\n"
            f"--{BOUNDARY}\r\n\tContent-Type: application/octet-stream\r\n"
        )
        content_type = f'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="{BOUNDARY}"'
        data = head.encode() + sealed + f"--{BOUNDARY}--\r\n".encode()
        self.connection.request("POST", "/wsman", data, {"Content-Type": content_type})
        response = self.connection.getresponse()
        raw = response.read()
        start = raw.index(b"octet-stream\r\n") + len(b"octet-stream\r\n")
        payload = raw[start + 4 : raw.rindex(f"--{BOUNDARY}--".encode())]
        return ElementTree.fromstring(self.context.unwrap(payload).message)

    def receive(self, shell: str, command: str | None) -> tuple[list[Message], bool]:
        attribute = f' CommandId="{command}"' if command else ""
        body = f"<rsp:Receive><rsp:DesiredStream{attribute}>stdout</rsp:DesiredStream></rsp:Receive>"
        root = self.call(f"{SHELL}/Receive", body, shell=shell)
        streams = [base64.b64decode(item.text or "") for item in root.iter(f"{RSP}Stream")]
        return list(messages_of(streams)), root.find(f".//{RSP}CommandState") is not None


def _envelope(action: str, body: str, shell: str | None) -> str:
    selectors = f'<w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet>' if shell else ""
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
        ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
        f' xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:rsp="{SHELL}"><s:Header>'
        f"<a:To>http://localhost/wsman</a:To><a:Action>{action}</a:Action><a:MessageID>uuid:{uuid.uuid4()}</a:MessageID>"
        f"<w:ResourceURI>{RESOURCE}</w:ResourceURI><w:OperationTimeout>PT20S</w:OperationTimeout>{selectors}"
        f"</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )


def _base64(*parts: bytes) -> str:
    return base64.b64encode(b"".join(parts)).decode()


def test_gss_ntlmssp_authenticates_seals_and_runs_a_command(server: EndpointServer) -> None:
    with contextlib.closing(GssClient(server)) as client:
        assert client.authenticate() == 200
        _run_recorded_command(client)
    assert server.shells() == []


def _run_recorded_command(client: GssClient) -> None:
    pool, shell = uuid.uuid4(), str(uuid.uuid4()).upper()
    opening = [m for m in load("from-powershell/open")["messages"] if m["from"] == "client"]
    blobs = [fragment(n, m["type"], m["clixml"], pool, None) for n, m in enumerate(opening, 1)]
    create = (
        f'<rsp:Shell ShellId="{shell}"><rsp:InputStreams>stdin pr</rsp:InputStreams><rsp:OutputStreams>stdout'
        '</rsp:OutputStreams><creationXml xmlns="http://schemas.microsoft.com/powershell">'
        f"{_base64(*blobs)}</creationXml></rsp:Shell>"
    )
    # PowerShell on Linux ends the sealed text in a NUL, and tells console colour -1 in its opening.
    created = client.call("http://schemas.xmlsoap.org/ws/2004/09/transfer/Create", create, trailing="\0")
    assert created.find(f".//{RSP}ShellId") is not None
    opened, _ = client.receive(shell, None)
    assert [message.kind for message in opened] == [
        "SESSION_CAPABILITY",
        "APPLICATION_PRIVATE_DATA",
        "RUNSPACEPOOL_STATE",
    ]
    question: dict[str, Any] = load("from-powershell/collect-ok")["messages"][0]
    pipeline = uuid.uuid4()
    arguments = _base64(fragment(9, question["type"], question["clixml"], pool, pipeline))
    line = (
        f'<rsp:CommandLine CommandId="{pipeline}"><rsp:Command/><rsp:Arguments>{arguments}</rsp:Arguments>'
        "</rsp:CommandLine>"
    )
    client.call(f"{SHELL}/Command", line, shell=shell)
    kinds: list[str] = []
    done = False
    while not done:
        messages, done = client.receive(shell, str(pipeline))
        kinds += [message.kind for message in messages]
    assert kinds == [m["type"] for m in load("from-powershell/collect-ok")["messages"] if m["from"] == "server"]
    client.call("http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete", "", shell=shell)


def test_gss_ntlmssp_with_a_wrong_password_is_refused(server: EndpointServer) -> None:
    with contextlib.closing(GssClient(server, "wrong")) as client:
        assert client.authenticate() == 401


@pytest.fixture
def curl() -> str:
    found = shutil.which("curl")
    if found is None or b"NTLM" not in subprocess.run([found, "--version"], capture_output=True, check=True).stdout:
        pytest.skip("not run: no curl with NTLM")
    return found


IDENTIFY = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:i="http://schemas.dmtf.org/wbem/wsman/'
    'identify/1/wsmanidentity.xsd"><s:Header/><s:Body><i:Identify/></s:Body></s:Envelope>'
)


def _curl(curl: str, tmp_path: Path, server: EndpointServer, url: str, password: str) -> str:
    certificate = tmp_path / "endpoint.pem"
    certificate.write_text(server.certificate_pem, encoding="ascii")
    user = server.account.username
    (tmp_path / "curl.conf").write_text(f'user = "{user.replace(chr(92), chr(92) * 2)}:{password}"\n', encoding="utf-8")
    arguments = [curl, "-s", "-K", str(tmp_path / "curl.conf"), "--ntlm", "--cacert", str(certificate), "-d", IDENTIFY]
    arguments += ["-H", "Content-Type: application/soap+xml;charset=UTF-8", "-w", "\n%{http_code}", url]
    environment = {**os.environ, "no_proxy": "*"}
    return subprocess.run(arguments, capture_output=True, env=environment, timeout=60, check=False).stdout.decode()


def test_curl_authenticates_over_https(curl: str, tmp_path: Path, server: EndpointServer) -> None:
    url = f"https://{server.host}:{server.https_port}/wsman"
    answer = _curl(curl, tmp_path, server, url, server.account.password.reveal())
    assert answer.endswith("200")
    assert "OS: 10.0.17763 SP: 0.0 Stack: 3.0" in answer


def test_curl_authenticates_over_http_and_its_plain_body_is_refused(
    curl: str, tmp_path: Path, server: EndpointServer
) -> None:
    url = f"http://{server.host}:{server.port}/wsman"
    assert _curl(curl, tmp_path, server, url, server.account.password.reveal()).endswith("500")
    assert _curl(curl, tmp_path, server, url, "wrong").endswith("401")
