"""Commands put to a process that speaks PSRP over stdin and stdout, word for word, and its answers as they came."""

from __future__ import annotations

import base64
import re
import subprocess
import time
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from xml.sax.saxutils import escape

from bridge.simulator.session import Session
from tests.support.psrp_replay import Message, fragment, load, messages_of

_PACKET = re.compile(r"<(\w+)[^>]*PSGuid='([0-9a-fA-F-]+)'[^>]*?(?:/>|>([^<]*)<)")
_POOL_PACKETS = uuid.UUID(int=0)
_NONE = "<ToString>None</ToString><I32>0</I32>"
_MERGES = "".join(
    f'<Obj N="{name}" RefId="{number}">{_NONE}</Obj>'
    for number, name in enumerate(
        ("MergeMyResult", "MergeToResult", "MergePreviousResults", "MergeError", "MergeWarning", "MergeVerbose",
         "MergeDebug", "MergeInformation"), 20)
)  # fmt: skip
_CREATE = (
    '<Obj RefId="0"><MS><B N="NoInput">true</B>'
    '<Obj RefId="1" N="ApartmentState"><ToString>UNKNOWN</ToString><I32>2</I32></Obj>'
    '<Obj RefId="2" N="RemoteStreamOptions"><ToString>0</ToString><I32>0</I32></Obj><B N="AddToHistory">false</B>'
    '<Obj RefId="3" N="HostInfo"><MS><B N="_isHostNull">true</B><B N="_isHostUINull">true</B>'
    '<B N="_isHostRawUINull">true</B><B N="_useRunspaceHost">true</B></MS></Obj>'
    '<Obj RefId="4" N="PowerShell"><MS><B N="IsNested">false</B><Nil N="ExtraCmds" /><Obj RefId="5" N="Cmds"><LST>'
    '<Obj RefId="6"><MS><S N="Cmd">{command}</S><B N="IsScript">false</B><Nil N="UseLocalScope" />'
    '<Obj RefId="7" N="Args"><LST>{arguments}</LST></Obj>{merges}</MS></Obj></LST></Obj>'
    '<Nil N="History" /><B N="RedirectShellErrorOutputPipe">false</B></MS></Obj><B N="IsNested">false</B></MS></Obj>'
)

Argument = tuple[str | None, str]
"""A parameter's name and its value as CLIXML, whose first tag gets ``N="V"``: ``("FromDate", "<DT>...</DT>")``."""


def text(value: str) -> str:
    """A string as CLIXML."""
    return f"<S>{escape(value)}</S>"


def create_pipeline(command: str, arguments: Sequence[Argument]) -> str:
    """CREATE_PIPELINE of one command, without input and without a host."""
    items = [
        f'<Obj RefId="{number}"><MS>{_named("N", text(name) if name else "<Nil />")}{_named("V", value)}</MS></Obj>'
        for number, (name, value) in enumerate(arguments, 100)
    ]
    return _CREATE.format(command=command, arguments="".join(items), merges=_MERGES)


def ask(session: Session, command: str, arguments: Sequence[Argument]) -> list[Message]:
    """Everything that a simulated session says to one command; closes the session."""
    pool, pipeline = uuid.uuid4(), uuid.uuid4()
    opening = [message for message in load("from-pypsrp/open")["messages"] if message["from"] == "client"]
    try:
        for number, message in enumerate(opening, 1):
            session.receive(fragment(number, message["type"], message["clixml"], pool, None))
        outbox = session.new_outbox()
        clixml = create_pipeline(command, arguments)
        session.receive(fragment(9, "CREATE_PIPELINE", clixml, pool, pipeline), outbox)
        taken: list[bytes] = []
        while not outbox.finished:
            taken += outbox.take(1 << 30)
            time.sleep(0.002)
        return list(messages_of(taken))
    finally:
        session.close()


class RawStdio:
    """One session; each packet waits for the acknowledgement of the last, as the engine needs it."""

    def __init__(self, command_line: Sequence[str], *, environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command_line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self._pool = uuid.uuid4()
        self._objects = 0
        self._fragments: list[bytes] = []

    def __enter__(self) -> Self:
        for message in load("from-pypsrp/open")["messages"]:
            if message["from"] == "client":
                self._send(message["type"], message["clixml"], None)
        while "RUNSPACEPOOL_STATE" not in [message.kind for message in messages_of(self._fragments)]:
            self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, command: str, arguments: Sequence[Argument]) -> list[Message]:
        """Everything that the session says to one command, its last state included."""
        pipeline = uuid.uuid4()
        self._fragments = []
        self._packet("Command", pipeline, None)
        self._send("CREATE_PIPELINE", create_pipeline(command, arguments), pipeline)
        while True:
            messages = list(messages_of(self._fragments))
            if messages and messages[-1].kind == "PIPELINE_STATE":
                self._packet("Close", pipeline, None)
                return messages
            self._read()

    def _send(self, kind: str, clixml: str, pipeline: uuid.UUID | None) -> None:
        self._objects += 1
        self._packet("Data", pipeline or _POOL_PACKETS, fragment(self._objects, kind, clixml, self._pool, pipeline))

    def _packet(self, kind: str, target: uuid.UUID, data: bytes | None) -> None:
        body = f">{base64.b64encode(data).decode()}</{kind}>" if data is not None else " />"
        stream = " Stream='Default'" if data is not None else ""
        assert self._process.stdin is not None
        self._process.stdin.write(f"<{kind}{stream} PSGuid='{target}'{body}\n".encode())
        self._process.stdin.flush()
        while self._read() != f"{kind}Ack":
            pass

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        match = _PACKET.match(line.strip())
        assert match is not None, f"not a packet: {line!r}"
        if match[1] == "Data":
            self._fragments.append(base64.b64decode(match[3]))
        return match[1]


def _named(name: str, clixml: str) -> str:
    return re.sub(r"^<(\w+)", rf'<\1 N="{name}"', clixml)
