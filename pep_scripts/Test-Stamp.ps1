<#
.SYNOPSIS
Validates the state of a stamp.

.DESCRIPTION
Runs Test-AzureStack. Collect logs when a test fails; when it only warns, contact support and do not collect.

.PARAMETER Group
Group of tests: Default, UpdateReadiness or SecretRotationReadiness. Other versions know others.

.PARAMETER Include
Categories to test, for example AzsAlertSummary.

.PARAMETER Ignore
Categories to leave out.

.PARAMETER DetailedResults
Return each test's result instead of one answer.

.PARAMETER List
List the categories and test nothing.

.PARAMETER TimeoutSeconds
Seconds that each group may take.

.EXAMPLE
./Test-Stamp.ps1 -Group UpdateReadiness

.EXAMPLE
pep-bridge run Test-Stamp east -p Include=AzsInfraCapacity,AzsInfraPerformance -p DetailedResults

.NOTES
-Repair is left out on purpose: it changes the stamp. Source: 'Validate system state'.
Locally: open a session to the endpoint with culture en-US, import it with
Import-PSSession -CommandName Test-AzureStack, then run this file.
#>
[CmdletBinding()]
param(
    [string]$Group,

    [string[]]$Include,

    [string[]]$Ignore,

    [switch]$DetailedResults,

    [switch]$List,

    [ValidateRange(1, 86400)]
    [int]$TimeoutSeconds
)

Test-AzureStack @PSBoundParameters
