"""Each reason why a machine gives no session is an error of its own, and the next machine is tried, except after a
refused password."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from bridge.endpoint import SessionOptions, check_tcp, identify, open_session
from bridge.errors import (
    AuthenticationFailedError,
    BridgeError,
    CertificateRejectedError,
    EndpointUnreachableError,
    ExitCode,
    NotWSManError,
)
from bridge.secrets import Credential, Secret
from bridge.stamp import EndpointAddress, Stamp

CREDENTIAL = Credential("CORP\\operator", Secret("Kn0wn-Passw0rd"))
OPTIONS = SessionOptions(connect_timeout_s=3, read_timeout_s=3, operation_timeout_s=1)
Answer = tuple[int, dict[str, str], bytes]


class Web:
    """A web server that gives every POST the same answer and counts them."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        web = self
        self.posts = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                web.posts += 1
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, body = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
                """Says nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that refuses the certificate is what the test wants."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def answering(data: bytes) -> Iterator[int]:
    """A port that answers the first bytes of each connection with these, whatever they are."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def stamp_at(*ports: int, https: bool = False, ca_file: Path | None = None) -> Stamp:
    endpoints = tuple(
        EndpointAddress(f"AzS-ERCS0{number}", "127.0.0.1", port, port) for number, port in enumerate(ports, 1)
    )
    return Stamp("test-stamp", endpoints, use_https=https, ca_file=ca_file)


def failure_of(stamp: Stamp) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        open_session(stamp, CREDENTIAL, allow=(), options=OPTIONS)
    return caught.value


def test_a_closed_port_is_unreachable_and_every_machine_is_named() -> None:
    first, second = free_port(), free_port()
    error = failure_of(stamp_at(first, second))
    assert type(error) is EndpointUnreachableError
    assert error.exit_code is ExitCode.UNREACHABLE
    assert "AzS-ERCS01" in str(error)
    assert "AzS-ERCS02" in str(error)
    assert "the connection was refused" in str(error)
    assert [name for name, _ in error.fields["failures"]] == ["AzS-ERCS01", "AzS-ERCS02"]
    assert "TCP" in error.advice


def test_an_unknown_name_is_unreachable() -> None:
    stamp = Stamp("test-stamp", (EndpointAddress("AzS-ERCS01", "ercs01.invalid"),))
    assert "the name is not known" in str(failure_of(stamp))


def test_a_stamp_without_addresses_is_unreachable() -> None:
    assert type(failure_of(Stamp("empty", ()))) is EndpointUnreachableError


def test_a_port_that_never_answers_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=8) as silent:
        error = failure_of(stamp_at(silent.getsockname()[1]))
    assert type(error) is EndpointUnreachableError
    assert "no answer in time" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        (404, {}, b"<html>not found</html>"),
        (200, {"Content-Type": "text/html"}, b"<html>a printer</html>"),
        (401, {"WWW-Authenticate": 'Basic realm="printer"'}, b""),
        (403, {}, b""),
        (500, {}, b"oops"),
    ],
    ids=lambda answer: str(answer[0]),
)
def test_another_web_server_is_not_wsman(answer: Answer) -> None:
    with Web(answer) as web:
        error = failure_of(stamp_at(web.port))
    assert type(error) is NotWSManError, error
    assert error.exit_code is ExitCode.UNREACHABLE


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00\x01\x02"])
def test_what_does_not_speak_http_is_no_session(data: bytes) -> None:
    with answering(data) as port:
        error = failure_of(stamp_at(port))
    assert isinstance(error, EndpointUnreachableError)


def test_a_refused_password_is_tried_on_one_machine_only() -> None:
    challenge: Answer = (401, {"WWW-Authenticate": "Negotiate"}, b"")
    with Web(challenge) as first, Web(challenge) as second:
        error = failure_of(stamp_at(first.port, second.port))
        assert type(error) is AuthenticationFailedError
        assert error.exit_code is ExitCode.AUTHENTICATION
        assert "CORP\\operator" in str(error)
        assert first.posts > 0
        assert second.posts == 0


def test_the_next_machine_is_tried_when_the_first_is_no_endpoint() -> None:
    challenge: Answer = (401, {"WWW-Authenticate": "Negotiate"}, b"")
    with Web((404, {}, b"")) as first, Web(challenge) as second:
        error = failure_of(stamp_at(free_port(), first.port, second.port))
        assert type(error) is AuthenticationFailedError
        assert second.posts > 0


def test_different_reasons_are_told_together() -> None:
    with Web((404, {}, b"")) as web:
        error = failure_of(stamp_at(free_port(), web.port))
    assert type(error) is EndpointUnreachableError
    assert "refused" in str(error)
    assert "404" in str(error)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def tls_server(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_an_untrusted_certificate_is_rejected(authority: trustme.CA) -> None:
    with Web((401, {}, b""), tls_server(authority, "127.0.0.1")) as web:
        error = failure_of(stamp_at(web.port, https=True))
    assert type(error) is CertificateRejectedError
    assert "ca_file" in error.advice


def test_a_certificate_for_another_name_is_rejected(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with Web((401, {}, b""), tls_server(authority, "other.example")) as web:
        error = failure_of(stamp_at(web.port, https=True, ca_file=ca_file))
    assert type(error) is CertificateRejectedError


def test_a_trusted_certificate_is_accepted(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with Web((404, {}, b""), tls_server(authority, "127.0.0.1")) as web:
        error = failure_of(stamp_at(web.port, https=True, ca_file=ca_file))
    assert type(error) is NotWSManError
    assert "404" in str(error)


def test_https_to_a_plain_port_is_no_certificate_problem() -> None:
    with Web((404, {}, b"")) as web:
        error = failure_of(stamp_at(web.port, https=True))
    assert type(error) is NotWSManError


def test_a_tcp_check_tells_open_from_closed() -> None:
    with ExitStack() as stack:
        open_port = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        check_tcp("127.0.0.1", open_port)
    with pytest.raises(EndpointUnreachableError, match="refused"):
        check_tcp("127.0.0.1", free_port())


IDENTITY = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>'
    b'<wsmid:IdentifyResponse xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">'
    b"<wsmid:ProtocolVersion>http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd</wsmid:ProtocolVersion>"
    b"<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
    b"<wsmid:ProductVersion>OS: 0.0.0 SP: 0.0 Stack: 3.0</wsmid:ProductVersion>"
    b"</wsmid:IdentifyResponse></s:Body></s:Envelope>"
)


def identity_at(answer: Answer) -> Callable[[], object]:
    def ask() -> object:
        with Web(answer) as web:
            return identify(EndpointAddress("AzS-ERCS01", "127.0.0.1", web.port))

    return ask


def test_identify_reads_the_product_without_credentials() -> None:
    with Web((200, {"WWW-Authenticate": 'Negotiate, Basic realm="WSMAN"'}, IDENTITY)) as web:
        identity = identify(EndpointAddress("AzS-ERCS01", "127.0.0.1", web.port))
    assert identity.vendor == "Microsoft Corporation"
    assert identity.product_version == "OS: 0.0.0 SP: 0.0 Stack: 3.0"
    assert identity.auth_schemes == ("Negotiate", "Basic")


def test_a_host_that_hides_its_identity_still_tells_its_schemes() -> None:
    with Web((401, {"WWW-Authenticate": "Negotiate, Kerberos"}, b"")) as web:
        identity = identify(EndpointAddress("AzS-ERCS01", "127.0.0.1", web.port))
    assert identity.vendor is None
    assert identity.auth_schemes == ("Negotiate", "Kerberos")


@pytest.mark.parametrize(
    "answer",
    [(404, {}, b""), (200, {}, b"<html>"), (200, {}, b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"), (401, {}, b"")],
    ids=["404", "html", "entities", "no scheme"],
)
def test_identify_of_something_else_is_not_wsman(answer: Answer) -> None:
    with pytest.raises(NotWSManError):
        identity_at(answer)()


def test_identify_of_a_closed_port_is_unreachable() -> None:
    with pytest.raises(EndpointUnreachableError, match="refused"):
        identify(EndpointAddress("AzS-ERCS01", "127.0.0.1", free_port()))
