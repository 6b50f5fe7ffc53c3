"""One persistent HTTP/1.1 connection that sends from buffers without copying, several requests at once if asked."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import sys
import time
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote, urlsplit

from bridge import __version__
from bridge.errors import UsageError
from bridge.secrets import Secret
from bridge.store._protocol import Buffer
from bridge.store._rate import RateLimiter

USER_AGENT = f"pep-bridge/{__version__}"
BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses of a service that is busy or failing for the moment."""

_LONGEST_RETRY_AFTER_S = 600.0
_LONGEST_HEAD = 64 << 10
_LONGEST_BODY = 64 << 20  # a block list of 50,000 blocks is 8 MB
_RECEIVE_BYTES = 64 << 10
_RECEIVE_AT_ONCE = 256 << 10  # of a long body: how much one call of the system waits for
_SEND_FOR_S = 1.0  # how long one call of the system may take: after that the rate is looked at again
_UNSENT_BYTES = 1 << 20  # how much the system may hold back for a slow line: a new rate cannot reach it


class WireError(OSError):
    """The connection failed, or what came back is not HTTP; nothing is known of unanswered requests."""


class CertificateError(WireError):
    """The service's certificate was not accepted: waiting does not help."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that opens tunnels (CONNECT, RFC 9110 section 9.3.6)."""

    host: str
    port: int
    authorization: Secret | None = None

    @property
    def url(self) -> str:
        """As other HTTP clients take it, with its login. Only for them."""
        login = b64decode(self.authorization.reveal()).decode() if self.authorization else ""
        name, _, password = login.partition(":")
        known = f"{quote(name, safe='')}:{quote(password, safe='')}@" if login else ""
        return f"http://{known}{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Response:
    """A status, the headers by lower-case name, and the body."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    def header(self, name: str) -> str | None:
        value = self.headers.get(name.encode("ascii"))
        return None if value is None else value.decode("latin-1")


class Connection:
    """Opened on first use; after a ``WireError`` it is closed and opens anew with the next request.

    Not for several threads, except ``abort``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        limiter: RateLimiter,
        timeout_s: float,
        connect_timeout_s: float = 15.0,
        proxy: Proxy | None = None,
    ) -> None:
        self._proxy = proxy
        self._host = host
        self._port = port
        self._tls = tls
        self._limiter = limiter
        self._timeout_s = timeout_s
        self._connect_timeout_s = min(timeout_s, connect_timeout_s)
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._closing = False
        self._cut_short = False
        self._waits_by_itself = False

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, parts: Sequence[Buffer], on_sent: Callable[[int], None] | None = None) -> None:
        """Sends heads and bodies in this order; ``on_sent`` is told of bytes as the line takes them.

        Raises:
            WireError: not connected, cut, or nothing taken for the time-out.
        """
        try:
            connected = self._connected()
            if self._limiter.limited or isinstance(connected, ssl.SSLSocket):
                for part in parts:
                    self._send_slices(connected, memoryview(part).cast("B"), on_sent)
            else:
                self._send_at_once(connected, parts, on_sent)
        except (BrokenPipeError, ConnectionResetError) as error:
            if self._socket is None:
                raise self._broken(error) from error
            # A service that refuses answers before it has read the body, and closes: the answer may be waiting.
            self._closing = self._cut_short = True
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def _send_at_once(
        self, connected: socket.socket, parts: Sequence[Buffer], on_sent: Callable[[int], None] | None
    ) -> None:
        rest = [memoryview(part).cast("B") for part in parts]
        moved_at = time.monotonic()
        while rest:
            try:
                if sys.platform != "win32":
                    sent = connected.sendmsg(rest[:512])
                else:  # which cannot gather them
                    sent = connected.send(rest[0])
            except BlockingIOError:  # nothing was taken for _SEND_FOR_S
                if time.monotonic() - moved_at >= self._timeout_s:
                    raise
                sent = 0
            else:
                moved_at = time.monotonic()
            if on_sent is not None:
                on_sent(sent)
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if sent:
                rest[0] = rest[0][sent:]
            if self._limiter.limited:  # since a moment ago
                for part in rest:
                    self._send_slices(connected, part, on_sent)
                return

    def _send_slices(self, connected: socket.socket, rest: memoryview, on_sent: Callable[[int], None] | None) -> None:
        while rest:
            piece = rest[: self._limiter.slice_bytes()]
            self._limiter.spend(len(piece))
            while piece:
                sent = self._send_piece(connected, piece)
                piece = piece[sent:]
                rest = rest[sent:]
                if on_sent is not None:
                    on_sent(sent)

    def _send_piece(self, connected: socket.socket, piece: memoryview) -> int:
        started = time.monotonic()
        while True:
            try:
                return connected.send(piece)
            except BlockingIOError:
                if time.monotonic() - started >= self._timeout_s:
                    raise

    # -- receiving ----------------------------------------------------------------------------------------------------

    def receive(self) -> Response:
        """The answer to the oldest unanswered request.

        Raises:
            WireError: cut, silent for the time-out, or not HTTP.
        """
        try:
            status, headers = self._receive_final_head()
            if self._cut_short and status < 300:
                raise ValueError("the service said yes before it had taken the request")
            response = Response(status, headers, self._receive_body(status, headers))
        except (OSError, ValueError, IndexError) as error:
            raise self._broken(error) from error
        self._answered(response)
        return response

    def _answered(self, response: Response) -> None:
        if response.headers.get(b"connection", b"").lower() == b"close":
            self._closing = True

    def receive_into(
        self,
        buffer: memoryview,
        on_head: Callable[[int, Mapping[bytes, bytes]], None],
        on_received: Callable[[int], None],
    ) -> Response:
        """The same, with the body of a good answer (200, 206) in ``buffer`` and not in the response.

        ``on_head`` sees its head first, and may refuse it with a ``ValueError``; ``on_received`` is told of each part
        of the body once it lies there, so that what came before a cut is kept.

        Raises:
            WireError: as ``receive``, or the body is longer than the buffer.
        """
        try:
            status, headers = self._receive_final_head()
            if status in {200, 206}:
                on_head(status, headers)
                response = Response(status, headers, b"")
                self._receive_body_into(headers, buffer, on_received)
            else:
                response = Response(status, headers, self._receive_body(status, headers))
        except (OSError, ValueError, IndexError) as error:
            raise self._broken(error) from error
        self._answered(response)
        return response

    def receive_start(self, on_head: Callable[[int, Mapping[bytes, bytes]], None]) -> int:
        """The head of a good answer (200, 206) whose body ``receive_part`` then brings; returns the body's size.

        Raises:
            WireError: as ``receive``; any other answer, and one without a size, closes the connection too.
        """
        try:
            status, headers = self._receive_final_head()
            if status not in {200, 206}:
                raise ValueError("the service does not answer with content")
            on_head(status, headers)
            if headers.get(b"connection", b"").lower() == b"close":
                self._closing = True
            return int(headers[b"content-length"])
        except (OSError, ValueError, LookupError) as error:
            raise self._broken(error) from error

    def receive_part(self, buffer: memoryview) -> int:
        """The next bytes of the body that ``receive_start`` has begun; the buffer is no longer than what is left.

        Raises:
            WireError: cut, or silent for the time-out.
        """
        if self._received:
            size = min(len(self._received), len(buffer))
            buffer[:size] = self._received[:size]
            del self._received[:size]
            return size
        try:
            return self._receive_some(buffer)
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def _receive_body_into(
        self, headers: Mapping[bytes, bytes], buffer: memoryview, on_received: Callable[[int], None]
    ) -> None:
        if b"content-length" not in headers:
            body = self._receive_chunks()
            size, at = len(body), len(body)
            if size <= len(buffer):
                buffer[:size] = body
        else:
            size = int(headers[b"content-length"])
            at = min(len(self._received), size, len(buffer))
            buffer[:at] = self._received[:at]
            del self._received[:at]
        if not 0 <= size <= len(buffer):
            raise ValueError("the answer is not as long as what was asked for")
        on_received(at)
        while at < size:
            received = self._receive_some(buffer[at:size])
            at += received
            on_received(received)

    def _receive_some(self, buffer: memoryview) -> int:
        if self._socket is None:
            raise ConnectionError("the connection is closed")
        if self._waits_by_itself:
            received = self._socket.recv_into(buffer, min(len(buffer), _RECEIVE_AT_ONCE), socket.MSG_WAITALL)
        else:
            received = self._socket.recv_into(buffer)
        if not received:
            raise ConnectionResetError("the service closed the connection")
        return received

    @property
    def closing(self) -> bool:
        """The service has said that it answers nothing more on this connection."""
        return self._closing

    def _receive_final_head(self) -> tuple[int, dict[bytes, bytes]]:
        while True:
            status, headers = self._receive_head()
            if status >= 200:
                return status, headers

    def _receive_head(self) -> tuple[int, dict[bytes, bytes]]:
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if len(self._received) > _LONGEST_HEAD:
                raise ValueError("the answer's head has no end")
            self._receive_more()
        lines = bytes(self._received[:end]).split(b"\r\n")
        del self._received[: end + 4]
        if not lines[0].startswith(b"HTTP/1."):
            raise ValueError("the answer is not HTTP/1.1")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        return int(lines[0][9:12]), headers

    def _receive_body(self, status: int, headers: Mapping[bytes, bytes]) -> bytes:
        if status in {204, 304}:
            return b""
        if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            return self._receive_chunks()
        return self._take(int(headers.get(b"content-length", b"0")))

    def _receive_chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = int(self._take_line().partition(b";")[0], 16)
            if size < 0 or len(body) + size > _LONGEST_BODY:
                raise ValueError("the answer is too long")
            if size == 0:
                while self._take_line():
                    pass
                return bytes(body)
            body += self._take(size)
            self._take_line()

    def _take_line(self) -> bytes:
        while (end := self._received.find(b"\r\n")) < 0:
            if len(self._received) > _LONGEST_HEAD:
                raise ValueError("a line of the answer has no end")
            self._receive_more()
        line = bytes(self._received[:end])
        del self._received[: end + 2]
        return line

    def _take(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST_BODY:
            raise ValueError("the answer is too long")
        while len(self._received) < size:
            self._receive_more()
        body = bytes(self._received[:size])
        del self._received[:size]
        return body

    def _receive_more(self) -> None:
        if self._socket is None:
            raise ConnectionError("the connection is closed")
        received = self._socket.recv(_RECEIVE_BYTES)
        if not received:
            raise ConnectionResetError("the service closed the connection")
        self._received += received

    # -- the socket ---------------------------------------------------------------------------------------------------

    def _connected(self) -> socket.socket:
        if self._socket is not None and (self._closing or self._gone_stale()):
            self.close()
        if self._socket is None:
            first = (self._proxy.host, self._proxy.port) if self._proxy else (self._host, self._port)
            plain = socket.create_connection(first, timeout=self._connect_timeout_s)
            try:
                if self._proxy:
                    self._open_tunnel(plain, self._proxy)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if (unsent := getattr(socket, "TCP_NOTSENT_LOWAT", None)) is not None:
                    plain.setsockopt(socket.IPPROTO_TCP, unsent, _UNSENT_BYTES)
                self._socket = self._tls.wrap_socket(plain, server_hostname=self._host) if self._tls else plain
                self._waits_by_itself = _set_timeouts(self._socket, self._timeout_s)
            except BaseException:
                plain.close()
                raise
        return self._socket

    def _open_tunnel(self, plain: socket.socket, proxy: Proxy) -> None:
        authority = f"{self._host}:{self._port}"
        known = f"Proxy-Authorization: Basic {proxy.authorization.reveal()}\r\n" if proxy.authorization else ""
        plain.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{known}\r\n".encode("ascii"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows belongs to TLS
            byte = plain.recv(1)
            if not byte or len(head) > _LONGEST_HEAD:
                raise ConnectionError(f"the proxy {proxy.host}:{proxy.port} closed the connection")
            head += byte
        if head[9:10] != b"2":
            words = head.split(b"\r\n")[0].decode("latin-1")
            raise ConnectionError(f"the proxy {proxy.host}:{proxy.port} opens no tunnel: {words}")

    def _gone_stale(self) -> bool:
        """Whether the service has closed a connection while nothing was asked, which is no failure; or has answered
        what nobody has asked, which must not be taken for the next answer (RFC 9112, section 9.2)."""
        if self._socket is None:
            return False
        return bool(self._received) or bool(select.select([self._socket], [], [], 0)[0])

    def _broken(self, error: Exception) -> WireError:
        self.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            return CertificateError(f"the certificate of {self._host} was not accepted: {error.verify_message}")
        if isinstance(error, (TimeoutError, BlockingIOError)):
            return WireError(f"nothing moved for {self._timeout_s:.0f} s")
        return WireError(str(error) or type(error).__name__)

    def close(self) -> None:
        connected, self._socket = self._socket, None
        self._received.clear()
        self._closing = self._cut_short = False
        if connected is not None:
            with suppress(OSError):
                connected.close()

    def abort(self) -> None:
        """Wakes a thread that is sending or receiving; it sees a ``WireError``. May be called from any thread."""
        connected = self._socket
        if connected is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)


def proxy_for(host: str) -> Proxy | None:
    """The proxy that the environment or the operating system names for HTTPS to this host.

    Raises:
        UsageError: what is named there is not the address of an HTTP proxy.
    """
    if urllib.request.proxy_bypass(host):
        return None
    text = urllib.request.getproxies().get("https", "").strip()
    if not text:
        return None
    try:
        named = urlsplit(text if "://" in text else f"http://{text}")  # curl and its kin take a bare host as well
        known = named.hostname is not None and (named.port is None or named.port > 0)
    except ValueError:
        known = False
    if not known:
        raise UsageError(detail="the proxy for HTTPS cannot be used: write HTTPS_PROXY as http://name:port")
    if named.scheme != "http":
        raise UsageError(
            detail=f"the proxy for HTTPS cannot be used: '{named.scheme}' is not spoken to proxies,"
            " write HTTPS_PROXY as http://name:port"
        )
    login = f"{unquote(named.username or '')}:{unquote(named.password or '')}" if named.username else ""
    authorization = Secret(b64encode(login.encode()).decode("ascii")) if login else None
    return Proxy(named.hostname or "", named.port or 8080, authorization)


def retry_after_s(value: str | None) -> float | None:
    """``Retry-After`` in seconds, written so or as a date (RFC 9110, section 10.2.3); never longer than ten minutes."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), _LONGEST_RETRY_AFTER_S)
    try:
        until = parsedate_to_datetime(value)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        wait_s = (until - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait_s, 0.0), _LONGEST_RETRY_AFTER_S)


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """TLS 1.2 or later with certificate and name checked, against the given authorities or the system's."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _set_timeouts(connected: socket.socket, timeout_s: float) -> bool:
    """A blocking socket whose system calls time out by themselves, where the system has such; tells whether it has.

    Python's own time-outs make the socket non-blocking: a 4 MiB block would then be sent in dozens of wake-ups, each of
    which takes the interpreter lock. ``SO_SNDTIMEO`` lets one call take all of it, or what a slow line takes of it in a
    second: then a new rate is heeded in the middle of a block.
    """
    has_own = sys.platform != "win32" and not isinstance(connected, ssl.SSLSocket)
    connected.settimeout(None if has_own else timeout_s)
    if has_own:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(min(timeout_s, _SEND_FOR_S)))
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(timeout_s))
    return has_own


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
