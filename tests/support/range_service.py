"""A blob service that only gives: made-up blobs of any size, in ranges, with a listing; it counts what it was asked."""

from __future__ import annotations

import http.server
import re
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Self

_PATTERN = bytes(range(256)) * 4096  # 1 MiB, the same from every multiple of 256


def content_at(offset: int, size_bytes: int) -> bytes:
    """What every made-up blob has there."""
    start = offset % 256
    whole = _PATTERN * (1 + (start + size_bytes) // len(_PATTERN))
    return whole[start : start + size_bytes]


class RangeService:
    """Blobs by name and size; ``ranges`` and ``sent`` tell what was asked for and when bytes went out."""

    def __init__(self, blobs: Mapping[str, int], *, tls: ssl.SSLContext | None = None) -> None:
        self.blobs = dict(blobs)
        self.ranges: list[tuple[str, int, int]] = []
        self.sent: list[tuple[float, int]] = []
        self.conditions: list[str | None] = []
        self.cut_after: int | None = None
        """The next answer ends after so many bytes."""
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 0
            disable_nagle_algorithm = True

            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                if "comp=list" in query:
                    self._answer(200, service.listing(), {"Content-Type": "application/xml"})
                    return
                name = path.split("/", 3)[3]
                size = service.blobs.get(name)
                found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if size is None or found is None:
                    self._answer(404, b"", {"x-ms-error-code": "BlobNotFound"})
                    return
                first, last = int(found[1]), min(int(found[2]), size - 1)
                if first > last:
                    self._answer(416, b"", {"x-ms-error-code": "InvalidRange"})
                    return
                service.ranges.append((name, first, last))
                service.conditions.append(self.headers.get("If-Match"))
                self._head(206, last - first + 1, {"Content-Range": f"bytes {first}-{last}/{size}", "ETag": '"0x1"'})
                if service.cut_after is not None:
                    self.wfile.write(content_at(first, service.cut_after))
                    service.cut_after = None
                    self.close_connection = True
                    return
                while first <= last:
                    part = content_at(first, min(65536, last - first + 1))
                    self.wfile.write(part)
                    service.sent.append((time.monotonic(), len(part)))
                    first += len(part)

            def do_HEAD(self) -> None:
                size = service.blobs.get(self.path.partition("?")[0].split("/", 3)[3])
                self._head(404 if size is None else 200, size or 0, {"ETag": '"0x1"', "x-ms-blob-type": "BlockBlob"})

            def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
                self._head(status, len(body), headers)
                self.wfile.write(body)

            def _head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(length)}.items():
                    self.send_header(name, value)
                self.end_headers()

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Readers go away when they have enough."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def listing(self) -> bytes:
        blobs = "".join(
            f"<Blob><Name>{name}</Name><Properties><Etag>0x1</Etag><Content-Length>{size}</Content-Length>"
            "<BlobType>BlockBlob</BlobType></Properties></Blob>"
            for name, size in sorted(self.blobs.items())
        )
        text = f"<EnumerationResults ContainerName='c'><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
        return b"<?xml version='1.0' encoding='utf-8'?>" + text.encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
