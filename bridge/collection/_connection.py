"""The session of one run: its ids journalled before it is used, taken back when it was lost, ended on the endpoint."""

from __future__ import annotations

import time
from contextlib import suppress

from bridge.collection._context import RunContext, written
from bridge.collection._events import LineChanged
from bridge.collection._plan import Plan
from bridge.collection._ports import LineNews, RunningCommand, SessionIdsJson
from bridge.collection._watch import Snapshot, Waited, has_ended, look
from bridge.errors import (
    BridgeError,
    CommandUncertainError,
    EndpointError,
    EndpointUnreachableError,
    SessionGoneError,
    SessionLostError,
    StoreError,
)

_BEYOND_THE_COLLECTION_S = 2 * 3600


class Connection:
    """``command`` is what works on the endpoint, while this process holds its session."""

    def __init__(self, context: RunContext) -> None:
        self.command: RunningCommand | None = None
        self.down_since: float | None = None
        self._context = context

    # -- beginning ----------------------------------------------------------------------------------------------------

    def send(self, plan: Plan) -> None:
        """Opens a session and sends the commands; where the line breaks in the middle, they count as sent.

        Raises:
            EndpointError: they do not run.
        """
        context = self._context
        request = context.run.request
        try:
            with context.journal.step(context.run.id, "send the command"):
                self.command = context.ports.endpoint.start(
                    request.stamp,
                    context.access.endpoint,
                    plan.commands,
                    line_deadline_s=context.settings.line_deadline_s,
                    idle_timeout_s=request.timeout_minutes * 60 + _BEYOND_THE_COLLECTION_S,
                    before_open=self._remember_opening,
                    before_send=self._remember_session,
                    on_line=self._line_changed,
                )
        except CommandUncertainError as error:
            self.note_lost(error)

    def _remember_opening(self, ids: SessionIdsJson) -> None:
        self._context.note(opening=[*self._context.run.facts.get("opening", ()), dict(ids)])

    def _remember_session(self, ids: SessionIdsJson, endpoint: str) -> None:
        facts = self._context.run.facts
        others = [other for other in facts.get("opening", ()) if other["shell_id"] != ids["shell_id"]]
        self._context.note(
            session=dict(ids),
            endpoint=endpoint,
            command_sent=written(self._context.ports.now()),
            opening=others or None,
        )

    # -- taking it back -----------------------------------------------------------------------------------------------

    def take_back(self) -> None:
        """Asks for the session until the deadline, or until the output log shows that there is nothing to wait for.

        Raises:
            SessionGoneError: the endpoint answers, and no longer has it.
            SessionLostError, EndpointUnreachableError: it is not to be had.
        """
        context = self._context
        deadline = time.monotonic() + context.settings.attach_deadline_s
        seen = Snapshot()
        while True:
            try:
                self.try_again()
            except SessionGoneError:
                raise
            except (SessionLostError, EndpointUnreachableError):
                before, seen = seen, self._look_once()
                ended = seen.sizes == before.sizes and has_ended(context.output_store(), seen)
                asked = context.stop_asked() or context.control.detach_asked
                if ended or asked or time.monotonic() >= deadline:
                    raise
            else:
                return

    def try_again(self) -> None:
        """Asks for the session once.

        Raises:
            SessionGoneError: the endpoint answers, and no longer has it.
            EndpointError: it is not to be had now.
        """
        context = self._context
        self.command = context.ports.endpoint.attach(
            context.run.request.stamp,
            context.access.endpoint,
            context.run.facts["session"],
            deadline_s=min(context.settings.line_patience_s, context.settings.attach_deadline_s),
            line_deadline_s=context.settings.line_deadline_s,
            on_line=self._line_changed,
        )

    def _look_once(self) -> Snapshot:
        try:
            return look(self._context.output_store(), self._context.output_folder)
        except StoreError:
            return Snapshot()

    def note_lost(self, error: BridgeError) -> None:
        context = self._context
        context.note(lost={"at": written(context.ports.now()), "error": context.scrubber.text(str(error))})

    # -- its line -----------------------------------------------------------------------------------------------------

    def is_long_down(self) -> bool:
        since = self.down_since
        return since is not None and time.monotonic() - since >= self._context.settings.line_patience_s

    def who_answers(self) -> str:
        answering = self._context.ports.endpoint.answering(self._context.run.request.stamp)
        return f"{', '.join(answering)} answer" if answering else "no machine of the endpoint answers"

    def _line_changed(self, news: LineNews) -> None:
        if news.state == "up":
            self.down_since = None
        elif self.down_since is None:
            self.down_since = time.monotonic()
        context = self._context
        context.tell(
            LineChanged(
                run_id=context.run.id,
                state=news.state,
                detail=context.scrubber.text(news.detail),
                attempt=news.attempt,
                retry_in_s=news.retry_in_s,
            )
        )

    # -- ending -------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Leaves no session behind. One that was lost while its collection may still run is left alone."""
        context = self._context
        how = context.run.facts["end"].get("how")
        with suppress(EndpointError):
            if self.command is not None:
                self.command.close()
            elif context.run.facts.get("session") and how not in {Waited.STILL, Waited.OVERDUE}:
                self._end_on_the_endpoint(context.run.facts["session"])
        self.command = None
        self.end_what_was_opened()

    def forget(self) -> None:
        """Ends and forgets a session in which nothing ever ran."""
        with suppress(EndpointError):
            self._end_on_the_endpoint(self._context.run.facts["session"])
        self._context.note(session=None, command_sent=None)

    def end_what_was_opened(self) -> None:
        """A process that was killed, or lost its line, between opening a session and sending its command left it idle:
        such sessions count against the five that Windows allows an account. One try each; in the end they time out."""
        context = self._context
        for run in context.journal.runs(stamp=context.run.stamp):
            if run.facts.get("opening") and (run.id == context.run.id or run.state.is_final):
                for ids in run.facts["opening"]:
                    with suppress(EndpointError):
                        self._end_on_the_endpoint(ids)
                context.journal.note(run.id, opening=None)
        context.renew()

    def leave(self) -> None:
        """Closes this process's side where the endpoint has nothing more to do."""
        if self.command is not None and not self._context.run.state.is_collecting:
            with suppress(EndpointError):
                self.command.close()

    def _end_on_the_endpoint(self, ids: SessionIdsJson) -> None:
        self._context.ports.endpoint.end(self._context.run.request.stamp, self._context.access.endpoint, ids)
