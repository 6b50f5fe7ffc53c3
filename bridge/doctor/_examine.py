"""All checks at the same time, each in its own thread; one that fails, hangs or breaks stops no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Generic, TypeVar

from bridge.doctor._checks import Check, CheckState, Diagnosis, failed, warned
from bridge.doctor._clock import judge_clock
from bridge.doctor._endpoint_checks import EndpointLook, look_at_endpoint
from bridge.doctor._forecast import make_forecast
from bridge.doctor._local_checks import (
    History,
    judge_business,
    look_at_configuration,
    look_at_secrets,
    look_at_state,
    read_history,
)
from bridge.doctor._place_checks import PlacesLook, look_at_places
from bridge.doctor._route import Signs, choose_route
from bridge.doctor._subject import Subject
from bridge.doctor._web import Clock, WebLook, look_at_arm, look_at_internet, look_at_portal
from bridge.errors import BridgeError, JournalError

PATIENCE_S = 90.0
"""Longer than every check's own time-outs together; a person waits for seconds where machines answer."""

T = TypeVar("T")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def examine(
    subject: Subject,
    *,
    patience_s: float = PATIENCE_S,
    now: Clock = _utc_now,
    on_progress: Callable[[str], None] = lambda name: None,
) -> Diagnosis:
    """Makes every check. Nothing is changed on the stamp; a probe file in the destination is removed.

    A password is sent once: where it is refused, it is not tried again on another machine or share.

    Args:
        patience_s: after so long a check that has not answered counts as failed.
        on_progress: is called with the name of each group of checks as it ends, from any thread.
    """
    state = look_at_state(subject.state_dir)
    history = _history(subject) if state.state is not CheckState.FAILED else None
    forecast = None
    if subject.request is not None and isinstance(history, tuple):
        forecast = make_forecast(subject.request, history[0])
    ca_file = subject.stamp.ca_file
    looks = (
        portal := _Look("portal", lambda: look_at_portal(subject.portal_address, ca_file, now), _no_web("portal")),
        arm := _Look("arm", lambda: look_at_arm(subject.arm_address, ca_file, now), _no_web("arm")),
        internet := _Look("internet", lambda: look_at_internet(subject.internet_probe, now), _no_web("internet")),
        endpoint := _Look("endpoint", lambda: look_at_endpoint(subject, now), _no_endpoint),
        places := _Look("destination", lambda: look_at_places(subject, forecast, now), _no_places),
    )
    for look in looks:
        look.start(on_progress)
    deadline = time.monotonic() + patience_s
    for look in looks:
        look.wait(deadline)
    clocks = [web.clock for web in (portal.found, arm.found, internet.found) if web.clock is not None]
    checks = (
        look_at_configuration(subject),
        *look_at_secrets(subject),
        state,
        portal.found.check,
        arm.found.check,
        *endpoint.found.checks,
        judge_clock([*endpoint.found.clocks, *clocks]),
        judge_business(subject, history, places.found.locks, now),
        *places.found.checks,
        internet.found.check,
    )
    signs = Signs(
        portal_up=portal.found.up,
        arm_up=arm.found.up,
        endpoint_answers=endpoint.found.answers,
        internet=bool(internet.found.up),
        registered=endpoint.found.registered,
        destination_usable=places.found.usable,
    )
    return Diagnosis(checks, choose_route(subject, signs))


class _Look(Generic[T]):
    """One group of checks in a thread of its own."""

    def __init__(self, name: str, look: Callable[[], T], instead: Callable[[Check], T]) -> None:
        self.found: T
        self._name = name
        self._look = look
        self._instead = instead
        self._result: T | None = None
        self._problem: Exception | None = None
        self._on_progress: Callable[[str], None] = lambda name: None
        # A daemon: should a check hang beyond the patience, the process ends all the same.
        self._thread = threading.Thread(target=self._run, name=f"doctor-{name}", daemon=True)

    def start(self, on_progress: Callable[[str], None]) -> None:
        self._on_progress = on_progress
        self._thread.start()

    def wait(self, deadline: float) -> None:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self.found = self._result if self._result is not None else self._instead(self._no_result())

    def _run(self) -> None:
        try:
            self._result = self._look()
        except Exception as error:  # a defect of one check must not cost the operator the others; it is shown
            self._problem = error
        self._on_progress(self._name)

    def _no_result(self) -> Check:
        error = self._problem
        if isinstance(error, BridgeError):
            return failed(self._name, str(error), error.advice)
        if error is not None:
            evidence = f"the check itself broke: {type(error).__name__}: {error}"
            return failed(self._name, evidence, "This is a defect of pep-bridge: report it with this line.")
        return failed(self._name, "no answer in time", "Look at the line to it: it is open, but nothing comes.")


def _no_web(name: str) -> Callable[[Check], WebLook]:
    def instead(check: Check) -> WebLook:
        return WebLook(warned(name, check.evidence, check.fix), up=False)

    return instead


def _no_endpoint(check: Check) -> EndpointLook:
    return EndpointLook((check,), answers=False, registered=None, clocks=())


def _no_places(check: Check) -> PlacesLook:
    return PlacesLook((check,), usable=False, locks=())


def _history(subject: Subject) -> History | JournalError:
    try:
        return read_history(subject)
    except JournalError as error:
        return error
