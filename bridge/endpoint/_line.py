"""One WSMan connection to one ERCS machine that outlives cuts, stalls and idle time-outs of the line.

pypsrp's transport raises on every drop but a time-out (and on those it gives up soon). Here a request that met a
broken line is sent again, as the same message, on a new connection with a new security context, until a deadline.
Requests carry an OperationID (MS-WSMV 3.1.4.1.39, Robust Connection Support), so that a Windows host answers a
repetition from its cache: a lost answer loses no record, and nothing is done twice.
"""

from __future__ import annotations

import ipaddress
import logging
import random
import re
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import requests
import spnego.exceptions
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.wsman import WSMan, WSManAction

from bridge.endpoint._answers import AnswerGuard, UnsealedAnswerError, check_xml
from bridge.endpoint._words import connection_detail
from bridge.errors import AuthenticationFailedError, SessionLostError
from bridge.secrets import Credential
from bridge.stamp import EndpointAddress

_ACTION = re.compile(rb"Action[^>]*>([^<]+)<")
_HEADER_END = b"</s:Header>"
_FIRST, _AGAIN = b'OperationID s:mustUnderstand="false"', b'OperationID s:mustUnderstand="true"'
_LONGEST_PAUSE_S = 15.0
_IMPATIENT_S = 3.0
LONGEST_IDLE_TIMEOUT_S = 43_200
"""What Windows grants to a session; one that asks for more is refused, and then gets its default, two hours."""
_AUTHENTICATION_CHANCES = 2  # a domain controller may be away for a moment; a changed password locks the account

# These may be sent again whatever became of the first: they change nothing, or have the same effect twice.
_REPEATABLE = frozenset(
    {
        WSManAction.RECEIVE,
        WSManAction.SIGNAL,
        WSManAction.DISCONNECT,
        WSManAction.DELETE,
        WSManAction.GET,
        WSManAction.CONNECT,
        WSManAction.RECONNECT,
    }
)


class LineState(StrEnum):
    """How the line to the endpoint stands."""

    UP = "up"
    DOWN = "down"
    RETRYING = "retrying"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class LineEvent:
    """A change of the line. ``attempt`` counts the tries since it went down; ``retry_in_s`` is the pause before the
    next."""

    at: datetime
    state: LineState
    detail: str = ""
    attempt: int = 0
    retry_in_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How patient a session is. All times in seconds.

    ``idle_timeout_s`` must be longer than the longest collection (the endpoint reaps a silent shell after it); more
    than ``LONGEST_IDLE_TIMEOUT_S`` is not asked for. ``operation_timeout_s`` is the length of a poll;
    ``read_timeout_s``, the longest silence of the line, must be longer, and ``answer_timeout_s``, what a whole answer
    may take, longer than that.
    """

    connect_timeout_s: int = 10
    operation_timeout_s: int = 20
    read_timeout_s: int = 30
    answer_timeout_s: float = 120.0
    open_timeout_s: float = 120.0
    idle_timeout_s: int = 21_600
    reconnect_deadline_s: float = 900.0


class _RefusedByWindowsError(WinRMTransportError):  # type: ignore[misc]
    """http.sys gave the answer of a service that is not there: the service has not seen the request. A gateway's 503
    may also mean that it lost the answer (Envoy's "upstream reset")."""


class RequestLostError(Exception):
    """A request met a broken line, and nobody knows whether it was carried out."""


class Line:
    """A connection for one thread (sequence numbers of sealed messages belong to the connection)."""

    def __init__(
        self,
        address: EndpointAddress,
        credential: Credential,
        options: SessionOptions,
        *,
        use_https: bool,
        ca_file: Path | None,
        session_id: str | None = None,
        on_line: Callable[[LineEvent], None] | None = None,
    ) -> None:
        quiet_libraries()
        self.address = address
        self.wsman = WSMan(
            address.host,
            port=(address.https_port or 5986) if use_https else address.port,
            username=credential.username,
            password=credential.password.reveal(),
            ssl=use_https,
            auth=_mechanism(address.host),
            cert_validation=str(ca_file) if use_https and ca_file is not None else True,
            encryption="auto",  # seals every message over HTTP, leaves it to TLS over HTTPS
            no_proxy=True,  # the endpoint is on the stamp's own network
            connection_timeout=options.connect_timeout_s,
            read_timeout=options.read_timeout_s,
            operation_timeout=options.operation_timeout_s,
            locale="en-US",
            data_locale="en-US",
        )
        if session_id is not None:
            self.wsman.session_id = session_id
        self._username = credential.username
        self._deadline_s = options.reconnect_deadline_s
        self._on_line = on_line
        self._given_up = threading.Event()
        self._transport = self.wsman.transport
        self._answers = answers = AnswerGuard(options.answer_timeout_s)
        build = self._transport._build_session
        self._transport._build_session = lambda: answers.over(build())
        self.wsman.transport = _HealingTransport(self)
        self.heals = False  # until the session is open a failure is for the caller: it tries the next machine

    @property
    def endpoint(self) -> str:
        endpoint: str = self._transport.endpoint
        return endpoint

    @property
    def port(self) -> int:
        port: int = self._transport.port
        return port

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """Within it a broken line is waited for a few seconds only, and not told of: for what is good to do, but not
        worth waiting for."""
        deadline_s, on_line = self._deadline_s, self._on_line
        self._deadline_s, self._on_line = min(_IMPATIENT_S, deadline_s), None
        try:
            yield
        finally:
            self._deadline_s, self._on_line = deadline_s, on_line

    def give_up(self) -> None:
        """Ends any waiting for the line to come back. May be called from any thread."""
        self._given_up.set()

    def close(self) -> None:
        """Closes the connection; nothing is said to the endpoint."""
        self._given_up.set()
        self._close_connections()

    def send(self, message: bytes, timeout: Any) -> bytes:
        """Sends one SOAP message and returns the answer, across as many connections as it takes.

        Raises:
            RequestLostError: The line broke under a request that must not be sent twice.
            SessionLostError: The line did not come back before the deadline.
            AuthenticationFailedError: The endpoint no longer accepts the credentials.
            UnusableAnswerError: What came is no answer of a WS-Management service.
        """
        action = _action_of(message)
        message = _with_operation_id(message)
        attempt, refusals, broken_since = 0, 0, 0.0
        while True:
            try:
                answer = self._exchange(message, timeout)
            except AuthenticationError as error:
                refusals += 1
                _close_responses(error)
                if not self.heals:
                    raise
                if refusals >= _AUTHENTICATION_CHANCES:
                    raise AuthenticationFailedError(host=self.address.host, username=self._username) from error
                cause: Exception = error
            except _BROKEN_LINE as error:
                if not self.heals or not _is_broken_line(error):
                    raise
                cause = error
            except UnsealedAnswerError as error:
                if not self.heals:
                    raise
                cause = error  # not the endpoint's: it is asked again, until the deadline
            else:
                if attempt:
                    self._tell(LineState.UP, f"the line to {self.address.name} is back", attempt)
                return answer
            attempt += 1
            broken_since = broken_since or time.monotonic()
            self._reset()
            if action not in _REPEATABLE and not was_not_processed(cause):
                raise RequestLostError(connection_detail(cause)) from cause
            self._wait(attempt, broken_since, cause)
            message = message.replace(_FIRST, _AGAIN)

    def _exchange(self, message: bytes, timeout: Any) -> bytes:
        with self._answers.watching():
            try:
                answer: bytes = self._transport.send(message, timeout=timeout)
            except WinRMTransportError as error:
                # pypsrp looks for a fault in the text. A page of http.sys (it has a DOCTYPE) or of a gateway is none.
                if _is_broken_line(error):
                    of_windows = self._answers.is_of_http_sys()
                    kind = _RefusedByWindowsError if of_windows else WinRMTransportError
                    raise kind(error.protocol, error.code, "") from error
                check_xml(error.response_text or "")
                raise
        self._answers.check(answer, sealed=self._transport.wrap_required)
        return answer

    def _wait(self, attempt: int, broken_since: float, cause: Exception) -> None:
        left_s = self._deadline_s - (time.monotonic() - broken_since)
        pause_s = min(_LONGEST_PAUSE_S, 0.25 * 1.6 ** min(attempt, 12)) * random.uniform(0.5, 1.0)  # noqa: S311
        if attempt == 1:
            self._tell(LineState.DOWN, connection_detail(cause), attempt)
            pause_s = min(pause_s, 0.2)  # most breaks are over at once: an idle connection that was closed
        if left_s <= 0:
            self._tell(LineState.LOST, connection_detail(cause), attempt)
            raise SessionLostError(host=self.address.host, detail=connection_detail(cause)) from cause
        pause_s = min(pause_s, left_s)
        if attempt > 1:
            self._tell(LineState.RETRYING, connection_detail(cause), attempt, pause_s)
        if self._given_up.wait(pause_s):
            raise SessionLostError(host=self.address.host, detail="the session was closed meanwhile") from cause

    def _reset(self) -> None:
        """A new connection needs a new security context: what was sealed for the old one is refused with 400."""
        self._close_connections()
        self._transport.session = None
        self._transport.encryption = None

    def _close_connections(self) -> None:
        """Closes the sockets now: urllib3 leaves that to the collector of garbage, and an exception may keep them."""
        session: requests.Session | None = self._transport.session
        if session is None:
            return
        for adapter in session.adapters.values():
            pools: Any = adapter.poolmanager.pools  # type: ignore[attr-defined]
            for key in pools.keys():  # noqa: SIM118 - it is no dict, and cannot be iterated over
                pool = pools.get(key)
                if pool is not None:
                    pool.close()
        session.close()

    def _tell(self, state: LineState, detail: str, attempt: int, retry_in_s: float = 0.0) -> None:
        if self._on_line is not None:
            self._on_line(LineEvent(datetime.now(UTC), state, detail, attempt, retry_in_s))


def _close_responses(error: BaseException) -> None:
    """Closes the answer that pypsrp left open when it raised; its socket would stay until the garbage is collected."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if isinstance(value, requests.Response):
                value.close()


class _HealingTransport:
    """What WSMan sends through, in place of pypsrp's own transport."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def endpoint(self) -> str:
        return self._line.endpoint

    @property
    def port(self) -> int:
        return self._line.port

    def send(self, message: bytes, *, retries_on_read_timeout: int = 0, timeout: Any = None) -> bytes:
        del retries_on_read_timeout  # the line has its own measure
        return self._line.send(message, timeout)

    def close(self) -> None:
        self._line.close()


_BROKEN_LINE = (
    requests.exceptions.RequestException,
    WinRMError,
    spnego.exceptions.SpnegoError,
    KeyError,  # pypsrp looks up a security context that an answer without a challenge never made
    OSError,
)


def _is_broken_line(error: Exception) -> bool:
    """Whether another connection may help: not where the endpoint answered with a SOAP fault of its own."""
    if isinstance(error, WSManFaultError):
        return False
    if isinstance(error, WinRMTransportError):
        return error.code in (400, 408, 425, 429, 502, 503, 504) and b"Fault" not in _as_bytes(error.response_text)
    return True


def was_not_processed(error: Exception) -> bool:
    """Whether the endpoint surely did not carry out the request: it never got it, or could not unseal it."""
    if isinstance(error, WinRMTransportError):
        return bool(error.code in (400, 401) or (error.code == 503 and isinstance(error, _RefusedByWindowsError)))
    if isinstance(error, (AuthenticationError, requests.exceptions.ConnectTimeout)):
        return True
    return "NewConnectionError" in repr(error)


def _as_bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text or "").encode("utf-8", "replace")


def _action_of(message: bytes) -> str:
    found = _ACTION.search(message)
    return found.group(1).decode("ascii", "replace") if found else ""


def _with_operation_id(message: bytes) -> bytes:
    header = (
        b"<wsmv:" + _FIRST + b">uuid:" + str(uuid.uuid4()).upper().encode() + b"</wsmv:OperationID>"
        b'<wsmv:SequenceId s:mustUnderstand="false">1</wsmv:SequenceId>'
    )
    return message.replace(_HEADER_END, header + _HEADER_END, 1)


def _mechanism(host: str) -> str:
    """Kerberos has no ticket for a numeric address, and looking for one costs time and a second try of the password:
    NTLM there, the negotiated mechanism for a name."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return "ntlm" if host.lower() == "localhost" else "negotiate"
    return "ntlm"


class _Silence(logging.Filter):
    """Drops what a library logs of its messages and tokens: their base64 holds the SAS, every other parameter, and
    what a password can be guessed from. What matters of it is raised."""

    def filter(self, record: logging.LogRecord) -> bool:
        return False


_TALKATIVE = ("pypsrp.wsman", "pypsrp.shell", "psrpcore._base", "psrpcore._client", "spnego._ntlm", "spnego._negotiate")


def quiet_libraries() -> None:
    """Keeps whole messages and tokens out of every log, however verbose the program is."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if not any(isinstance(present, _Silence) for present in logger.filters):
            logger.addFilter(_Silence())
