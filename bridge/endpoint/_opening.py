"""Sessions with a privileged endpoint: opened with failover, taken up again from another process, ended."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pypsrp.exceptions import WSManFaultError
from pypsrp.shell import WinRS

from bridge.endpoint._access import Access, OnLine
from bridge.endpoint._faults import IN_USE_CANNOT_RECONNECT, SHELL_NOT_FOUND, session_error
from bridge.endpoint._line import Line, LineEvent, LineState, SessionOptions, was_not_processed
from bridge.endpoint._pipeline import THIRD_PARTY, SessionIds
from bridge.endpoint._psrp import PsrpClient
from bridge.endpoint._session import EndpointSession, Pipeline
from bridge.endpoint._shell import (
    await_opened,
    buffer_mode_of,
    connect_command,
    connect_shell,
    create_shell,
    new_shell,
    shell_of,
)
from bridge.endpoint._words import reason_of
from bridge.errors import (
    AuthenticationFailedError,
    BridgeError,
    EndpointUnreachableError,
    NotPermittedError,
    SessionGoneError,
    SessionLostError,
    UsageError,
)
from bridge.secrets import Credential
from bridge.stamp import EndpointAddress, Stamp

_ATTACH_PAUSE_S = 3.0
_SECONDS = re.compile(r"PT([0-9]+)(?:\.[0-9]+)?S")
_DEFAULT_OPTIONS = SessionOptions()


def open_session(
    stamp: Stamp,
    credential: Credential,
    *,
    allow: Collection[str],
    verb: str = "this session",
    options: SessionOptions = _DEFAULT_OPTIONS,
    on_line: OnLine | None = None,
    before_open: Callable[[SessionIds], None] | None = None,
    not_opened: Callable[[SessionIds], None] | None = None,
) -> EndpointSession:
    """Opens a session on the first machine of the stamp that gives one.

    The culture is en-US. Over HTTP every message is sealed; over HTTPS the certificate is checked. A refused password
    is not tried on the next machine: the account would soon be locked.

    Args:
        stamp: Its endpoints are tried in their order.
        credential: Who opens the session.
        allow: The names of the commands that this session may send.
        verb: What they are for, named when another command is refused.
        options: Time-outs, in seconds.
        on_line: Is told when the line to the endpoint changes, on the thread that reads records.
        before_open: Gets the ids that the session will have, before a machine is asked for it: whoever writes them
            down can end, with ``end_session``, what a killed process left open.
        not_opened: Gets the same ids, where the machine surely has no such session.

    Raises:
        EndpointUnreachableError: No machine gave a session, for different reasons; ``fields["failures"]`` holds each.
        CertificateRejectedError, NotWSManError, NoSuchConfigurationError, QuotaExceededError, NotPermittedError:
            The same, where that was the reason everywhere.
        AuthenticationFailedError: The credentials were refused.
    """
    access = Access(stamp, credential, frozenset(allow), verb, options, on_line)
    failures: list[tuple[EndpointAddress, BridgeError]] = []
    for address in stamp.endpoints:
        try:
            return _open_one(access, address, before_open, not_opened)
        except AuthenticationFailedError:
            raise
        except BridgeError as error:
            failures.append((address, error))
    raise _no_endpoint(stamp, failures)


def attach(
    stamp: Stamp,
    credential: Credential,
    ids: SessionIds,
    *,
    allow: Collection[str] = (),
    verb: str = "this session",
    options: SessionOptions = _DEFAULT_OPTIONS,
    on_line: OnLine | None = None,
    deadline_s: float = 180.0,
) -> Pipeline:
    """Takes up a pipeline that another process started, after it left or died.

    After a crash the endpoint believes the old client for about a minute and answers fault 2150859213 until then.
    ``pipeline.session`` is to be closed, or left, afterwards.

    Raises:
        SessionGoneError: The endpoint no longer has the session.
        SessionLostError: It was not to be had before the deadline.
        AuthenticationFailedError: The credentials were refused.
        UsageError: The ids name no pipeline.
    """
    if ids.pipeline_id is None:
        raise UsageError(detail="these ids name a session, but no command that runs in it")
    address = _address_of(stamp, ids)
    access = Access(stamp, credential, frozenset(allow), verb, options, on_line)
    deadline = time.monotonic() + deadline_s
    attempt = 0
    while True:
        try:
            return _attach_once(access, address, ids)
        except (SessionGoneError, AuthenticationFailedError, NotPermittedError):
            raise
        except (SessionLostError, EndpointUnreachableError) as error:
            attempt += 1
            if time.monotonic() + _ATTACH_PAUSE_S > deadline:
                raise SessionLostError(host=address.host, detail=str(error.fields.get("detail", error))) from error
            if on_line is not None:
                detail = str(error.fields.get("detail", error))
                on_line(LineEvent(datetime.now(UTC), LineState.RETRYING, detail, attempt, _ATTACH_PAUSE_S))
            time.sleep(_ATTACH_PAUSE_S)


def end_session(
    stamp: Stamp, credential: Credential, ids: SessionIds, *, options: SessionOptions = _DEFAULT_OPTIONS
) -> None:
    """Ends a session that a killed process left open; a pipeline that still runs in it is stopped.

    A session that the endpoint no longer has is no error.

    Raises:
        EndpointError: The machine is not to be reached, or refused.
    """
    address = _address_of(stamp, ids)
    access = Access(stamp, credential, frozenset(), "", options, None)
    line = access.line_to(address)
    try:
        shell_of(line, ids).close()
    except WSManFaultError as fault:
        error = session_error(fault, host=address.host)
        if not isinstance(error, SessionGoneError):
            raise error from fault
    except (*THIRD_PARTY, BridgeError) as failure:
        raise access.opening_error(failure, line, ids.configuration) from failure
    finally:
        line.close()


def _address_of(stamp: Stamp, ids: SessionIds) -> EndpointAddress:
    known = next((known for known in stamp.endpoints if known.name == ids.endpoint), None)
    return known or EndpointAddress(ids.endpoint, ids.host, ids.port, https_port=ids.port if ids.https else None)


def _open_one(
    access: Access,
    address: EndpointAddress,
    before_open: Callable[[SessionIds], None] | None,
    not_opened: Callable[[SessionIds], None] | None,
) -> EndpointSession:
    stamp, options = access.stamp, access.options
    line = access.line_to(address)
    psrp = PsrpClient(fragment_bytes=line.wsman.max_payload_size)
    shell = new_shell(line, stamp, psrp, options.idle_timeout_s)
    ids = SessionIds(
        endpoint=address.name,
        host=address.host,
        port=line.port,
        https=stamp.use_https,
        configuration=stamp.configuration_name,
        shell_id=shell.id or "",
        pool_id=str(psrp.pool_id).upper(),
        pipeline_id=None,
        idle_timeout_s=options.idle_timeout_s,
    )
    if before_open is not None:
        before_open(ids)
    try:
        create_shell(shell, psrp)
        await_opened(shell, psrp, options.open_timeout_s, address.host)
    except (*THIRD_PARTY, BridgeError) as error:
        if shell.opened or not (isinstance(error, WSManFaultError) or was_not_processed(error)):
            _delete_abandoned(shell_of(line, ids), line)
        elif not_opened is not None and not _is_no_fault(error):
            not_opened(ids)
        line.close()
        raise access.opening_error(error, line, stamp.configuration_name) from error
    line.heals = True
    granted_s = _seconds(shell.idle_time_out, options.idle_timeout_s)
    if granted_s < options.idle_timeout_s and access.on_line is not None:
        detail = f"{address.name} keeps a session that nobody is connected to for {granted_s / 60:g} minutes only"
        access.on_line(LineEvent(datetime.now(UTC), LineState.UP, detail))
    ids = replace(ids, shell_id=shell.id or ids.shell_id, idle_timeout_s=granted_s)
    return EndpointSession(access, line, psrp, shell, ids)


def _is_no_fault(error: Exception) -> bool:
    """Whether pypsrp made a fault of an HTTP error that has none: a gateway's, which says nothing of the endpoint."""
    return isinstance(error, WSManFaultError) and error.code is None


def _attach_once(access: Access, address: EndpointAddress, ids: SessionIds) -> Pipeline:
    line = access.line_to(address)
    psrp = PsrpClient(uuid.UUID(ids.pool_id), fragment_bytes=line.wsman.max_payload_size)
    shell = shell_of(line, ids)
    is_ours = False
    try:
        in_answer = connect_shell(shell, psrp, ids)
        is_ours = True
        connect_command(shell, ids)
    except WSManFaultError as fault:
        if is_ours and fault.code == SHELL_NOT_FOUND:  # its command has ended and was forgotten: nothing runs in it
            _delete_abandoned(shell, line)
        line.close()
        if fault.code == IN_USE_CANNOT_RECONNECT:
            raise SessionLostError(host=address.host, detail="another client still holds the session") from fault
        raise session_error(fault, host=address.host) from fault
    except (*THIRD_PARTY, BridgeError) as error:
        line.close()
        raise access.opening_error(error, line, ids.configuration) from error
    psrp.connected()
    drops = buffer_mode_of(shell, ids) != "Block"
    line.heals = True
    session = EndpointSession(access, line, psrp, shell, replace(ids, pipeline_id=None, received=None))
    return session.adopt(ids, in_answer, drops=drops)


def _delete_abandoned(shell: WinRS, line: Line) -> None:
    """Tries to leave no shell behind that could not be used; the endpoint's idle time-out does it otherwise. Where the
    answer to the request was lost, the shell may be there all the same."""
    line.heals = True  # what broke may be over with another connection
    try:
        with line.impatient():
            shell.close()
    except (*THIRD_PARTY, BridgeError):
        return


def _no_endpoint(stamp: Stamp, failures: list[tuple[EndpointAddress, BridgeError]]) -> BridgeError:
    if not failures:
        return EndpointUnreachableError(stamp=stamp.name, port=5985, detail="it has no address", failures=[])
    told = [(address.name, str(error)) for address, error in failures]
    reasons = "; ".join(f"{address.name} ({address.host}): {reason_of(error)}" for address, error in failures)
    kinds = {type(error) for _, error in failures}
    first = failures[0][1]
    kind = kinds.pop() if len(kinds) == 1 else EndpointUnreachableError
    fields: dict[str, Any] = {**first.fields, "stamp": stamp.name, "detail": reasons, "failures": told}
    if len(failures) > 1:
        fields["host"] = ", ".join(address.host for address, _ in failures)
    return kind(**fields)


def _seconds(duration: Any, default: int) -> int:
    found = _SECONDS.fullmatch(str(duration)) if duration is not None else None
    return int(found.group(1)) if found else default
