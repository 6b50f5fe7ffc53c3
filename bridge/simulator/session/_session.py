"""A restricted session as a machine of messages: PSRP fragments in, PSRP fragments out, no transport."""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta, tzinfo
from typing import Any, Final
from xml.etree import ElementTree

from psrpcore import (
    CreatePipelineEvent,
    EndOfPipelineInputEvent,
    GetAvailableRunspacesEvent,
    GetCommandMetadataEvent,
    PipelineInputEvent,
    PSRPEvent,
    PSRPPayload,
    ResetRunspaceStateEvent,
    ServerPipeline,
    ServerRunspacePool,
    SessionCapabilityEvent,
    SetMaxRunspacesEvent,
    SetMinRunspacesEvent,
    StreamType,
)
from psrpcore._payload import PSRPMessage, create_fragment, create_message
from psrpcore.types import PSRPMessageType, RunspacePoolState, serialize

from bridge.simulator._command import CommandSpec
from bridge.simulator.session import _records as records
from bridge.simulator.session._builtin import built_in_commands
from bridge.simulator.session._catalog import Catalog, command_metadata, metadata_count
from bridge.simulator.session._clixml import Encryptor, to_clixml
from bridge.simulator.session._dates import to_machine_time
from bridge.simulator.session._outbox import Outbox
from bridge.simulator.session._pipeline import Pipeline, Surroundings
from bridge.simulator.session._values import plain

_JOIN_S: Final = 10.0
_BAD_COLOR: Final = re.compile(rb'(System\.ConsoleColor</S>\s*<I32 N="V">)-\d+')
_WITH_CI: Final = (
    PSRPMessageType.SetMaxRunspaces,
    PSRPMessageType.SetMinRunspaces,
    PSRPMessageType.GetAvailableRunspaces,
    PSRPMessageType.ResetRunspaceState,
)


class ProtocolError(Exception):
    """The client sent something that is not PSRP."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a session shows of its machine, and its limits."""

    commands: Sequence[CommandSpec]
    machine: str = "AzS-ERCS01"
    build: str = "17763.2686"
    """Windows and PowerShell build: ``5.1.<build>``."""
    zone: tzinfo = UTC
    clock_offset: timedelta = timedelta()
    fragment_bytes: int = 32768
    """Largest blob of a fragment; Windows PowerShell's default."""
    output_buffer_bytes: int = 1 << 20
    """How much a command may write before somebody takes it."""
    process_id: int = field(default_factory=os.getpid)


class Session:
    """One runspace pool of a restricted NoLanguage endpoint.

    ``pool_output`` carries the pool's own messages; a pipeline's go to the outbox that came with its CREATE_PIPELINE.
    ``receive``, ``stop`` and the others may be called from any one thread at a time.
    """

    def __init__(self, settings: SessionSettings, username: str) -> None:
        self.settings = settings
        self.username = username
        self.pool_output = Outbox(settings.output_buffer_bytes)
        self._lock = threading.RLock()
        private_data = records.application_private_data(settings.build)
        self._pool = _Pool(self._send_pool_message, private_data, settings.zone)
        self._catalog = Catalog([*built_in_commands(), *settings.commands])
        self._pipelines: dict[uuid.UUID, tuple[Pipeline, Outbox]] = {}
        self._running: set[uuid.UUID] = set()
        self._waiting: deque[uuid.UUID] = deque()
        self._history = 0
        self._object_id = 0
        self._captured: list[bytes] | None = None

    @property
    def id(self) -> uuid.UUID:
        """The runspace pool's id, known after SESSION_CAPABILITY."""
        return self._pool.runspace_pool_id

    @property
    def process_id(self) -> int:
        """The process that its machine shows for it."""
        return self.settings.process_id

    @property
    def running(self) -> tuple[uuid.UUID, ...]:
        """Pipelines that have not ended."""
        with self._lock:
            return (*self._running, *self._waiting)

    def new_outbox(self) -> Outbox:
        """An outbox for a pipeline that is about to arrive."""
        return Outbox(self.settings.output_buffer_bytes)

    def receive(self, data: bytes, outbox: Outbox | None = None) -> None:
        """Takes whole fragments from the client.

        Args:
            data: PSRP fragments (MS-PSRP 2.2.4).
            outbox: Where a pipeline created by these fragments is to write.

        Raises:
            ProtocolError: The data is not PSRP.
        """
        with self._lock:
            try:
                self._pool.receive_data(PSRPPayload(data, StreamType.default, None))
                while (event := self._pool.next_event()) is not None:
                    self._handle(event, outbox)
            except (ValueError, KeyError, AttributeError, LookupError, ElementTree.ParseError) as problem:
                raise ProtocolError(f"{type(problem).__name__}: {problem}") from problem

    def disconnect(self) -> None:
        """The client has gone; pipelines go on and stall when their outboxes are full."""
        with self._lock:
            if self._pool.state == RunspacePoolState.Opened:
                self._pool.disconnect()

    def reconnect(self) -> None:
        """The same client came back."""
        with self._lock:
            if self._pool.state == RunspacePoolState.Disconnected:
                self._pool.reopen()

    def connect(self, data: bytes) -> bytes:
        """Another client takes over (MS-PSRP 3.2.5.4.4): its capability in, ours and the pool's data out.

        APPLICATION_PRIVATE_DATA follows on the pool's output.
        """
        with self._lock:
            self._captured = []
            try:
                if self._pool.state == RunspacePoolState.Opened:
                    self._pool.disconnect()
                self._pool.connect()
                self.receive(data)
                return b"".join(self._captured)
            finally:
                self._captured = None

    def stop(self, outbox: Outbox) -> None:
        """Stops the pipeline that writes to ``outbox``; its state message follows when the command has ended.

        A pipeline is known by its outbox because its PSRP id need not be the transport's id of the command.
        """
        with self._lock:
            for identifier, (pipeline, own) in list(self._pipelines.items()):
                if own is outbox:
                    self._stop(identifier, pipeline)
        outbox.release()

    def writes_to(self, outbox: Outbox) -> bool:
        """Whether a pipeline that has not ended writes to ``outbox``."""
        with self._lock:
            return any(own is outbox for _, own in self._pipelines.values())

    def _stop(self, identifier: uuid.UUID, pipeline: Pipeline) -> None:
        pipeline.stop()
        if identifier in self._waiting:  # never started: run it now, only to say that it stopped
            self._waiting.remove(identifier)
            self._running.add(identifier)
            pipeline.start()

    def stop_all(self) -> list[Pipeline]:
        """Asks every pipeline to stop, without waiting; ``join`` them off the network thread."""
        with self._lock:
            pipelines = [pipeline for pipeline, _ in self._pipelines.values()]
            for identifier, (pipeline, outbox) in list(self._pipelines.items()):
                self._stop(identifier, pipeline)
                outbox.release()
        self.pool_output.release()
        return pipelines

    def close(self) -> None:
        """Stops every pipeline and waits for its thread."""
        for pipeline in self.stop_all():
            pipeline.join(_JOIN_S)

    def announce_close(self) -> None:
        """Says Closing and Closed, as a session over stdin and stdout does before it ends."""
        for state in (4, 3):
            self._send_message(PSRPMessageType.RunspacePoolState, to_clixml(records.runspace_pool_state(state)), None)

    def _handle(self, event: PSRPEvent[Any, Any], outbox: Outbox | None) -> None:
        match event:
            case CreatePipelineEvent() | GetCommandMetadataEvent():
                self._create(event, outbox or self.new_outbox())
            case PipelineInputEvent():
                self._with_pipeline(event.pipeline_id, lambda pipeline: pipeline.add_input(plain(event.data)))
            case EndOfPipelineInputEvent():
                self._with_pipeline(event.pipeline_id, lambda pipeline: pipeline.end_input())
            case SetMaxRunspacesEvent() | SetMinRunspacesEvent():
                self._pool.answer(event.ci, event.count > 0)
            case ResetRunspaceStateEvent():
                # GUESS: a restricted session answers as an ordinary one.
                self._pool.answer(event.ci, True)
            case GetAvailableRunspacesEvent():
                self._pool.answer(event.ci, max(self._pool.max_runspaces - len(self._running), 0))
            case SessionCapabilityEvent() if self._pool.state == RunspacePoolState.Connecting:
                self._pool.prepare_message(self._pool.our_capability)
            case _:
                pass

    def _with_pipeline(self, pipeline_id: uuid.UUID, action: Callable[[Pipeline], None]) -> None:
        found = self._pipelines.get(pipeline_id)
        if found is not None:
            action(found[0])

    def _create(self, event: Any, outbox: Outbox) -> None:
        identifier = event.pipeline_id
        if isinstance(event, GetCommandMetadataEvent):
            self._answer_metadata(event.pipeline, identifier, outbox)
            return
        self._history += 1
        powershell = event.pipeline

        def send(message_type: PSRPMessageType, payload: Any, *, wait: bool = True) -> None:
            text = to_clixml(payload, self._pool.encryptor) if payload is not None else ""
            self._send_message(message_type, text, identifier, outbox, wait=wait)

        pipeline = Pipeline(
            self._surroundings(),
            powershell,
            send,
            has_host=self._pool.has_host(powershell.host),
            history_id=self._history,
            on_end=lambda: self._ended(identifier),
        )
        self._pipelines[identifier] = (pipeline, outbox)
        self._waiting.append(identifier)
        self._start_waiting()

    def _surroundings(self) -> Surroundings:
        settings = self.settings
        return Surroundings(
            self._catalog,
            str(self.id),
            self.username,
            settings.machine,
            settings.process_id,
            settings.zone,
            settings.clock_offset,
        )

    def _start_waiting(self) -> None:
        while self._waiting and len(self._running) < max(self._pool.max_runspaces, 1):
            identifier = self._waiting.popleft()
            self._running.add(identifier)
            self._pipelines[identifier][0].start()

    def _ended(self, identifier: uuid.UUID) -> None:
        with self._lock:
            self._running.discard(identifier)
            _, outbox = self._pipelines.pop(identifier)
            self._pool.forget(identifier)
            self._start_waiting()
        outbox.finish()

    def _answer_metadata(self, question: Any, identifier: uuid.UUID, outbox: Outbox) -> None:
        patterns = [str(name) for name in question.name or ["*"]]
        found = self._catalog.matching(patterns, int(question.command_type))
        payloads = [metadata_count(len(found)), *map(command_metadata, found)]
        for payload in payloads:
            self._send_message(PSRPMessageType.PipelineOutput, to_clixml(payload), identifier, outbox)
        state = to_clixml(records.pipeline_state(4))
        self._send_message(PSRPMessageType.PipelineState, state, identifier, outbox)
        self._pool.forget(identifier)
        outbox.finish()

    def _send_pool_message(self, message_type: PSRPMessageType, text: str) -> None:
        self._send_message(message_type, text, None)

    def _send_message(
        self,
        message_type: PSRPMessageType,
        text: str,
        pipeline_id: uuid.UUID | None,
        outbox: Outbox | None = None,
        *,
        wait: bool = False,
    ) -> None:
        message = create_message(False, message_type, text.encode(), self.id, pipeline_id)
        with self._lock:
            self._object_id += 1
            object_id = self._object_id
        fragments = list(_fragments(object_id, message, self.settings.fragment_bytes))
        captured = message_type in (PSRPMessageType.SessionCapability, PSRPMessageType.RunspacePoolInitData)
        if captured and self._captured is not None:
            self._captured += fragments
            return
        (outbox or self.pool_output).put(fragments, wait=wait)


def _fragments(object_id: int, message: bytes, size: int) -> list[bytes]:
    count = max((len(message) + size - 1) // size, 1)
    return [
        create_fragment(object_id, index, message[index * size : (index + 1) * size], index == count - 1)
        for index in range(count)
    ]


class _PoolEncryptor(Encryptor):
    def __init__(self, pool: _Pool) -> None:
        self._pool = pool

    def encrypt(self, text: str) -> str:
        return self._pool.encrypt(text)


class _Pool(ServerRunspacePool):
    """psrpcore's server half, with its known gaps filled.

    It answers the opening, the key exchange and the runspace counts; what pipelines write does not pass through it.
    """

    def __init__(self, send: Callable[[PSRPMessageType, str], None], private_data: Any, zone: tzinfo) -> None:
        super().__init__()
        self._zone = zone
        self._send = send
        self._private_data = private_data
        self.encryptor: Encryptor = _PoolEncryptor(self)

    def encrypt(self, text: str) -> str:
        """A SecureString for the client."""
        return self._cipher.encrypt(text)

    def has_host(self, pipeline_host: Any) -> bool:
        """Whether host calls reach somebody: the pipeline's own host, or the pool's where it says so."""
        if pipeline_host is not None and not pipeline_host.IsHostNull:
            return True
        uses_pool = pipeline_host is None or pipeline_host.UseRunspaceHost
        return bool(uses_pool and self.host is not None and not self.host.IsHostNull)

    def answer(self, ci: int, value: bool | int) -> None:
        """Answers a question about runspaces."""
        self.runspace_availability_response(ci, value)

    def forget(self, pipeline_id: uuid.UUID) -> None:
        """Drops an ended pipeline, so that a long session does not grow."""
        self.pipeline_table.pop(pipeline_id, None)

    def reopen(self) -> None:
        """Back to Opened without a state message: a real host sends none on Reconnect (recorded)."""
        self.state = RunspacePoolState.Opened

    def prepare_message(
        self,
        message: Any,
        message_type: PSRPMessageType | None = None,
        pipeline_id: uuid.UUID | None = None,
        stream_type: StreamType = StreamType.default,
    ) -> None:
        kind = message_type or PSRPMessageType.get_message_id(type(message))
        if kind == PSRPMessageType.ApplicationPrivateData:
            text = to_clixml(self._private_data)
        elif kind == PSRPMessageType.RunspacePoolState and self._is_connecting:
            return  # a real host does not repeat the state to a client that connects (recorded)
        else:
            element = serialize(message, self._cipher)
            text = ElementTree.tostring(element, encoding="unicode")
        self._send(kind, text)

    def connect(self) -> None:
        self._is_connecting = True
        super().connect()

    def _process_message(self, message: PSRPMessage) -> PSRPEvent[Any, Any]:
        data = message.data
        if b"<!" in data:
            raise ProtocolError("a document type declaration has no place in CLIXML")
        data = to_machine_time(data, self._zone)
        if message.message_type in (PSRPMessageType.InitRunspacePool, PSRPMessageType.CreatePipeline):
            # PowerShell on Linux tells console colour -1, which psrpcore's enumeration does not have.
            data = _BAD_COLOR.sub(rb"\g<1>0", data)
        if message.message_type in _WITH_CI:
            data = data.replace(b'N="CI"', b'N="ci"')  # PowerShell compares names without case, psrpcore with
        fixed = PSRPMessage(
            message.message_type, bytearray(data), message.runspace_pool_id, message.pipeline_id, message.object_id
        )
        creating = message.message_type in (PSRPMessageType.CreatePipeline, PSRPMessageType.GetCommandMetadata)
        if creating and message.pipeline_id is not None and message.pipeline_id not in self.pipeline_table:
            ServerPipeline(self, message.pipeline_id)
        return super()._process_message(fixed)

    _is_connecting = False
