<#
.SYNOPSIS
Shows what the stamp says of itself: addresses, domain, version, identifiers.

.DESCRIPTION
Runs Get-AzureStackStampInformation. Support asks for the CloudID of its answer.

.EXAMPLE
./Get-StampInformation.ps1

.NOTES
The command starts an action plan on the stamp and can take minutes.
Locally: open a session to the endpoint with culture en-US, import it with
Import-PSSession -CommandName Get-AzureStackStampInformation, then run this file.
#>
[CmdletBinding()]
param()

Get-AzureStackStampInformation
