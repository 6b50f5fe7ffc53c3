"""A session of a real PowerShell: PSRP passes through untouched, one process a session."""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final

from bridge.simulator.engine._channel import Caller, Channel
from bridge.simulator.engine._files import write_session_configuration
from bridge.simulator.engine._packets import (
    POOL,
    EndOfPipeline,
    message_ids,
    message_type,
    split_fragments,
    whole_message,
)
from bridge.simulator.engine._process import EngineProcess
from bridge.simulator.session import Outbox, ProtocolError, SessionSettings
from bridge.simulator.wsman import _soap as soap
from bridge.simulator.wsman._soap import FaultError

_CLOSE_S: Final = 25.0
_CAPABILITY: Final = 0x00010002
_INIT_DATA: Final = 0x0002100B
_PRIVATE_DATA: Final = 0x00021009
_OWN_OBJECT_ID: Final = 1 << 62  # PowerShell counts from one
_ONE_RUNSPACE: Final = (
    '<Obj RefId="0"><MS><I32 N="MinRunspaces">1</I32><I32 N="MaxRunspaces">1</I32></MS></Obj>'  # MS-PSRP 2.2.2.28
)
_ARGUMENTS: Final = ("-sshs", "-NoLogo", "-NoProfile", "-ConfigurationFile")


@dataclass(frozen=True, slots=True)
class PowerShellEngine:
    """A PowerShell that runs the simulated endpoint's sessions.

    ``answer_timeout_s`` is how long a process may take for anything that is no command, its start included, before it
    counts as hung and is killed.
    """

    program: Path
    answer_timeout_s: float = 60.0

    def host(self, settings: SessionSettings) -> EngineHost:
        """Everything that the sessions of one machine share."""
        return EngineHost(self, settings)


class EngineHost:
    """The generated files and the channel of one machine: ``start`` it before the first session, ``close`` it last."""

    def __init__(self, engine: PowerShellEngine, settings: SessionSettings) -> None:
        self.engine = engine
        self.settings = settings
        self.channel = Channel(settings.commands)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.configuration = Path()

    @property
    def folder(self) -> Path:
        """Only the simulator's user can read it."""
        assert self._folder is not None, "the engine was not started"  # noqa: S101
        return Path(self._folder.name)

    def start(self) -> None:
        """Writes the files and listens.

        Raises:
            OSError: The files cannot be written, or there is no port.
        """
        # A process that was just killed may hold a file for a moment on Windows.
        self._folder = tempfile.TemporaryDirectory(prefix="pep-bridge-engine-", ignore_cleanup_errors=True)
        self.configuration = write_session_configuration(self.settings.commands, self.folder)
        self.channel.start()

    def close(self) -> None:
        """Ends the channel and removes the files; the sessions were closed before."""
        self.channel.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def new_session(self, settings: SessionSettings, username: str) -> EngineSession:
        """A session in a process of its own.

        Raises:
            FaultError: PowerShell cannot be started.
        """
        return EngineSession(self, settings, username)


@dataclass(eq=False)
class _Pipeline:
    id: uuid.UUID
    outbox: Outbox
    end: EndOfPipeline
    closed: bool = False


class EngineSession:
    """One runspace pool in one process.

    PowerShell has no disconnect and connect over stdin and stdout, and needs none: the process stays with this session,
    whoever its client is. A client that connects is answered here, with what the process said when it was opened.
    """

    def __init__(self, host: EngineHost, settings: SessionSettings, username: str) -> None:
        self.settings = settings
        self.pool_output = Outbox(settings.output_buffer_bytes)
        self._host = host
        self._lock = threading.Lock()
        self._pipelines: dict[uuid.UUID, _Pipeline] = {}
        self._lost: FaultError | None = None
        self._said_at_the_opening: dict[int, bytes] = {}
        self._errors = host.folder / f"errors-{uuid.uuid4().hex}"
        self._caller = Caller("", username, settings.machine, settings.zone)
        self._pass = host.channel.admit(self._caller, host.folder)
        try:
            self._process = EngineProcess(
                [str(host.engine.program), *_ARGUMENTS, str(host.configuration)],
                _environment(self._pass.file, settings.zone),
                self._errors,
                on_data=self._take,
                on_end=self._ended,
                answer_timeout_s=host.engine.answer_timeout_s,
            )
        except OSError as problem:
            host.channel.dismiss(self._pass)
            raise soap.host_process_lost(f"PowerShell could not be started: {problem.strerror}") from problem
        self.process_id = self._process.process_id

    def new_outbox(self) -> Outbox:
        """An outbox for a pipeline that is about to arrive."""
        return Outbox(self.settings.output_buffer_bytes)

    def receive(self, data: bytes, outbox: Outbox | None = None) -> None:
        """Passes whole fragments on.

        Raises:
            ProtocolError: The data is not PSRP.
            FaultError: The process has ended.
        """
        with self._lock:
            if self._lost is not None:
                raise self._lost
            if not self._caller.session_id:
                self._caller.session_id = str(_ids(data)[0])
            if outbox is None or outbox is self.pool_output:
                self._process.send("Data", POOL, data)
                return
            found = self._find(outbox)
            if found is None and outbox.finished:
                return  # input that comes after the end of its pipeline
            target = found.id if found is not None else self._add(data, outbox)
            self._process.send("Data", target, data)

    def _find(self, outbox: Outbox) -> _Pipeline | None:
        return next((each for each in self._pipelines.values() if each.outbox is outbox), None)

    def _add(self, data: bytes, outbox: Outbox) -> uuid.UUID:
        _, pipeline_id = _ids(data)
        self._pipelines[pipeline_id] = _Pipeline(pipeline_id, outbox, EndOfPipeline())
        self._process.send("Command", pipeline_id)
        return pipeline_id

    def stop(self, outbox: Outbox) -> None:
        """Asks PowerShell to stop the pipeline that writes to ``outbox``; its state message follows."""
        with self._lock:
            found = self._find(outbox)
            if found is not None:
                self._process.send("Signal", found.id)
        outbox.release()

    def stop_all(self) -> list[Any]:
        """Asks the process to end in order, without waiting."""
        with self._lock:
            for pipeline in self._pipelines.values():
                self._process.send("Signal", pipeline.id)
                self._close(pipeline)  # or the pool's own Close would wait for it for ever
                pipeline.outbox.release()
        self.pool_output.release()
        self._process.close()
        return []

    def close(self) -> None:
        """Ends the process, whatever it takes."""
        self.stop_all()
        self._process.join(_CLOSE_S)

    def disconnect(self) -> None:
        """The client has left, or seems to be lost; what the commands write waits in their outboxes."""

    def reconnect(self) -> None:
        """The same client came back."""

    def connect(self, data: bytes) -> bytes:
        """Another client takes over (MS-PSRP 3.2.5.4.4): capability and the pool's data out, its private data follows.

        Raises:
            ProtocolError: The data is not PSRP.
            FaultError: The process has ended.
        """
        pool, _ = _ids(data)
        with self._lock:
            if self._lost is not None:
                raise self._lost
            said = dict(self._said_at_the_opening)
        if _PRIVATE_DATA in said:
            self.pool_output.put([said[_PRIVATE_DATA]], wait=False)
        return said.get(_CAPABILITY, b"") + whole_message(_OWN_OBJECT_ID, _INIT_DATA, pool, _ONE_RUNSPACE)

    # -- on the process's reader thread

    def _take(self, target: uuid.UUID, data: bytes) -> None:
        fragments = split_fragments(data)
        if target == POOL:
            with self._lock:
                for fragment in fragments:
                    if (kind := message_type(fragment)) in (_CAPABILITY, _PRIVATE_DATA):
                        self._said_at_the_opening.setdefault(kind, fragment)
            self.pool_output.put(fragments, wait=False)
            return
        with self._lock:
            pipeline = self._pipelines.get(target)
        if pipeline is None:
            return  # of a pipeline that was closed
        ended = False
        for fragment in fragments:
            ended = pipeline.end.seen_in(fragment) or ended
        pipeline.outbox.put(fragments, wait=True)
        if ended:
            with self._lock:
                del self._pipelines[target]
                self._close(pipeline)
            pipeline.outbox.finish()

    def _close(self, pipeline: _Pipeline) -> None:
        if not pipeline.closed:
            pipeline.closed = True
            self._process.send("Close", pipeline.id)

    def _ended(self, problem: str | None) -> None:
        with self._lock:
            pipelines = list(self._pipelines.values())
            self._pipelines.clear()
            self._lost = soap.host_process_lost(f"PowerShell of {self.settings.machine}: {problem or 'closed'}")
            lost = self._lost
        self._host.channel.dismiss(self._pass)
        self._errors.unlink(missing_ok=True)
        for outbox in (*(pipeline.outbox for pipeline in pipelines), self.pool_output):
            outbox.fail(lost)


def _ids(data: bytes) -> tuple[uuid.UUID, uuid.UUID]:
    try:
        return message_ids(data)
    except ValueError as problem:
        raise ProtocolError(str(problem)) from problem


def _environment(channel_file: Path, zone: tzinfo) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("PEP_BRIDGE_")}
    return kept | {
        "PEP_BRIDGE_CHANNEL": str(channel_file),
        # The machine's zone and culture; Windows has no such variables, there they are the user's.
        "TZ": str(getattr(zone, "key", "UTC")),
        "LC_ALL": "en_US.UTF-8",
        "POWERSHELL_TELEMETRY_OPTOUT": "1",
        "POWERSHELL_UPDATECHECK": "Off",
    }
