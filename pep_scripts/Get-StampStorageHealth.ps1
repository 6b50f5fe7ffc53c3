<#
.SYNOPSIS
Shows the virtual disks of a stamp and the storage jobs that run on them.

.DESCRIPTION
Runs Get-VirtualDisk, and again with its disks handed to Get-StorageJob.

.PARAMETER CimSession
The storage cluster as the endpoint knows it.

.EXAMPLE
./Get-StampStorageHealth.ps1

.NOTES
Repairing a disk is left out on purpose: it changes the stamp.
Locally: open a session to the endpoint with culture en-US, import it with
Import-PSSession -CommandName Get-VirtualDisk,Get-StorageJob, then run this file.
#>
[CmdletBinding()]
param(
    [string]$CimSession = 'S-Cluster'
)

Get-VirtualDisk -CimSession $CimSession
Get-VirtualDisk -CimSession $CimSession | Get-StorageJob
