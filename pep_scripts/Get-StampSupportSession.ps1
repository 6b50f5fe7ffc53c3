<#
.SYNOPSIS
Shows the state of the support session of the endpoint.

.DESCRIPTION
Runs Get-SupportSessionInfo. It unlocks nothing.

.EXAMPLE
./Get-StampSupportSession.ps1

.NOTES
Source: the PEP cmdlet reference.
Locally: open a session to the endpoint with culture en-US, import it with
Import-PSSession -CommandName Get-SupportSessionInfo, then run this file.
#>
[CmdletBinding()]
param()

Get-SupportSessionInfo
