"""One PowerShell process that serves one session over stdin and stdout: packets in order, time-outs, its end."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bridge.simulator.engine._packets import POOL, Packet, read_packet

_LONGEST_LINE_BYTES: Final = 16 << 20
_END_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.2
_SAID_BYTES: Final = 600
_STARTED_BADLY: Final = re.compile(rb"^__NamedPipeErr\w*__:\s*(.*)")


class EngineProcess:
    """Starts the program; ``send`` and ``close`` return at once, a thread waits for each acknowledgement.

    Two packets at once can hang PowerShell, so the next is sent only when the last was acknowledged.

    Args:
        command: The program and its arguments.
        environment: Its whole environment.
        errors: Where its standard error goes; its end is quoted when the process ends badly.
        on_data: Gets the target and the fragments of each Data packet; may block, then the process waits too.
        on_end: Called once at the end, with what happened: None where ``close`` had been called.
        answer_timeout_s: A process that acknowledges nothing for so long is killed.

    Raises:
        OSError: The program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        errors: Path,
        *,
        on_data: Callable[[uuid.UUID, bytes], None],
        on_end: Callable[[str | None], None],
        answer_timeout_s: float,
    ) -> None:
        self._on_data = on_data
        self._on_end = on_end
        self._answer_timeout_s = answer_timeout_s
        self._errors = errors
        self._packets: queue.SimpleQueue[Packet | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._awaited: tuple[str, uuid.UUID] | None = None
        self._delivering = False
        self._ended = False
        self._closing = False
        self._hung = ""
        self._strange = b""
        with errors.open("wb") as log:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environment),
                # Ctrl-C ends the simulator, and that ends the engine in order.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        self.process_id = self._process.pid
        self._reader = threading.Thread(target=self._read_all, name="engine-output", daemon=True)
        self._writer = threading.Thread(target=self._write_all, name="engine-input", daemon=True)
        self._reader.start()
        self._writer.start()

    def send(self, kind: str, target: uuid.UUID, data: bytes = b"") -> None:
        """Sends a packet after all earlier ones."""
        self._packets.put(Packet(kind, target, data))

    def close(self) -> None:
        """Ends the session, then the process; what was sent before is still sent."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._packets.put(None)

    def join(self, timeout_s: float) -> None:
        """Waits for the end; a process that has not ended by then is killed."""
        self._writer.join(timeout_s)
        if self._writer.is_alive():
            self._kill()
            self._writer.join()
        self._reader.join()

    # -- in: on the writer's thread

    def _write_all(self) -> None:
        try:
            while (packet := self._packets.get()) is not None and not self._ended:
                self._exchange(packet, self._answer_timeout_s)
            self._exchange(Packet("Close", POOL), _END_S)
        finally:
            self._wind_up()

    def _exchange(self, packet: Packet, timeout_s: float) -> None:
        with self._changed:
            if self._ended:
                return
            self._awaited = (f"{packet.kind}Ack", packet.target)
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it was asked for
        try:
            stdin.write(packet.to_line())
            stdin.flush()
        except (OSError, ValueError):
            return  # it has ended; the reader says so
        if not self._wait_for_answer(timeout_s):
            self._hung = f"it did not acknowledge a {packet.kind} packet within {timeout_s:g} s"
            self._kill()

    def _wait_for_answer(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._awaited is not None and not self._ended:
                if self._delivering and not self._closing:
                    deadline = time.monotonic() + timeout_s  # the client does not read: no fault of the process
                if time.monotonic() > deadline:
                    return False
                self._changed.wait(_LOOK_EVERY_S)
        return True

    def _wind_up(self) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            with contextlib.suppress(OSError):  # what could not be written any more is of no use
                stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()

    def _kill(self) -> None:
        if self._process.poll() is not None:
            return
        if sys.platform != "win32":  # a start script may have children
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()

    # -- out: on the reader's thread

    def _read_all(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it was asked for
        try:
            while line := stdout.readline(_LONGEST_LINE_BYTES):
                self._take(line)
        finally:
            stdout.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._packets.put(None)
            self._on_end(None if self._closing and not self._hung else self._what_happened())

    def _take(self, line: bytes) -> None:
        packet = read_packet(line)
        if packet is None:
            self._strange = line.strip()[:_SAID_BYTES] or self._strange
            return
        if packet.kind == "Data":
            self._delivering = True
            self._on_data(packet.target, packet.data)
            self._delivering = False
            return
        with self._changed:
            if self._awaited == (packet.kind, packet.target):
                self._awaited = None
                self._changed.notify_all()

    def _what_happened(self) -> str:
        if self._hung:
            return self._hung
        try:
            code: int | None = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            code = None
        how = "it closed its output" if code is None else f"it ended with exit code {code}"
        if code is not None and code < 0:
            how = f"it was ended by signal {-code}"
        said = self._said()
        return f"{how}: {said}" if said else how

    def _said(self) -> str:
        found = _STARTED_BADLY.match(self._strange)
        strange = found[1] if found else self._strange
        with self._errors.open("rb") as log:
            log.seek(max(self._errors.stat().st_size - _SAID_BYTES, 0))
            errors = log.read()
        return " ".join((strange + b" " + errors).decode("utf-8", "replace").split())
