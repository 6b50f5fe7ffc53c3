<#
.SYNOPSIS
Ends a session properly and copies its transcripts to a share.

.DESCRIPTION
Runs Close-PrivilegedEndpoint. The endpoint copies the transcripts of this and of earlier unclosed sessions to the share
and deletes its own copies. They are the audit trail: keep them apart from what goes to support.

.PARAMETER TranscriptsPathDestination
UNC path of the share that the transcripts are copied to.

.PARAMETER Credential
Account that may write to the share.

.EXAMPLE
./Close-PepSession.ps1 -TranscriptsPathDestination '\\192.0.2.10\audit' -Credential (Get-Credential)

.NOTES
Source: 'Use the privileged endpoint'.
Locally: open a session to the endpoint with culture en-US, import it with
Import-PSSession -CommandName Close-PrivilegedEndpoint, then run this file.
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)]
    [string]$TranscriptsPathDestination,

    [Parameter(Mandatory)]
    [pscredential]$Credential
)

Close-PrivilegedEndpoint @PSBoundParameters
