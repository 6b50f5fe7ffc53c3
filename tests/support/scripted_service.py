"""A blob service that answers as a test tells it to: for what Azurite never says (503, Retry-After, 507, lies)."""

from __future__ import annotations

import http.server
import io
import re
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

EMPTY_LISTING = b"<EnumerationResults><Blobs /><NextMarker /></EnumerationResults>"


@dataclass
class Request:
    """One request as it arrived, with the time of its last byte."""

    method: str
    target: str
    headers: dict[str, str]
    body_bytes: int
    at: float


@dataclass
class Answer:
    """What to say to a request."""

    status: int = 201
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def block_list(blocks: Iterable[tuple[str, int]], kind: str = "CommittedBlocks") -> Answer:
    """What Get Block List answers: names (Base64) and sizes."""
    listed = "".join(f"<Block><Name>{name}</Name><Size>{size}</Size></Block>" for name, size in blocks)
    return Answer(200, body=f"<BlockList><{kind}>{listed}</{kind}></BlockList>".encode())


class _QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class ScriptedService:
    """Takes every blob; ``answer`` may say something else to a request, or nothing by returning ``None``."""

    def __init__(
        self,
        answer: Callable[[Request], Answer | None] = lambda request: None,
        *,
        tls: ssl.SSLContext | None = None,
        answers_together: int = 1,
    ) -> None:
        """
        Args:
            answers_together: nobody hears of a PUT before so many of them have come on the connection.
        """
        self.requests: list[Request] = []
        self.received: list[tuple[float, int]] = []
        self._answer = answer
        self._blocks: dict[tuple[str, str], int] = {}
        self._lists: dict[str, list[tuple[str, int]]] = {}
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def setup(self) -> None:
                super().setup()
                self._line = self.wfile
                self._hold()

            def _hold(self) -> None:
                self.wfile = self._answers = io.BytesIO()
                self._held = 0

            def log_message(self, *arguments: object) -> None:
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:
                    self.close_connection = True

            def serve(self) -> None:
                left = int(self.headers.get("Content-Length", "0"))
                total, body = left, b""
                while left:
                    part = self.rfile.read1(min(left, 65536))
                    if not part:
                        self.close_connection = True
                        return
                    left -= len(part)
                    body += part if "comp=blocklist" in self.path else b""
                    service.received.append((time.monotonic(), len(part)))
                request = Request(self.command, self.path, dict(self.headers), total, time.monotonic())
                service.requests.append(request)
                answer = service._answer(request) or service._usual(request, body.decode())
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
                self._held += self.command == "PUT"
                if self.command != "PUT" or self._held >= answers_together:
                    self._line.write(self._answers.getvalue())
                    self._line.flush()
                    self._hold()

            do_PUT = do_GET = do_HEAD = serve  # noqa: N815

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def _usual(self, request: Request, body: str) -> Answer:
        path, _, query = request.target.partition("?")
        fields = dict(part.partition("=")[::2] for part in query.split("&"))
        if request.method == "GET" and fields.get("comp") == "list":
            return Answer(200, body=EMPTY_LISTING)
        if request.method == "GET" and fields.get("comp") == "blocklist":
            return block_list(self.committed(path) if fields.get("blocklisttype") == "committed" else [])
        if fields.get("comp") == "block":
            name = fields["blockid"].replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
            self._blocks[path, name] = request.body_bytes
        if fields.get("comp") == "blocklist":
            names = re.findall("<Latest>([^<]+)</Latest>", body)
            self._lists[path] = [(name, self._blocks.get((path, name), 0)) for name in names]
        echo = {name: value for name, value in request.headers.items() if name.lower() == "x-ms-content-crc64"}
        return Answer(201, {"ETag": '"0x1"', **echo})

    def committed(self, target: str) -> list[tuple[str, int]]:
        """Name and size of each block of which a blob was made, in their order."""
        return list(self._lists.get(target.partition("?")[0], []))

    @property
    def body_bytes(self) -> int:
        return sum(size for _, size in self.received)

    def __enter__(self) -> ScriptedService:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
