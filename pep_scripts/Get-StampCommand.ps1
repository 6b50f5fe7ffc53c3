<#
.SYNOPSIS
Shows the commands that the endpoint offers.

.DESCRIPTION
Runs Get-Command. What the endpoint offers differs by version.

.PARAMETER Name
Names or patterns of commands, for example Get-AzureStack*. All commands when omitted.

.EXAMPLE
./Get-StampCommand.ps1 -Name Get-AzureStack*

.EXAMPLE
pep-bridge run Get-StampCommand east

.NOTES
Locally it shows the commands of the local session, those imported from the endpoint among them.
#>
[CmdletBinding()]
param(
    [string[]]$Name
)

Get-Command @PSBoundParameters
