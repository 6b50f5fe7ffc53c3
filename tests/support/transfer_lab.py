"""What the transfer tests share: trees of files with known content, a proxy that flips bytes, made-up large files."""

from __future__ import annotations

import hashlib
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from bridge.secrets import Secret
from bridge.store import Entry, Reader, Store, StoreSettings, open_store, parse_destination
from bridge.store.transfer import hash_files
from tests.support.tcp_proxy import TcpProxy

KIB, MIB = 1 << 10, 1 << 20


def make_tree(root: Path, sizes: Mapping[str, int], seed: int = 1) -> Path:
    """Files of these sizes with content that depends on the seed, and a ``bagit.txt``."""
    source = random.Random(seed)
    for path, size in sizes.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.randbytes(size))
    (root / "bagit.txt").write_text("BagIt-Version: 1.0\n")
    return root


def digests_in_folder(root: Path) -> dict[str, tuple[int, str]]:
    """Path to size and SHA-256, without any code of the project."""
    return {
        path.relative_to(root).as_posix(): (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in root.rglob("*")
        if path.is_file()
    }


def digests_in_store(store: Store) -> dict[str, tuple[int, str]]:
    """Path to size and SHA-256 of what a store gives back when everything in it is read."""
    found = {}
    for entry in store.list():
        digest, size = hashlib.sha256(), 0
        buffer = memoryview(bytearray(MIB))
        with store.open_read(entry.path) as reader:
            while read := reader.readinto(buffer):
                digest.update(buffer[:read])
                size += read
        found[entry.path] = (size, digest.hexdigest())
    return found


def end_hashing_after_a_stall(store: Store, folder: str, proxy: TcpProxy) -> None:
    """Hashes until the line falls silent, then gives it up: no thread of it is left, whatever the line's time-out."""
    cancel = threading.Event()
    hashed: list[str] = []

    def hash_them() -> None:
        hashed.extend(done.path for done in hash_files(store, folder, cancel=cancel))

    proxy.stall_after(8 * MIB)
    hashing = threading.Thread(target=hash_them, daemon=True)
    hashing.start()
    assert proxy.stalled.wait(60)
    time.sleep(1)  # what had come is used up; all that is left waits for the server
    assert hashing.is_alive()
    cancel.set()
    hashing.join(60)
    ended = not hashing.is_alive()
    proxy.stall(False)
    assert ended, "the threads wait for an answer that does not come"
    assert len(hashed) < 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hash-")]


OPENED: list[Store] = []


def opened(store: Store) -> Store:
    """Remembers a store, so that ``close_opened`` ends its connections after the test."""
    OPENED.append(store)
    return store


def opened_store(*given: Any, **more: Any) -> Store:
    return opened(open_store(*given, **more))


def close_opened() -> None:
    while OPENED:
        OPENED.pop().close()


SAS = Secret("sv=2019-02-02&sr=c&sp=racwl&se=2099-01-01T00:00:00Z&sig=c2VjcmV0c2VjcmV0")
"""For services that look at no signature."""


def container(port: int, api_version: str | None = "2019-02-02") -> Store:
    """A folder of a container at such a service."""
    return opened_store(
        parse_destination(f"http://127.0.0.1:{port}/account/container/west"),
        sas=SAS,
        settings=StoreSettings(api_version=api_version),
    )


class FlippingProxy:
    """Forwards one TCP target and changes one byte on its way up, once, at a given place of a body."""

    def __init__(self, port: int, *, flip_at: int | None) -> None:
        self._target = ("127.0.0.1", port)
        self._flip_at = flip_at
        self._lock = threading.Lock()
        self.flipped = 0
        self.bytes_up = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for one in [self._listener, *self._sockets]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            self._start(self._pump, client, server, True)
            self._start(self._pump, server, client, False)

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(64 * KIB):
                sink.sendall(self._changed(data) if up else data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _changed(self, data: bytes) -> bytes:
        with self._lock:
            start, self.bytes_up = self.bytes_up, self.bytes_up + len(data)
            if self._flip_at is None or not start <= self._flip_at < self.bytes_up:
                return data
            place = self._flip_at - start
            self._flip_at = None
            self.flipped += 1
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


class TunnelProxy(FlippingProxy):
    """An HTTP proxy that answers CONNECT and then forwards to one port, whatever was asked for."""

    def __init__(self, port: int) -> None:
        super().__init__(port, flip_at=None)
        self.asked: list[str] = []

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        if up:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = source.recv(1)
                if not byte:
                    return
                head += byte
            self.asked.append(head.decode())
            source.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        super()._pump(source, sink, up)


class MeteringProxy(FlippingProxy):
    """Notes when how many bytes went up: all of them, requests' heads too. With a rate it is a slow line."""

    def __init__(self, port: int, *, bytes_per_s: int | None = None) -> None:
        super().__init__(port, flip_at=None)
        self._bytes_per_s = bytes_per_s
        self.up: list[tuple[float, int]] = []
        if bytes_per_s is not None:  # a long line takes no more ahead than it carries in a moment
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)

    def _changed(self, data: bytes) -> bytes:
        if self._bytes_per_s is not None:
            time.sleep(len(data) / self._bytes_per_s)
        self.up.append((time.monotonic(), len(data)))
        return data

    def between(self, start: float, end: float) -> int:
        """Bytes that went up in a span of the monotonic clock."""
        return sum(size for at, size in self.up if start < at <= end)


@dataclass(eq=False)
class Body:
    """The content of one Put Blob or Put Block as it came by; of any other request, nothing."""

    kind: Literal["blob", "block", "other"]
    size_bytes: int
    received: int = 0


class BodyCountingProxy(FlippingProxy):
    """Reads the HTTP that passes, and counts the content that is put: bodies, not heads, lists or questions."""

    def __init__(self, port: int) -> None:
        super().__init__(port, flip_at=None)
        self.bodies: dict[int, list[Body]] = {}
        """By connection, in the order in which they came."""
        self._flowing: set[tuple[int, bool]] = set()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        connection = id(source) if up else id(sink)
        with self._lock:
            bodies = self.bodies.setdefault(connection, [])
            self._flowing.add((connection, up))
        messages = _Messages(partial(self._begun, bodies), partial(self._came, bodies))
        with suppress(OSError):
            while data := source.recv(64 * KIB):
                if up:
                    messages.feed(data)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

        with self._lock:
            self._flowing.discard((connection, up))

    def drained(self) -> None:
        """Waits until everything has come by that the ended clients had sent."""
        while self._flowing:
            time.sleep(0.01)

    def _begun(self, bodies: list[Body], head: bytes) -> int:
        size = _length_of(head)
        method, target = head.split(b" ", 2)[:2]
        if method != b"PUT" or b"comp=blocklist" in target:
            bodies.append(Body("other", 0))
        else:
            bodies.append(Body("block" if b"comp=block" in target else "blob", size))
        return size

    def _came(self, bodies: list[Body], size_bytes: int) -> None:
        if bodies[-1].kind != "other":
            bodies[-1].received += size_bytes

    @property
    def put_bytes(self) -> int:
        return sum(body.received for bodies in self.bodies.values() for body in bodies)

    def in_flight(self, connection: int, lot_bytes: int) -> int:
        """What was under way last on a connection, its sender cannot know whether it arrived: a block, or the small
        blobs that go together in a lot."""
        size = 0
        for body in reversed(self.bodies[connection]):
            if body.kind == "other" or size + body.size_bytes > lot_bytes:
                break
            size += body.received
            if body.kind == "block":
                break
        return size


class _Messages:
    """Takes the requests of an HTTP/1.1 connection apart: tells of each head, and of the bytes of each body."""

    def __init__(self, on_head: Callable[[bytes], int], on_body: Callable[[int], None]) -> None:
        self._on_head, self._on_body = on_head, on_body
        self._waiting = b""
        self._left = 0

    def feed(self, data: bytes) -> None:
        self._waiting += data
        while self._waiting:
            if self._left:
                size = min(self._left, len(self._waiting))
                self._on_body(size)
                self._waiting, self._left = self._waiting[size:], self._left - size
            else:
                head, end, rest = self._waiting.partition(b"\r\n\r\n")
                if not end:
                    return
                self._waiting, self._left = rest, self._on_head(head)


def _length_of(head: bytes) -> int:
    found = re.search(rb"(?im)^content-length: *(\d+)", head)
    return int(found[1]) if found else 0


class MadeUpStore:
    """A source whose files are as large as one likes and take no space: each is its path's digest, repeated."""

    location = "made-up"

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = dict(sizes)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        return (Entry(path, size) for path, size in sorted(self._sizes.items()) if path.startswith(prefix))

    def stat(self, path: str) -> Entry:
        return Entry(path, self._sizes[path])

    @contextmanager
    def open_read(self, path: str, offset: int = 0) -> Iterator[Reader]:
        yield _MadeUpReader(path, self._sizes[path], offset)


class _MadeUpReader:
    def __init__(self, path: str, size_bytes: int, offset: int) -> None:
        self.size_bytes = size_bytes
        self._pattern = hashlib.sha256(path.encode()).digest() * 8192
        self._offset = offset

    def readinto(self, buffer: memoryview, /) -> int:
        size = min(len(buffer), self.size_bytes - self._offset)
        done = 0
        while done < size:
            start = (self._offset + done) % 32
            part = self._pattern[start : start + size - done]
            buffer[done : done + len(part)] = part
            done += len(part)
        self._offset += size
        return size


def made_up(sizes: Mapping[str, int]) -> Any:
    """Such a source, in the place of a whole store."""
    return MadeUpStore(sizes)
