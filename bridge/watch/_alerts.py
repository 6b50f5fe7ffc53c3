"""The alerts that the vendor's proactive log collection answers to, as its articles list them, and how one is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class AlertList(StrEnum):
    """Which of the vendor's published lists names an alert."""

    OLDER = "2019-10"
    """23 rows, the same in the articles of October 2019 and of February 2020."""
    UPDATE_2102 = "2102"
    """Up to release 2102 (article of September 2021)."""
    SINCE_2108 = "2108"
    """Release 2108 and later (article of September 2021, and the same words for 2311)."""


@dataclass(frozen=True, slots=True)
class ListedAlert:
    """One row: the alert's id, its title, and the lists that have it."""

    fault_type_id: str
    title: str
    lists: frozenset[AlertList]


_HOST_UNRESPONSIVE = "AzureStack.ComputeController.HostUnresponsive"
_NODE_INACCESSIBLE = "Node inaccessible for virtual machine placement"
_OLDER = (
    ("UsageBridge.NetworkError", "Unable to connect to the remote service"),
    ("Urp.UpdateFailure", "Update failed"),
    (
        "StorageResourceProviderDependencyUnavailable",
        "Storage Resource Provider infrastructure/dependencies not available",
    ),
    ("ServerHostNotConnectedToController", "Node not connected to controller"),
    ("SlbMuxRoutePublicationFailure", "Route publication failure"),
    # As published there is a blank after the first dot; ids are compared without blanks.
    ("StorageResourceProvider.DataStoreConnectionFail", "Storage Resource Provider internal data store unavailable"),
    ("Microsoft.Health.FaultType.VirtualDisks.Detached", "Storage device failure"),
    ("Microsoft.Health.FaultType.StorageError", "Health controller cannot access storage account"),
    (
        "Microsoft.Health.FaultType.PhysicalDisk.LostCommunication",
        "Connectivity to a physical disk has been lost",
    ),
    (
        "StorageService.The.blob.service.is.not.running.on.a.node-Critical",
        "The blob service isn't running on a node",
    ),
    ("Microsoft.Health.FaultType.GenericExceptionFault", "Infrastructure role unhealthy"),
    ("StorageService.Table.service.errors-Critical", "Table service errors"),
    ("Microsoft.Health.FaultType.FileShare.Capacity.Warning.Infra", "A file share is over 80% utilized"),
    ("FRP.Heartbeat.PhysicalNode", "Scale unit node is offline"),
    ("FRP.Heartbeat.InfraVM", "Infrastructure role instance unavailable"),
    ("FRP.Heartbeat.NonHaVm", "Infrastructure role instance unavailable"),
    (
        "DirectoryServiceTimeSynchronizationError",
        "The infrastructure role, Directory Management, has reported time synchronization errors",
    ),
    ("CertificateExpiration.ExternalCert.Warning", "Pending external certificate expiration"),
    ("CertificateExpiration.ExternalCert.Critical", "Pending external certificate expiration"),
    (
        "AzureStack.ComputeController.VmCreationFailure.LowMemory",
        "Unable to provision virtual machines for specific class and size due to low memory capacity",
    ),
    (_HOST_UNRESPONSIVE, _NODE_INACCESSIBLE),
    ("AzureStack.BackupController.BackupFailedGeneralFault", "Backup failed"),
    (
        "AzureStack.BackupController.BackupSkippedWithFailedOperationFault",
        "The scheduled backup was skipped due to a conflict with failed operations",
    ),
)
_UPDATE_2102 = (("Urp.UpdateWarning", "Update needs attention"), ("Urp.UpdateFailure", "Update failed"))
_SINCE_2108 = (
    ("StorageService.Table.server.data.corruption-Critical", "Table server data corruption"),
    (_HOST_UNRESPONSIVE, _NODE_INACCESSIBLE),
    ("StorageService.Blob.service.data.is.corrupted-Critical", "Blob service data is corrupted"),
    (
        "StorageService.Account.and.Container.Service.data.corruption-Critical",
        "Account and Container Service data corruption",
    ),
)


def _all() -> tuple[ListedAlert, ...]:
    titles: dict[str, str] = {}
    lists: dict[str, set[AlertList]] = {}
    sources = (
        (AlertList.OLDER, _OLDER),
        (AlertList.UPDATE_2102, _UPDATE_2102),
        (AlertList.SINCE_2108, _SINCE_2108),
    )
    for which, rows in sources:
        for fault_type_id, title in rows:
            titles.setdefault(fault_type_id, title)
            lists.setdefault(fault_type_id, set()).add(which)
    return tuple(ListedAlert(each, titles[each], frozenset(lists[each])) for each in titles)


LISTED_ALERTS: tuple[ListedAlert, ...] = _all()
"""Every row of every list. All of them count, whatever the stamp's release: the articles disagree on which list a
release follows, and a collection to the operator's own store costs little."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One active alert, as the alerts API or the endpoint's summary tells it. Parts that it does not tell are empty."""

    id: str
    fault_type_id: str
    title: str
    severity: str
    created: datetime | None = None

    @property
    def key(self) -> str:
        """What tells this alert from another one."""
        return self.id or self.fault_type_id or self.title

    @property
    def is_mere_warning(self) -> bool:
        """By its severity; where none is told, by its id, in which the vendor writes it."""
        if self.severity:
            return self.severity.casefold() != "critical"
        return "warning" in self.fault_type_id.casefold()

    @property
    def words(self) -> str:
        """For people: ``Scale unit node is offline (FRP.Heartbeat.PhysicalNode)``."""
        return f"{self.title} ({self.fault_type_id})" if self.title and self.fault_type_id else self.title or self.key


@dataclass(frozen=True, slots=True)
class AlertSelection:
    """Which alerts lead to a collection: those on the vendor's lists, without mere warnings.

    Args:
        more: fault type ids beside the lists, whatever their severity.
        fewer: fault type ids of the lists that are left out.
        warnings: listed alerts count although they are warnings (three rows of the lists are).
    """

    more: tuple[str, ...] = ()
    fewer: tuple[str, ...] = ()
    warnings: bool = False

    def selects(self, alert: Alert) -> bool:
        """Whether this alert, if it persists, is a reason to collect."""
        name = _plain(alert.fault_type_id)
        if name and name in map(_plain, self.fewer):
            return False
        if name and name in map(_plain, self.more):
            return True
        if alert.is_mere_warning and not self.warnings:
            return False
        return name in _IDS if name else _plain(alert.title) in _TITLES


def _plain(text: str) -> str:
    return "".join(text.split()).casefold()


_IDS = frozenset(_plain(row.fault_type_id) for row in LISTED_ALERTS)
_TITLES = frozenset(_plain(row.title) for row in LISTED_ALERTS)
