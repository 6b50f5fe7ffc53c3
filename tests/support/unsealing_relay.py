"""A relay that speaks sealed NTLM WinRM to an endpoint and plain HTTP to the test beside it, so that a recorder sees
the conversation itself. It listens on loopback only, and holds the credential; what is recorded holds none."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import requests
from pypsrp.exceptions import AuthenticationError, WinRMTransportError
from pypsrp.wsman import WSMan

from bridge.endpoint._line import quiet_libraries
from bridge.secrets import Credential


class UnsealingRelay:
    """Forwards each SOAP message to one endpoint, a connection there for each connection here."""

    def __init__(self, host: str, port: int, credential: Credential) -> None:
        quiet_libraries()
        relay = self
        self.credential = credential
        self.endpoint = (host, port)

        class Handler(_Handler):
            pass

        Handler.relay = relay
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host, self.port = str(self._server.server_address[0]), int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1})

    def __enter__(self) -> UnsealingRelay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    relay: UnsealingRelay
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        host, port = self.relay.endpoint
        credential = self.relay.credential
        self.upstream = WSMan(
            host,
            port=port,
            username=credential.username,
            password=credential.password.reveal(),
            ssl=False,
            auth="ntlm",
            no_proxy=True,
        ).transport

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "WSMANIDENTIFY" in self.headers:
            self._identify(body)
        elif not body:
            self._answer(401, b"")
        else:
            self._forward(body)

    def _identify(self, body: bytes) -> None:
        host, port = self.relay.endpoint
        headers = {"WSMANIDENTIFY": "unauthenticated", "Content-Type": "application/soap+xml;charset=UTF-8"}
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"http://{host}:{port}/wsman", data=body, headers=headers, timeout=10)
            self._answer(answer.status_code, answer.content)

    def _forward(self, body: bytes) -> None:
        try:
            self._answer(200, self.upstream.send(body))
        except AuthenticationError:
            self._answer(401, b"")
        except WinRMTransportError as error:
            text = error.response_text
            self._answer(error.code, text if isinstance(text, bytes) else text.encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Negotiate")
        self.send_header("Content-Type", "application/soap+xml;charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Says nothing."""
