"""One scripted session: open, check against the endpoint's own metadata, run, record, close."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.endpoint import (
    Command,
    EndpointSession,
    LineEvent,
    Outcome,
    PipelineState,
    Record,
    SessionOptions,
    Stream,
    list_commands,
    open_session,
)
from bridge.endpoint.script import load_script
from bridge.errors import BridgeError, ExitCode
from bridge.scripting._permission import check_commands, require_permission
from bridge.scripting._record import SessionRecord
from bridge.secrets import Credential
from bridge.stamp import Stamp

CLOSING_SCRIPT = "Close-PepSession"
_LOOK_UP = "Get-Command"


@dataclass(frozen=True, slots=True)
class ClosedWith:
    """Where ``Close-PrivilegedEndpoint`` puts the transcripts: a UNC path, and who may write there."""

    path: str
    credential: Credential

    def commands(self) -> tuple[Command, ...]:
        """The shipped closing script with these values."""
        return load_script(CLOSING_SCRIPT).bind(
            {"TranscriptsPathDestination": self.path, "Credential": self.credential}
        )


@dataclass(frozen=True, slots=True)
class ScriptOutcome:
    """What came of a script. ``errors`` has the one that ended it, and one that kept the session from being closed."""

    state: PipelineState
    counts: Mapping[Stream, int]
    errors: tuple[BridgeError, ...]
    endpoint: str
    closed: bool
    record: str

    @property
    def exit_code(self) -> ExitCode:
        """The first error's code; 8 where the script ran through but reported errors; else 0."""
        if self.errors:
            return self.errors[0].exit_code
        return ExitCode.PARTIAL if self.counts.get(Stream.ERROR, 0) else ExitCode.OK

    def to_json(self) -> dict[str, Any]:
        return {
            "state": str(self.state),
            "records": {str(stream): count for stream, count in self.counts.items()},
            "endpoint": self.endpoint,
            "closed": self.closed,
            "record": self.record,
        }


def run_script(
    stamp: Stamp,
    credential: Credential,
    commands: Sequence[Command],
    *,
    record: SessionRecord,
    on_record: Callable[[Record], None],
    allowed: Sequence[str] = (),
    close: ClosedWith | None = None,
    on_line: Callable[[LineEvent], None] | None = None,
    options: SessionOptions | None = None,
) -> ScriptOutcome:
    """Runs commands on a stamp's endpoint, each record handed on as it comes.

    Nothing is sent before the commands are permitted, and none runs before the endpoint's own metadata knows them and
    their parameters.

    Raises:
        CommandNotAllowedError: a command needs ``allowed``.
        CommandNotFoundError, ParameterRejectedError: the endpoint does not know the command, or the parameter.
        EndpointError: the session could not be opened, or was lost.
    """
    require_permission(commands, allowed, "run")
    closing = close.commands() if close else ()
    names = {command.name for command in (*commands, *closing)} | {_LOOK_UP}
    with open_session(
        stamp, credential, allow=names, verb="run", options=options or SessionOptions(), on_line=on_line
    ) as session:
        record.opened(stamp.name, session.endpoint.name, credential.username)
        looked_up = tuple(dict.fromkeys(command.name.rpartition("\\")[2] for command in (*commands, *closing)))
        check_commands((*commands, *closing), list_commands(session, looked_up))
        outcome = _send(session, commands, record, on_record)
        errors = [] if outcome.error is None else [_error_of(outcome)]
        closed = False
        if close is not None:
            ended = _send(session, closing, record, on_record)
            closed = ended.state is PipelineState.COMPLETED and not ended.counts.get(Stream.ERROR, 0)
            if ended.error is not None:
                errors.append(_error_of(ended))
        record.closed("with its transcripts on the share" if closed else "its transcripts stay on the endpoint")
        return ScriptOutcome(
            outcome.state, dict(outcome.counts), tuple(errors), session.endpoint.name, closed, str(record.path)
        )


def _send(
    session: EndpointSession,
    commands: Sequence[Command],
    record: SessionRecord,
    on_record: Callable[[Record], None],
) -> Outcome:
    pipeline = session.start(commands, before_send=lambda _ids: record.sent(commands))
    for found in pipeline.records():
        record.received(found)
        on_record(found)
    if pipeline.outcome is None:
        raise AssertionError("records() ended without an outcome")
    return pipeline.outcome


def _error_of(outcome: Outcome) -> BridgeError:
    try:
        outcome.raise_for_failure()
    except BridgeError as error:
        return error
    raise AssertionError("an outcome with an error does not fail")
