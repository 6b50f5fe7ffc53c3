"""Puts recorded PSRP conversations to a session and holds the answers against the recording."""

from __future__ import annotations

import base64
import json
import re
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from psrpcore._crypto import PSRemotingCrypto, create_keypair, decrypt_session_key
from psrpcore.types import PSRPMessageType

from bridge.simulator.session import Outbox, Session, SessionSettings
from tests.support.recorded_commands import RECORDED_COMMANDS

RECORDINGS = Path(__file__).parents[2] / "fixtures" / "real-powershell"
_PATIENCE_S = 30.0
_ASSEMBLY = re.compile(r", (mscorlib|System[\w.]*), Version=[^\]]*")
_PLURAL = {
    "INIT_RUNSPACEPOOL": "InitRunspacePool",
    "CONNECT_RUNSPACEPOOL": "ConnectRunspacePool",
    "RUNSPACEPOOL_STATE": "RunspacePoolState",
    "PUBLIC_KEY": "PublicKey",
}


@dataclass(frozen=True)
class Message:
    """One PSRP message; ``kind`` in the recordings' words."""

    kind: str
    pipeline: uuid.UUID | None
    clixml: str


def message_type(kind: str) -> PSRPMessageType:
    """``CREATE_PIPELINE`` as psrpcore's enumeration."""
    name = _PLURAL.get(kind) or "".join(part.capitalize() for part in kind.split("_"))
    return PSRPMessageType[name]


def kind_of(number: int) -> str:
    """The recordings' word for a message type."""
    name = PSRPMessageType(number).name
    for kind, known in _PLURAL.items():
        if known == name:
            return kind
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def fragment(
    object_id: int, kind: str, clixml: str, pool: uuid.UUID, pipeline: uuid.UUID | None, *, to_server: bool = True
) -> bytes:
    """One message as one fragment (MS-PSRP 2.2.1, 2.2.4), written without the code under test."""
    blob = struct.pack("<iI", 2 if to_server else 1, message_type(kind).value) + pool.bytes_le
    blob += (pipeline or uuid.UUID(int=0)).bytes_le + clixml.encode()
    return struct.pack(">QQBI", object_id, 0, 3, len(blob)) + blob


def messages_of(fragments: list[bytes]) -> Iterator[Message]:
    """Puts whole fragments of one stream together."""
    parts = b""
    for one in fragments:
        offset = 0
        while offset < len(one):
            _, _, flags, size = struct.unpack_from(">QQBI", one, offset)
            parts += one[offset + 21 : offset + 21 + size]
            offset += 21 + size
            if flags & 2:
                (number,) = struct.unpack_from("<I", parts, 4)
                pipeline = uuid.UUID(bytes_le=parts[24:40])
                yield Message(kind_of(number), pipeline if pipeline.int else None, parts[40:].decode())
                parts = b""


class Replay:
    """A session that is asked what a recording's client asked."""

    def __init__(self, recording: dict[str, Any], opening: dict[str, Any]) -> None:
        self._recording = recording
        self._opening = opening
        self.session = Session(SessionSettings(RECORDED_COMMANDS), "CORP\\operator")
        self._pool = uuid.uuid4()
        self._object_id = 0
        self._outboxes: dict[str, Outbox] = {}
        self._taken: dict[str, list[bytes]] = {}
        self._labels: dict[str, uuid.UUID] = {}
        self._cipher = PSRemotingCrypto()

    def answers(self) -> list[Message]:
        """Every answer, pipeline after pipeline in the order in which they were asked."""
        try:
            is_opening = self._recording["messages"] == self._opening["messages"]
            self._open()
            if is_opening:
                self.session.announce_close()
                return list(messages_of(self.session.pool_output.take(1 << 30)))
            self.session.pool_output.take(1 << 30)
            for message in self._recording["messages"]:
                if message.get("from") == "client":
                    self._ask(message["type"], message.get("pipeline"), message["clixml"] or "")
            return list(self._collect())
        finally:
            self.session.close()

    def _open(self) -> None:
        for message in self._opening["messages"]:
            if message["from"] == "client":
                self._send(message["type"], message["clixml"], None)

    def _ask(self, kind: str, label: str | None, clixml: str) -> None:
        if kind == "PUBLIC_KEY":
            self._exchange_keys(clixml)
            return
        if "<SS" in clixml:
            clixml = self._with_our_secrets(clixml)
        if label is not None and label not in self._labels:
            self._wait_for_all()  # a client waits for one pipeline before it starts the next
            self._labels[label] = uuid.uuid4()
            self._outboxes[label] = self.session.new_outbox()
        self._send(kind, clixml, label)
        if self._stops and label is not None:
            self._wait(lambda: self._outboxes[label].size_bytes > 4000)
            self.session.stop(self._outboxes[label])

    @property
    def _stops(self) -> bool:
        return ".Stop()" in self._recording["said"] or self._recording["said"].startswith("stop ")

    def _with_our_secrets(self, clixml: str) -> str:
        if self._key_answer is None:  # two 7.6 sides need no session key; this session does
            self._exchange_keys('<Obj RefId="0"><MS><S N="PublicKey">BASE64</S></MS></Obj>')
            self._key_answer = None
        return re.sub(r"(<SS[^>]*>)[^<]*", lambda match: match[1] + self._cipher.encrypt("x" * 14), clixml)

    def _exchange_keys(self, clixml: str) -> None:
        private, public = create_keypair()
        self._send("PUBLIC_KEY", clixml.replace("BASE64", base64.b64encode(public).decode()), None)
        (answer,) = messages_of(self.session.pool_output.take(1 << 30))
        text = ElementTree.fromstring(answer.clixml).findtext(".//S[@N='EncryptedSessionKey']", "")
        self._cipher.register_key(decrypt_session_key(private, base64.b64decode(text)))
        self._key_answer = answer

    _key_answer: Message | None = None

    def _send(self, kind: str, clixml: str, label: str | None) -> None:
        self._object_id += 1
        pipeline = self._labels[label] if label is not None else None
        data = fragment(self._object_id, kind, clixml, self._pool, pipeline)
        self.session.receive(data, self._outboxes[label] if label is not None else None)

    def _wait_for_all(self) -> None:
        for label, outbox in self._outboxes.items():
            taken = self._taken.setdefault(label, [])

            def drained(taken: list[bytes] = taken, outbox: Outbox = outbox) -> bool:
                taken += outbox.take(1 << 30)
                return outbox.finished

            self._wait(drained)

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(self._recording["said"])
            time.sleep(0.002)

    def _collect(self) -> Iterator[Message]:
        if self._key_answer is not None:
            yield self._key_answer
        self._wait_for_all()
        for label in self._labels:
            yield from messages_of(self._taken[label])


def load(name: str) -> dict[str, Any]:
    """A recording by its name: ``from-pypsrp/many``."""
    text = (RECORDINGS / f"{name}.json").read_text(encoding="utf-8")
    recording: dict[str, Any] = json.loads(text)
    return recording


def shape(clixml: str) -> dict[str, str]:
    """Properties and types of a payload: path of names to CLIXML tag, .NET types, and the texts that decide.

    Items of a list and entries of a dictionary are looked at once for each shape, so that their number does not count.
    """
    found: dict[str, str] = {}
    if not clixml:
        return found
    root = ElementTree.fromstring(clixml)
    types = {element.get("RefId"): element for element in root.iter("TN")}
    objects = {element.get("RefId"): element for element in root.iter("Obj")}
    _walk(root, root.get("N") or "", found, types, objects)
    return found


_DECIDING = (
    "FullyQualifiedErrorId",
    "ErrorCategory_Category",
    "ErrorCategory_Reason",
    "ErrorCategory_Activity",
    "ErrorCategory_TargetName",
    "ErrorCategory_TargetType",
    "PipelineState",
    "RunspaceState",
    "Count",
)


def _walk(
    element: ElementTree.Element,
    path: str,
    found: dict[str, str],
    types: dict[str | None, ElementTree.Element],
    objects: dict[str | None, ElementTree.Element],
) -> None:
    if element.tag == "Ref":
        element = objects[element.get("RefId")]
    found[path] = element.tag
    name = element.get("N")
    if name in _DECIDING:
        found[path] += f" = {element.text or ''}"
    if element.tag != "Obj":
        return
    named = element.find("TN")
    reference = element.find("TNRef")
    if named is None and reference is not None:
        named = types[reference.get("RefId")]
    if named is not None:
        found[path] += " " + _ASSEMBLY.sub("", " < ".join(item.text or "" for item in named))
    if named is not None and "System.Enum" in found[path]:
        found[path] += f" = {element.findtext('ToString')}"
    if element.find("ToString") is not None:
        found[f"{path}/ToString"] = "present"
    for group in ("Props", "MS"):
        for item in element.findall(f"{group}/*"):
            _walk(item, f"{path}/{item.get('N')}", found, types, objects)
    for item in element.findall("LST/*"):
        _walk(item, f"{path}[]", found, types, objects)
    for entry in element.findall("DCT/En"):
        _walk(entry[1], f"{path}[{entry[0].text}]", found, types, objects)
