"""What is asked of a stamp, from the options and the configuration together."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import typer

from bridge.errors import UsageError

if TYPE_CHECKING:
    from bridge.collection import Request
    from bridge.settings import Settings
    from cli._console import Console

LOG_TYPES = ("File", "Share", "WindowsEvent")


def build_request(
    settings: Settings,
    stamp: str,
    *,
    since: str | None = None,
    until: str | None = None,
    to: str | None = None,
    staging: str | None = None,
    api_version: str | None = None,
    timeout_minutes: int | None = None,
    roles: tuple[str, ...] = (),
    direct: bool = False,
    **rest: Any,
) -> Request:
    """The request that options and configuration make together; an option goes over the configuration.

    ``rest`` are fields of ``Request`` that need no translation.
    """
    from tzlocal import get_localzone

    from bridge.collection import Request, parse_window
    from cli._places import find_place

    known = settings.stamp_settings(stamp)
    wanted = settings.collection
    rest["log_types"] = _known_log_types(rest.get("log_types", ()))
    goal = to or wanted.to
    if goal is None:
        raise UsageError(
            detail="There is no destination.",
            fix="Give --to DEST, or set 'to' of [collection] in the configuration.",
        )
    named = settings.destinations.get(goal.partition("/")[0])
    stage = staging or (named.staging if named and not direct else None)
    return Request(
        stamp=settings.stamp(stamp),
        window=parse_window(since or wanted.since, until, tz=get_localzone(), now=datetime.now(UTC)),
        destination=find_place(goal, settings, api_version=api_version),
        roles=roles or wanted.roles,
        timeout_minutes=timeout_minutes or wanted.timeout_minutes,
        staging=find_place(stage, settings) if stage else None,
        direct=direct,
        shared_disk=known.shared_disk,
        **rest,
    )


def suggest_roles(console: Console, roles: Iterable[str]) -> None:
    """Says of roles that nobody knows, before they are sent, which ones may be meant."""
    for role, meant in _misspelt(roles).items():
        console.warn(f"the vendor's list has no role '{role}'; did you mean {meant}?")


def check_roles(console: Console, roles: Iterable[str], *, send_unknown: bool) -> None:
    """A role that is not on the vendor's list is sent all the same, as the list differs by version; but one that looks
    merely mistyped would cost the stamp a collection of nothing. So it is asked for first.

    Args:
        send_unknown: it is known to be right.

    Raises:
        UsageError: it is not to be sent, or nobody can be asked.
    """
    if send_unknown or not (misspelt := _misspelt(roles)):
        return
    told = ", ".join(f"'{role}' (did you mean {meant}?)" for role, meant in misspelt.items())
    told = f"The vendor's list has no role {told}"
    if sys.stdin.isatty() and not console.as_json and typer.confirm(f"{told}. Send it all the same?", err=True):
        return
    raise UsageError(
        detail=f"{told}. Nothing was sent.",
        fix="Correct it; or, as the list differs by version, give --send-unknown-roles to send it as it is.",
    )


def _misspelt(roles: Iterable[str]) -> dict[str, str]:
    """The roles that are not on the vendor's list, with the one on it that each of them looks like."""
    from bridge.collection import DOCUMENTED_ROLES, unknown_roles

    found = {role: _closest(role, DOCUMENTED_ROLES) for role in unknown_roles(roles)}
    return {role: meant for role, meant in found.items() if meant}


def _known_log_types(given: Iterable[str]) -> tuple[str, ...]:
    """The kinds of log that there are (Get-AzureStackLog, -FilterByLogType), as the vendor writes them."""
    kinds = {kind.casefold(): kind for kind in LOG_TYPES}
    for each in given:
        if each.casefold() not in kinds:
            meant = _closest(each, LOG_TYPES)
            raise UsageError(
                detail=f"There is no log type '{each}'" + (f"; did you mean {meant}?" if meant else "."),
                fix=f"Give {', '.join(LOG_TYPES[:-1])} or {LOG_TYPES[-1]}, or leave --log-type out for all.",
            )
    return tuple(kinds[each.casefold()] for each in given)


def _closest(word: str, known: Iterable[str]) -> str | None:
    folded = {each.casefold(): each for each in known}
    found = get_close_matches(word.casefold(), folded, n=1)
    return folded[found[0]] if found else None


def split(values: list[str] | None) -> tuple[str, ...]:
    """``["A,B", "C"]`` as ``("A", "B", "C")``: the vendor's articles write lists with commas."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part))
