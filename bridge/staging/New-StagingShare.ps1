<#
.SYNOPSIS
Prepares a share that a stamp can write its logs to.

.DESCRIPTION
Makes a folder, shares it, and lets one account change what is in it: on the share and in the folder. What is there
already stays as it is. Before each step the script notes what it is about to add, so that Remove-StagingShare.ps1
takes away exactly that.

.PARAMETER Name
Name of the share.

.PARAMETER Path
Folder on a disk of this computer.

.PARAMETER Account
Account that writes to the share. It exists already; its password is not needed.

.PARAMETER StateFolder
Folder for the notes of what was added.

.EXAMPLE
./New-StagingShare.ps1 -Name PepStaging -Path D:\Staging -Account CONTOSO\writer

.NOTES
Runs in Windows PowerShell 5.1 as administrator. Files are reached through .NET only.
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)]
    [string]$Name,

    [Parameter(Mandatory)]
    [string]$Path,

    [Parameter(Mandatory)]
    [string]$Account,

    [string]$StateFolder = [IO.Path]::Combine([Environment]::GetFolderPath('CommonApplicationData'), 'pep-bridge')
)

$file = [IO.Path]::Combine($StateFolder, "staging-$Name.json")
$done = @{ Name = $Name; Path = $Path; Account = $Account; Folder = $false; Share = $false; ShareAccess = $false; FolderAccess = $false; Rule = '' }
if ([IO.File]::Exists($file)) {
    $old = [IO.File]::ReadAllText($file) | ConvertFrom-Json
    if ($old.Path -ne $Path -or $old.Account -ne $Account) {
        throw "The share $Name was prepared for the folder $($old.Path) and the account $($old.Account): remove it first."
    }
    foreach ($key in 'Folder', 'Share', 'ShareAccess', 'FolderAccess', 'Rule') { $done[$key] = $old.$key }
}
$share = Get-SmbShare -Name $Name -ErrorAction SilentlyContinue
if ($share -and $share.Path.TrimEnd('\') -ne $Path.TrimEnd('\')) {
    throw "There is a share $Name already, of the folder $($share.Path)."
}
function Save-Step([string]$Key, $Value) {
    $done[$Key] = $Value
    $null = [IO.Directory]::CreateDirectory($StateFolder)
    [IO.File]::WriteAllText($file, ($done | ConvertTo-Json -Compress))
}
if (-not [IO.Directory]::Exists($Path)) {
    Save-Step Folder $true
    $null = [IO.Directory]::CreateDirectory($Path)
}
if (-not $share) {
    Save-Step Share $true
    $null = New-SmbShare -Name $Name -Path $Path -ChangeAccess $Account -Description 'Staging for logs (pep-bridge)'
}
$leaf = '*\' + $Account.Split('\')[-1]
$isOurs = { param($found) $found -eq $Account -or ($Account -notlike '*\*' -and $found -like $leaf) }
if (-not @(Get-SmbShareAccess -Name $Name | Where-Object { & $isOurs $_.AccountName }).Count) {
    Save-Step ShareAccess $true
    $null = Grant-SmbShareAccess -Name $Name -AccountName $Account -AccessRight Change -Force
}
$rules = (Get-Acl -LiteralPath $Path).Access
if (-not @($rules | Where-Object { -not $_.IsInherited -and (& $isOurs "$($_.IdentityReference)") }).Count) {
    Save-Step FolderAccess $true
    $said = icacls.exe $Path /grant "${Account}:(OI)(CI)M"
    if ($LASTEXITCODE) { throw "icacls: $said" }
}
Save-Step Name $Name
$done.FreeBytes = [IO.DriveInfo]::new([IO.DirectoryInfo]::new($Path).Root.FullName).AvailableFreeSpace
$done
