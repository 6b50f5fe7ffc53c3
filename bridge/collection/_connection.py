"""The session of one run: its ids journalled before it is used, taken back when it was lost, ended on the endpoint."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from datetime import datetime

from bridge.collection._context import RunContext, written
from bridge.collection._events import LineChanged
from bridge.collection._plan import Plan
from bridge.collection._ports import LineNews, RunningCommand, SessionIdsJson
from bridge.collection._watch import Waited
from bridge.errors import (
    AuthenticationFailedError,
    BridgeError,
    CommandUncertainError,
    EndpointError,
    EndpointUnreachableError,
    NotPermittedError,
    SessionGoneError,
    SessionLostError,
)

_BEYOND_THE_COLLECTION_S = 2 * 3600
_LONGEST_IDLE_S = 12 * 3600
"""What Windows takes at most (MaxIdleTimeoutms of a session configuration, 43,200,000 by default)."""
_LONGEST_LIFE_S = 36 * 3600
"""No session of a run lives longer: a collection of a day, and then its idle time-out."""


class Connection:
    """``command`` is what works on the endpoint, while this process holds its session. ``down_since`` (monotonic clock)
    is when its line broke; ``gone``: the endpoint said that it no longer has the session."""

    def __init__(self, context: RunContext) -> None:
        self.command: RunningCommand | None = None
        self.down_since: float | None = None
        self.gone = False
        self._refused = False
        self._sent_at: float | None = None
        self._asked_at = time.monotonic()
        self._context = context

    # -- beginning ----------------------------------------------------------------------------------------------------

    def send(self, plan: Plan) -> None:
        """Opens a session and sends the commands; where the line breaks in the middle, they count as sent.

        Raises:
            EndpointError: they do not run.
        """
        context = self._context
        request = context.run.request
        self._sent_at = time.monotonic()
        try:
            with context.journal.step(context.run.id, "send the command"):
                self.command = context.ports.endpoint.start(
                    request.stamp,
                    context.access.endpoint,
                    plan.commands,
                    line_deadline_s=context.settings.line_deadline_s,
                    idle_timeout_s=min(request.timeout_minutes * 60 + _BEYOND_THE_COLLECTION_S, _LONGEST_IDLE_S),
                    before_open=self._remember_opening,
                    not_opened=self._forget_opening,
                    before_send=self._remember_session,
                    on_line=self._line_changed,
                )
        except CommandUncertainError as error:
            self.note_lost(error)
        except EndpointError:
            session = context.run.facts.get("session")
            if session and self.down_since is not None:  # its session may be there all the same
                self._remember_opening(session)
            context.note(session=None, command_sent=None)  # nothing runs, so nothing is to be taken back
            raise

    def _remember_opening(self, ids: SessionIdsJson) -> None:
        self._context.note(opening=[*(self._opening_without(ids) or ()), dict(ids)])

    def _forget_opening(self, ids: SessionIdsJson) -> None:
        self._context.note(opening=self._opening_without(ids))

    def _remember_session(self, ids: SessionIdsJson, endpoint: str) -> None:
        on_stamp = self._context.stamp_time.now()
        self._context.note(
            sent_by_the_stamp=written(on_stamp) if on_stamp is not None else None,
            account=self._context.access.endpoint.username,
            session=dict(ids),
            endpoint=endpoint,
            command_sent=written(self._context.ports.now()),
            opening=self._opening_without(ids),
        )

    def _opening_without(self, ids: SessionIdsJson) -> list[SessionIdsJson] | None:
        opening = self._context.run.facts.get("opening", ())
        return [other for other in opening if other["shell_id"] != ids["shell_id"]] or None

    # -- taking it back -----------------------------------------------------------------------------------------------

    def take_back(self) -> None:
        """Asks for the session until the deadline, or until the output log shows that there is nothing to wait for.

        Raises:
            SessionGoneError: the endpoint answers, and no longer has it.
            SessionLostError, EndpointUnreachableError: it is not to be had.
        """
        context = self._context
        deadline = time.monotonic() + context.settings.attach_deadline_s
        while True:
            try:
                self._ask_for_it()
            except SessionGoneError:
                raise
            except (SessionLostError, EndpointUnreachableError):
                same = not context.output.try_look()
                ended = same and context.output.trouble is None and context.output.log_has_ended()
                if ended or context.stop_asked() or context.control.asked or time.monotonic() >= deadline:
                    raise
            else:
                return

    def ask_again(self) -> bool:
        """Asks for a lost session now and then, as long as that makes sense; whether it is back."""
        context = self._context
        if self.gone or self._refused or time.monotonic() - self._asked_at < context.settings.reattach_s:
            return False
        try:
            self._ask_for_it()
        except SessionGoneError:
            return False
        except (AuthenticationFailedError, NotPermittedError) as error:
            self._refused = True  # asked again every minute, a changed password would lock the account
            context.warn(f"the session is not asked for again: {error}")
        except EndpointError as error:
            context.tell(LineChanged(run_id=context.run.id, state="lost", detail=context.scrubber.text(str(error))))
        else:
            context.tell(LineChanged(run_id=context.run.id, state="up", detail="the session was taken back"))
            return True
        return False

    def _ask_for_it(self) -> None:
        """Asks for the session once.

        Raises:
            SessionGoneError: the endpoint answers, and no longer has it.
            EndpointError: it is not to be had now.
        """
        context = self._context
        self._refuse_another_account()
        try:
            self.command = context.ports.endpoint.attach(
                context.run.request.stamp,
                context.access.endpoint,
                context.run.facts["session"],
                deadline_s=min(context.settings.line_patience_s, context.settings.attach_deadline_s),
                line_deadline_s=context.settings.line_deadline_s,
                on_line=self._line_changed,
            )
        except SessionGoneError:
            self.gone = True
            raise
        finally:
            self._asked_at = time.monotonic()
        self.note_how_far()

    def note_how_far(self) -> None:
        """Writes down how far the records have come of a session that was left: whoever attaches then knows whether
        some are missing. Of one that was taken back nothing is known any more, until it is left again."""
        if self.command is not None:
            self._context.note(session=dict(self.command.ids))

    def _refuse_another_account(self) -> None:
        """A session is shown to nobody but its owner: to another account it would seem to be gone."""
        began, now = self._context.run.facts.get("account"), self._context.access.endpoint.username
        if began and _bare(began) != _bare(now):
            raise NotPermittedError(
                detail=f"run {self._context.run.id} was begun by {began}, and its session is not shown to {now}",
                fix=f"Give the account that began it: --username '{began}'.",
            )

    def lose(self, error: SessionLostError) -> None:
        """The session is lost; it may be had back."""
        if self.down_since is None:
            self.down_since = time.monotonic()
            if self.command is not None:
                self._context.output.heard()  # until now it answered
        self.gone = self.gone or isinstance(error, SessionGoneError)
        self._asked_at = time.monotonic()
        self.command = None
        self.note_lost(error)

    def note_lost(self, error: BridgeError) -> None:
        context = self._context
        context.note(lost={"at": written(context.ports.now()), "error": context.scrubber.text(str(error))})

    def is_overdue(self) -> bool:
        """Whether the collection should have ended long ago."""
        return self.left_s() < 0

    def left_s(self) -> float:
        """For how long the collection may still work. The stamp's clock tells it, or this process, which has seen the
        command begin; where neither does, this machine's own clock, which may have been set meanwhile."""
        context = self._context
        sent = context.command_sent()
        limit_s = (context.latest_end(sent) - sent).total_seconds()
        worked_s = self._worked_s()
        if worked_s is None:
            worked_s = (context.ports.now() - sent).total_seconds()
        return limit_s - max(0.0, worked_s)

    def watchable_s(self) -> float:
        """For how long its output is watched without a session. A clock that may have been set ends no collection
        whose output still changes: it is watched for as long as a stall would take."""
        left_s = self.left_s()
        return max(0.0, left_s) if self._worked_s() is not None else max(self._context.settings.stall_s, left_s)

    def _worked_s(self) -> float | None:
        """Since when the command was sent, where something better than a clock that may be set tells it."""
        known = [time.monotonic() - self._sent_at] if self._sent_at is not None else []
        sent, now = self._context.run.facts.get("sent_by_the_stamp"), self._context.stamp_time.now()
        if sent and now is not None:
            known.append((now - datetime.fromisoformat(sent)).total_seconds())
        return min(known, default=None)

    # -- its line -----------------------------------------------------------------------------------------------------

    def is_long_down(self) -> bool:
        since = self.down_since
        return since is not None and time.monotonic() - since >= self._context.settings.line_patience_s

    def who_answers(self) -> str:
        answering = self._context.ports.endpoint.answering(self._context.run.request.stamp)
        return f"{', '.join(answering)} answer" if answering else "no machine of the endpoint answers"

    def _line_changed(self, news: LineNews) -> None:
        context = self._context
        if news.state == "up":
            self.down_since = None
            context.output.heard()
        elif self.down_since is None:
            self.down_since = time.monotonic()
            context.output.heard()  # until now it answered
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
        """Leaves no session behind. One that was lost while its collection may still run is left alone; one that cannot
        be ended now is for the next run of this stamp."""
        context = self._context
        session, how = context.run.facts.get("session"), context.run.facts["end"].get("how")
        is_left = False
        if self.command is not None:
            self.down_since = None
            # One that was to be left, or whose stop could not be sent, may have ended all the same meanwhile.
            is_left = not self.command.close() or self.down_since is not None
            self.command = None
        elif session and how not in {Waited.STILL, Waited.OVERDUE}:
            is_left = True
        if is_left and session:
            self._remember_opening(session)
        with suppress(AuthenticationFailedError):
            self.end_what_was_opened()

    def forget(self) -> None:
        """Ends and forgets a session in which nothing ever ran."""
        try:
            self.end_on_the_endpoint()
        except EndpointError:
            self._remember_opening(self._context.run.facts["session"])
        self.gone = False
        self._context.note(session=None, command_sent=None)

    def end_what_was_opened(self, *, within_s: float = math.inf) -> None:
        """A process that was killed, or lost its line, between opening a session and sending its command left it idle,
        and a line that is down keeps a session from being ended: such sessions count against the five that Windows
        allows an account. One try each, none of a machine that was not reached, and none begun after ``within_s``
        seconds; the next run tries again what is left, until it has timed out.

        Raises:
            AuthenticationFailedError: the credentials were refused; they are tried once.
        """
        context = self._context
        until = time.monotonic() + within_s
        away: set[str] = set()
        for run in context.journal.runs(stamp=context.run.stamp):
            opening = run.facts.get("opening")
            if opening and (run.id == context.run.id or run.state.is_final):
                left = [ids for ids in opening if time.monotonic() >= until or not self._is_ended(ids, away)]
                timed_out = (context.ports.now() - run.created).total_seconds() > _LONGEST_LIFE_S
                if timed_out or left != opening:
                    context.journal.note(run.id, opening=None if timed_out else left or None)
        context.renew()

    def _is_ended(self, ids: SessionIdsJson, away: set[str]) -> bool:
        """Whether it was ended now; ``away`` are the machines that were not reached a moment ago."""
        context = self._context
        if ids["endpoint"] in away:
            return False
        try:
            self._end_session(ids)
        except AuthenticationFailedError:
            raise
        except EndpointError as error:
            if isinstance(error, EndpointUnreachableError):
                away.add(ids["endpoint"])
            detail = context.scrubber.text(f"a session that is left over could not be ended: {error}")
            context.tell(LineChanged(run_id=context.run.id, state="lost", detail=detail))
            return False
        return True

    def release(self) -> None:
        """Closes this process's side of a session that was left to the endpoint."""
        if self.command is not None:
            self.command.close()
            self.command = None

    def leave(self) -> None:
        """Closes this process's side where the endpoint has nothing more to do."""
        run = self._context.run
        if self.command is not None and (run.facts.get("end") or not run.state.is_collecting):
            with suppress(EndpointError):
                self.command.close()

    def end_on_the_endpoint(self) -> None:
        """Ends the run's session, and with it what runs there; one that the endpoint no longer has is no error.

        Raises:
            EndpointError: the machine is not to be had, or refuses.
        """
        self._end_session(self._context.run.facts["session"])

    def _end_session(self, ids: SessionIdsJson) -> None:
        self._context.ports.endpoint.end(self._context.run.request.stamp, self._context.access.endpoint, ids)


def _bare(username: str) -> str:
    """The name without its domain, which has two forms (``DOMAIN\\name``, ``name@domain``)."""
    return username.rpartition("\\")[2].partition("@")[0].casefold()
