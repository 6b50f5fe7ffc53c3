"""psrpcore's client half over the stdin and stdout of a process, as PowerShell's ssh transport speaks it."""

from __future__ import annotations

import base64
import re
import subprocess
import uuid
from typing import Any

from psrpcore import ClientPowerShell, ClientRunspacePool, PipelineOutputEvent, PSRPPayload, StreamType
from psrpcore.types import PSInvocationState, RunspacePoolState

POOL = uuid.UUID(int=0)
PACKET = re.compile(r"<(\w+)[^>]*PSGuid='([0-9a-f-]+)'[^>]*?(?:/>|>([^<]*)<)")


class StdioClient:
    """psrpcore's client half; every packet waits for its acknowledgement."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pool = ClientRunspacePool()
        self.seen: list[str] = []
        self._output: list[Any] = []

    def open(self) -> None:
        self.pool.open()
        self.send(POOL)
        self.read_until(lambda: self.pool.state == RunspacePoolState.Opened)

    def run(self, name: str, **parameters: Any) -> tuple[list[Any], PSInvocationState]:
        pipeline = self.start(name, **parameters)
        output = self.finish(pipeline)
        return output, pipeline.state

    def start(self, name: str, **parameters: Any) -> Any:
        pipeline = ClientPowerShell(self.pool)
        pipeline.add_command(name)
        pipeline.add_parameters(**parameters)
        pipeline.start()
        self.packet(f"<Command PSGuid='{pipeline.pipeline_id}' />", "CommandAck")
        self.send(pipeline.pipeline_id)
        return pipeline

    def finish(self, pipeline: Any) -> list[Any]:
        self.read_until(lambda: pipeline.state not in (PSInvocationState.Running, PSInvocationState.Stopping))
        output, self._output = self._output, []
        self.packet(f"<Close PSGuid='{pipeline.pipeline_id}' />", "CloseAck")
        return output

    def close(self) -> int:
        self.packet(f"<Close PSGuid='{POOL}' />", "CloseAck")
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(30)

    def send(self, identifier: uuid.UUID) -> None:
        while (payload := self.pool.data_to_send()) is not None:
            text = base64.b64encode(payload.data).decode()
            self.packet(f"<Data Stream='Default' PSGuid='{identifier}'>{text}</Data>", "DataAck")

    def packet(self, line: str, acknowledgement: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        before = self.seen.count(acknowledgement)
        self.read_until(lambda: self.seen.count(acknowledgement) > before)

    def read_until(self, condition: Any) -> None:
        assert self.process.stdout is not None
        while not condition():
            line = self.process.stdout.readline().decode()
            match = PACKET.match(line)
            assert match is not None, f"not a packet: {line!r}"
            self.seen.append(match[1])
            if match[1] == "Data":
                target = uuid.UUID(match[2])
                data = PSRPPayload(base64.b64decode(match[3]), StreamType.default, target if target.int else None)
                self.pool.receive_data(data)
                while (event := self.pool.next_event()) is not None:
                    if isinstance(event, PipelineOutputEvent):
                        self._output.append(event.data)

    def kill(self) -> None:
        """Ends the process without asking."""
        self.process.kill()
        self.process.wait(30)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
