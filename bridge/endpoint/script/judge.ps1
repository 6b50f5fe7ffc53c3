<#
.SYNOPSIS
Says what PowerShell's own converter makes of texts.

.DESCRIPTION
Reads each file of a folder (UTF-8, in order of their names) and writes one line for each command, parameter and
error, in ASCII, and 'end' after each file. It uses .NET only, so that it runs in Windows PowerShell 5.1, in
PowerShell 7, and in a session without the Management commands.

.PARAMETER Path
The folder.

.PARAMETER Mode
convert (the default), or parse: only parse the texts.
#>
param(
    [Parameter(Mandatory)]
    [string]$Path,
    [string]$Mode = 'convert'
)

function ConvertTo-Encoded([string]$Text) {
    [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($Text))
}

function ConvertTo-Term($Value) {
    $invariant = [Globalization.CultureInfo]::InvariantCulture
    if ($null -eq $Value) { return 'n:' }
    $plain = $Value.PSObject.BaseObject
    if ($plain -is [bool]) { return 'b:' + [int]$plain }
    if ($plain -is [string]) { return 's:' + (ConvertTo-Encoded $plain) }
    if ($plain -is [datetime]) { return 't:' + $plain.ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ss', $invariant) }
    if ($plain -is [double]) { return 'd:' + $plain.ToString('R', $invariant) }
    if ($plain -is [System.Collections.IDictionary]) {
        $pairs = [string[]]@(foreach ($key in $plain.get_Keys()) { (ConvertTo-Term $key) + '>' + (ConvertTo-Term $plain.get_Item($key)) })
        [Array]::Sort($pairs, [StringComparer]::Ordinal)
        return 'h:(' + [string]::Join(' ', $pairs) + ')'
    }
    if ($plain -is [array]) {
        $items = [string[]]@(foreach ($item in $plain) { ConvertTo-Term $item })
        return 'a:(' + [string]::Join(' ', $items) + ')'
    }
    return 'o:' + (ConvertTo-Encoded $plain.GetType().FullName) + ':' + (ConvertTo-Encoded ([string]::Format($invariant, '{0}', $plain)))
}

function Write-Verdict([string]$Text, [string]$Mode) {
    $tokens = $null
    $errors = $null
    $null = [System.Management.Automation.Language.Parser]::ParseInput($Text, [ref]$tokens, [ref]$errors)
    foreach ($problem in $errors) {
        'error ' + (ConvertTo-Encoded $problem.ErrorId) + ' ' + (ConvertTo-Encoded $problem.Message)
    }
    if ($Mode -eq 'parse' -or $errors.Count -gt 0) { return }
    try {
        $block = [ScriptBlock]::Create($Text)
        $shell = $block.GetPowerShell($true)
        foreach ($command in $shell.Commands.Commands) {
            'command ' + (ConvertTo-Encoded $command.CommandText) + ' ' + [int]$command.IsEndOfStatement
            foreach ($parameter in $command.Parameters) {
                $name = 'n:'
                if ($null -ne $parameter.Name) { $name = 's:' + (ConvertTo-Encoded $parameter.Name) }
                'parameter ' + $name + ' ' + (ConvertTo-Term $parameter.Value)
            }
        }
    } catch {
        $cause = $_.Exception
        while ($null -ne $cause.InnerException) { $cause = $cause.InnerException }
        $id = $cause.GetType().Name
        if ($null -ne $cause.ErrorRecord) { $id = $cause.ErrorRecord.FullyQualifiedErrorId }
        'error ' + (ConvertTo-Encoded $id) + ' ' + (ConvertTo-Encoded $cause.Message)
    }
}

$files = [IO.Directory]::GetFiles($Path)
[Array]::Sort($files, [StringComparer]::Ordinal)
foreach ($file in $files) {
    Write-Verdict ([IO.File]::ReadAllText($file, [Text.Encoding]::UTF8)) $Mode
    'end'
}
