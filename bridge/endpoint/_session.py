"""An open PSRP session with a privileged endpoint: commands are sent, received, left and closed."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType

from pypsrp.exceptions import WSManFaultError
from pypsrp.shell import SignalCode as Signal
from pypsrp.shell import WinRS

from bridge.endpoint._access import Access
from bridge.endpoint._answers import understanding
from bridge.endpoint._commands import Command
from bridge.endpoint._faults import OPERATION_TIMED_OUT, SHELL_NOT_FOUND, session_error
from bridge.endpoint._line import Line, LineEvent, LineState, was_not_processed
from bridge.endpoint._messages import DamagedMessage, Defragmenter, Message
from bridge.endpoint._pipeline import THIRD_PARTY, PipelineState, RunningPipeline, SessionIds
from bridge.endpoint._psrp import PsrpClient, check_allowed, needs_session_key
from bridge.endpoint._records import Record
from bridge.endpoint._shell import disconnect_shell, poll_pool, selectors, shell_of
from bridge.endpoint._words import brief, reason_of
from bridge.errors import BridgeError, CommandUncertainError, SessionLostError, StampBusyError

_KEY_TIMEOUT_S = 60.0
_CLOSING_TIMEOUT_S = 10
_WHILE_LEFT = "Drop"


class EndpointSession:
    """An open runspace pool on one ERCS machine. One pipeline runs at a time.

    As a context manager it closes the shell at the end; while a pipeline still runs it leaves the shell to it
    instead, so that an exception in the caller does not end a collection.
    """

    def __init__(self, access: Access, line: Line, psrp: PsrpClient, shell: WinRS, ids: SessionIds) -> None:
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
                    disconnect_shell(shell, self.ids, buffer_mode=_WHILE_LEFT)
                except WSManFaultError as fault:
                    if fault.code == SHELL_NOT_FOUND:
                        raise
                    disconnect_shell(shell, self.ids)  # better with the endpoint's own mode than not at all
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
            yield shell_of(line, self.ids)
        finally:
            line.close()

    def reconnect(self) -> None:
        """Takes up the shell again that the endpoint had marked as disconnected."""
        try:
            self._line.wsman.reconnect(self._shell.resource_uri, selector_set=selectors(self.ids.shell_id))
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
            for _ in poll_pool(self._shell, self._psrp, self._pool_stream):
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
                    raise CommandUncertainError(host=self.endpoint.host, detail=reason_of(error)) from error
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
                raise CommandUncertainError(host=self.endpoint.host, detail=reason_of(error)) from error
            if not known:
                self._send_command_again(pipeline, fragment)

    def _send_command_again(self, pipeline: Pipeline, fragment: str) -> None:
        try:
            self._shell.command("", [fragment], command_id=pipeline.command_id)
        except (*THIRD_PARTY, BridgeError) as error:
            # A fault says that it does not run; but a session that ended meanwhile may have begun it the first time.
            if isinstance(error, WSManFaultError) and error.code != SHELL_NOT_FOUND:
                raise
            raise CommandUncertainError(host=self.endpoint.host, detail=reason_of(error)) from error

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
                self._shell.resource_uri, selector_set=selectors(self.ids.shell_id), timeout=_CLOSING_TIMEOUT_S
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
