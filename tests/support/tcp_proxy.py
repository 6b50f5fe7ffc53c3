"""A TCP proxy on loopback that cuts, resets, stalls and refuses: the bad line of the tests."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from types import TracebackType

_CHUNK_BYTES = 256 * 1024
_HEARD_BYTES = 1 << 20
_RESET_ON_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # SO_LINGER with time 0: close() sends RST


class TcpProxy:
    """Forwards every connection to one target, as long as the test lets it.

    ``stall`` holds bytes back in both directions (a silent line); ``refuse`` resets new connections as soon as they
    come; ``cut`` ends the present ones (FIN), ``reset`` ends them with RST. ``cut_after`` resets each new
    connection once it has carried that many bytes to the client; ``stall_after`` stalls the line, once, when all of
    them together have carried so many more, and then sets ``stalled``. ``listen_on`` is the proxy's own address;
    ``source`` may be set to the local address that it connects from, as if its client had another one from then on.
    ``answer_with`` speaks in the target's place. What clients send is in ``heard``, up to a megabyte.
    """

    def __init__(self, target_host: str, target_port: int, listen_on: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.target = (target_host, target_port)
        self.source: str | None = None
        self.heard = bytearray()
        self.bytes_up = 0
        self.bytes_down = 0
        self.connections = 0
        self._listener = socket.create_server(listen_on)
        self.host, self.port = self._listener.getsockname()[:2]
        self._lock = threading.Lock()
        self._open: list[_Pair] = []
        self._threads: list[threading.Thread] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._swallowing = False
        self._cut_after: int | None = None
        self._stall_at: int | None = None
        self.stalled = threading.Event()
        self._speech: Callable[[], Iterable[bytes]] | None = None
        self._closed = False

    def __enter__(self) -> TcpProxy:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        for thread in self._threads:
            thread.join()

    def stall(self, stalled: bool = True) -> None:
        """Holds everything back, or lets it go on."""
        if stalled:
            self._flowing.clear()
        else:
            self._flowing.set()

    def refuse(self, refusing: bool = True) -> None:
        """Resets every new connection, or no longer."""
        self._refusing = refusing

    def cut_after(self, size_bytes: int | None) -> None:
        """Resets each connection that is opened from now on after so many bytes to the client; None ends that."""
        self._cut_after = size_bytes

    def stall_after(self, size_bytes: int) -> None:
        """Stalls the line, once, when so many more bytes have gone to clients."""
        self.stalled.clear()
        self._stall_at = self.bytes_down + size_bytes

    def swallow_answers(self, swallowing: bool = True) -> None:
        """Drops what the target says: requests arrive there, and nobody learns what came of them."""
        self._swallowing = swallowing

    def answer_with(self, speech: Callable[[], Iterable[bytes]] | None) -> None:
        """From now on whatever a client sends is answered with this, and the target hears nothing of it."""
        self._speech = speech

    def cut(self) -> int:
        """Ends the present connections in order (FIN); returns how many there were."""
        return self._end_all(reset=False)

    def reset(self) -> int:
        """Ends the present connections with RST; returns how many there were."""
        return self._end_all(reset=True)

    def _end_all(self, *, reset: bool) -> int:
        with self._lock:
            pairs, self._open = self._open, []
        for pair in pairs:
            pair.end(reset=reset)
        return len(pairs)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="tcp-proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._refusing:
                _close(client, reset=True)
                continue
            try:
                source = (self.source, 0) if self.source is not None else None
                server = socket.create_connection(self.target, timeout=10, source_address=source)
            except OSError:
                _close(client, reset=True)
                continue
            pair = _Pair(client, server, self._cut_after)
            with self._lock:
                self._open.append(pair)
            self._start(self._forward, pair)

    def _forward(self, pair: _Pair) -> None:
        with selectors.DefaultSelector() as selector:
            for here in (pair.client, pair.server):
                try:
                    here.settimeout(30)
                    selector.register(here, selectors.EVENT_READ)
                except (OSError, ValueError):
                    return
            while not pair.ended:
                for key, _ in selector.select(timeout=0.1):
                    if not self._pass_on(pair, key.fileobj is pair.client):
                        pair.end(reset=False)
                        return

    def _pass_on(self, pair: _Pair, upwards: bool) -> bool:
        source, sink = (pair.client, pair.server) if upwards else (pair.server, pair.client)
        while not self._flowing.wait(0.1):
            if pair.ended:
                return False
        try:
            data = source.recv(_CHUNK_BYTES)
            if not data:
                return False
            if upwards and self._speech is not None:
                return self._speak(pair, self._speech)
            if not upwards and pair.left is not None:
                data = data[: pair.left]
                pair.left -= len(data)
            if upwards or not self._swallowing:
                sink.sendall(data)
        except OSError:
            return False
        if upwards:
            self.bytes_up += len(data)
            self.heard += data[: max(_HEARD_BYTES - len(self.heard), 0)]
        else:
            self.bytes_down += len(data)
            if self._stall_at is not None and self.bytes_down >= self._stall_at:
                self._stall_at = None
                self.stall()
                self.stalled.set()
            if pair.left == 0:
                pair.end(reset=True)
                return False
        return True

    def _speak(self, pair: _Pair, speech: Callable[[], Iterable[bytes]]) -> bool:
        for part in speech():
            if pair.ended or self._closed:
                break
            pair.client.sendall(part)
        return False


class _Pair:
    """The two ends of one forwarded connection."""

    def __init__(self, client: socket.socket, server: socket.socket, left: int | None) -> None:
        self.client, self.server, self.left = client, server, left
        self.ended = False

    def end(self, *, reset: bool) -> None:
        if self.ended:
            return
        self.ended = True
        for end in (self.client, self.server):
            _close(end, reset=reset)


def _close(end: socket.socket, *, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        else:
            end.shutdown(socket.SHUT_RDWR)
    end.close()
