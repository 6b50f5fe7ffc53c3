"""An endpoint without a network: a collection that goes on on a thread of its own, whoever listens."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.collection import RunRecord
from bridge.collection._parts import open_place
from bridge.collection._ports import CommandEnd, LineNews, Ports, SessionIdsJson
from bridge.endpoint import Command, ErrorDetail, Parameter, Progress, Record, Stream, Value
from bridge.errors import (
    BridgeError,
    CommandFailedError,
    CommandUncertainError,
    EndpointUnreachableError,
    SessionGoneError,
    SessionLostError,
)
from bridge.secrets import Credential
from bridge.stamp import Stamp
from bridge.store import ReadableStore

LOG = "Get-AzureStackLog_Output.log"
SEVEN_ZIPS = {f"Storage-{number}.zip": b"z" for number in range(6)} | {"ACS-1.zip": b"a"}


@dataclass
class FakeCollection:
    """One collection on the fake endpoint; its records wait until somebody takes them."""

    id: str
    folder: Path | None
    records: list[Record] = field(default_factory=list)
    taken: int = 0
    end: CommandEnd | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)
    stopping: threading.Event = field(default_factory=threading.Event)
    listener: int = 0
    thread: threading.Thread | None = None
    ids: SessionIdsJson = field(default_factory=dict)


class FakeEndpoint:
    """Writes ``files`` below ``OutputPath``, one after the other, with a record for each."""

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        pause_s: float = 0.0,
        error: ErrorDetail | None = None,
        open_error: BridgeError | None = None,
        ends_log: bool = True,
        stamp_folder: str = "AzureStackLogs-20261123140000",
    ) -> None:
        self.files = (
            {"Storage-AzS-XRP01-1.zip": b"s" * 1000, "ACS-AzS-ACS01-1.zip": b"a" * 500} if files is None else files
        )
        self.pause_s = pause_s
        self.error = error
        self.open_error = open_error
        self.ends_log = ends_log
        self.stamp_folder = stamp_folder
        self.collections: dict[str, FakeCollection] = {}
        self.sent: list[tuple[Command, ...]] = []
        self.attached = 0
        self.lose_after_records: int | None = None
        self.silent_after_records: int | None = None
        self.uncertain = False
        self.dead: set[str] = set()
        self.refusing: set[str] = set()
        self.ended: list[SessionIdsJson] = []
        self.sessions: set[str] = set()
        self.ends_while_left = False
        self.ended_before_sent = 0
        self.fails_to_send: BridgeError | None = None
        self.gone = False
        self.unreachable = False
        self.refuses: BridgeError | None = None
        self.deaf = False
        self.clock_ahead: timedelta | None = None
        self.may_write = threading.Event()
        self.may_write.set()

    # -- the port

    def start(
        self,
        stamp: Stamp,
        credential: Credential,
        commands: Sequence[Command],
        *,
        line_deadline_s: float,
        idle_timeout_s: int,
        before_open: Callable[[SessionIdsJson], None],
        not_opened: Callable[[SessionIdsJson], None],
        before_send: Callable[[SessionIdsJson, str], None],
        on_line: Callable[[LineNews], None],
    ) -> FakeRunning:
        for address in stamp.endpoints:
            name, identity = address.name, str(uuid.uuid4())
            ids = {"endpoint": name, "shell_id": identity, "idle_timeout_s": idle_timeout_s}
            before_open({"pipeline_id": None, **ids})
            if name in self.refusing:
                not_opened({"pipeline_id": None, **ids})
            elif name not in self.dead:
                break
        self.ended_before_sent = len(self.ended)
        if self.open_error is not None:
            raise self.open_error
        before_send({"pipeline_id": identity, **ids}, name)
        if self.fails_to_send is not None:
            on_line(LineNews("lost", "the session could not be closed"))
            raise self.fails_to_send
        self.sent.append(tuple(commands))
        self.sessions.add(identity)
        path = next(
            (p.value for c in commands for p in c.parameters if (p.name or "").strip("-:") == "OutputPath"), None
        )
        collection = FakeCollection(identity, Path(str(path)) if path else None, ids={"pipeline_id": identity, **ids})
        self.collections[identity] = collection
        collection.thread = threading.Thread(target=self._work, args=(collection,), daemon=True)
        collection.thread.start()
        if self.uncertain:
            raise CommandUncertainError(host=name, detail="the line broke")
        return FakeRunning(self, collection, name, on_line)

    def attach(
        self,
        stamp: Stamp,
        credential: Credential,
        ids: SessionIdsJson,
        *,
        deadline_s: float,
        line_deadline_s: float,
        on_line: Callable[[LineNews], None],
    ) -> FakeRunning:
        self.attached += 1
        collection = self.collections.get(str(ids["pipeline_id"]))
        if self.refuses is not None:
            raise self.refuses
        if self.gone or collection is None:
            raise SessionGoneError(host=ids["endpoint"], detail="the shell was not found")
        if self.unreachable:
            raise SessionLostError(host=ids["endpoint"], detail="nothing answers")
        self.lose_after_records = None
        return FakeRunning(self, collection, str(ids["endpoint"]), on_line)

    def end(self, stamp: Stamp, credential: Credential, ids: SessionIdsJson) -> None:
        self.ended.append(ids)
        if self.refuses is not None:
            raise self.refuses
        if self.unreachable or ids["endpoint"] in self.dead:
            raise EndpointUnreachableError(stamp=stamp.name, port=5985, detail="nothing answers", failures=[])
        self.sessions.discard(str(ids["shell_id"]))
        collection = self.collections.get(str(ids["pipeline_id"]))
        if collection is not None:
            collection.stopping.set()

    def answering(self, stamp: Stamp) -> tuple[str, ...]:
        return tuple(address.name for address in stamp.endpoints[1:])

    def clock(self, stamp: Stamp) -> datetime | None:
        return datetime.now(UTC) + self.clock_ahead if self.clock_ahead is not None else None

    # -- the collection

    def _work(self, collection: FakeCollection) -> None:
        folder = collection.folder and collection.folder / self.stamp_folder
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        for number, (name, content) in enumerate(self.files.items()):
            if collection.stopping.wait(self.pause_s):
                self._finish(collection, CommandEnd("stopped"))
                return
            while not self.may_write.wait(0.02):
                if collection.stopping.is_set():
                    self._finish(collection, CommandEnd("stopped"))
                    return
            self._say(collection, number, name)
            if folder:
                (folder / name).write_bytes(content)
        if folder and (self.files or self.ends_log) and self.error is None:
            end = "Windows PowerShell transcript end\r\n" if self.ends_log else ""
            (folder / LOG).write_text(f"PS>Get-AzureStackLog\r\n{end}", encoding="utf-8")
        if self.error is not None:
            failure = CommandFailedError(
                command="Get-AzureStackLog", error_id=self.error.error_id, detail=self.error.message
            )
            self._finish(collection, CommandEnd("failed", self.error, failure))
        else:
            self._finish(collection, CommandEnd("completed"))

    def _say(self, collection: FakeCollection, number: int, name: str) -> None:
        progress = Progress("Get-AzureStackLog", 0, f"Role {number + 1}", number, operation=name)
        with collection.changed:
            collection.records.append(
                Record(Stream.PROGRESS, f"Role {number + 1}", datetime.now(UTC), progress=progress)
            )
            collection.changed.notify_all()

    def _finish(self, collection: FakeCollection, end: CommandEnd) -> None:
        with collection.changed:
            collection.end = end
            collection.changed.notify_all()

    def join(self) -> None:
        for collection in self.collections.values():
            collection.stopping.set()
            if collection.thread:
                collection.thread.join()


class FakeRunning:
    def __init__(
        self, server: FakeEndpoint, collection: FakeCollection, endpoint: str, on_line: Callable[[LineNews], None]
    ) -> None:
        self._server = server
        self._on_line = on_line
        self._collection = collection
        self._left = threading.Event()
        self._abandoned = threading.Event()
        self._seen = 0
        self.endpoint = endpoint

    @property
    def ids(self) -> SessionIdsJson:
        return self._collection.ids

    def records(self) -> Iterator[Record]:
        collection = self._collection
        while True:
            with collection.changed:
                while (
                    not (self._left.is_set() or self._abandoned.is_set())
                    and collection.taken >= len(collection.records)
                    and collection.end is None
                ):
                    collection.changed.wait(0.02)
                if self._abandoned.is_set():
                    raise SessionLostError(host=self.endpoint, detail="the session was closed meanwhile")
                if self._left.is_set():
                    return
                if collection.taken >= len(collection.records):
                    return
                record = collection.records[collection.taken]
                collection.taken += 1
            yield record
            self._seen += 1
            if self._seen == self._server.silent_after_records:
                self._on_line(LineNews("down", "the line was cut"))
                self._abandoned.wait()
                raise SessionLostError(host=self.endpoint, detail="the session was closed meanwhile")
            if self._server.lose_after_records is not None and self._seen >= self._server.lose_after_records:
                raise SessionLostError(host=self.endpoint, detail="the line was cut")

    def end(self) -> CommandEnd | None:
        was_left = self._left.is_set() and not self._server.ends_while_left
        return CommandEnd("disconnected") if was_left else self._collection.end

    def stop(self) -> None:
        if not self._server.deaf:
            self._collection.stopping.set()

    def disconnect(self) -> None:
        if self._server.ends_while_left and self._collection.thread is not None:
            self._server.may_write.set()
            self._collection.thread.join()
        self._left.set()

    def abandon(self) -> None:
        self._abandoned.set()

    def close(self) -> bool:
        """A line that is down is told, not raised, as a real session does."""
        if self._left.is_set() or self._abandoned.is_set():
            return False
        if self._server.unreachable:
            self._on_line(LineNews("lost", "the session could not be closed"))
        else:
            self._server.sessions.discard(self._collection.id)
        return True


def fake_bind(arguments: Mapping[str, Value]) -> tuple[Command, ...]:
    return (Command("Get-AzureStackLog", tuple(Parameter(name, value) for name, value in arguments.items())),)


def fake_assess(bundle: ReadableStore, run: RunRecord, session_log: Path) -> tuple[bool, dict[str, Any]]:
    """A role counts as collected when a zip begins with its name."""
    names = [entry.path.rsplit("/", 1)[-1] for entry in bundle.list("data", on_unsafe=lambda error: None)]
    roles = {role: any(name.startswith(f"{role}-") for name in names) for role in run.request.roles}
    return all(roles.values()) and bool(names), {"schema_version": 1, "roles": roles}


def fake_ports(endpoint: FakeEndpoint, *, now: Callable[[], datetime] | None = None) -> Ports:
    return Ports(
        endpoint=endpoint,
        open_store=open_place,
        bind=fake_bind,
        assess=fake_assess,
        now=now or (lambda: datetime.now(UTC)),
    )


def wait_until(true: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Waits for something that another thread or process will do."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
