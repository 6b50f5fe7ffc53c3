<#
.SYNOPSIS
Sends diagnostic logs from the stamp straight to the vendor.

.DESCRIPTION
Runs Send-AzureStackDiagnosticLog. The stamp must be registered and connected to the internet. Sending is consent to
the upload and to its retention by the vendor. Nothing is stored locally and no bundle is made.

.PARAMETER FilterByRole
Roles to send. All roles when omitted.

.PARAMETER FilterByResourceProvider
Value-add resource providers to send, for example SQLAdapter.

.PARAMETER FilterByNode
Computers to send logs of. Not in every version.

.PARAMETER FilterByLogType
Kinds of log to send. Not in every version.

.PARAMETER FromDate
Start of the window. Give it with its time zone; the endpoint's own default differs by version.

.PARAMETER ToDate
End of the window.

.EXAMPLE
./Send-StampLog.ps1 -FilterByRole Storage -FromDate (Get-Date).AddHours(-4) -ToDate (Get-Date)

.NOTES
Source: 'Diagnostic log collection' and the PEP cmdlet reference.
Locally: open a session to the endpoint with culture en-US, import it with
Import-PSSession -CommandName Send-AzureStackDiagnosticLog, then run this file.
#>
[CmdletBinding()]
param(
    [string[]]$FilterByRole,

    [string[]]$FilterByResourceProvider,

    [string[]]$FilterByNode,

    [string[]]$FilterByLogType,

    [datetime]$FromDate,

    [datetime]$ToDate
)

Send-AzureStackDiagnosticLog @PSBoundParameters
