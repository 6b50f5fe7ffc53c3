"""The endpoint's commands that a rehearsal only needs to be there: a table of names, parameters and answers.

Names: pep-facts 2 (reference index of 03/2023) and 1.5. A command that would change or stop a stamp is marked: the
state notes its call, and nothing else happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PlainCommand:
    """``answer`` is what it writes out (GUESS: shape, values); ``changes`` marks what is dangerous on a real stamp."""

    name: str
    synopsis: str
    parameters: str = ""
    changes: bool = False
    answer: tuple[Mapping[str, Any] | str, ...] = ()


_NOTICES = "THIRD PARTY SOFTWARE NOTICES AND INFORMATION (simulated)"
_GRAPH = "DisplayName string, ApplicationIdentifier string, ClientCertificates object, Name string"

PLAIN_COMMANDS: tuple[PlainCommand, ...] = (
    # -- reading
    PlainCommand("Get-AzsDnsForwarder", "Gets the DNS forwarders.", answer=({"IPAddress": "192.0.2.53"},)),
    PlainCommand("Get-AzSDnsServerSettings", "Gets the DNS server settings.", answer=({"UseRootHint": False},)),
    PlainCommand(
        "Get-AzSLegalNotice", "Gets the legal notice of the sign-in page.", answer=({"Caption": "", "Text": ""},)
    ),
    PlainCommand(
        "Get-CloudAdminPasswordRecoveryToken",
        "Gets the token for resetting the cloud administrator's password.",
        changes=True,
    ),
    PlainCommand(
        "Get-CloudAdminUserList", "Lists the cloud administrators.", answer=({"SamAccountName": "CloudAdmin"},)
    ),
    PlainCommand("Get-GraphApplication", "Gets Graph applications.", _GRAPH),
    PlainCommand(
        "Get-SyslogClient", "Gets the syslog client settings.", answer=({"ComputerName": "", "Enabled": False},)
    ),
    PlainCommand("Get-SyslogServer", "Gets the syslog server settings.", answer=({"ServerName": "", "ServerPort": 0},)),
    PlainCommand("Get-ThirdPartyNotices", "Gets the third-party notices.", answer=(_NOTICES,)),
    PlainCommand("Get-TLSPolicy", "Gets the TLS policy.", answer=("TLS_1.2",)),
    PlainCommand(
        "Get-AzureStackUpdateStatus",
        "Gets the state of the last update run.",
        "StatusOnly switch",
        answer=({"ActionPlan": "MAS Update", "Status": "Success"},),
    ),
    PlainCommand("Get-RemoteSupportAccess", "Gets remote support consents.", "Cluster switch, IncludeExpired switch"),
    PlainCommand(
        "Get-RemoteSupportSessionHistory",
        "Gets remote support sessions.",
        "SessionId string, IncludeSessionTranscript switch, FromDate date",
    ),
    # -- changing
    PlainCommand("Disable-RemoteSupport", "Revokes consent to remote support.", changes=True),
    PlainCommand(
        "Enable-RemoteSupport",
        "Gives consent to remote support.",
        "AccessLevel! string, ExpireInMinutes int",
        changes=True,
    ),
    PlainCommand(
        "New-AzureBridgeServicePrincipal",
        "Creates a service principal for the bridge.",
        "RefreshToken object, AzureEnvironment object, AzureDirectoryTenantName object, TimeoutInSeconds int",
        changes=True,
    ),
    PlainCommand(
        "New-AzureStackActivation", "Activates the stamp.", "ActivationKey object, AutoRetry switch", changes=True
    ),
    PlainCommand(
        "New-CloudAdminUser", "Creates a cloud administrator.", "UserName! string, Password! secret", changes=True
    ),
    PlainCommand("New-GraphApplication", "Creates a Graph application.", _GRAPH, changes=True),
    PlainCommand(
        "New-RegistrationToken",
        "Creates a registration token.",
        "BillingModel string, AgreementNumber string,"
        "MarketplaceSyndicationEnabled switch, UsageReportingEnabled switch",
        changes=True,
    ),
    PlainCommand(
        "Register-CustomAdfs",
        "Registers the enterprise's AD FS.",
        "CustomAdfsName string, CustomADFSFederationMetadataEndpointUri string,"
        "SigningCertificateRevocationCheck string",
        changes=True,
    ),
    PlainCommand(
        "Register-CustomDnsServer",
        "Registers a custom DNS server.",
        "CustomDomainName string, CustomDnsIPAddresses strings",
        changes=True,
    ),
    PlainCommand(
        "Register-DirectoryService",
        "Registers a directory service.",
        "CustomADGlobalCatalog string, CustomADAdminCredential credential, SkipRootDomainValidation switch",
        changes=True,
    ),
    PlainCommand("Remove-AzureStackActivation", "Removes the activation.", "AutoRetry switch", changes=True),
    PlainCommand("Remove-CloudAdminUser", "Removes a cloud administrator.", "UserName! string", changes=True),
    PlainCommand("Remove-GraphApplication", "Removes a Graph application.", _GRAPH, changes=True),
    PlainCommand(
        "Repair-VirtualDisk", "Repairs a virtual disk.", "FriendlyName strings, CimSession object", changes=True
    ),
    PlainCommand("Reset-DatacenterIntegrationConfiguration", "Resets data-centre integration.", changes=True),
    PlainCommand("Resume-AzureStackUpdate", "Resumes a failed update.", changes=True),
    PlainCommand("Set-AzSLegalNotice", "Sets the legal notice.", "Caption! string, Text! string", changes=True),
    PlainCommand("Set-AzsDnsForwarder", "Sets the DNS forwarders.", "IPAddress! strings", changes=True),
    PlainCommand("Set-AzSDnsServerSettings", "Sets the DNS server settings.", "UseRootHint object", changes=True),
    PlainCommand(
        "Set-CloudAdminUserPassword",
        "Sets a cloud administrator's password.",
        "UserName! string, CurrentPassword secret, NewPassword secret",
        changes=True,
    ),
    PlainCommand("Set-GraphApplication", "Changes a Graph application.", _GRAPH, changes=True),
    PlainCommand("Set-ServiceAdminOwner", "Sets the owner.", "ServiceAdminOwnerUpn! string", changes=True),
    PlainCommand(
        "Set-SyslogClient",
        "Sets the syslog client.",
        "PfxBinary object, CertPassword secret, RemoveCertificate switch",
        changes=True,
    ),
    PlainCommand(
        "Set-SyslogServer",
        "Sets the syslog server.",
        "ServerName string, ServerPort int, NoEncryption switch, SkipCertificateCheck switch, Remove switch",
        changes=True,
    ),
    PlainCommand("Set-Telemetry", "Turns telemetry on or off.", "Enable switch, Disable switch", changes=True),
    PlainCommand("Set-TLSPolicy", "Sets the TLS policy.", "Version! string", changes=True),
    PlainCommand("Start-AzsCryptoWipe", "Destroys the stamp's keys, and with them its data.", changes=True),
    PlainCommand("Start-AzureStack", "Starts the stamp.", changes=True),
    PlainCommand(
        "Start-SecretRotation",
        "Rotates the stamp's secrets.",
        "PfxFilesPath string, PathAccessCredential credential, CertificatePassword secret,"
        "Internal switch, ReRun switch",
        changes=True,
    ),
    PlainCommand("Stop-AzureStack", "Stops the stamp.", changes=True),
)
