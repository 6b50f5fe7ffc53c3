<#
.SYNOPSIS
Creates the log of the failover cluster.

.DESCRIPTION
Runs Get-ClusterLog. How its files leave the endpoint is not documented: an ordinary collection of the role Storage
holds the cluster's event logs.

.PARAMETER Node
Nodes to create the log for. All nodes when omitted.

.PARAMETER Destination
Folder that the logs are written to.

.PARAMETER TimeSpan
Minutes that the log covers, back from now.

.PARAMETER UseLocalTime
Write local time instead of GMT.

.PARAMETER Health
Create the log of the health service.

.EXAMPLE
./Get-StampClusterLog.ps1 -TimeSpan 60 -UseLocalTime

.NOTES
Source: the PEP cmdlet reference.
Locally: open a session to the endpoint with culture en-US, import it with
Import-PSSession -CommandName Get-ClusterLog, then run this file.
#>
[CmdletBinding()]
param(
    [string[]]$Node,

    [string]$Destination,

    [ValidateRange(1, 100000)]
    [int]$TimeSpan,

    [switch]$UseLocalTime,

    [switch]$Health
)

Get-ClusterLog @PSBoundParameters
