"""What an endpoint may answer: so much, in so much time, sealed where that was asked for, and XML without a DTD.

pypsrp reads whatever comes for as long as it comes, takes an answer in clear on a sealed connection, and gives its XML
to a parser as it is. A machine that is broken or hostile must cost neither memory nor a night.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests

from bridge.endpoint._words import brief

LONGEST_ANSWER_BYTES = 4 << 20
"""Answers are asked for with an envelope of 150 KiB (MaxEnvelopeSize, DSP0226 6.2)."""
_CHUNK_BYTES = 64 * 1024
_LOOK_EVERY_S = 0.2
_IDLE_LOOKS = 10
_DECLARED = re.compile(rb"\A\s*<\?xml[^>]*\sencoding\s*=\s*[\"']([^\"']*)")
_HTTP_SYS = "Microsoft-HTTPAPI/"
_MISREADINGS = (AttributeError, LookupError, TypeError, ValueError, struct.error)
"""What pypsrp raises where an answer lacks something, or has something else in its place."""


class UnusableAnswerError(Exception):
    """The endpoint answered in a way that no WS-Management service does; to ask again would change nothing."""


class UnsealedAnswerError(UnusableAnswerError):
    """An answer came in clear on a sealed connection: somebody else gave it."""


class _Watchdog:
    """Calls what is overdue. One thread for the whole process, as long as there is anything to watch: one of its own
    for each request would cost more than many a request does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[Callable[[], None], float] = {}
        self._running = False

    def watch(self, action: Callable[[], None], limit_s: float) -> None:
        """Calls ``action`` after ``limit_s``, unless it is forgotten before."""
        with self._lock:
            self._due[action] = time.monotonic() + limit_s
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="answers-in-time", daemon=True).start()

    def forget(self, action: Callable[[], None]) -> None:
        """It is no longer watched; where it is being called, that has ended on return."""
        with self._lock:
            self._due.pop(action, None)

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(_LOOK_EVERY_S)
            with self._lock:
                idle = 0 if self._due else idle + 1
                if idle > _IDLE_LOOKS:
                    self._running = False
                    return
                now = time.monotonic()
                for action in [each for each, due in self._due.items() if due <= now]:
                    del self._due[action]
                    action()  # shuts a socket: it does not wait


_watchdog = _Watchdog()


class AnswerGuard:
    """Keeps what comes through one thread's ``requests`` sessions within bounds of size and time."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._connection: Any = None
        self._response: requests.Response | None = None

    def over(self, session: requests.Session) -> requests.Session:
        """The session, guarded from now on."""
        for adapter in session.adapters.values():
            self._guard(adapter)
        return session

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Ends an exchange that takes too long, however slowly and steadily it goes on.

        Raises:
            requests.exceptions.ReadTimeout: It was ended.
            UnusableAnswerError: pypsrp could make nothing of the answer.
        """
        self._connection = self._response = None
        overdue = threading.Event()

        def end() -> None:
            overdue.set()
            self._shut()

        _watchdog.watch(end, self._limit_s)
        try:
            yield
        except (requests.exceptions.RequestException, OSError, *_MISREADINGS) as error:
            if overdue.is_set():
                detail = f"an answer was not complete after {self._limit_s:g} s"
                raise requests.exceptions.ReadTimeout(detail) from error
            if isinstance(error, (OSError, KeyError)):
                raise  # requests' errors are OSErrors; KeyError: see Line
            raise UnusableAnswerError(f"the answer cannot be read: {brief(error)}") from error
        finally:
            _watchdog.forget(end)
            self._connection = None

    def check(self, answer: bytes | str, *, sealed: bool) -> None:
        """Refuses an answer that must not reach a parser of XML.

        Args:
            answer: What the last response held, unsealed.
            sealed: Whether it had to be sealed. Faults may come in clear.

        Raises:
            UnusableAnswerError: It is too dangerous or no text of UTF-8.
            UnsealedAnswerError: It should have been sealed, and was not.
        """
        response = self._response
        if sealed and response is not None and response.ok and not _is_sealed(response):
            raise UnsealedAnswerError("an answer came in clear although the connection is encrypted")
        check_xml(answer)

    def is_of_http_sys(self) -> bool:
        """Whether Windows' own HTTP service gave the last response, and no gateway before it."""
        return self._response is not None and str(self._response.headers.get("Server", "")).startswith(_HTTP_SYS)

    def _guard(self, adapter: Any) -> None:
        send = adapter.send

        def send_guarded(request: requests.PreparedRequest, **options: Any) -> requests.Response:
            response: requests.Response = send(request, **options)
            self._response = response
            _limit_length(response)
            return response

        adapter.send = send_guarded
        pools = adapter.poolmanager.pool_classes_by_scheme
        adapter.poolmanager.pool_classes_by_scheme = {scheme: self._watched(pool) for scheme, pool in pools.items()}

    def _watched(self, make_pool: Callable[..., Any]) -> Callable[..., Any]:
        def make(*arguments: Any, **options: Any) -> Any:
            pool = make_pool(*arguments, **options)
            take = pool._get_conn

            def take_watched(timeout: float | None = None) -> Any:
                self._connection = take(timeout)
                return self._connection

            pool._get_conn = take_watched
            return pool

        return make

    def _shut(self) -> None:
        with suppress(OSError, ValueError):  # either may be closed at this moment
            _shut_down(getattr(self._connection, "sock", None))
        with suppress(OSError, ValueError):
            _shut_down(_socket_of(self._response))


@contextmanager
def understanding() -> Iterator[None]:
    """Around what takes an answer apart.

    Raises:
        UnusableAnswerError: The answer lacks something.
    """
    try:
        yield
    except OSError:
        raise
    except _MISREADINGS as error:
        raise UnusableAnswerError(f"the answer cannot be read: {brief(error)}") from error


def check_xml(text: bytes | str) -> None:
    """Refuses XML that declares entities, or hides them in another encoding than UTF-8.

    Raises:
        UnusableAnswerError: It does.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise UnusableAnswerError("the answer holds a document type declaration")
    declared = _DECLARED.match(data)
    if b"\0" in data or (declared is not None and declared[1].lower() not in (b"utf-8", b"us-ascii")):
        raise UnusableAnswerError("the answer is not written in UTF-8")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnusableAnswerError("the answer is not written in UTF-8") from error


def _is_sealed(response: requests.Response) -> bool:
    return (
        str(response.headers.get("Content-Type", "")).lower().startswith(("multipart/encrypted", "multipart/x-multi"))
    )


def _limit_length(response: requests.Response) -> None:
    """The whole content is read by ``iter_content``, whoever asks for it."""
    announced = str(response.headers.get("Content-Length", ""))
    if announced.isdigit() and (len(announced) > len(str(LONGEST_ANSWER_BYTES)) or _too_long(int(announced))):
        response.close()
        raise UnusableAnswerError(f"an answer of {announced[:20]} bytes is announced; {LONGEST_ANSWER_BYTES} are read")
    read = response.iter_content

    def iter_content(_chunk_size: int | None = 1, _decode_unicode: bool = False) -> Iterator[bytes]:
        size = 0
        for chunk in read(_CHUNK_BYTES):
            size += len(chunk)
            if _too_long(size):
                response.close()
                raise UnusableAnswerError(f"an answer is longer than {LONGEST_ANSWER_BYTES} bytes")
            yield chunk

    response.iter_content = iter_content  # type: ignore[method-assign,assignment]


def _too_long(size_bytes: int) -> bool:
    return size_bytes > LONGEST_ANSWER_BYTES


def _shut_down(end: Any) -> None:
    if isinstance(end, socket.socket):
        socket.socket.shutdown(end, socket.SHUT_RDWR)  # of TLS too: another thread reads from it


def _socket_of(response: requests.Response | None) -> Any:
    """The socket that the body still comes from, where urllib3's connection has let go of it (Connection: close)."""
    found: Any = response
    for name in ("raw", "_fp", "fp", "raw", "_sock"):
        found = getattr(found, name, None)
    return found
