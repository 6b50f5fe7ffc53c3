"""How patient a run is: the times and sizes that a caller may change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.collection._lock import LockSettings
from bridge.spans import parse_span
from bridge.store.transfer import TransferSettings

if TYPE_CHECKING:
    from bridge.settings import CollectionPreferences


@dataclass(frozen=True, slots=True)
class Settings:
    """The defaults suit a stamp; tests and rehearsals shorten them.

    ``watch_s``: how often the output folder is listed. ``settle_s``: how long it must stay as it is, once the command
    has ended, before it is sealed. ``after_stop_s``: the same after a stop, which the endpoint may confirm while the
    collection goes on, and after the death of the process that ran the command; the end of the output log ends it
    earlier. ``stop_s``: how long the endpoint may take to confirm a stop. ``second_thoughts_s``: how long after a first
    Ctrl-C a second one still stops the collection. ``stall_s``: how long nothing may be heard of a collection whose
    endpoint is lost (a record, a change in the output folder, an answer), before it counts as stalled.
    ``line_deadline_s``: how long a lost line is waited for at most. ``over_time_s``: how long beyond the endpoint's own
    time-out the bridge waits before it stops the pipeline itself. ``started_s``: how long the endpoint must have worked
    without failing before ``detach`` lets it go, where no record tells it earlier. ``free_bytes``: the least space that
    a place must have. ``sas_margin_s``: how much longer than the collection a SAS must be valid. ``late_s``: how long
    output is waited for where a command that ended well has left none yet. ``busy_s``: how long a queued run waits
    before it asks an endpoint again that said it was busy. ``reattach_s``: how often a lost session is asked for again.
    ``line_patience_s``: how long a line may be down before the other machines are asked and the output log is looked
    at, whether the collection has ended without us. ``leftovers_s``: how long sessions that earlier runs left over are
    ended before the command is sent; the rest of them is ended after it. ``check_again_s``: how old the check of the
    places may be when the command is sent, before they are checked once more.
    """

    watch_s: float = 2.0
    settle_s: float = 10.0
    after_stop_s: float = 60.0
    stop_s: float = 120.0
    second_thoughts_s: float = 3.0
    late_s: float = 300.0
    reattach_s: float = 60.0
    stall_s: float = 900.0
    line_deadline_s: float = 900.0
    line_patience_s: float = 10.0
    attach_deadline_s: float = 180.0
    over_time_s: float = 900.0
    busy_s: float = 60.0
    started_s: float = 10.0
    free_bytes: int = 256 * 1024 * 1024
    sas_margin_s: float = 1800.0
    leftovers_s: float = 10.0
    check_again_s: float = 300.0
    seal_attempts: int = 3
    lock: LockSettings = field(default_factory=LockSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)


def read_settings(wanted: CollectionPreferences, transfer: TransferSettings) -> Settings:
    """What ``[collection]`` says of a run's patience; the rest is as it is by default.

    Raises:
        UsageError: a span of time cannot be read.
    """
    return Settings(
        settle_s=parse_span(wanted.settle).total_seconds(),
        after_stop_s=parse_span(wanted.settle_after_stop).total_seconds(),
        transfer=transfer,
    )
