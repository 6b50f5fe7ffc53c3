"""From what is configured, and what goes over it, to what a watch decides by and whom it asks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from bridge.credentials import read_secret_file
from bridge.retention import Limits, read_limits
from bridge.secrets import Credential, Secret
from bridge.settings import RetentionPreferences, StampSettings, WatchPreferences
from bridge.spans import parse_span
from bridge.stamp import Stamp
from bridge.watch._alerts import AlertSelection
from bridge.watch._core import Policy
from bridge.watch._health import AlertSource, ArmAlerts, EndpointAlerts, IdentityToken, Token, static_token

TOKEN_VARIABLE = "PEP_BRIDGE_ARM_TOKEN"  # noqa: S105 - the name of a variable


def read_policy(
    wanted: WatchPreferences,
    *,
    persist: str | None = None,
    cool_down: str | None = None,
    budget: int | None = None,
    since: str | None = None,
    offload: str | None = None,
    warnings: bool = False,
) -> Policy:
    """The policy of ``[watch]``; whatever is given beside it goes over it. Spans are written ``30m``, ``4h``, ``2d``.

    Raises:
        UsageError: a span of time cannot be read.
    """
    period = offload or wanted.offload
    return Policy(
        selection=AlertSelection(wanted.more_alerts, wanted.fewer_alerts, warnings or wanted.warnings),
        persist=parse_span(persist or wanted.persist),
        cool_down=parse_span(cool_down or wanted.cool_down),
        daily_budget=wanted.daily_budget if budget is None else budget,
        window=parse_span(since or wanted.since),
        offload=parse_span(period) if period else None,
    )


def read_pause(wanted: WatchPreferences, every: str | None = None) -> timedelta | None:
    """The pause between two looks, where one is given or configured.

    Raises:
        UsageError: it is no span of time.
    """
    given = every or wanted.every
    return parse_span(given) if given else None


def read_offload_limits(
    wanted: RetentionPreferences,
    *,
    older_than: str | None = None,
    keep: int | None = None,
    max_size: str | None = None,
) -> Limits | None:
    """What may stay of the rolling offload; ``None``, everything, where there is no limit at all.

    Raises:
        UsageError: a limit cannot be read.
    """
    if not (older_than or keep or max_size or wanted.older_than or wanted.keep or wanted.max_size):
        return None
    return read_limits(wanted, older_than=older_than, keep=keep, max_size=max_size)


def find_sources(
    stamp: Stamp,
    known: StampSettings,
    credential: Credential,
    *,
    records: Path,
    environment: Mapping[str, str],
    every: timedelta | None = None,
) -> tuple[AlertSource, ...]:
    """Who is asked for a stamp's health, in this order: the ARM endpoint, where it and a token for it are configured,
    and always the privileged endpoint.

    Args:
        known: the stamp as configured.
        records: the folder for the records of what the privileged endpoint is asked.
        every: the pause between two looks, in place of each source's own.

    Raises:
        ConfigurationError: the address of the ARM endpoint cannot be used.
    """
    pause: dict[str, Any] = {} if every is None else {"every": every}
    found: list[AlertSource] = []
    token = _find_token(stamp.name, known, environment)
    if token is not None and known.arm and known.region:
        arm = ArmAlerts(
            stamp.name, known.arm, known.region, token, subscription=known.subscription, ca_file=known.ca_file, **pause
        )
        found.append(arm)
    return (*found, EndpointAlerts(stamp, credential, records=records, **pause))


def _find_token(name: str, known: StampSettings, environment: Mapping[str, str]) -> Token | None:
    if value := environment.get(TOKEN_VARIABLE):
        return static_token(Secret(value))
    if (file := known.arm_token_file) is not None:
        return lambda: read_secret_file(file)  # whoever renews it writes the file anew
    if known.arm and environment.get("AZURE_CLIENT_ID"):
        return IdentityToken(name, known.arm, ca_file=known.ca_file)
    return None
