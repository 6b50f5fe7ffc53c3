"""A PSRP session with a privileged endpoint: opened with failover, left, and taken up again from another process."""

from __future__ import annotations

import base64
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from xml.etree import ElementTree as ET  # builds requests; what comes from the endpoint is read by _clixml

from pypsrp.exceptions import WSManFaultError
from pypsrp.shell import SignalCode as Signal
from pypsrp.shell import WinRS
from pypsrp.wsman import NAMESPACES, OptionSet, SelectorSet

from bridge.endpoint._answers import UnusableAnswerError, understanding
from bridge.endpoint._clixml import CliObject, UnreadableCliXmlError
from bridge.endpoint._commands import Command
from bridge.endpoint._faults import (
    IN_USE_CANNOT_RECONNECT,
    OPERATION_TIMED_OUT,
    SHELL_NOT_FOUND,
    error_for,
    opening_error,
    session_error,
)
from bridge.endpoint._line import (
    LONGEST_IDLE_TIMEOUT_S,
    Line,
    LineEvent,
    LineState,
    SessionOptions,
    was_not_processed,
)
from bridge.endpoint._messages import (
    DamagedMessage,
    Defragmenter,
    Message,
    MessageType,
    PoolState,
    read_error,
    read_message,
)
from bridge.endpoint._pipeline import THIRD_PARTY, PipelineState, RunningPipeline, SessionIds
from bridge.endpoint._psrp import PsrpClient, check_allowed, needs_session_key
from bridge.endpoint._records import Record
from bridge.endpoint._words import brief
from bridge.errors import (
    AuthenticationFailedError,
    BridgeError,
    CommandUncertainError,
    EndpointError,
    EndpointUnreachableError,
    NotPermittedError,
    SessionGoneError,
    SessionLostError,
    StampBusyError,
    UsageError,
)
from bridge.secrets import Credential
from bridge.stamp import EndpointAddress, Stamp

OnLine = Callable[[LineEvent], None]

_RESOURCE = "http://schemas.microsoft.com/powershell/"
_PROTOCOL_VERSION = "2.3"  # Windows PowerShell 5.1
_KEY_TIMEOUT_S = 60.0
_CLOSING_TIMEOUT_S = 10
_IDLE_TIMEOUT_OUT_OF_BOUNDS = 2150859250
_ATTACH_PAUSE_S = 3.0
_WHILE_LEFT = "Drop"
_SECONDS = re.compile(r"PT([0-9]+)(?:\.[0-9]+)?S")
_DEFAULT_OPTIONS = SessionOptions()


@dataclass(frozen=True, slots=True)
class _Access:
    """Whose session with which stamp, for what, and how patiently."""

    stamp: Stamp
    credential: Credential
    allow: frozenset[str]
    verb: str
    options: SessionOptions
    on_line: OnLine | None

    def line_to(self, address: EndpointAddress) -> Line:
        return self._line(address, self.options, self.on_line, None)

    def second_line(self, line: Line) -> Line:
        """Another connection of the same WSMan session, for another thread; it is not waited for as long."""
        patience = replace(self.options, reconnect_deadline_s=min(60.0, self.options.reconnect_deadline_s))
        second = self._line(line.address, patience, None, line.wsman.session_id)
        second.heals = True
        return second

    def _line(
        self, address: EndpointAddress, options: SessionOptions, on_line: OnLine | None, session_id: str | None
    ) -> Line:
        return Line(
            address,
            self.credential,
            options,
            use_https=self.stamp.use_https,
            ca_file=self.stamp.ca_file,
            session_id=session_id,
            on_line=on_line,
        )

    def opening_error(self, error: Exception, line: Line, configuration: str) -> BridgeError:
        return opening_error(
            error,
            host=line.address.host,
            port=line.port,
            stamp=self.stamp.name,
            username=self.credential.username,
            configuration=configuration,
        )


class EndpointSession:
    """An open runspace pool on one ERCS machine. One pipeline runs at a time.

    As a context manager it closes the shell at the end; while a pipeline still runs it leaves the shell to it
    instead, so that an exception in the caller does not end a collection.
    """

    def __init__(self, access: _Access, line: Line, psrp: PsrpClient, shell: WinRS, ids: SessionIds) -> None:
        self.endpoint = line.address
        self.ids = ids
        self._access = access
        self._line = line
        self._psrp = psrp
        self._shell = shell
        self._pool_stream = Defragmenter()
        self._running: Pipeline | None = None
        self._left = False
        self._is_over = False  # what ran in it has ended, although it was to be left

    def __enter__(self) -> EndpointSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None and self._running.outcome is None:
            self._leave_quietly()
        else:
            self.close()

    def start(
        self, commands: Sequence[Command], *, before_send: Callable[[SessionIds], None] | None = None
    ) -> Pipeline:
        """Sends commands as one pipeline of one or more statements.

        Args:
            commands: What to run, in the form of PowerShell's own converter.
            before_send: Gets the complete ids before the command is sent: the place to write them down.

        Raises:
            CommandNotAllowedError: A command is not on the session's allow-list; nothing was sent.
            UsageError: A value cannot be sent.
            StampBusyError: Another pipeline of this session still runs.
            CommandUncertainError: The line broke in the middle, and stayed away: the command may run. ``attach`` with
                the ids that ``before_send`` got will tell.
            SessionLostError: The line broke, and the command does not run.
        """
        check_allowed(commands, self._access.allow, self._access.verb)
        self._check_free()
        try:
            if needs_session_key(commands) and not self._psrp.has_session_key:
                self._exchange_key()
            pipeline_id, fragments = self._psrp.creating(commands)
            name = commands[0].name if len(commands) == 1 else None
            return self._send(pipeline_id, fragments, name, before_send)
        except THIRD_PARTY as error:
            raise self.error(error) from error

    def start_metadata(self, names: Sequence[str]) -> Pipeline:
        """Asks for the metadata of commands by a message of the protocol, as Import-PSSession does."""
        self._check_free()
        try:
            pipeline_id, fragments = self._psrp.asking_for_metadata(names)
            return self._send(pipeline_id, fragments, None, None)
        except THIRD_PARTY as error:
            raise self.error(error) from error

    def run(self, commands: Sequence[Command]) -> list[Record]:
        """Runs a small command to its end and returns its records.

        Raises:
            BridgeError: What ``start`` raises, and the error that the pipeline ended with.
        """
        pipeline = self.start(commands)
        records = list(pipeline.records())
        pipeline.wait().raise_for_failure()
        return records

    def disconnect(self) -> None:
        """Leaves the session to the endpoint, with what runs in it. May be called from any thread.

        The endpoint is asked for the buffer mode Drop (MS-WSMV 2.2.4.15, 2.2.5.10): who leaves on purpose may stay away
        for hours, and with Block, the default, a collection would stand still as soon as the buffer is full, hold the
        stamp, and run into its time limit. The logs are the work, the records tell of it; the oldest that nobody took
        go first, ``records`` of whoever attaches says how many are missing, and the output log beside the logs holds
        their text. A session that is lost without a word keeps Block: its client is expected back soon, and then
        nothing is missing.

        Raises:
            SessionLostError: The endpoint could not be told; it notices by itself after a while.
        """
        self._left = True
        try:
            with self.second_shell() as shell:
                try:
                    _disconnect_shell(shell, self.ids, buffer_mode=_WHILE_LEFT)
                except WSManFaultError as fault:
                    if fault.code == SHELL_NOT_FOUND:
                        raise
                    _disconnect_shell(shell, self.ids)  # better with the endpoint's own mode than not at all
        except THIRD_PARTY as error:
            raise self.error(error) from error
        finally:
            self._line.give_up()

    def close(self) -> None:
        """Closes the shell, and with it whatever runs there; one that was left stays, unless what ran in it has ended
        all the same. A line that is down is told to ``on_line``, not raised: the endpoint closes an idle session by
        itself."""
        try:
            if not self._left or self._is_over:
                with self._line.impatient():
                    self._delete()
        except (*THIRD_PARTY, BridgeError) as error:
            self._tell(LineState.LOST, f"the session could not be closed: {brief(error)}")
        finally:
            self._left, self._is_over = True, False
            self._line.close()

    def abandon(self) -> None:
        """Gives the line up without a word, and leaves the shell and what runs in it to the endpoint. ``records`` that
        waits for the line then raises ``SessionLostError``. May be called from any thread."""
        self._left = True
        self._line.give_up()

    def adopt(self, ids: SessionIds, in_answer: Collection[int], *, drops: bool) -> Pipeline:
        """The pipeline of known ids, which already runs in this session; see ``RunningPipeline.was_taken_up``."""
        self._running = Pipeline(self, ids, None)
        self._running.was_taken_up(in_answer, drops=drops)
        return self._running

    # -- what a pipeline needs ----------------------------------------------------------------------------------------

    def receive(self, command_id: str, timeout_s: int | None = None) -> tuple[str, bytes]:
        """One poll for the output of a command: the command's state and PSRP fragments."""
        with understanding():
            state, _, streams = self._shell.receive("stdout", command_id=command_id, timeout=timeout_s)
        return state, streams["stdout"]

    def read(self, data: bytes, defragmenter: Defragmenter) -> Iterator[Message | DamagedMessage]:
        """The messages that the fragments complete."""
        return self._psrp.read(data, defragmenter)

    @contextmanager
    def second_shell(self) -> Iterator[WinRS]:
        """The same shell over a connection of its own, for another thread."""
        line = self._access.second_line(self._line)
        try:
            yield _shell_of(line, self.ids)
        finally:
            line.close()

    def reconnect(self) -> None:
        """Takes up the shell again that the endpoint had marked as disconnected."""
        try:
            self._line.wsman.reconnect(self._shell.resource_uri, selector_set=_selectors(self.ids.shell_id))
        except THIRD_PARTY as error:
            raise self.error(error) from error

    def finished(self, command_id: str) -> None:
        """The pipeline has ended: the endpoint may forget it, as PowerShell's own client tells it to. A line that
        breaks now takes nothing away from what the pipeline has said."""
        if self._running is None or self._running.command_id != command_id:
            return
        outcome, self._running = self._running.outcome, None
        if self._left:
            self._is_over = outcome is not None and outcome.state is not PipelineState.DISCONNECTED
            return
        try:
            with self._line.impatient():
                self._shell.signal(Signal.TERMINATE, command_id)
        except (*THIRD_PARTY, BridgeError) as error:
            if not (isinstance(error, WSManFaultError) and error.code == SHELL_NOT_FOUND):
                self._tell(LineState.DOWN, f"the ended command could not be closed: {brief(error)}")

    def error(self, error: Exception) -> BridgeError:
        """The error of the bridge for what a request of this session met."""
        return session_error(error, host=self.endpoint.host)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _check_free(self) -> None:
        if self._running is not None and self._running.outcome is None:
            raise StampBusyError(
                stamp=self.endpoint.name, detail="a command of this session still runs", fix="Wait for it, or stop it."
            )
        self._running = None

    def _exchange_key(self) -> None:
        for fragment in self._psrp.asking_for_key():
            self._shell.send("stdin", fragment)
        deadline = time.monotonic() + _KEY_TIMEOUT_S
        while not self._psrp.has_session_key:
            if time.monotonic() > deadline:
                raise SessionLostError(host=self.endpoint.host, detail="it gave no session key for the credential")
            for _ in _poll_pool(self._shell, self._psrp, self._pool_stream):
                pass

    def _send(
        self,
        pipeline_id: uuid.UUID,
        fragments: list[bytes],
        command: str | None,
        before_send: Callable[[SessionIds], None] | None,
    ) -> Pipeline:
        ids = replace(self.ids, pipeline_id=str(pipeline_id).upper())
        pipeline = Pipeline(self, ids, command)
        if before_send is not None:
            before_send(ids)
        first, *rest = fragments
        self._running = pipeline  # from here on the shell is left to it, should the caller fail
        try:
            self._send_command(pipeline, base64.b64encode(first).decode("ascii"))
        except CommandUncertainError:
            raise
        except (*THIRD_PARTY, BridgeError):
            self._running = None
            raise
        self._send_rest(pipeline, rest)
        return pipeline

    def _send_rest(self, pipeline: Pipeline, fragments: list[bytes]) -> None:
        """Sends what the Command request had no room for. The command runs once it is complete, so that only the last
        fragment may be lost and have started it."""
        for number, fragment in enumerate(fragments, 1):
            try:
                self._shell.send("stdin", fragment, command_id=pipeline.command_id)
            except (*THIRD_PARTY, BridgeError) as error:
                if number == len(fragments) and not isinstance(error, WSManFaultError):
                    raise CommandUncertainError(host=self.endpoint.host, detail=_reason_of(error)) from error
                self._running = None
                raise

    def _send_command(self, pipeline: Pipeline, fragment: str) -> None:
        """Sends the Command request so that it is carried out once, whatever the line does to it."""
        try:
            self._shell.command("", [fragment], command_id=pipeline.command_id)
        except THIRD_PARTY as lost:
            if isinstance(lost, WSManFaultError) or was_not_processed(lost):
                raise  # it surely does not run
            # Lost on the way, or answered by a gateway in the endpoint's place: nobody knows what became of it.
            try:
                known = self._is_known(pipeline)
            except (*THIRD_PARTY, BridgeError) as error:
                raise CommandUncertainError(host=self.endpoint.host, detail=_reason_of(error)) from error
            if not known:
                self._send_command_again(pipeline, fragment)

    def _send_command_again(self, pipeline: Pipeline, fragment: str) -> None:
        try:
            self._shell.command("", [fragment], command_id=pipeline.command_id)
        except (*THIRD_PARTY, BridgeError) as error:
            # A fault says that it does not run; but a session that ended meanwhile may have begun it the first time.
            if isinstance(error, WSManFaultError) and error.code != SHELL_NOT_FOUND:
                raise
            raise CommandUncertainError(host=self.endpoint.host, detail=_reason_of(error)) from error

    def _is_known(self, pipeline: Pipeline) -> bool:
        try:
            _, data = self.receive(pipeline.command_id, timeout_s=1)
        except WSManFaultError as fault:
            if fault.code == SHELL_NOT_FOUND:  # of a command as of a shell
                return False
            if fault.code == OPERATION_TIMED_OUT:
                return True
            raise
        pipeline.came_early(data)
        return True

    def _delete(self) -> None:
        try:
            self._line.wsman.delete(
                self._shell.resource_uri, selector_set=_selectors(self.ids.shell_id), timeout=_CLOSING_TIMEOUT_S
            )
        except WSManFaultError as fault:
            if fault.code != SHELL_NOT_FOUND:
                raise

    def _leave_quietly(self) -> None:
        if self._left:
            self._line.close()
            return
        try:
            self.disconnect()
        except BridgeError as error:
            self._tell(LineState.LOST, f"the endpoint could not be told that we leave: {error}")
        finally:
            self._line.close()

    def _tell(self, state: LineState, detail: str) -> None:
        if self._access.on_line is not None:
            self._access.on_line(LineEvent(datetime.now(UTC), state, detail))


class Pipeline(RunningPipeline):
    """One or more statements that run on the endpoint. ``records`` is for one thread; the rest for any."""

    def __init__(self, session: EndpointSession, ids: SessionIds, command: str | None) -> None:
        super().__init__(session, ids, command)
        self.session = session


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
    access = _Access(stamp, credential, frozenset(allow), verb, options, on_line)
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
    address = next((known for known in stamp.endpoints if known.name == ids.endpoint), None)
    address = address or EndpointAddress(ids.endpoint, ids.host, ids.port, https_port=ids.port if ids.https else None)
    access = _Access(stamp, credential, frozenset(allow), verb, options, on_line)
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
    address = next((known for known in stamp.endpoints if known.name == ids.endpoint), None)
    address = address or EndpointAddress(ids.endpoint, ids.host, ids.port, https_port=ids.port if ids.https else None)
    access = _Access(stamp, credential, frozenset(), "", options, None)
    line = access.line_to(address)
    try:
        _shell_of(line, ids).close()
    except WSManFaultError as fault:
        error = session_error(fault, host=address.host)
        if not isinstance(error, SessionGoneError):
            raise error from fault
    except (*THIRD_PARTY, BridgeError) as failure:
        raise access.opening_error(failure, line, ids.configuration) from failure
    finally:
        line.close()


def _open_one(
    access: _Access,
    address: EndpointAddress,
    before_open: Callable[[SessionIds], None] | None,
    not_opened: Callable[[SessionIds], None] | None,
) -> EndpointSession:
    stamp, options = access.stamp, access.options
    line = access.line_to(address)
    psrp = PsrpClient(fragment_bytes=line.wsman.max_payload_size)
    shell = _new_shell(line, stamp, psrp, options.idle_timeout_s)
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
        _create_shell(shell, psrp)
        _await_opened(shell, psrp, options.open_timeout_s, address.host)
    except (*THIRD_PARTY, BridgeError) as error:
        if shell.opened or not (isinstance(error, WSManFaultError) or was_not_processed(error)):
            _delete_abandoned(_shell_of(line, ids), line)
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


def _attach_once(access: _Access, address: EndpointAddress, ids: SessionIds) -> Pipeline:
    line = access.line_to(address)
    psrp = PsrpClient(uuid.UUID(ids.pool_id), fragment_bytes=line.wsman.max_payload_size)
    shell = _shell_of(line, ids)
    is_ours = False
    try:
        in_answer = _connect_shell(shell, psrp, ids)
        is_ours = True
        _connect_command(shell, ids)
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
    drops = _buffer_mode(shell, ids) != "Block"
    line.heals = True
    session = EndpointSession(access, line, psrp, shell, replace(ids, pipeline_id=None, received=None))
    return session.adopt(ids, in_answer, drops=drops)


def _new_shell(line: Line, stamp: Stamp, psrp: PsrpClient, idle_timeout_s: int) -> WinRS:
    return WinRS(
        line.wsman,
        resource_uri=_RESOURCE + stamp.configuration_name,
        id=str(psrp.pool_id).upper(),
        input_streams="stdin pr",
        output_streams="stdout",
        idle_time_out=min(idle_timeout_s, LONGEST_IDLE_TIMEOUT_S),
    )


def _shell_of(line: Line, ids: SessionIds) -> WinRS:
    """The shell of known ids, over this line."""
    shell = WinRS(line.wsman, resource_uri=_RESOURCE + ids.configuration, id=ids.shell_id)
    shell.opened = True
    shell._selector_set = _selectors(ids.shell_id)
    return shell


def _selectors(shell_id: str) -> SelectorSet:
    selectors = SelectorSet()
    selectors.add_option("ShellId", shell_id)
    return selectors


def _protocol_options() -> OptionSet:
    options = OptionSet()
    options.add_option("protocolversion", _PROTOCOL_VERSION, {"MustComply": "true"})
    return options


def _create_shell(shell: WinRS, psrp: PsrpClient) -> None:
    content = ET.Element("creationXml", xmlns="http://schemas.microsoft.com/powershell")
    content.text = base64.b64encode(psrp.opening()).decode("ascii")
    with understanding():
        try:
            shell.open(_protocol_options(), content)
        except WSManFaultError as fault:
            if fault.code != _IDLE_TIMEOUT_OUT_OF_BOUNDS:
                raise
            shell.idle_time_out = None  # the endpoint allows less than was asked for: take its own measure
            shell.open(_protocol_options(), content)


def _await_opened(shell: WinRS, psrp: PsrpClient, timeout_s: float, host: str) -> None:
    deadline = time.monotonic() + timeout_s
    stream = Defragmenter()
    while True:
        for message in _poll_pool(shell, psrp, stream):
            if message.type != MessageType.RUNSPACEPOOL_STATE:
                continue
            try:
                said = read_message(message)
            except UnreadableCliXmlError as error:
                raise UnusableAnswerError(f"the state of the session cannot be read: {error}") from error
            state = said.get("RunspaceState") if isinstance(said, CliObject) else None
            if state == PoolState.OPENED:
                return
            if state in (PoolState.BROKEN, PoolState.CLOSED) and isinstance(said, CliObject):
                raise _broken_pool(said, host)
        if time.monotonic() > deadline:
            raise EndpointError(detail=f"{host} did not open the session within {timeout_s:.0f} s")


def _broken_pool(said: CliObject, host: str) -> BridgeError:
    part = said.parts.get("ExceptionAsErrorRecord")
    if part is None:
        return EndpointError(detail=f"{host} closed the session while it was opened")
    return error_for(read_error(part, terminating=True), "the session configuration")


def _poll_pool(shell: WinRS, psrp: PsrpClient, stream: Defragmenter) -> Iterator[Message]:
    try:
        with understanding():
            _, _, streams = shell.receive("stdout")
    except WSManFaultError as fault:
        if fault.code != OPERATION_TIMED_OUT:
            raise
        return
    for message in psrp.read(streams["stdout"], stream):
        if isinstance(message, DamagedMessage):
            raise UnusableAnswerError(message.detail)
        yield message


def _connect_shell(shell: WinRS, psrp: PsrpClient, ids: SessionIds) -> list[int]:
    """Takes the shell over; the numbers of the messages in the answer."""
    request = ET.Element(f"{{{NAMESPACES['rsp']}}}Connect")
    content = ET.SubElement(request, "connectXml", xmlns="http://schemas.microsoft.com/powershell")
    content.text = base64.b64encode(psrp.connecting()).decode("ascii")
    body = shell.wsman.connect(shell.resource_uri, request, _protocol_options(), _selectors(ids.shell_id))
    with understanding():
        answer = body.find("rsp:ConnectResponse/pwsh:connectResponseXml", NAMESPACES)
        data = base64.b64decode(answer.text) if answer is not None and answer.text else b""
    numbers = []
    for message in psrp.read(data, Defragmenter()):
        if isinstance(message, DamagedMessage):
            raise UnusableAnswerError(message.detail)
        numbers.append(message.object_id)
    return numbers


def _disconnect_shell(shell: WinRS, ids: SessionIds, *, buffer_mode: str | None = None) -> None:
    request = ET.Element(f"{{{NAMESPACES['rsp']}}}Disconnect")
    if buffer_mode is not None:
        ET.SubElement(request, f"{{{NAMESPACES['rsp']}}}BufferMode").text = buffer_mode
    shell.wsman.disconnect(shell.resource_uri, request, selector_set=_selectors(ids.shell_id))


def _buffer_mode(shell: WinRS, ids: SessionIds) -> str:
    """What the endpoint does with output that nobody takes, as the shell's own description says (MS-WSMV 2.2.4.37);
    empty where it does not say."""
    try:
        with understanding():
            body = shell.wsman.get(shell.resource_uri, selector_set=_selectors(ids.shell_id))
            return str(body.findtext("rsp:Shell/rsp:BufferMode", "", NAMESPACES))
    except THIRD_PARTY:
        return ""


def _connect_command(shell: WinRS, ids: SessionIds) -> None:
    request = ET.Element(f"{{{NAMESPACES['rsp']}}}Connect", CommandId=ids.pipeline_id or "")
    shell.wsman.connect(shell.resource_uri, request, selector_set=_selectors(ids.shell_id))


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
    reasons = "; ".join(f"{address.name} ({address.host}): {_reason(error)}" for address, error in failures)
    kinds = {type(error) for _, error in failures}
    first = failures[0][1]
    kind = kinds.pop() if len(kinds) == 1 else EndpointUnreachableError
    fields: dict[str, Any] = {**first.fields, "stamp": stamp.name, "detail": reasons, "failures": told}
    if len(failures) > 1:
        fields["host"] = ", ".join(address.host for address, _ in failures)
    return kind(**fields)


def _reason_of(error: Exception) -> str:
    return _reason(error) if isinstance(error, BridgeError) else brief(error)


def _reason(error: BridgeError) -> str:
    return str(error.fields.get("detail") or error)


def _seconds(duration: Any, default: int) -> int:
    found = _SECONDS.fullmatch(str(duration)) if duration is not None else None
    return int(found.group(1)) if found else default
