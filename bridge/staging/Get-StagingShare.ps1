<#
.SYNOPSIS
Shows a prepared share: what was added for it, who may write, and how much space is left.

.DESCRIPTION
Reads the notes of New-StagingShare.ps1 and what the computer says of the share now. Changes nothing.

.PARAMETER Name
Name of the share.

.PARAMETER StateFolder
Folder with the notes of what was added.

.EXAMPLE
./Get-StagingShare.ps1 -Name PepStaging

.NOTES
Runs in Windows PowerShell 5.1 as administrator.
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)]
    [string]$Name,

    [string]$StateFolder = [IO.Path]::Combine([Environment]::GetFolderPath('CommonApplicationData'), 'pep-bridge')
)

$file = [IO.Path]::Combine($StateFolder, "staging-$Name.json")
$share = Get-SmbShare -Name $Name -ErrorAction SilentlyContinue
$found = @{ Name = $Name; IsPrepared = [IO.File]::Exists($file); IsShared = [bool]$share; Access = @(); FreeBytes = $null }
if ($found.IsPrepared) {
    $old = [IO.File]::ReadAllText($file) | ConvertFrom-Json
    foreach ($key in 'Path', 'Account', 'Folder', 'Share', 'ShareAccess', 'FolderAccess', 'Rule') { $found[$key] = $old.$key }
}
if ($share) {
    $found.Path = $share.Path
    $found.Access = @(Get-SmbShareAccess -Name $Name | ForEach-Object { "$($_.AccountName): $($_.AccessRight)" })
    $found.FreeBytes = [IO.DriveInfo]::new([IO.DirectoryInfo]::new($share.Path).Root.FullName).AvailableFreeSpace
}
$found
