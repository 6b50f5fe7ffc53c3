"""The endpoint port on the real session of ``bridge.endpoint``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from bridge.collection._ports import CommandEnd, EndState, LineNews, LineWord, RunningCommand, SessionIdsJson
from bridge.endpoint import (
    Command,
    EndpointSession,
    LineEvent,
    LineState,
    Pipeline,
    PipelineState,
    Record,
    SessionIds,
    SessionOptions,
    attach,
    end_session,
    error_for,
    open_session,
    survey,
)
from bridge.endpoint.script import allow_list, load_script
from bridge.errors import CommandUncertainError
from bridge.secrets import Credential
from bridge.stamp import Stamp

_VERB = "collect"
_PROBE_TIMEOUT_S = 3.0
_END_WITHIN_S = 15.0
_END_CONNECT_S = 3
_STATES: dict[PipelineState, EndState] = {
    PipelineState.COMPLETED: "completed",
    PipelineState.FAILED: "failed",
    PipelineState.STOPPED: "stopped",
    PipelineState.DISCONNECTED: "disconnected",
}
_LINES: dict[LineState, LineWord] = {
    LineState.UP: "up",
    LineState.DOWN: "down",
    LineState.RETRYING: "retrying",
    LineState.LOST: "lost",
}


class RealEndpoint:
    """Sessions over WinRM, through ``bridge.endpoint``; only the commands of the collection script may be sent."""

    def __init__(self, script: str) -> None:
        self._allow = allow_list(load_script(script).command_names, verb=_VERB)

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
    ) -> RunningCommand:
        session = open_session(
            stamp,
            credential,
            allow=self._allow,
            verb=_VERB,
            options=SessionOptions(reconnect_deadline_s=line_deadline_s, idle_timeout_s=idle_timeout_s),
            on_line=lambda event: on_line(_news(event)),
            before_open=lambda ids: before_open(ids.to_json()),
            not_opened=lambda ids: not_opened(ids.to_json()),
        )
        try:
            pipeline = session.start(
                commands, before_send=lambda ids: before_send(ids.to_json(), session.endpoint.name)
            )
        except CommandUncertainError:
            session.abandon()  # the command may run in it
            session.close()
            raise
        except BaseException:
            session.close()
            raise
        return _Running(session, pipeline)

    def attach(
        self,
        stamp: Stamp,
        credential: Credential,
        ids: SessionIdsJson,
        *,
        deadline_s: float,
        line_deadline_s: float,
        on_line: Callable[[LineNews], None],
    ) -> RunningCommand:
        known = SessionIds.from_json(dict(ids))
        pipeline = attach(
            stamp,
            credential,
            known,
            verb=_VERB,
            options=SessionOptions(reconnect_deadline_s=line_deadline_s, idle_timeout_s=known.idle_timeout_s),
            on_line=lambda event: on_line(_news(event)),
            deadline_s=deadline_s,
        )
        return _Running(pipeline.session, pipeline)

    def end(self, stamp: Stamp, credential: Credential, ids: SessionIdsJson) -> None:
        end_session(
            stamp,
            credential,
            SessionIds.from_json(dict(ids)),
            options=SessionOptions(
                connect_timeout_s=_END_CONNECT_S,
                reconnect_deadline_s=_END_WITHIN_S,
                idle_timeout_s=int(ids["idle_timeout_s"]),
            ),
        )

    def answering(self, stamp: Stamp) -> tuple[str, ...]:
        return tuple(report.endpoint.name for report in survey(stamp, deadline_s=_PROBE_TIMEOUT_S) if report.answers)

    def clock(self, stamp: Stamp) -> datetime | None:
        reports = survey(stamp, deadline_s=_PROBE_TIMEOUT_S)
        return next((report.date for report in reports if report.date is not None), None)


class _Running:
    def __init__(self, session: EndpointSession, pipeline: Pipeline) -> None:
        self._session = session
        self._pipeline = pipeline
        self._left = False
        self.endpoint = pipeline.ids.endpoint

    @property
    def ids(self) -> SessionIdsJson:
        return self._pipeline.ids.to_json()

    def records(self) -> Iterator[Record]:
        return self._pipeline.records()

    def end(self) -> CommandEnd | None:
        outcome = self._pipeline.outcome
        if outcome is None:
            return None
        failure = error_for(outcome.error, None) if outcome.error is not None else None
        return CommandEnd(_STATES[outcome.state], outcome.error, failure)

    def stop(self) -> None:
        self._pipeline.stop()

    def disconnect(self) -> None:
        self._left = True
        self._pipeline.disconnect()

    def abandon(self) -> None:
        self._left = True
        self._session.abandon()

    def close(self) -> bool:
        self._session.close()
        return not self._left


def _news(event: LineEvent) -> LineNews:
    return LineNews(_LINES[event.state], event.detail, event.attempt, event.retry_in_s or 0.0)
