"""Text that must never be written down, and the scrubber that keeps it out of what is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

REDACTED = "***"

_SAS_VALUE = re.compile(r"(?i)(?<![a-z0-9])(sig)=([^&\s\"'<>;]+)")
_SHORTEST_SCRUBBED = 4  # a shorter secret would blank ordinary words wherever they stand


@dataclass(frozen=True, slots=True)
class Secret:
    """A string whose value shows only where ``reveal()`` is written in the code."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        return self._value

    def __str__(self) -> str:
        return REDACTED

    def __repr__(self) -> str:
        return f"Secret({REDACTED!r})"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name (``DOMAIN\\user`` or ``user@domain``) and its password: a PSCredential on the wire."""

    username: str
    password: Secret


class Scrubber:
    """Replaces known secrets, and every SAS signature, by ``***``.

    Known secrets are found as they are, percent-encoded, percent-decoded and as XML writes them.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        forms: set[str] = set()
        for secret in secrets:
            value = secret.reveal()
            for form in (
                value,
                quote(value, safe=""),
                quote(value),
                unquote(value),
                _as_xml(value),
                _as_json(value),
            ):
                if len(form) >= _SHORTEST_SCRUBBED:
                    forms.add(form)
        longest_first = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        return _SAS_VALUE.sub(rf"\1={REDACTED}", text)

    def value(self, value: Any) -> Any:
        """A JSON-like value (dicts, lists, strings) without secrets, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (Secret, Credential)):
            return REDACTED
        if isinstance(value, dict):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def _as_xml(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _as_json(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
