<#
.SYNOPSIS
Installs pep-bridge for the user who runs this, from this folder alone: no network, no administrator rights.
.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\install.ps1
.EXAMPLE
powershell -ExecutionPolicy Bypass -File .\install.ps1 -Folder D:\tools\pep-bridge -Python C:\Python311\python.exe
#>
[CmdletBinding()]
param(
    [string] $Folder = (Join-Path $env:LOCALAPPDATA 'pep-bridge'),
    [string] $Python
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$here = $PSScriptRoot

function Stop-Install([string] $Problem, [string] $Fix) {
    [Console]::Error.WriteLine("error: $Problem")
    [Console]::Error.WriteLine("  fix: $Fix")
    exit 1
}

# The version ("3.11") where the wheels of this kit fit that interpreter, an empty string otherwise.
function Get-FittingVersion([string[]] $Command) {
    $question = 'import platform, sys; fits = sys.version_info >= (3, 11) and sys.maxsize > 2**32; ' +
        'print(''%d.%d'' % sys.version_info[:2] if fits and platform.machine() == ''AMD64'' else '''')'
    try {
        $first, $rest = $Command
        $answer = & $first @($rest) -c $question 2>$null
        if ($LASTEXITCODE -eq 0 -and $answer) { return [string] $answer }
    } catch {
        Write-Verbose "${Command}: $_"
    }
    return ''
}

$found = $null
$candidates = if ($Python) { , @($Python) } else { @('py', '-3'), @('python'), @('python3') }
foreach ($candidate in $candidates) {
    $version = Get-FittingVersion $candidate
    if ($version) { $found = $candidate; break }
}
if (-not $found) {
    Stop-Install 'there is no 64-bit Python 3.11 or later here' 'Name one: .\install.ps1 -Python C:\path\python.exe'
}

foreach ($line in [IO.File]::ReadAllLines((Join-Path $here 'SHA256SUMS'))) {
    $sum, $name = $line -split '  ', 2
    $file = Join-Path $here $name
    if (-not (Test-Path -LiteralPath $file)) { Stop-Install "$name is missing" 'Unpack the archive again.' }
    if ((Get-FileHash -LiteralPath $file -Algorithm SHA256).Hash -ne $sum) {
        Stop-Install "$name is not what was packed" 'Copy the archive again from its source.'
    }
}

[Console]::Error.WriteLine("Installing into $Folder with $($found -join ' ') (Python $version)")
$first, $rest = $found
& $first @($rest) -m venv --clear --without-pip $Folder
if ($LASTEXITCODE) { Stop-Install "no virtual environment could be made in $Folder" 'Give a folder of yours: -Folder PATH' }

$pip = (Get-ChildItem -LiteralPath (Join-Path $here 'pip') -Filter 'pip-*.whl' | Select-Object -First 1).FullName + '/pip'
$scripts = Join-Path $Folder 'Scripts'
& (Join-Path $scripts 'python.exe') $pip install --isolated --quiet --disable-pip-version-check --no-cache-dir `
    --no-index --find-links (Join-Path $here 'wheels') --only-binary ':all:' --require-hashes `
    --requirement (Join-Path $here 'requirements.txt')
if ($LASTEXITCODE) { Stop-Install 'the packages could not be installed' 'Is this Python one of those in INSTALL.md?' }

& (Join-Path $scripts 'pep-bridge.exe') --version
[Console]::Error.WriteLine("next: & '$(Join-Path $scripts 'pep-bridge.exe')' demo")
[Console]::Error.WriteLine("to type pep-bridge alone, add $scripts to the Path of your user")
