"""What a shared access signature says of itself: permissions, times, what it is for. Never its signature."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from bridge.errors import SasError
from bridge.secrets import Secret

_VERSION = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_RESOURCES: Final = {"c": "container", "b": "blob", "d": "directory", "bs": "blob snapshot", "bv": "blob version"}
_TIME_FORMATS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z")


@dataclass(frozen=True, slots=True)
class SasInfo:
    """The readable part of a SAS token (Create a service SAS, Create an account SAS, Microsoft Learn)."""

    permissions: frozenset[str]
    """Single letters: r read, a add, c create, w write, d delete, l list, and rarer ones."""
    version: str
    """``sv``: the service version that signed it, as ``YYYY-MM-DD``."""
    starts: datetime | None
    expires: datetime | None
    """``None`` where a stored access policy of the container says it."""
    resource: str
    """``container``, ``blob``, ``directory``, ... or ``account`` for an account SAS."""
    services: frozenset[str]
    """Of an account SAS: b blob, q queue, t table, f file; empty for a service SAS."""
    resource_types: frozenset[str]
    """Of an account SAS: s service, c container, o object; empty for a service SAS."""
    policy: str | None
    """``si``: the name of a stored access policy, which may hold times and permissions that cannot be seen here."""
    protocols: str
    """``https`` or ``https,http``."""

    def allows(self, letter: str) -> bool | None:
        """Whether a permission is given; ``None`` where only the service knows (a stored access policy)."""
        if letter in self.permissions:
            return True
        return None if self.policy else False


def sas_token(sas: Secret) -> Secret:
    """The query part of what was given: a whole URL, a token with its ``?``, or the bare token.

    Raises:
        SasError: there is no signature in it.
    """
    text = "".join(sas.reveal().split())
    if "://" in text:
        text = urlsplit(text).query
    token = text.removeprefix("?").removeprefix("&")
    if not re.search(r"(?:^|&)sig=[^&]+", token):
        raise SasError(store="the SAS", detail="it has no signature ('sig=')")
    if any(character < "!" or character > "~" for character in token):
        raise SasError(store="the SAS", detail="it has characters that a URL cannot have")
    return Secret(token)


def describe_sas(sas: Secret) -> SasInfo:
    """Reads a SAS (token or whole URL) without asking the service.

    Raises:
        SasError: a field that every SAS has is missing or cannot be read. The message never quotes the SAS.
    """
    pairs = parse_qsl(sas_token(sas).reveal(), keep_blank_values=True)
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise SasError(store="the SAS", detail="a field stands in it twice")
    version = fields.get("sv", "")
    if not _VERSION.match(version):
        raise SasError(store="the SAS", detail="it has no version ('sv=')")
    policy = fields.get("si")
    if not policy and not ("sp" in fields and "se" in fields):
        raise SasError(store="the SAS", detail="it has no permissions ('sp=') or no expiry ('se=')")
    is_account = "ss" in fields
    return SasInfo(
        permissions=frozenset(fields.get("sp", "")),
        version=version,
        starts=_time(fields, "st"),
        expires=_time(fields, "se"),
        resource="account" if is_account else _RESOURCES.get(fields.get("sr", ""), fields.get("sr", "") or "unknown"),
        services=frozenset(fields.get("ss", "")),
        resource_types=frozenset(fields.get("srt", "")),
        policy=policy,
        protocols=fields.get("spr", "https,http"),
    )


def _time(fields: dict[str, str], name: str) -> datetime | None:
    text = fields.get(name)
    if not text:
        return None
    for form in _TIME_FORMATS:
        try:
            read = datetime.strptime(text.replace("Z", "+0000"), form)  # noqa: DTZ007 - a bare date is UTC
        except ValueError:
            continue
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    raise SasError(store="the SAS", detail=f"its time '{name}=' cannot be read")
