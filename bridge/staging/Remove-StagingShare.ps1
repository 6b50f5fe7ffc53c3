<#
.SYNOPSIS
Takes away what New-StagingShare.ps1 added, and nothing else.

.DESCRIPTION
Reads the notes of what was added. Files stay: the folder is removed only where the script made it and it is empty.

.PARAMETER Name
Name of the share.

.PARAMETER StateFolder
Folder with the notes of what was added.

.EXAMPLE
./Remove-StagingShare.ps1 -Name PepStaging

.NOTES
Runs in Windows PowerShell 5.1 as administrator. Removing twice is no error.
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)]
    [string]$Name,

    [string]$StateFolder = [IO.Path]::Combine([Environment]::GetFolderPath('CommonApplicationData'), 'pep-bridge')
)

$file = [IO.Path]::Combine($StateFolder, "staging-$Name.json")
$removed = @()
$kept = @()
if ([IO.File]::Exists($file)) {
    $old = [IO.File]::ReadAllText($file) | ConvertFrom-Json
    if ($old.Rule -and (Get-NetFirewallRule -Name $old.Rule -ErrorAction SilentlyContinue)) {
        $null = Remove-NetFirewallRule -Name $old.Rule
        $removed += "firewall rule $($old.Rule)"
    }
    $share = Get-SmbShare -Name $Name -ErrorAction SilentlyContinue
    if ($share -and $share.Path.TrimEnd('\') -ne $old.Path.TrimEnd('\')) {
        $kept += "share $Name, which is of another folder now"
    } elseif ($share -and $old.Share) {
        $null = Remove-SmbShare -Name $Name -Force
        $removed += "share $Name"
    } elseif ($share -and $old.ShareAccess) {
        $null = Revoke-SmbShareAccess -Name $Name -AccountName $old.Account -Force
        $removed += "access of $($old.Account) to the share"
    }
    if ([IO.Directory]::Exists($old.Path)) {
        $count = @([IO.Directory]::EnumerateFileSystemEntries($old.Path)).Count
        if ($old.FolderAccess) {
            $said = icacls.exe $old.Path /remove:g $old.Account
            if ($LASTEXITCODE) { throw "icacls: $said" }
            $removed += "access of $($old.Account) to the folder"
        }
        if ($old.Folder -and -not $count) {
            [IO.Directory]::Delete($old.Path)
            $removed += "folder $($old.Path)"
        } elseif ($old.Folder) {
            $kept += "folder $($old.Path), with what is in it"
        }
    }
    [IO.File]::Delete($file)
}
@{ Name = $Name; Removed = $removed; Kept = $kept }
