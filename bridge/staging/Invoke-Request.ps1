<#
.SYNOPSIS
Runs one of the scripts beside it with parameters that arrive as data, and answers with data.

.DESCRIPTION
The parameters are Base64 of JSON: no value is ever read as code. The answer is one line, Base64 of JSON, so that no
code page and no line width can change it.

.NOTES
The two words in capital letters are replaced before it is sent.
#>
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$text = [Text.Encoding]::UTF8
$given = @{}
($text.GetString([Convert]::FromBase64String('REQUEST')) | ConvertFrom-Json).PSObject.Properties | ForEach-Object { $given[$_.Name] = $_.Value }
try {
    $answer = @{ Result = & {
SCRIPT
    } @given }
} catch {
    $answer = @{ Error = "$_"; Id = $_.FullyQualifiedErrorId }
}
[Console]::Out.WriteLine('ANSWER ' + [Convert]::ToBase64String($text.GetBytes(($answer | ConvertTo-Json -Depth 4 -Compress))))
