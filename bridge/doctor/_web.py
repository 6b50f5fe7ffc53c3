"""Is a web address up: portal, administrator ARM endpoint, and the way to the internet; nothing secret is sent."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bridge.doctor._checks import Check, passed, skipped, warned

TIMEOUT_S = 5.0
_LONGEST_ANSWER_BYTES = 256 * 1024
_LONGEST_ANSWER_S = 10.0
_METADATA = "/metadata/endpoints?api-version=2015-01-01"
_OVER_THE_ENDPOINT = "Collect through the privileged endpoint; the route below says how."

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class ClockSample:
    """How far another machine's clock is ahead of this one's; Date headers count whole seconds."""

    source: str
    ahead: timedelta
    of_stamp: bool = False
    """Whether it is the clock of an ERCS machine."""


@dataclass(frozen=True, slots=True)
class WebLook:
    """What came of looking: ``up`` is ``None`` where nothing could be asked."""

    check: Check
    up: bool | None = None
    clock: ClockSample | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content: bytes
    date: datetime | None
    distrust: str | None = None
    """Why the certificate was not accepted, where it was not."""


class _NoAnswerError(Exception):
    """Nobody answered; the message says why, in a few words."""


def look_at_portal(address: str | None, ca_file: Path | None, now: Clock) -> WebLook:
    """Whether the administrator portal serves its page."""
    name = "portal"
    if address is None:
        return WebLook(skipped(name, "its address is not known", _how_to_know(name)))
    try:
        answer = _get(address, ca_file)
    except _NoAnswerError as error:
        return WebLook(warned(name, f"{address} is down: {error}", _OVER_THE_ENDPOINT), up=False)
    clock = _clock(name, answer, now)
    if answer.status >= 400 and answer.status not in {401, 403}:
        found = warned(name, f"{address} is down: HTTP status {answer.status}", _OVER_THE_ENDPOINT)
        return WebLook(found, up=False, clock=clock)
    return _trusted(name, address, answer, f"{address} is up (HTTP status {answer.status})", clock)


def look_at_arm(address: str | None, ca_file: Path | None, now: Clock) -> WebLook:
    """Whether the administrator ARM endpoint gives its discovery document, which needs no authentication."""
    name = "arm"
    if address is None:
        return WebLook(skipped(name, "its address is not known", _how_to_know(name)))
    try:
        answer = _get(address.rstrip("/") + _METADATA, ca_file)
    except _NoAnswerError as error:
        return WebLook(warned(name, f"{address} is down: {error}", _OVER_THE_ENDPOINT), up=False)
    clock = _clock(name, answer, now)
    if answer.status != 200 or not _is_metadata(answer.content):
        evidence = f"{address} answers (HTTP status {answer.status}), but not with ARM's metadata"
        return WebLook(warned(name, evidence, _OVER_THE_ENDPOINT), up=False, clock=clock)
    return _trusted(name, address, answer, f"{address} gives its metadata", clock)


def look_at_internet(address: str, now: Clock) -> WebLook:
    """Whether this machine has a way to the internet, through its proxy where one is set. Never a must."""
    name = "internet"
    url = address if "://" in address else f"https://{address}"
    fix = "Needed for sending and uploading to the vendor only: save locally, or give --internet-probe another host."
    try:
        answer = _get(url, None, use_proxy=True)
    except _NoAnswerError as error:
        return WebLook(warned(name, f"no way to {_host(url)} from this machine: {error}", fix), up=False)
    if answer.distrust is not None:
        evidence = f"something between here and {_host(url)} answers with a certificate of its own: {answer.distrust}"
        return WebLook(warned(name, evidence, fix), up=False, clock=_clock(name, answer, now))
    return WebLook(passed(name, f"this machine reaches {_host(url)}"), up=True, clock=_clock(name, answer, now))


def _trusted(name: str, address: str, answer: _Answer, evidence: str, clock: ClockSample | None) -> WebLook:
    """A private authority is no outage; an expired certificate is one: browsers refuse the page."""
    if answer.distrust is None:
        return WebLook(passed(name, evidence), up=True, clock=clock)
    if "expired" in answer.distrust:
        found = warned(name, f"{address} answers, but its certificate has expired", _OVER_THE_ENDPOINT)
        return WebLook(found, up=False, clock=clock)
    fix = "Look at its certificate in a browser; 'ca_file' of the stamp names an authority that is to be trusted."
    evidence = f"{evidence}; its certificate is not trusted here: {answer.distrust}"
    return WebLook(warned(name, evidence, fix), up=True, clock=clock)


def _get(url: str, ca_file: Path | None, *, use_proxy: bool = False) -> _Answer:
    """Raises:
    _NoAnswerError: nobody answers there.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise _NoAnswerError("it is no http:// or https:// address")
    try:
        try:
            return _fetch(url, ssl.create_default_context(cafile=ca_file), use_proxy=use_proxy)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLCertVerificationError):
                raise
            # Nothing is sent that could be stolen: this asks only whether somebody is there.
            answer = _fetch(url, ssl._create_unverified_context(), use_proxy=use_proxy)  # noqa: S323
            return replace(answer, distrust=error.reason.verify_message)
    except (OSError, HTTPException, ValueError) as error:  # URLError and TimeoutError are OSErrors
        raise _NoAnswerError(_words(error)) from error


def _fetch(url: str, context: ssl.SSLContext, *, use_proxy: bool) -> _Answer:
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context), _NoRedirect()]
    if not use_proxy:  # the stamp's own addresses are not behind this machine's proxy
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            return _Answer(answer.status, _read(answer), _date(answer.headers.get("Date", "")))
    except urllib.error.HTTPError as error:
        with error:  # an answer all the same
            return _Answer(error.code, b"", _date(error.headers.get("Date", "")))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection to a sign-in page is an answer already."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _read(answer: HTTPResponse) -> bytes:
    """What there is, up to a bound in size and time."""
    deadline = time.monotonic() + _LONGEST_ANSWER_S
    content = bytearray()
    while len(content) < _LONGEST_ANSWER_BYTES and time.monotonic() < deadline:
        part = answer.read1(16 * 1024)
        if not part:
            break
        content += part
    return bytes(content[:_LONGEST_ANSWER_BYTES])


def _is_metadata(content: bytes) -> bool:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "authentication" in document


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _clock(source: str, answer: _Answer, now: Clock) -> ClockSample | None:
    return ClockSample(source, answer.date - now()) if answer.date is not None else None


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return "no answer in time" if isinstance(reason, TimeoutError) else " ".join(str(text).split())[:200]


def _how_to_know(name: str) -> str:
    return f"Set 'region' and 'external_fqdn' of the stamp in the configuration, or '{name}' to the address itself."
