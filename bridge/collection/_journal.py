"""The journal: every run and every step, in SQLite, written before a step is done and again when it is done."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.collection._request import Request
from bridge.collection._states import RunState, check_transition
from bridge.errors import BridgeError, JournalError, JournalFullError, NoSuchRunError, StampBusyError
from bridge.secrets import Scrubber
from bridge.store import says_full, use_write_ahead_log

SCHEMA_VERSION = 1
APPLICATION_ID = 0x50455042
"""``PEPB``: tells our file from any other SQLite file (SQLite file format, offset 68)."""

_BUSY_S = 10.0  # how long another process may write
_SCHEMA = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    stamp TEXT NOT NULL,
    state TEXT NOT NULL,
    request TEXT NOT NULL,
    bundle_name TEXT NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    ended TEXT,
    failed_in TEXT,
    reason TEXT,
    stop_requested INTEGER NOT NULL DEFAULT 0,
    facts TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX runs_by_stamp ON runs (stamp, created);
CREATE TABLE steps (
    run_id TEXT NOT NULL REFERENCES runs (id),
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    at TEXT NOT NULL,
    detail TEXT,
    PRIMARY KEY (run_id, number)
) STRICT;
CREATE TABLE cool_downs (stamp TEXT PRIMARY KEY, until TEXT NOT NULL) STRICT;
CREATE TABLE deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    bundle_name TEXT NOT NULL,
    run_id TEXT,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    last_error TEXT,
    updated TEXT NOT NULL,
    UNIQUE (bundle_name, destination)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a run's story. ``status`` is ``begun``, ``done`` or ``failed``, or ``state`` for a transition."""

    name: str
    status: str
    at: datetime
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One destination that a bundle was, or is being, delivered to."""

    bundle_name: str
    destination: str
    state: str
    attempts: int
    last_error: str | None
    updated: datetime
    run_id: str | None = None

    @property
    def words(self) -> str:
        """``nas: done after 2 attempts (timed out)``; the error is the last one that was met."""
        attempts = f" after {self.attempts} attempts" if self.attempts != 1 else ""
        return f"{self.destination}: {self.state}{attempts}" + (f" ({self.last_error})" if self.last_error else "")

    def to_json(self) -> dict[str, Any]:
        return {
            "destination": self.destination,
            "state": self.state,
            "attempts": self.attempts,
            "last_error": self.last_error,
            "updated": _text(self.updated),
        }


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as the journal has it.

    ``facts`` are what is learnt on the way, JSON-like and without secrets: ``session`` (ids to attach with),
    ``endpoint``, ``bundle`` (its location), ``bundle_id``, ``size_bytes``, ``coverage`` and more.
    """

    id: str
    stamp: str
    state: RunState
    request: Request
    bundle_name: str
    created: datetime
    updated: datetime
    ended: datetime | None
    failed_in: RunState | None
    reason: str | None
    stop_requested: bool
    facts: Mapping[str, Any]
    steps: tuple[Step, ...] = ()
    deliveries: tuple[Delivery, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The run as ``status``, ``history`` and ``show`` print it."""
        document: dict[str, Any] = {
            "id": self.id,
            "stamp": self.stamp,
            "state": str(self.state),
            "started": _text(self.created),
            "ended": _text(self.ended) if self.ended else None,
            "reason": self.reason,
            "bundle": self.facts.get("bundle"),
            "bundle_name": self.bundle_name,
            "bundle_id": self.facts.get("bundle_id"),
            "size_bytes": self.facts.get("size_bytes"),
            "window": self.request.window.to_json(),
            "roles": list(self.request.roles),
            "type": self.request.trigger,
            "endpoint": self.facts.get("endpoint"),
        }
        if self.steps:
            document["steps"] = [
                {"name": step.name, "status": step.status, "at": _text(step.at), "detail": step.detail}
                for step in self.steps
            ]
        if self.deliveries:
            document["deliveries"] = [delivery.to_json() for delivery in self.deliveries]
        return document


class Journal:
    """The runs of one state folder. Several threads and several processes may use it at once.

    Every write is one transaction that SQLite finishes or undoes (WAL, synchronous FULL): a killed process or a full
    disk leaves the last whole step.

    Raises (every method):
        JournalError: the file cannot be read or written, is no journal, or was written by a newer version of this
            tool; it is never replaced or repaired.
        JournalFullError: there is no space for it.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.path = state_dir / "journal.sqlite"
        self._lock = threading.RLock()
        self._scrubber = Scrubber()
        with self._translated():
            state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = sqlite3.connect(
                self.path, isolation_level=None, timeout=_BUSY_S, check_same_thread=False, cached_statements=32
            )
            try:
                self._connection.row_factory = sqlite3.Row
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def keep_out(self, scrubber: Scrubber) -> None:
        """From now on nothing that it knows as a secret is written, whoever repeats it: an endpoint, a gateway."""
        self._scrubber = scrubber

    # -- writing ------------------------------------------------------------------------------------------------------

    def create(self, run_id: str, request: Request, bundle_name: str, *, at: datetime | None = None) -> RunRecord:
        """Writes a new run, in state planned.

        Raises:
            StampBusyError: this journal has a run whose collection may still be working on the stamp.
        """
        with self._transaction() as connection:
            self._refuse_beside_a_live_run(connection, request.stamp.name, run_id)
            now = _text(at or datetime.now(UTC))
            connection.execute(
                "INSERT INTO runs (id, stamp, state, request, bundle_name, created, updated) VALUES (?,?,?,?,?,?,?)",
                (run_id, request.stamp.name, RunState.PLANNED, _json(request.to_json()), bundle_name, now, now),
            )
            _add_step(connection, run_id, RunState.PLANNED, "state", None)
        return self.run(run_id)

    def move(self, run_id: str, new: RunState, reason: str | None = None, **facts: Any) -> RunRecord:
        """Takes a run from its state to another, and adds facts, in one transaction.

        Raises:
            StampBusyError: it is to be locked, and another run of this journal may be working on the stamp.
            ImpossibleTransitionError: the table of states has no such way; nothing is written.
        """
        with self._transaction() as connection:
            row = self._row(connection, run_id)
            old = RunState(row["state"])
            check_transition(run_id, old, new)
            reason = self._scrubber.text(reason) if reason is not None else None
            if new is RunState.LOCKED:
                self._refuse_beside_a_live_run(connection, row["stamp"], run_id)
            now = _text(datetime.now(UTC))
            connection.execute(
                "UPDATE runs SET state = ?, updated = ?, ended = ?, failed_in = ?, reason = ?, facts = ? WHERE id = ?",
                (
                    new,
                    now,
                    now if new.is_final else None,
                    old if new is RunState.FAILED else None,
                    reason,
                    _merged(row["facts"], self._scrubber.value(facts)),
                    run_id,
                ),
            )
            _add_step(connection, run_id, new, "state", reason)
        return self.run(run_id)

    def note(self, run_id: str, **facts: Any) -> None:
        """Adds facts to a run; ``None`` removes one."""
        with self._transaction() as connection:
            row = self._row(connection, run_id)
            connection.execute(
                "UPDATE runs SET facts = ?, updated = ? WHERE id = ?",
                (_merged(row["facts"], self._scrubber.value(facts)), _text(datetime.now(UTC)), run_id),
            )

    def note_end(self, run_id: str, **facts: Any) -> None:
        """Adds what is known of the collection's end. A request to stop it is answered with that."""
        with self._transaction() as connection:
            row = self._row(connection, run_id)
            connection.execute(
                "UPDATE runs SET facts = ?, updated = ?, stop_requested = 0 WHERE id = ?",
                (_merged(row["facts"], self._scrubber.value(facts)), _text(datetime.now(UTC)), run_id),
            )

    @contextmanager
    def step(self, run_id: str, name: str, detail: str | None = None) -> Iterator[None]:
        """Writes a step before it is done and again when it is done or has failed."""
        self._write_step(run_id, name, "begun", detail)
        try:
            yield
        except BaseException as error:
            self._write_step(
                run_id, name, "failed", str(error) if isinstance(error, BridgeError) else type(error).__name__
            )
            raise
        self._write_step(run_id, name, "done", None)

    def request_stop(self, run_id: str) -> None:
        """Asks whichever process drives the run to stop it."""
        with self._transaction() as connection:
            self._row(connection, run_id)
            connection.execute("UPDATE runs SET stop_requested = 1 WHERE id = ?", (run_id,))

    def cool_down(self, stamp: str, until: datetime) -> None:
        """Remembers until when a stamp must not be asked again (five minutes after a cancelled run, GETLOG)."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM cool_downs WHERE stamp = ? COLLATE NOCASE", (stamp,))
            connection.execute("INSERT INTO cool_downs VALUES (?, ?)", (stamp, _text(until)))

    def note_delivery(
        self, bundle_name: str, destination: str, state: str, *, run_id: str | None = None, error: str | None = None
    ) -> None:
        """Writes the state of a delivery (``begun``, ``done``, ``failed``); ``begun`` counts one attempt more."""
        error = self._scrubber.text(error) if error is not None else None
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO deliveries (bundle_name, run_id, destination, state, attempts, last_error, updated)"
                " VALUES (?,?,?,?,1,?,?) ON CONFLICT (bundle_name, destination) DO UPDATE SET state = excluded.state,"
                " attempts = attempts + (excluded.state = 'begun'), run_id = coalesce(excluded.run_id, run_id),"
                " last_error = coalesce(excluded.last_error, last_error), updated = excluded.updated",
                (bundle_name, run_id, destination, state, error, _text(datetime.now(UTC))),
            )

    # -- reading ------------------------------------------------------------------------------------------------------

    def runs(self, *, stamp: str | None = None, state: RunState | None = None) -> list[RunRecord]:
        """All runs, newest first, without their steps."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT * FROM runs WHERE (?1 IS NULL OR stamp = ?1 COLLATE NOCASE) AND (?2 IS NULL OR state = ?2)"
                " ORDER BY created DESC, id DESC",
                (stamp, state),
            ).fetchall()
            return [self._record(row) for row in rows]

    def run(self, run_id: str) -> RunRecord:
        """One run with its steps and deliveries; the beginning of an id will do where only one run has it.

        Raises:
            NoSuchRunError: none, or several, have it.
        """
        with self._reading() as connection:
            row = self._row_by_prefix(connection, run_id)
            steps = connection.execute("SELECT * FROM steps WHERE run_id = ? ORDER BY number", (row["id"],)).fetchall()
            deliveries = connection.execute(
                "SELECT * FROM deliveries WHERE bundle_name = ? ORDER BY number", (row["bundle_name"],)
            ).fetchall()
            return self._record(row, steps, deliveries)

    def deliveries(self, bundle_name: str | None = None) -> list[Delivery]:
        """Every delivery (of a bundle) that this journal knows of, oldest first."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT * FROM deliveries WHERE ?1 IS NULL OR bundle_name = ?1 ORDER BY number", (bundle_name,)
            ).fetchall()
            return [_delivery(row) for row in rows]

    def latest(self, stamp: str | None = None) -> RunRecord | None:
        """The newest run (of a stamp), or ``None``."""
        runs = self.runs(stamp=stamp)
        return self.run(runs[0].id) if runs else None

    def state(self, run_id: str) -> tuple[RunState, bool]:
        """The state of a run, and whether somebody asked for it to be stopped."""
        with self._reading() as connection:
            row = self._row(connection, run_id)
            return RunState(row["state"]), bool(row["stop_requested"])

    def cool_down_until(self, stamp: str) -> datetime | None:
        """Until when a stamp cools down, as this journal knows; ``None`` where it does not."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT max(until) AS until FROM cool_downs WHERE stamp = ? COLLATE NOCASE", (stamp,)
            ).fetchone()
            return datetime.fromisoformat(row["until"]) if row["until"] else None

    # -- inside -------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("BEGIN")  # one sight of a file that another process may be making
        try:
            self._check_version()
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        use_write_ahead_log(connection, _BUSY_S)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Looked at again under the lock: another process may have made the tables meanwhile.
            if self._check_version() == 0:
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite has ended it by itself where the disk is full
                connection.execute("ROLLBACK")
            raise
        self.path.chmod(0o600)

    def _check_version(self) -> int:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        application = int(self._connection.execute("PRAGMA application_id").fetchone()[0])
        tables = int(self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
        if tables and application != APPLICATION_ID:
            raise JournalError(
                path=self.path, detail="it is not a journal of this tool", fix="Give another --state-dir."
            )
        if version > SCHEMA_VERSION:
            raise JournalError(
                path=self.path,
                detail=f"a newer version of this tool wrote it (schema {version}; this one knows {SCHEMA_VERSION})",
                fix="Use that newer version, or give this one its own folder with --state-dir.",
            )
        return version

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if says_full(error):
                raise JournalFullError(path=self.path, detail=str(error)) from error
            raise JournalError(
                path=self.path,
                detail=str(error),
                fix="See that the folder can be written and that no other program holds the file.",
            ) from error
        except sqlite3.DatabaseError as error:
            raise JournalError(
                path=self.path,
                detail=f"it is damaged ({error})",
                fix="Move the file away: runs start anew with an empty one, and bundles do not depend on it.",
            ) from error
        except OSError as error:
            if says_full(error):
                raise JournalFullError(path=self.path, detail=error.strerror or str(error)) from error
            raise JournalError(
                path=self.path, detail=error.strerror or str(error), fix="Give another folder with --state-dir."
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            yield self._connection

    def _row(self, connection: sqlite3.Connection, run_id: str) -> sqlite3.Row:
        row: sqlite3.Row | None = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise NoSuchRunError(run=run_id)
        return row

    def _row_by_prefix(self, connection: sqlite3.Connection, beginning: str) -> sqlite3.Row:
        rows: list[sqlite3.Row] = connection.execute(
            "SELECT * FROM runs WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2", (beginning,)
        ).fetchall()
        if not beginning or len(rows) != 1:
            raise NoSuchRunError(run=beginning)
        return rows[0]

    def _refuse_beside_a_live_run(self, connection: sqlite3.Connection, stamp: str, run_id: str) -> None:
        live = connection.execute(
            "SELECT id, state FROM runs WHERE stamp = ? COLLATE NOCASE AND id <> ?"
            " AND state IN ('locked', 'running', 'detached')",
            (stamp, run_id),
        ).fetchone()
        if live:
            raise StampBusyError(
                stamp=stamp,
                detail=f"run {live['id']} is {live['state']}",
                fix=f"Go on with it ('pep-bridge attach {live['id']}') or stop it ('pep-bridge stop {live['id']}').",
                run_id=live["id"],
            )

    def _write_step(self, run_id: str, name: str, status: str, detail: str | None) -> None:
        detail = self._scrubber.text(detail) if detail is not None else None
        with self._transaction() as connection:
            _add_step(connection, run_id, name, status, detail)

    def _record(
        self, row: sqlite3.Row, steps: list[sqlite3.Row] | None = None, deliveries: list[sqlite3.Row] | None = None
    ) -> RunRecord:
        if stranger := _unknown_word(row):
            raise JournalError(
                path=self.path,
                detail=f"a newer version of this tool wrote run {row['id']} ({stranger})",
                fix="Use that newer version, or give this one its own folder with --state-dir.",
            )
        try:
            return RunRecord(
                id=row["id"],
                stamp=row["stamp"],
                state=RunState(row["state"]),
                request=Request.from_json(json.loads(row["request"])),
                bundle_name=row["bundle_name"],
                created=datetime.fromisoformat(row["created"]),
                updated=datetime.fromisoformat(row["updated"]),
                ended=datetime.fromisoformat(row["ended"]) if row["ended"] else None,
                failed_in=RunState(row["failed_in"]) if row["failed_in"] else None,
                reason=row["reason"],
                stop_requested=bool(row["stop_requested"]),
                facts=json.loads(row["facts"]),
                steps=tuple(
                    Step(step["name"], step["status"], datetime.fromisoformat(step["at"]), step["detail"])
                    for step in steps or ()
                ),
                deliveries=tuple(map(_delivery, deliveries or ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(
                path=self.path, detail=f"run {row['id']} cannot be read ({error})", fix="Give another --state-dir."
            ) from error


def _unknown_word(row: sqlite3.Row) -> str | None:
    """What this version does not know of a run: a state, or a part of its request. New parts need no new schema."""
    states = {str(state) for state in RunState}
    for state in (row["state"], row["failed_in"]):
        if state is not None and state not in states:
            return f"state {state}"
    try:
        request = json.loads(row["request"])
    except ValueError:
        return None  # damaged, which is told by whoever reads it
    strangers = set(request) - set(Request.__slots__) if isinstance(request, dict) else set()
    return f"request with {', '.join(sorted(strangers))}" if strangers else None


def _delivery(row: sqlite3.Row) -> Delivery:
    return Delivery(
        bundle_name=row["bundle_name"],
        destination=row["destination"],
        state=row["state"],
        attempts=row["attempts"],
        last_error=row["last_error"],
        updated=datetime.fromisoformat(row["updated"]),
        run_id=row["run_id"],
    )


def _add_step(connection: sqlite3.Connection, run_id: str, name: str, status: str, detail: str | None) -> None:
    connection.execute(
        "INSERT INTO steps SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3, ?4, ?5 FROM steps WHERE run_id = ?1",
        (run_id, name, status, _text(datetime.now(UTC)), detail),
    )


def _merged(old: str, facts: Mapping[str, Any]) -> str:
    merged = {**json.loads(old), **facts}
    return _json({name: value for name, value in merged.items() if value is not None})


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
