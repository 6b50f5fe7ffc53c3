"""How much harm each command of the endpoint can do, and what a verb may therefore send.

Source: the PEP cmdlet reference (index of 03/2023), the operator articles on updates and remote support, and the
session's own proxies ("Use the privileged endpoint").
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

from bridge.errors import CommandNotAllowedError


class Safety(StrEnum):
    """What running a command does to the stamp."""

    READ_ONLY = "read-only"
    COLLECTING = "collecting"
    CHANGING = "changing"
    DESTRUCTIVE = "destructive"
    UNKNOWN = "unknown"

    @property
    def needs_permission(self) -> bool:
        """Whether it is sent only when named by ``--allow`` and confirmed."""
        return self in (Safety.CHANGING, Safety.DESTRUCTIVE)


_CLASSES = {
    Safety.READ_ONLY: """
        Clear-Host Exit-PSSession Get-Command Get-FormatData Get-Help Measure-Object Out-Default Select-Object
        cls exsn gcm measure select
        Get-ActionStatus Get-AzsDnsForwarder Get-AzSDnsServerSettings Get-AzSLegalNotice Get-AzureStackStampInformation
        Get-AzureStackSupportConfiguration Get-AzureStackUpdateStatus Get-CloudAdminUserList Get-GraphApplication
        Get-RemoteSupportAccess Get-RemoteSupportSessionHistory Get-StorageJob Get-SupportSessionInfo Get-SyslogClient
        Get-SyslogServer Get-ThirdPartyNotices Get-TLSPolicy Get-VirtualDisk
    """,
    Safety.COLLECTING: """
        Close-PrivilegedEndpoint Get-AzureStackLog Get-ClusterLog Invoke-AzureStackOnDemandLog
        Send-AzureStackDiagnosticLog Test-AzureStack
    """,
    Safety.CHANGING: """
        Disable-RemoteSupport Enable-RemoteSupport Get-CloudAdminPasswordRecoveryToken Get-SupportSessionToken
        New-AzureBridgeServicePrincipal New-AzureStackActivation New-CloudAdminUser New-GraphApplication
        New-RegistrationToken Register-CustomAdfs Register-CustomDnsServer Register-DirectoryService
        Remove-AzureStackActivation Remove-CloudAdminUser Remove-GraphApplication Repair-VirtualDisk
        Reset-DatacenterIntegrationConfiguration Resume-AzureStackUpdate Set-AzSLegalNotice Set-AzsDnsForwarder
        Set-AzSDnsServerSettings Set-CloudAdminUserPassword Set-GraphApplication Set-ServiceAdminOwner Set-SyslogClient
        Set-SyslogServer Set-Telemetry Set-TLSPolicy Start-AzureStack Start-SecretRotation Unlock-SupportSession
    """,
    Safety.DESTRUCTIVE: """
        Start-AzsCryptoWipe Stop-AzureStack
    """,
}
_BY_NAME = {name.lower(): safety for safety, names in _CLASSES.items() for name in names.split()}


def classify(command: str) -> Safety:
    """The class of a command, by its bare name in any case; a name with a module is unknown."""
    return _BY_NAME.get(command.lower(), Safety.UNKNOWN)


def needs_permission(commands: Iterable[str]) -> tuple[str, ...]:
    """Those of the commands that change or stop the stamp, each once, in order."""
    return tuple(dict.fromkeys(name for name in commands if classify(name).needs_permission))


def unknown_commands(commands: Iterable[str]) -> tuple[str, ...]:
    """Those of the commands that the bridge has never heard of: look them up with Get-Command before the run."""
    return tuple(dict.fromkeys(name for name in commands if classify(name) is Safety.UNKNOWN))


def allow_list(commands: Iterable[str], *, permitted: Collection[str] = (), verb: str = "run") -> frozenset[str]:
    """What a verb may send of a script's commands.

    Args:
        commands: ``Script.command_names``.
        permitted: the commands that were named by ``--allow``.

    Raises:
        CommandNotAllowedError: a command changes or stops the stamp and was not named.
    """
    names = tuple(commands)
    allowed = {name.lower() for name in permitted}
    for name in needs_permission(names):
        if name.lower() not in allowed:
            fix = f"It is {classify(name)}: name it with '--allow {name}' if the stamp is really to be changed."
            raise CommandNotAllowedError(command=name, verb=verb, fix=fix)
    return frozenset(names)
