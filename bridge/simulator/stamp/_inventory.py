"""The machines and roles of a simulated stamp: who exists, and which machines hold logs of which role."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from bridge.simulator.stamp._options import StampOptions

# pep-facts 1.9: the 79 documented roles (operator article "Collect diagnostic logs via the PEP", 02/2020 and 09/2020).
_ROLE_NAMES = """
    ACS ACSBlob ACSDownloadService ACSFabric ACSFrontEnd ACSMetrics ACSMigrationService ACSMonitoringService
    ACSSettingsService ACSTableMaster ACSTableServer ACSWac ADFS ApplicationController ASAppGateway AzureBridge
    AzureMonitor BareMetal BRP CA CacheService Compute CPI CRP DeploymentMachine DiskRP Domain ECE EventAdminRP
    EventRP ExternalDNS FabricRing FabricRingServices FirstTierAggregationService FRP Gateway HealthMonitoring
    HintingServiceV2 HRP IBC InfraServiceController KeyVaultAdminResourceProvider KeyVaultControlPlane
    KeyVaultDataPlane KeyVaultInternalControlPlane KeyVaultInternalDataPlane KeyVaultNamingService MDM
    MetricsAdminRP MetricsRP MetricsServer MetricsStoreService MonAdminRP MonRP NC NonPrivilegedAppGateway NRP
    OboService OEM OnboardRP PXE QueryServiceCoordinator QueryServiceWorker SeedRing SeedRingServices SLB SQL SRP
    Storage StorageController SupportBridgeController SupportBridgeRP SupportRing SupportRingServices URP
    UsageBridge VirtualMachines WAS WASPUBLIC"""
ROLES: tuple[str, ...] = tuple(_ROLE_NAMES.split())

RESOURCE_PROVIDERS: tuple[str, ...] = (
    "eventhub",
    "iothubServiceHealth",
    "IotHub",
    "databoxedge",
    "SQLAdapter",
    "MySQLAdapter",
    "ACR",
)
"""Names for -FilterByResourceProvider (pep-facts 1.10; the articles disagree on IoT Hub, both are known here)."""

# GUESS: how many machines of each kind there are; the kinds are named after the infrastructure roles.
_VM_COUNTS = {
    "ERCS": 3,
    "XRP": 3,
    "ACS": 3,
    "ADFS": 2,
    "CA": 1,
    "DC": 2,
    "Gwy": 3,
    "NC": 3,
    "SLB": 2,
    "SQL": 2,
    "SRNG": 3,
    "WAS": 2,
    "WASP": 2,
    "PXE": 1,
}

# GUESS: which kind of machine holds the logs of a role. What pep-facts 1.1 says is kept: VirtualMachines has the event
# logs of the infrastructure VMs, BareMetal those of the hosts, Storage the failover cluster and Hyper-V event logs.
_PLACED_ON = {
    "Node": "BareMetal Storage Compute OEM HealthMonitoring StorageController MDM IBC",
    "ACS": "ACS ACSBlob ACSDownloadService ACSFabric ACSFrontEnd ACSMetrics ACSMigrationService ACSMonitoringService"
    " ACSSettingsService ACSTableMaster ACSTableServer ACSWac",
    "ADFS": "ADFS",
    "CA": "CA",
    "DC": "Domain ExternalDNS",
    "Gwy": "Gateway",
    "NC": "NC",
    "SLB": "SLB",
    "SQL": "SQL",
    "SRNG": "SeedRing SeedRingServices",
    "WAS": "WAS",
    "WASP": "WASPUBLIC",
    "PXE": "PXE DeploymentMachine",
    "ERCS": "ECE SupportBridgeController SupportBridgeRP",
}
_KIND_OF_ROLE = {role: kind for kind, roles in _PLACED_ON.items() for role in roles.split()}

# GUESS: the share of a collection that a role takes; a role that is not named weighs 1.
_WEIGHTS = {
    "Storage": 60,
    "BareMetal": 45,
    "VirtualMachines": 40,
    "ACS": 40,
    "SeedRing": 30,
    "FabricRing": 28,
    "FabricRingServices": 25,
    "SeedRingServices": 15,
    "Compute": 12,
    "NC": 12,
    "ECE": 10,
    "SLB": 8,
    "SQL": 8,
    "ADFS": 5,
    "Domain": 5,
    "WAS": 5,
    "WASPUBLIC": 4,
    "Gateway": 4,
    "MDM": 4,
    "HealthMonitoring": 4,
}


def canonical_role(name: str) -> str | None:
    """The documented spelling of a role (PowerShell compares without case), or ``None`` for an unknown one."""
    return _SPELLING.get(name.casefold())


_SPELLING = {name.casefold(): name for name in (*ROLES, *RESOURCE_PROVIDERS)}


def weight_of(role: str) -> int:
    """The share of a collection that a role takes beside the others."""
    return _WEIGHTS.get(role, 1)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The machines of one stamp and what its information document says."""

    options: StampOptions

    @property
    def nodes(self) -> tuple[str, ...]:
        """The physical hosts: AzS-Node01 ..."""
        return tuple(f"{self.options.prefix}-Node{number:02}" for number in range(1, self.options.node_count + 1))

    @property
    def ercs(self) -> tuple[str, str, str]:
        """The three machines of the endpoint (pep-facts 4.2): ``<Prefix>-ERCS01`` to ``03``, on different hosts."""
        prefix = self.options.prefix
        return (f"{prefix}-ERCS01", f"{prefix}-ERCS02", f"{prefix}-ERCS03")

    @property
    def vms(self) -> tuple[str, ...]:
        """The infrastructure VMs: azs-xrp01 ..."""
        return tuple(name for kind in _VM_COUNTS for name in self._of_kind(kind))

    @property
    def machines(self) -> tuple[str, ...]:
        return self.nodes + self.vms

    def machine_named(self, name: str) -> str | None:
        """The machine of that name, whatever its case and with or without the domain."""
        short = name.split(".", maxsplit=1)[0].casefold()
        return next((machine for machine in self.machines if machine.casefold() == short), None)

    def machines_of(self, role: str) -> tuple[str, ...]:
        """The machines that hold logs of a role or resource provider."""
        if role == "VirtualMachines":
            return self.vms
        kind = _KIND_OF_ROLE.get(role, "XRP")
        return self.nodes if kind == "Node" else self._of_kind(kind)

    def _of_kind(self, kind: str) -> tuple[str, ...]:
        return tuple(f"{self.options.prefix}-{kind}{number:02}" for number in range(1, _VM_COUNTS[kind] + 1))

    @property
    def external_fqdn(self) -> str:
        return f"{self.options.region}.{self.options.external_domain}"

    @property
    def cloud_id(self) -> str:
        return self._id("cloud")

    @property
    def deployment_id(self) -> str:
        return self._id("deployment")

    def _id(self, what: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{what}.{self.options.seed}.{self.options.name}"))

    def stamp_information(self, ercs_addresses: tuple[str, ...]) -> dict[str, Any]:
        """AzureStackStampInformation: the keys that public scripts read (pep-facts 4.10); no schema is published.

        GUESS: everything but those keys' names: the nesting of the hardware list, and values beside them.
        """
        fqdn = self.external_fqdn
        return {
            "DeploymentID": self.deployment_id,
            "CloudID": self.cloud_id,
            "StampVersion": self.options.version,
            "OemVersion": "2.2.2310.10",
            "Prefix": self.options.prefix,
            "CompanyName": "Simulated",
            "Timezone": self.options.timezone,
            "RegionName": self.options.region,
            "DomainNetBIOSName": self.options.domain_netbios,
            "DomainFQDN": self.options.domain_fqdn,
            "ExternalDomainFQDN": self.options.external_domain,
            "AADTenantID": self._id("tenant"),
            "NumberOfNodes": self.options.node_count,
            "EmergencyConsoleIPAddresses": list(ercs_addresses),
            "ExternalDNSIPAddress01": "192.0.2.11",
            "ExternalDNSIPAddress02": "192.0.2.12",
            "AdminExternalEndpoints": {
                "AdminResourceManager": f"https://adminmanagement.{fqdn}/",
                "AdminHosting": f"adminhosting.{fqdn}",
            },
            "TenantExternalEndpoints": {
                "TenantResourceManager": f"https://management.{fqdn}/",
                "TenantHosting": f"hosting.{fqdn}",
            },
            "HardwareOEM": "Simulated",
            "Hardware": [
                {"Name": node, "Manufacturer": "Simulated", "Model": "Loopback", "SerialNumber": f"SIM{number:05}"}
                for number, node in enumerate(self.nodes, start=1)
            ],
        }
