"""Ranges of blobs over the lean wire, each continued at the byte where a cut left it; for all who read a container."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from bridge.errors import StoreError
from bridge.secrets import Secret
from bridge.store._access import ContainerAccess
from bridge.store._buffers import aligned_buffer
from bridge.store._rate import RateLimiter
from bridge.store._settings import StoreSettings
from bridge.store._wire import (
    BUSY,
    USER_AGENT,
    CertificateError,
    Connection,
    Response,
    WireError,
    proxy_for,
    retry_after_s,
    tls_context,
)

BUFFERS = 8
BUFFER_BYTES = 4 << 20
"""Eight ranges of 4 MiB are what all readers of a container may have asked ahead, together."""

_IDLE_CONNECTIONS = 16
_LONGEST_WAIT_S = 60.0  # whoever is asked to wait longer is told so, and may wait where it can be stopped
_CONTENT_RANGE = re.compile(rb"bytes (\d{1,18})-(-?\d{1,18})/(\d{1,18})")
_ETAG = re.compile(r"[\x21\x23-\x7e]{1,200}")


class Refused(Exception):  # noqa: N818 - becomes a StoreError in the store, which knows the service's codes
    """The service has answered, and not with content."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class Abandoned(Exception):  # noqa: N818 - never seen by a caller of the store
    """Nobody wants this range any more, or the store was closed."""


@dataclass(frozen=True, slots=True)
class BlobState:
    """What the service says of a blob when it gives a part of it."""

    size_bytes: int
    etag: str | None


@dataclass(slots=True, eq=False)
class Wanted:
    """A part of a blob that is to be read into a buffer; ``filled`` bytes of it are there."""

    name: str
    path: str
    etag: str | None
    offset: int
    buffer: memoryview
    filled: int = 0
    state: BlobState | None = None
    error: StoreError | None = None
    done: bool = False
    abandoned: bool = False
    connection: Connection | None = None
    took_s: float = 0.0
    on_filled: Callable[[], None] = field(default=lambda: None)
    give_back: Callable[[], None] = field(default=lambda: None)

    def abandon(self) -> None:
        """Nobody waits for it any more; what is under way ends at once."""
        self.abandoned = True
        if (connection := self.connection) is not None:
            connection.abort()


class BlobReads:
    """Connections, buffers and threads with which all blobs of one container are read. For several threads."""

    def __init__(self, container_url: str, sas: Secret, settings: StoreSettings) -> None:
        self.access = ContainerAccess.at(container_url, sas, ca_file=settings.ca_file)
        self._settings = settings
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._free: list[memoryview] = []
        self._lent = 0
        self._readers = 0
        self._threads: ThreadPoolExecutor | None = None
        self._closing = threading.Event()
        self._unlimited = RateLimiter(self._closing)
        self.limiter = self._unlimited
        """What paces the asking; the bytes of an answer come as fast as the line bears."""
        secure = self.access.scheme == "https"
        self._tls = tls_context(settings.ca_file) if secure else None
        self._proxy = proxy_for(self.access.host) if secure else None

    # -- one range ----------------------------------------------------------------------------------------------------

    def fetch(self, wanted: Wanted, version: str) -> None:
        """Fills a range, going on at the byte reached after a cut, a stall or a busy service.

        Raises:
            WireError: the service cannot be reached, ``retries`` times in a row without a byte.
            Refused: it answers with something else than the range.
        """

        def is_filled() -> bool:
            if wanted.state is not None and wanted.filled >= self._expected(wanted, wanted.state):
                return True
            if wanted.abandoned:
                raise Abandoned
            return False

        def ask(connection: Connection) -> None:
            wanted.connection = connection
            try:
                self._ask(connection, wanted, version)
            finally:
                wanted.connection = None

        self._ask_until(is_filled, ask, reached=lambda: wanted.filled)

    def get(self, target: str, version: str) -> bytes:
        """The body of a short answer, such as a page of a listing.

        Raises:
            WireError: the service cannot be reached, ``retries`` times in a row.
            Refused: it answers with something else.
        """
        bodies: list[bytes] = []

        def ask(connection: Connection) -> None:
            connection.send([self._head(target, version)])
            response = connection.receive()
            if response.status != 200:
                raise Refused(response)
            bodies.append(response.body)

        self._ask_until(lambda: bool(bodies), ask)
        return bodies[0]

    def _ask_until(
        self, is_done: Callable[[], bool], ask: Callable[[Connection], None], *, reached: Callable[[], int] = lambda: 0
    ) -> None:
        """Asks as often as it takes; gives up after ``retries`` times in a row that nothing more was ``reached``."""
        failures = 0
        while not is_done():
            if self._closing.is_set():
                raise Abandoned
            before = reached()
            connection = self._take()
            reused = connection.is_open
            problem: WireError | Refused | None = None
            try:
                ask(connection)
            except (WireError, Refused) as error:
                problem = error
            finally:
                self._give(connection)
            if problem is None or reached() > before:
                failures = 0
            elif reused and isinstance(problem, WireError):
                self._forget_idle()  # the service may have closed what it left waiting: that is no failure
            else:
                failures += 1
                self._wait_or_raise(problem, failures)

    def _head(self, target: str, version: str, more: str = "") -> bytes:
        return (
            f"GET {target} HTTP/1.1\r\nHost: {self.access.authority}\r\nUser-Agent: {USER_AGENT}\r\n"
            f"x-ms-version: {version}\r\n{more}\r\n"
        ).encode("ascii")

    def _wait_or_raise(self, problem: WireError | Refused, failures: int) -> None:
        wait_s = _wait_s(problem, failures)
        if failures > self._settings.retries or wait_s > _LONGEST_WAIT_S or not _may_pass(problem):
            raise problem
        if failures > 1 or isinstance(problem, Refused):
            self._closing.wait(wait_s)

    def stream(self, wanted: Wanted, size_bytes: int, version: str) -> BlobStream:
        """A longer part of a blob in one answer, taken as it comes. Nothing of it is tried again.

        Raises:
            WireError: it cannot be had.
        """
        first, last = wanted.offset, wanted.offset + size_bytes - 1
        connection = self._take()
        try:
            condition = f'If-Match: "{wanted.etag}"\r\n' if wanted.etag else ""
            target = self.access.target(wanted.name)
            connection.send([self._head(target, version, f"Range: bytes={first}-{last}\r\n{condition}")])
            left = connection.receive_start(lambda status, headers: _expect_part(status, headers, first, last))
        except WireError:
            self._give(connection)
            raise
        return BlobStream(connection, left, self._give)

    def _expected(self, wanted: Wanted, state: BlobState) -> int:
        return min(len(wanted.buffer), max(0, state.size_bytes - wanted.offset))

    def _ask(self, connection: Connection, wanted: Wanted, version: str) -> None:
        first, last = wanted.offset + wanted.filled, wanted.offset + len(wanted.buffer) - 1
        self.limiter.spend(last - first + 1)
        etag = wanted.etag or (wanted.state.etag if wanted.state else None)  # what follows a cut is of the same version
        condition = f'If-Match: "{etag}"\r\n' if etag else ""
        target = self.access.target(wanted.name)
        connection.send([self._head(target, version, f"Range: bytes={first}-{last}\r\n{condition}")])

        def begins(status: int, headers: Mapping[bytes, bytes]) -> None:
            wanted.state = _state(status, headers, first, last)

        def comes(size_bytes: int) -> None:
            wanted.filled += size_bytes
            wanted.on_filled()

        response = connection.receive_into(wanted.buffer[wanted.filled :], begins, comes)
        if response.status not in {200, 206}:
            raise Refused(response)

    # -- connections --------------------------------------------------------------------------------------------------

    def _take(self) -> Connection:
        with self._lock:
            connection = self._idle.pop() if self._idle else self._new_connection()
            self._busy.add(connection)
            return connection

    def _new_connection(self) -> Connection:
        return Connection(
            self.access.host,
            self.access.port,
            tls=self._tls,
            limiter=self._unlimited,
            timeout_s=self._settings.io_timeout_s,
            connect_timeout_s=self._settings.connect_timeout_s,
            proxy=self._proxy,
        )

    def _give(self, connection: Connection) -> None:
        with self._lock:
            self._busy.discard(connection)
            keep = connection.is_open and not self._closing.is_set() and len(self._idle) < _IDLE_CONNECTIONS
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()

    def _forget_idle(self) -> None:
        with self._lock:
            forgotten, self._idle = self._idle, []
        for connection in forgotten:
            connection.close()

    # -- asking ahead -------------------------------------------------------------------------------------------------

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Counts a reader in for its share of the buffers."""
        with self._lock:
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    self._free.clear()

    @property
    def share(self) -> int:
        """How many ranges one reader may have asked ahead."""
        return max(1, BUFFERS // max(1, self._readers))

    def lend(self) -> memoryview | None:
        """A buffer, if one is left; never waits, so that readers do not wait for each other."""
        with self._lock:
            if self._lent >= BUFFERS or self._closing.is_set():
                return None
            self._lent += 1
            return self._free.pop() if self._free else aligned_buffer(BUFFER_BYTES)

    def take_back(self, buffer: memoryview) -> None:
        with self._lock:
            self._lent -= 1
            if self._readers:
                self._free.append(buffer)

    def start(self, work: Callable[[], None]) -> None:
        """Has one of the threads do it."""
        with self._lock:
            if self._closing.is_set():
                return
            if self._threads is None:
                self._threads = ThreadPoolExecutor(BUFFERS, thread_name_prefix="container-read")
            self._threads.submit(work)

    # -- pace and end -------------------------------------------------------------------------------------------------

    @contextmanager
    def paced(self, limiter: RateLimiter) -> Iterator[None]:
        self.limiter = limiter
        try:
            yield
        finally:
            self.limiter = self._unlimited

    def abort(self) -> None:
        """Wakes whoever waits for the service; they see a ``WireError``."""
        with self._lock:
            busy = list(self._busy)
        for connection in busy:
            connection.abort()

    @property
    def is_closed(self) -> bool:
        return self._closing.is_set()

    def close(self) -> None:
        self._closing.set()
        self.abort()
        self._forget_idle()
        with self._lock:
            threads, self._threads = self._threads, None
            self._free.clear()
        if threads is not None:
            threads.shutdown(cancel_futures=True)


class BlobStream:
    """The rest of an answer. For one thread."""

    def __init__(self, connection: Connection, left: int, give_back: Callable[[Connection], None]) -> None:
        self.left = left
        self._connection = connection
        self._give_back = give_back

    def readinto(self, buffer: memoryview) -> int:
        """Raises ``WireError`` when it is cut."""
        read = self._connection.receive_part(buffer[: self.left])
        self.left -= read
        return read

    def close(self) -> None:
        if self.left:
            self._connection.close()  # what nobody reads would be taken for the next answer
        self._give_back(self._connection)


def usable_etag(etag: str | None) -> str | None:
    """An ETag that may stand in a header, without its quotes.

    Raises:
        ValueError: it has other characters.
    """
    if etag is not None and not _ETAG.fullmatch(etag):
        raise ValueError(etag)
    return etag


def _state(status: int, headers: Mapping[bytes, bytes], first: int, last: int) -> BlobState:
    """What the head of a good answer says, once it is the range that was asked for."""
    etag = headers.get(b"etag", b"").decode("latin-1").strip('"') or None
    length = int(headers.get(b"content-length", b"-1"))
    if status == 200:  # the whole of it
        if first or length < 0:
            raise ValueError("the answer is not the part that was asked for")
        return BlobState(length, usable_etag(etag))
    found = _CONTENT_RANGE.fullmatch(headers.get(b"content-range", b""))
    if found is None:
        raise ValueError("the answer does not say which part it is")
    begins, ends, size = (int(group) for group in found.groups())
    if begins == first >= size and length in {-1, 0}:  # some services answer so where nothing is, others refuse
        return BlobState(size, usable_etag(etag))
    if begins != first or not begins <= ends <= last or ends >= size or length not in {-1, ends - begins + 1}:
        raise ValueError("the answer is not the part that was asked for")
    return BlobState(size, usable_etag(etag))


def _expect_part(status: int, headers: Mapping[bytes, bytes], first: int, last: int) -> None:
    size_bytes = _state(status, headers, first, last).size_bytes
    if int(headers.get(b"content-length", b"-1")) != min(last + 1, size_bytes) - first:
        raise ValueError("the answer is not the part that was asked for")


def _may_pass(problem: WireError | Refused) -> bool:
    if isinstance(problem, Refused):
        return problem.response.status in BUSY
    return not isinstance(problem, CertificateError)


def _wait_s(problem: WireError | Refused, failures: int) -> float:
    usual = 2.0 ** min(failures - 1, 4) * (0.5 + random.random() / 2)  # noqa: S311 - spreads repeats, guards nothing
    asked = retry_after_s(problem.response.header("retry-after")) if isinstance(problem, Refused) else None
    return max(usual, asked or 0.0)
