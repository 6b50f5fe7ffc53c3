"""How politely a line is used: from options and configuration to transfer settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.errors import BridgeError

if TYPE_CHECKING:
    from bridge.store.transfer import LinePolicy, TransferSettings
    from cli._console import Globals


def transfer_settings(
    options: Globals,
    limit_rate: str | None = None,
    quiet_hours: str | None = None,
    connections: int | None = None,
    *,
    warn: Callable[[str], None] | None = None,
) -> TransferSettings:
    """The settings of one transfer: options stay, the configuration's values are read again while it runs.

    Raises:
        ConfigurationError: the configuration cannot be read.
        UsageError: a rate or a span of hours cannot be read.
    """
    from bridge.store.transfer import TransferSettings

    policy = _LivePolicy(options, limit_rate, quiet_hours, warn or logging.getLogger(__name__).warning)
    return TransferSettings(connections=connections or options.load().settings.transfer.connections, policy=policy)


class _LivePolicy:
    """What the line may be used for now; a mistake made in the configuration meanwhile is told and changes nothing."""

    def __init__(
        self, options: Globals, limit_rate: str | None, quiet_hours: str | None, warn: Callable[[str], None]
    ) -> None:
        self._options = options
        self._limit_rate = limit_rate
        self._quiet_hours = quiet_hours
        self._warn = warn
        self._told: str | None = None
        self._last = self._read()  # a mistake that is there already is told before anything starts

    def __call__(self) -> LinePolicy:
        try:
            self._last = self._read()
            self._told = None
        except BridgeError as error:
            if self._told != str(error):
                self._told = str(error)
                self._warn(f"rate and quiet hours stay as they were: {error}")
        return self._last

    def _read(self) -> LinePolicy:
        from bridge.store.transfer import LinePolicy, QuietHours, parse_rate

        wanted = self._options.load().settings.transfer
        rate = self._limit_rate or wanted.limit_rate
        quiet = self._quiet_hours or wanted.quiet_hours
        return LinePolicy(
            limit_rate_bits_per_s=parse_rate(rate) if rate else None,
            quiet_hours=QuietHours.parse(quiet) if quiet else None,
        )
