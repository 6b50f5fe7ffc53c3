"""A real PowerShell engine driven over stdin and stdout by the bridge's own PSRP client: a judge of what it packs."""

from __future__ import annotations

import base64
import queue
import re
import subprocess
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from bridge.endpoint._commands import Command
from bridge.endpoint._messages import (
    Defragmenter,
    InvocationState,
    Message,
    MessageType,
    PoolState,
    StateChange,
    read_message,
)
from bridge.endpoint._psrp import PsrpClient, needs_session_key
from bridge.endpoint._records import Record

_ZERO = uuid.UUID(int=0)
_LINE = re.compile(r"<(\w+)[^>]*PSGuid='([0-9a-fA-F-]+)'[^>]*?(?:/>|>([^<]*)</\1>)")
_WAIT_S = 60.0


class StdioEndpoint:
    """One restricted session in a process of its own; each packet waits for the acknowledgement of the last."""

    def __init__(self, pwsh: str, configuration: Path) -> None:
        self.client = PsrpClient()
        self._process = subprocess.Popen(
            [pwsh, "-sshs", "-NoLogo", "-NoProfile", "-ConfigurationFile", str(configuration)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        self._lines: queue.Queue[tuple[str, uuid.UUID, str]] = queue.Queue()
        self._data: queue.Queue[tuple[uuid.UUID, bytes]] = queue.Queue()
        self._pending: list[Message] = []
        self._reader = threading.Thread(target=self._read_lines, name="psrp-stdio")
        self._reader.start()
        self._defragmenter = Defragmenter()

    def __enter__(self) -> StdioEndpoint:
        self._exchange("Data", _ZERO, self.client.opening())
        while True:
            message = self._next_message()
            if message.type == MessageType.RUNSPACEPOOL_STATE:
                said = read_message(message)
                assert not isinstance(said, (Record, StateChange))
                if said is not None and said.get("RunspaceState") == PoolState.OPENED:  # type: ignore[union-attr]
                    return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(self, commands: Sequence[Command]) -> tuple[list[Record], StateChange]:
        """The records of the commands and the state that they ended in."""
        if needs_session_key(commands) and not self.client.has_session_key:
            for fragment in self.client.asking_for_key():
                self._exchange("Data", _ZERO, fragment)
            while not self.client.has_session_key:
                self._next_message()
        pipeline_id, fragments = self.client.creating(commands)
        self._exchange("Command", pipeline_id, None)
        for fragment in fragments:
            self._exchange("Data", pipeline_id, fragment)
        records: list[Record] = []
        while True:
            said = read_message(self._next_message())
            if isinstance(said, Record):
                records.append(said)
            elif isinstance(said, StateChange) and said.state in (
                InvocationState.COMPLETED,
                InvocationState.FAILED,
                InvocationState.STOPPED,
            ):
                self._exchange("Close", pipeline_id, None)
                return records, said

    def _exchange(self, kind: str, target: uuid.UUID, data: bytes | None) -> None:
        body = f">{base64.b64encode(data).decode()}</{kind}>" if data is not None else " />"
        stream = " Stream='Default'" if data is not None else ""
        assert self._process.stdin is not None
        self._process.stdin.write(f"<{kind}{stream} PSGuid='{target}'{body}\n")
        self._process.stdin.flush()
        tag, _, _ = self._lines.get(timeout=_WAIT_S)
        assert tag == f"{kind}Ack", tag

    def _next_message(self) -> Message:
        while not self._pending:
            _, data = self._data.get(timeout=_WAIT_S)
            for message in self.client.read(data, self._defragmenter):
                assert isinstance(message, Message)
                self._pending.append(message)
        return self._pending.pop(0)

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = _LINE.match(line.strip())
            if found is None:
                continue
            kind, target, text = found.group(1), uuid.UUID(found.group(2)), found.group(3) or ""
            if kind == "Data":
                self._data.put((target, base64.b64decode(text)))
            else:
                self._lines.put((kind, target, text))
