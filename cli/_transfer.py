"""How politely a line is used: from options and configuration to transfer settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.store.transfer import TransferSettings
    from cli._console import Globals


def transfer_settings(
    options: Globals,
    limit_rate: str | None = None,
    quiet_hours: str | None = None,
    connections: int | None = None,
) -> TransferSettings:
    """The settings of one transfer: options stay, the configuration's values are read again while it runs.

    Raises:
        UsageError: a rate or a span of hours cannot be read.
    """
    from bridge.store.transfer import LinePolicy, QuietHours, TransferSettings, parse_rate

    def policy() -> LinePolicy:
        wanted = options.load().settings.transfer
        rate = limit_rate or wanted.limit_rate
        quiet = quiet_hours or wanted.quiet_hours
        return LinePolicy(
            limit_rate_bits_per_s=parse_rate(rate) if rate else None,
            quiet_hours=QuietHours.parse(quiet) if quiet else None,
        )

    policy()  # a mistake is told before anything starts
    return TransferSettings(connections=connections or options.load().settings.transfer.connections, policy=policy)
