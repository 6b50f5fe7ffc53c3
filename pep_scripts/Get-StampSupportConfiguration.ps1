<#
.SYNOPSIS
Shows the registration and support configuration of a stamp.

.DESCRIPTION
Runs Get-AzureStackSupportConfiguration. It returns nothing when the stamp is not registered.

.PARAMETER IncludeRegistrationObjectId
Also show the registration object, for which the stamp needs the internet.

.EXAMPLE
./Get-StampSupportConfiguration.ps1 -IncludeRegistrationObjectId

.NOTES
Source: the PEP cmdlet reference.
Locally: open a session to the endpoint with culture en-US, import it with
Import-PSSession -CommandName Get-AzureStackSupportConfiguration, then run this file.
#>
[CmdletBinding()]
param(
    [switch]$IncludeRegistrationObjectId
)

Get-AzureStackSupportConfiguration @PSBoundParameters
