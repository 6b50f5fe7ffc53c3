"""One scripted session: open, check against the endpoint's own metadata, run, record, close."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bridge.endpoint import (
    Command,
    CommandInfo,
    EndpointSession,
    LineEvent,
    Outcome,
    Pipeline,
    PipelineState,
    Record,
    SessionOptions,
    Stream,
    list_commands,
    open_session,
)
from bridge.endpoint.script import load_script
from bridge.errors import BridgeError, CommandFailedError, ExitCode, InterruptedRunError, SessionLostError, UsageError
from bridge.scripting._permission import bare_name, needs_naming, require_known, require_permission
from bridge.scripting._record import SessionRecord
from bridge.secrets import Credential
from bridge.stamp import Stamp

CLOSING_SCRIPT = "Close-PepSession"
_CLOSING_COMMAND = "close-privilegedendpoint"
_LOOK_UP = "Get-Command"
_IN_A_BUNDLE = re.compile(r"-\d{8}T\d{6}Z-[0-9a-f]{8}(?:[\\/]|$)")
_STAYS = "its transcripts stay on the endpoint until Close-PrivilegedEndpoint is given a share"
_LOOK_EVERY_S = 0.25
_TAKEN = "its transcripts were taken to the share"


@dataclass(frozen=True, slots=True)
class ClosedWith:
    """Where ``Close-PrivilegedEndpoint`` puts the transcripts: a UNC path, and who may write there.

    Raises:
        UsageError: the path lies in a bundle. Transcripts are an audit trail of people: they go beside it.
    """

    path: str
    credential: Credential

    def __post_init__(self) -> None:
        if _IN_A_BUNDLE.search(self.path):
            raise UsageError(
                detail=f"{self.path} is in a bundle; transcripts go beside it, never inside.",
                fix="Give the share, or another folder of it.",
            )

    def commands(self) -> tuple[Command, ...]:
        """The shipped closing script with these values."""
        return load_script(CLOSING_SCRIPT).bind(
            {"TranscriptsPathDestination": self.path, "Credential": self.credential}
        )


class Control:
    """Stops a script from another thread, or from a signal handler.

    Plain values: a handler must not wait for a lock that the thread it interrupted may hold.
    """

    def __init__(self) -> None:
        self._runs = False
        self.asked = False

    def stop(self) -> bool:
        """Asks the endpoint to stop what runs, and goes on at once; false where nothing runs yet."""
        if not self._runs:
            return False
        self.asked = True
        return True

    @contextmanager
    def over(self, pipeline: Pipeline) -> Iterator[None]:
        """Within it the pipeline is stopped as soon as that is asked. Who is interrupted does not wait for that."""
        ended = threading.Event()
        looking = threading.Thread(target=self._look, args=(pipeline, ended), name="stop-script", daemon=True)
        looking.start()
        self._runs = True
        try:
            yield
            ended.set()
            looking.join()
        finally:
            self._runs = False
            ended.set()

    def _look(self, pipeline: Pipeline, ended: threading.Event) -> None:
        while not ended.wait(_LOOK_EVERY_S):
            if self.asked:
                _stop(pipeline)
                return


def _stop(pipeline: Pipeline) -> None:
    try:
        pipeline.stop()
    except BridgeError as error:  # the reader of the records meets the same lost line, and tells it
        logging.getLogger(__name__).debug("the pipeline could not be told to stop: %s", error)


@dataclass(frozen=True, slots=True)
class ScriptOutcome:
    """What came of a script. ``errors`` has the one that ended it, and one that kept the session from being closed.

    ``unreadable`` counts records that could not be read; they are whole in the session's record.
    """

    state: PipelineState
    counts: Mapping[Stream, int]
    unreadable: int
    errors: tuple[BridgeError, ...]
    endpoint: str
    closed: bool
    record: str

    @property
    def exit_code(self) -> ExitCode:
        """The first error's code; 8 where the script ran through but reported errors; else 0."""
        if self.errors:
            return self.errors[0].exit_code
        return ExitCode.PARTIAL if self.counts.get(Stream.ERROR, 0) or self.unreadable else ExitCode.OK

    def to_json(self) -> dict[str, Any]:
        return {
            "state": str(self.state),
            "records": {str(stream): self.counts.get(stream, 0) for stream in Stream},
            "unreadable": self.unreadable,
            "endpoint": self.endpoint,
            "closed": self.closed,
            "record": self.record,
        }


@dataclass(frozen=True, slots=True)
class Closing:
    """Whether a session's transcripts were taken to the share, and why not."""

    closed: bool
    endpoint: str
    error: BridgeError | None = None


def run_script(
    stamp: Stamp,
    credential: Credential,
    commands: Sequence[Command],
    *,
    record: SessionRecord,
    on_record: Callable[[Record], None],
    verb: str = "run",
    allowed: Sequence[str] = (),
    close: ClosedWith | None = None,
    control: Control | None = None,
    on_line: Callable[[LineEvent], None] | None = None,
    options: SessionOptions | None = None,
) -> ScriptOutcome:
    """Runs commands on a stamp's endpoint, each record handed on as it comes.

    Nothing is sent before the commands are permitted, and none runs before the endpoint's own metadata knows them and
    their parameters.

    Args:
        allowed: names of commands that may run although they change or stop the stamp, or are unknown here.
        close: ends the session with ``Close-PrivilegedEndpoint``, also after a script that failed or was stopped.
        control: stops it from elsewhere; the session is then still closed as asked.
        options: time-outs of the session.

    Raises:
        CommandNotAllowedError: a command needs ``allowed``.
        CommandNotFoundError, ParameterRejectedError: the endpoint does not know the command, or the parameter.
        EndpointError: the session could not be opened, or was lost.
    """
    require_permission(commands, allowed, verb)
    closing = close.commands() if close else ()
    everything = (*commands, *closing)
    unnamed = set(needs_naming(commands)) - {name for name in needs_naming(commands) if _is_in(name, allowed)}
    names = {command.name for command in everything} - unnamed | {_LOOK_UP}
    control = control or Control()
    record.begun(verb, stamp.name, credential.username)
    with open_session(
        stamp, credential, allow=names, verb=verb, options=options or SessionOptions(), on_line=on_line
    ) as session:
        record.opened(session.endpoint.name)
        require_known(everything, _look_up(session, everything), allowed, verb)
        outcome = _send(session, commands, record, on_record, control)
        errors = list(_errors_of(outcome))
        closed = _has_closed(commands, outcome)
        if close is not None:
            ended = _close(session, close, record, on_record)
            closed = ended.closed
            errors += [ended.error] if ended.error else []
        record.closed(_TAKEN if closed else _STAYS)
        return ScriptOutcome(
            outcome.state,
            dict(outcome.counts),
            outcome.unreadable,
            tuple(errors),
            session.endpoint.name,
            closed,
            str(record.path),
        )


def close_session(
    stamp: Stamp,
    credential: Credential,
    close: ClosedWith,
    *,
    record: SessionRecord,
    endpoint: str | None = None,
    options: SessionOptions | None = None,
) -> Closing:
    """Opens a session only to close it with its transcripts; an endpoint ships those of its earlier sessions too.

    Args:
        endpoint: the machine whose transcripts are wanted: each ERCS machine keeps its own. None for any.

    Raises:
        EndpointError: the session could not be opened.
        UsageError: the stamp has no such machine.
    """
    machines = tuple(each for each in stamp.endpoints if endpoint in (None, each.name))
    if not machines:
        raise UsageError(detail=f"{stamp.name} has no endpoint {endpoint}.", fix="See 'pep-bridge stamp show'.")
    names = {command.name for command in close.commands()}
    record.begun("close", stamp.name, credential.username)
    with open_session(
        replace(stamp, endpoints=machines), credential, allow=names, verb="close", options=options or SessionOptions()
    ) as session:
        record.opened(session.endpoint.name)
        ended = _close(session, close, record, lambda _record: None)
        record.closed(_TAKEN if ended.closed else _STAYS)
        return ended


def _look_up(session: EndpointSession, commands: Iterable[Command]) -> tuple[CommandInfo, ...]:
    """What the endpoint says of the commands. An alias is found only where all are asked for."""
    wanted = dict.fromkeys(bare_name(command) for command in commands)
    known = list_commands(session, tuple(name for name in wanted if not set(name) & set("*?[")))
    if set(wanted) <= {info.name.lower() for info in known}:
        return known
    return list_commands(session)


def _is_in(name: str, names: Iterable[str]) -> bool:
    return name.lower() in {each.lower() for each in names}


def _send(
    session: EndpointSession,
    commands: Sequence[Command],
    record: SessionRecord,
    on_record: Callable[[Record], None],
    control: Control,
) -> Outcome:
    pipeline = session.start(commands, before_send=lambda _ids: record.sent(commands))
    records = pipeline.records()
    with control.over(pipeline):
        try:
            for found in records:
                record.received(found)
                on_record(found)
        except SessionLostError:
            raise
        except Exception:  # whoever takes the records cannot go on: nobody would see what the script does
            _stop(pipeline)
            for _ in records:
                pass
            raise
    outcome = pipeline.wait()
    record.ended(str(outcome.state))
    return outcome


def _errors_of(outcome: Outcome) -> Iterable[BridgeError]:
    if outcome.state is PipelineState.STOPPED:
        yield InterruptedRunError(
            detail="the script was stopped on the endpoint",
            fix="What it had done until then stays; its session's record has every record that came.",
        )
    try:
        outcome.raise_for_failure()
    except BridgeError as error:
        yield error


def _close(
    session: EndpointSession, close: ClosedWith, record: SessionRecord, on_record: Callable[[Record], None]
) -> Closing:
    """Sends the closing script. An error of it does not hide what the script before it brought."""
    commands = close.commands()
    try:
        outcome = _send(session, commands, record, on_record, Control())
        outcome.raise_for_failure()
    except BridgeError as error:
        return Closing(False, session.endpoint.name, error)
    if _has_closed(commands, outcome):
        return Closing(True, session.endpoint.name)
    detail = f"it ended as {outcome.state} with {outcome.counts.get(Stream.ERROR, 0)} errors"
    failed = CommandFailedError(command="Close-PrivilegedEndpoint", error_id="NotClosed", detail=detail)
    return Closing(False, session.endpoint.name, failed)


def _has_closed(commands: Sequence[Command], outcome: Outcome) -> bool:
    """Whether these commands took the transcripts to a share: the last one closes, is given a place, and went well."""
    last = commands[-1] if commands else None
    return (
        last is not None
        and bare_name(last) == _CLOSING_COMMAND
        and bool(last.parameters)
        and outcome.state is PipelineState.COMPLETED
        and not outcome.counts.get(Stream.ERROR, 0)
    )
