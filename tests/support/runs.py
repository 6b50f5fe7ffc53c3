"""A request to a stamp that does not exist, and settings without patience."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.collection import LockSettings, Place, Request, Settings, Window
from bridge.stamp import EndpointAddress, Stamp

PASSWORD = "Winter&Rose<42>"
QUICK = Settings(
    watch_s=0.05,
    settle_s=0.2,
    after_stop_s=0.4,
    stop_s=5,
    second_thoughts_s=0.0,
    late_s=0.6,
    stall_s=0.6,
    started_s=0.2,
    reattach_s=0.2,
    busy_s=0.2,
    attach_deadline_s=5,
    line_deadline_s=5,
    free_bytes=1,
    lock=LockSettings(heartbeat_s=0.1, poll_s=0.05),
)


def make_request(destination: Path, **changes: Any) -> Request:
    now = datetime.now(UTC).replace(microsecond=0)
    parts: dict[str, Any] = {
        "stamp": Stamp(
            "azs-sim",
            tuple(EndpointAddress(f"AzS-ERCS0{number}", "127.0.0.1", 5985) for number in (1, 2, 3)),
            username="AZURESTACK\\CloudAdmin",
        ),
        "window": Window(now - timedelta(hours=4), now),
        "destination": Place.parse(str(destination)),
        "roles": ("Storage", "ACS"),
        "shared_disk": True,
    }
    return Request(**{**parts, **changes})
