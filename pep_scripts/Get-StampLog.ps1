<#
.SYNOPSIS
Collects diagnostic logs of a stamp.

.DESCRIPTION
Runs Get-AzureStackLog on the privileged endpoint with the parameters that were given. The endpoint writes the logs
itself: to a share, to a blob container, or to a folder that it can reach. Give the window and the time-out, because
the documented defaults disagree.

.PARAMETER OutputSharePath
UNC path of the share that the logs are written to. It must be reachable from the endpoint over SMB.

.PARAMETER OutputShareCredential
Account that may write to the share.

.PARAMETER OutputSasUri
Address of a blob container with a shared access signature that may read, write and list. Not together with a share.

.PARAMETER OutputPath
Folder that the logs are written to. Not together with a share.

.PARAMETER FilterByRole
Roles to collect, for example ACS,Storage. All roles when omitted.

.PARAMETER FilterByNode
Computers to collect from, by name.

.PARAMETER FilterByLogType
Kinds of log: File, Share or WindowsEvent. All kinds when omitted.

.PARAMETER FilterByResourceProvider
Value-add resource providers to collect, for example eventhub.

.PARAMETER FromDate
Start of the window. Give it with its time zone; the endpoint's own default differs by version.

.PARAMETER ToDate
End of the window.

.PARAMETER TimeOutInMinutes
Minutes after which the endpoint gives up.

.PARAMETER IncludeDumpFile
Also collect dump files, which can be very large.

.PARAMETER PerformVMLogRecovery
Also recover Windows event logs from virtual machines that are off or paused.

.EXAMPLE
./Get-StampLog.ps1 -OutputSharePath '\\192.0.2.10\logs' -OutputShareCredential (Get-Credential) -FilterByRole Storage -FromDate (Get-Date).AddHours(-4) -ToDate (Get-Date) -TimeOutInMinutes 240

.EXAMPLE
pep-bridge run Get-StampLog east -p OutputSharePath=\\192.0.2.10\logs -p OutputShareCredential=CONTOSO\writer -p FilterByRole=Storage -p FromDate=-4h

.NOTES
Logs may hold personal data. Source: 'Collect diagnostic logs via the PEP' and the PEP cmdlet reference.
Locally: open a session to the endpoint with culture en-US, import it with
Import-PSSession -CommandName Get-AzureStackLog, then run this file.
#>
[CmdletBinding()]
param(
    [string]$OutputSharePath,

    [pscredential]$OutputShareCredential,

    [string]$OutputSasUri,

    [string]$OutputPath,

    [string[]]$FilterByRole,

    [string[]]$FilterByNode,

    [string[]]$FilterByLogType,

    [string[]]$FilterByResourceProvider,

    [datetime]$FromDate,

    [datetime]$ToDate,

    [ValidateRange(1, 1440)]
    [int]$TimeOutInMinutes,

    [switch]$IncludeDumpFile,

    [switch]$PerformVMLogRecovery
)

Get-AzureStackLog @PSBoundParameters
