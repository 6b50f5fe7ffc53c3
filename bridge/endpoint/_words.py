"""Exceptions in one line of plain words."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import requests

from bridge.errors import BridgeError


def connection_detail(error: BaseException) -> str:
    """Refused, timed out, unknown name: the reason in words that do not depend on the operating system's language."""
    for cause in _causes(error):
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused"
        if isinstance(cause, socket.gaierror):
            return "the name is not known"
        if isinstance(cause, ConnectionResetError):
            return "the connection was reset"
        if isinstance(cause, TimeoutError):
            return "no answer in time"
    return brief(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        item = waiting.pop(0)
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        waiting += [*item.args, item.__cause__, item.__context__, getattr(item, "reason", None)]


def brief(error: BaseException) -> str:
    """One line about a third party's exception, without addresses of Python objects."""
    inner: BaseException = error
    while (reason := getattr(inner, "reason", None)) is not None and isinstance(reason, BaseException):
        inner = reason
    if isinstance(error, requests.exceptions.RequestException) and error.args and inner is error:
        first = error.args[0]
        reason = getattr(first, "reason", first)
        inner = reason if isinstance(reason, BaseException) else error
    text = re.sub(r"<[^>]*object at 0x[0-9a-f]+>:? ?", "", str(inner))
    text = re.sub(r"HTTPS?Connection(Pool)?\([^)]*\):? ?", "", text)
    return " ".join(text.split())[:300] or type(inner).__name__


def reason_of(error: Exception) -> str:
    """Why something failed, without what failed: the detail of an error of ours, a line about any other."""
    return str(error.fields.get("detail") or error) if isinstance(error, BridgeError) else brief(error)
