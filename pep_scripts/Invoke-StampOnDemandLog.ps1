<#
.SYNOPSIS
Generates on-demand logs (OEM, NC, SLB, Gateway) and collects them.

.DESCRIPTION
Runs Invoke-AzureStackOnDemandLog, which writes logs that an ordinary collection does not hold, and then
Get-AzureStackLog to a share. Use it only when support asks for it.

.PARAMETER FilterByRole
Roles to generate logs for.

.PARAMETER OutputSharePath
UNC path of the share that the logs are written to.

.PARAMETER OutputShareCredential
Account that may write to the share.

.PARAMETER FromDate
Start of the window. Give it with its time zone.

.PARAMETER ToDate
End of the window.

.PARAMETER CollectRole
Roles to collect afterwards. The roles that were generated when omitted.

.PARAMETER GenerateTimeOutInMinutes
Minutes that generating may take.

.PARAMETER CollectTimeOutInMinutes
Minutes that collecting may take.

.EXAMPLE
./Invoke-StampOnDemandLog.ps1 -FilterByRole SLB,Gateway -OutputSharePath '\\192.0.2.10\logs' -OutputShareCredential (Get-Credential) -FromDate (Get-Date).AddHours(-4) -ToDate (Get-Date)

.NOTES
The published example generates for one role and collects another; -CollectRole allows the same.
Locally: open a session to the endpoint with culture en-US, import it with
Import-PSSession -CommandName Invoke-AzureStackOnDemandLog,Get-AzureStackLog, then run this file.
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory)]
    [ValidateSet('OEM', 'NC', 'SLB', 'Gateway')]
    [string[]]$FilterByRole,

    [Parameter(Mandatory)]
    [string]$OutputSharePath,

    [Parameter(Mandatory)]
    [pscredential]$OutputShareCredential,

    [Parameter(Mandatory)]
    [datetime]$FromDate,

    [Parameter(Mandatory)]
    [datetime]$ToDate,

    [string[]]$CollectRole = $FilterByRole,

    [ValidateRange(1, 1440)]
    [int]$GenerateTimeOutInMinutes = 30,

    [ValidateRange(1, 1440)]
    [int]$CollectTimeOutInMinutes = 240
)

Invoke-AzureStackOnDemandLog -Generate -FilterByRole $FilterByRole -TimeOutInMinutes $GenerateTimeOutInMinutes
Get-AzureStackLog -OutputSharePath $OutputSharePath -OutputShareCredential $OutputShareCredential -FilterByRole $CollectRole -FromDate $FromDate -ToDate $ToDate -TimeOutInMinutes $CollectTimeOutInMinutes
