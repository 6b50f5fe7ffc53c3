<#
.SYNOPSIS
Shows the summary of the stamp's alerts without the portal.

.DESCRIPTION
Runs the alert summary of Test-AzureStack with detailed results.

.EXAMPLE
./Get-StampAlert.ps1

.NOTES
Source: 'Validate system state'.
Locally: open a session to the endpoint with culture en-US, import it with
Import-PSSession -CommandName Test-AzureStack, then run this file.
#>
[CmdletBinding()]
param()

Test-AzureStack -Include AzsAlertSummary -DetailedResults
