"""The alerts of a simulated stamp, raised and closed by a script or by hand: portal and Test-AzureStack show them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bridge.simulator.stamp._options import AlertEvent

# pep-facts 8.1 and 8.2: title of each fault type on the vendor's lists for proactive collection.
TITLES: dict[str, str] = {
    "Urp.UpdateWarning": "Update needs attention",
    "Urp.UpdateFailure": "Update failed",
    "StorageService.Table.server.data.corruption-Critical": "Table server data corruption",
    "StorageService.Blob.service.data.is.corrupted-Critical": "Blob service data is corrupted",
    "StorageService.Account.and.Container.Service.data.corruption-Critical": (
        "Account and Container Service data corruption"
    ),
    "AzureStack.ComputeController.HostUnresponsive": "Node inaccessible for virtual machine placement",
    "Microsoft.Health.FaultType.GenericExceptionFault": "Infrastructure role unhealthy",
    "Microsoft.Health.FaultType.PhysicalDisk.LostCommunication": "Connectivity to a physical disk has been lost",
    "FRP.Heartbeat.PhysicalNode": "Scale unit node is offline",
    "FRP.Heartbeat.InfraVM": "Infrastructure role instance unavailable",
    "CertificateExpiration.ExternalCert.Warning": "Pending external certificate expiration",
    "UsageBridge.NetworkError": "Unable to connect to the remote service",
}


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert; ``closed`` is ``None`` while it is active."""

    alert_id: str
    fault_type_id: str
    title: str
    severity: str
    created: datetime
    closed: datetime | None = None


class AlertBoard:
    """Alerts of a script (times after the board's start, by ``clock``) and those raised by hand. Thread-safe."""

    def __init__(self, script: tuple[AlertEvent, ...], clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._alerts: dict[str, Alert] = {}
        for number, event in enumerate(script):
            created = self._began + timedelta(seconds=event.from_s)
            closed = None if event.until_s is None else self._began + timedelta(seconds=event.until_s)
            alert = _alert(event.fault_type_id, str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number}/{event}")), created)
            self._alerts[alert.alert_id] = replace(alert, closed=closed)

    def raise_alert(self, fault_type_id: str) -> str:
        """Raises an alert now; returns its id."""
        alert = _alert(fault_type_id, str(uuid.uuid4()), self._clock())
        with self._lock:
            self._alerts[alert.alert_id] = alert
        return alert.alert_id

    def close_alert(self, alert_id: str) -> None:
        """Closes an alert now.

        Raises:
            KeyError: there is none of that id.
        """
        with self._lock:
            self._alerts[alert_id] = replace(self._alerts[alert_id], closed=self._clock())

    def seen(self) -> tuple[Alert, ...]:
        """Every alert raised so far, oldest first; one that closes later shows as open."""
        now = self._clock()
        with self._lock:
            raised = [alert for alert in self._alerts.values() if alert.created <= now]
        open_until = [replace(alert, closed=None) if alert.closed and alert.closed > now else alert for alert in raised]
        return tuple(sorted(open_until, key=lambda alert: (alert.created, alert.alert_id)))

    def active(self) -> tuple[Alert, ...]:
        return tuple(alert for alert in self.seen() if alert.closed is None)


def _alert(fault_type_id: str, alert_id: str, created: datetime) -> Alert:
    # GUESS: severity from the id, where the id says it; the documents show Warning and name Critical.
    severity = "Warning" if "warning" in fault_type_id.casefold() else "Critical"
    return Alert(alert_id, fault_type_id, TITLES.get(fault_type_id, fault_type_id), severity, created)
