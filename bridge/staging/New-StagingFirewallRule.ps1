<#
.SYNOPSIS
Lets given addresses reach SMB on this computer.

.DESCRIPTION
Makes one inbound rule for TCP 445, and notes it for Remove-StagingShare.ps1. A rule of that name that is there already
stays as it is.

.PARAMETER Name
Name of the share, which New-StagingShare.ps1 has prepared.

.PARAMETER Address
Addresses that may reach SMB.

.PARAMETER StateFolder
Folder for the notes of what was added.

.EXAMPLE
./New-StagingFirewallRule.ps1 -Name PepStaging -Address 192.0.2.224,192.0.2.225,192.0.2.226

.NOTES
Runs in Windows PowerShell 5.1 as administrator.
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)]
    [string]$Name,

    [Parameter(Mandatory)]
    [string[]]$Address,

    [string]$StateFolder = [IO.Path]::Combine([Environment]::GetFolderPath('CommonApplicationData'), 'pep-bridge')
)

$file = [IO.Path]::Combine($StateFolder, "staging-$Name.json")
$rule = "pep-bridge-$Name"
$done = [IO.File]::ReadAllText($file) | ConvertFrom-Json
if (-not (Get-NetFirewallRule -Name $rule -ErrorAction SilentlyContinue)) {
    $done.Rule = $rule
    [IO.File]::WriteAllText($file, ($done | ConvertTo-Json -Compress))
    $null = New-NetFirewallRule -Name $rule -DisplayName $rule -Direction Inbound -Protocol TCP -LocalPort 445 -Action Allow -RemoteAddress $Address
}
@{ Rule = $done.Rule }
