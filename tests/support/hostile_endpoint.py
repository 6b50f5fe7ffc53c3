"""An endpoint that answers what no endpoint should: HTTP that never ends, SOAP that is none, fragments that lie."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from bridge.simulator import EndpointServer
from bridge.simulator.wsman._shells import Caller, _receive_response
from bridge.simulator.wsman._soap import SHELL, Reply, Request, answer

_CHUNK = b"x" * 65536
OutputAnswer = Callable[[Request, str], Reply]
"""What a Receive is answered with; gets the request and the id of its command."""


def endless_header() -> Iterable[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX-Endless: "
    while True:
        yield _CHUNK


def endless_headers() -> Iterable[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    number = 0
    while True:
        number += 1
        yield b"X-%d: again\r\n" % number


def trickled_head() -> Iterable[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX-Slow: "
    while True:
        time.sleep(0.05)
        yield b"."


def huge_announcement() -> Iterable[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nContent-Length: 99999999999\r\n\r\n"
    while True:
        yield _CHUNK


def endless_body() -> Iterable[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"10000\r\n" + _CHUNK + b"\r\n"


def body_until_the_end_of_time() -> Iterable[bytes]:
    yield b"HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Type: application/soap+xml\r\n\r\n"
    while True:
        yield _CHUNK


def trickled_body() -> Iterable[bytes]:
    yield b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/xml\r\nContent-Length: 100000\r\n\r\n"
    while True:
        time.sleep(0.05)
        yield b"."


def answer_in_clear() -> Iterable[bytes]:
    body = b"<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope'><s:Header/><s:Body/></s:Envelope>"
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class RawText(str):
    """A text whose encoding is these bytes."""

    raw: bytes

    def encode(self, *_: Any) -> bytes:
        return self.raw


def raw(data: bytes) -> RawText:
    text = RawText("raw")
    text.raw = data
    return text


def in_place_of(old: str, new: str) -> OutputAnswer:
    """An otherwise good answer in which something is replaced."""

    def reply(request: Request, command_id: str) -> Reply:
        text = answer(request, _receive_response(command_id, [b"data"], done=False))
        assert old in text
        return Reply(text.replace(old, new, 1))

    return reply


def whole(text: str) -> OutputAnswer:
    return lambda _request, _command_id: Reply(text)


def fragments(*parts: bytes) -> OutputAnswer:
    """A good answer with these fragments as the command's output."""
    return lambda request, command_id: Reply(answer(request, _receive_response(command_id, list(parts), done=False)))


def fragment(object_id: int, number: int, flags: int, data: bytes, *, claimed: int | None = None) -> bytes:
    return struct.pack(">QQBI", object_id, number, flags, len(data) if claimed is None else claimed) + data


def message(kind: int, clixml: str) -> bytes:
    return struct.pack("<II16s16s", 1, kind, bytes(16), bytes(16)) + clixml.encode("utf-8", "surrogatepass")


@contextmanager
def answering_instead(server: EndpointServer, replies: list[OutputAnswer]) -> Iterator[None]:
    """Every answer to a Receive of a command is taken from ``replies`` as long as there are any."""
    service = server._service
    honest = service.handle

    async def handle(request: Request, caller: Caller) -> Reply:
        desired = request.body.find(f"{{{SHELL}}}Receive/{{{SHELL}}}DesiredStream")
        command_id = "" if desired is None else desired.get("CommandId") or ""
        if replies and request.action == f"{SHELL}/Receive" and command_id:
            return replies.pop(0)(request, command_id)
        return await honest(request, caller)

    service.handle = handle  # type: ignore[method-assign]
    try:
        yield
    finally:
        service.handle = honest  # type: ignore[method-assign]
