# Plays the commands of a Windows host that this machine lacks; what they keep lies in the file host.txt.

$hostFile = [IO.Path]::Combine([IO.Directory]::GetCurrentDirectory(), 'host.txt')
function Read-Fact([string]$Pattern) {
    if ([IO.File]::Exists($hostFile)) { [IO.File]::ReadAllLines($hostFile) | Where-Object { $_ -like $Pattern } }
}
function Add-Fact([string]$Fact) { [IO.File]::AppendAllText($hostFile, "$Fact`n") }
function Remove-Fact([string]$Pattern) {
    $left = @([IO.File]::ReadAllLines($hostFile) | Where-Object { $_ -notlike $Pattern })
    [IO.File]::WriteAllLines($hostFile, [string[]]$left)
}
function Test-KnownAccount([string]$Account) {
    if ($Account -like '*nobody*') { throw 'No mapping between account names and security IDs was done.' }
}
function Get-SmbShare {
    [CmdletBinding()]
    param([string]$Name)
    foreach ($line in @(Read-Fact "share|$Name|*")) { [pscustomobject]@{ Name = $Name; Path = $line.Split('|')[2] } }
}
function New-SmbShare {
    [CmdletBinding()]
    param([string]$Name, [string]$Path, [string]$ChangeAccess, [string]$Description)
    Test-KnownAccount $ChangeAccess
    if (-not [IO.Directory]::Exists($Path)) { throw 'The device or directory does not exist.' }
    Add-Fact "share|$Name|$Path"
    Add-Fact "access|$Name|$ChangeAccess|Change"
}
function Remove-SmbShare {
    [CmdletBinding()]
    param([string]$Name, [switch]$Force)
    Remove-Fact "share|$Name|*"
    Remove-Fact "access|$Name|*"
}
function Get-SmbShareAccess {
    [CmdletBinding()]
    param([string]$Name)
    foreach ($line in @(Read-Fact "access|$Name|*")) {
        $parts = $line.Split('|')
        [pscustomobject]@{ AccountName = $parts[2]; AccessRight = $parts[3] }
    }
}
function Grant-SmbShareAccess {
    [CmdletBinding()]
    param([string]$Name, [string]$AccountName, [string]$AccessRight, [switch]$Force)
    Test-KnownAccount $AccountName
    Add-Fact "access|$Name|$AccountName|$AccessRight"
}
function Revoke-SmbShareAccess {
    [CmdletBinding()]
    param([string]$Name, [string]$AccountName, [switch]$Force)
    Remove-Fact "access|$Name|$AccountName|*"
}
function Get-Acl {
    [CmdletBinding()]
    param([string]$LiteralPath)
    $rules = foreach ($line in @(Read-Fact "acl|$LiteralPath|*")) {
        [pscustomobject]@{ IdentityReference = $line.Split('|')[2]; IsInherited = $false }
    }
    $inherited = [pscustomobject]@{ IdentityReference = 'CONTOSO\writer'; IsInherited = $true }
    [pscustomobject]@{ Access = @($rules) + $inherited }
}
function icacls.exe {
    $path, $verb, $who = $args
    $global:LASTEXITCODE = 0
    if ($verb -eq '/grant') { Add-Fact "acl|$path|$($who.Split(':')[0])" } else { Remove-Fact "acl|$path|$who" }
}
function Get-NetFirewallRule {
    [CmdletBinding()]
    param([string]$Name)
    Read-Fact "rule|$Name|*"
}
function New-NetFirewallRule {
    [CmdletBinding()]
    param([string]$Name, [string]$DisplayName, [string]$Direction, [string]$Protocol, [int]$LocalPort, [string]$Action, [string[]]$RemoteAddress)
    Add-Fact "rule|$Name|$Direction $Protocol $LocalPort $Action $($RemoteAddress -join ',')"
}
function Remove-NetFirewallRule {
    [CmdletBinding()]
    param([string]$Name)
    Remove-Fact "rule|$Name|*"
}
