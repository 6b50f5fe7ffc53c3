<#
.SYNOPSIS
Runs a simulated command's work in the simulator's process, and writes what it says with this command's own streams.

.DESCRIPTION
Every command of a generated session configuration runs this text. It hands over what PowerShell has bound, and turns
each message that comes back into a record. It uses .NET instead of the Management commands, which a session may lack.

.PARAMETER Cmdlet
The running command.

.PARAMETER Bound
Its parameters as they were bound, common ones included.
#>
param($Cmdlet, $Bound)

if (-not $Bound.ContainsKey('Verbose')) { $VerbosePreference = 'Continue' }
$DebugPreference = 'Continue'

$restore = {
    # An object that came through CLIXML says so in its type names; a command's own output does not.
    param($value)
    $names = $value.PSObject.TypeNames
    for ($index = 0; $index -lt $names.Count; $index++) {
        if ($names[$index].StartsWith('Deserialized.')) { $names[$index] = $names[$index].Substring(13) }
    }
    if ($value -is [Collections.IList]) { $items = $value }
    elseif ($value -is [Collections.IDictionary]) { $items = $value.get_Values() }
    else { $items = foreach ($property in $value.PSObject.Properties) { , $property.Value } }
    foreach ($item in $items) {
        if ($null -ne $item -and $item -isnot [string] -and $item -isnot [ValueType]) { & $restore $item }
    }
}

$newRecord = {
    param($said)
    $type = $said['exception'] -as [type]
    if ($null -eq $type -or $null -eq $type.GetConstructor([type[]]@([string]))) {
        $type = [Management.Automation.RuntimeException]  # this platform, or this edition, does not have it
    }
    $exception = [Activator]::CreateInstance($type, [object[]]@([string]$said['message']))
    $category = [Management.Automation.ErrorCategory]$said['category']
    $record = [Management.Automation.ErrorRecord]::new($exception, $said['id'], $category, $said['target'])
    if ($type.Name -eq 'WriteErrorException') { $record.CategoryInfo.Activity = 'Write-Error' }
    $record
}

$newProgress = {
    param($said)
    $record = [Management.Automation.ProgressRecord]::new($said['activity_id'], $said['activity'], $said['status'])
    $record.PercentComplete = $said['percent']
    $record.ParentActivityId = $said['parent_id']
    $record.SecondsRemaining = $said['seconds_remaining']
    if ($null -ne $said['operation']) { $record.CurrentOperation = $said['operation'] }
    if ($said['completed']) { $record.RecordType = [Management.Automation.ProgressRecordType]::Completed }
    $record
}

$call = @{ command = $Cmdlet.MyInvocation.MyCommand.Name; arguments = @{}; credentials = @{}; secrets = @{} }
foreach ($name in $Bound.get_Keys()) {
    $value = $Bound[$name]
    if ($value -is [switch]) { $call['arguments'][$name] = [bool]$value }
    elseif ($value -is [pscredential]) {
        $call['credentials'][$name] = @($value.UserName, [Net.NetworkCredential]::new('', $value.Password).Password)
    }
    elseif ($value -is [securestring]) { $call['secrets'][$name] = [Net.NetworkCredential]::new('', $value).Password }
    else { $call['arguments'][$name] = $value }
}

$utf8 = [Text.UTF8Encoding]::new($false)
$channel = [IO.File]::ReadAllLines([Environment]::GetEnvironmentVariable('PEP_BRIDGE_CHANNEL'))
$client = [Net.Sockets.TcpClient]::new()
try {
    $client.Connect([Net.IPAddress]::Loopback, [int]$channel[0])
    $client.NoDelay = $true
    $stream = $client.GetStream()
    $reader = [IO.StreamReader]::new($stream, $utf8)
    $writer = [IO.StreamWriter]::new($stream, $utf8)
    $writer.AutoFlush = $true
    $writer.NewLine = "`n"
    $writer.WriteLine($channel[1])
    $stream.ReadTimeout = 30000
    # Whoever else listens there now gets no password.
    if ($reader.ReadLine() -cne $channel[2]) { throw 'The simulator does not listen any more.' }
    $xml = [Management.Automation.PSSerializer]::Serialize($call, 4)
    $writer.WriteLine([Convert]::ToBase64String($utf8.GetBytes($xml)))
    $running = $true
    while ($running) {
        $reading = $reader.ReadLineAsync()
        while (-not $reading.Wait(100)) { }  # between two waits a stop is noticed
        if ($null -eq $reading.Result) { throw 'The simulator ended in the middle of the command.' }
        $xml = $utf8.GetString([Convert]::FromBase64String($reading.Result))
        $said = [Management.Automation.PSSerializer]::Deserialize($xml)
        switch -Exact ($said['kind']) {
            'output' {
                $value = $said['value']
                if ($null -ne $value -and $value -isnot [string] -and $value -isnot [ValueType]) { & $restore $value }
                $Cmdlet.WriteObject($value, $false)
            }
            'progress' { $Cmdlet.WriteProgress((& $newProgress $said)) }
            'warning' { $Cmdlet.WriteWarning($said['message']) }
            'verbose' { $Cmdlet.WriteVerbose($said['message']) }
            'debug' { $Cmdlet.WriteDebug($said['message']) }
            'host' { Write-Host -Object $said['message'] }
            'information' { Write-Information -MessageData $said['message'] -Tags ([string[]]@($said['tags'])) }
            'error' { $Cmdlet.WriteError((& $newRecord $said)) }
            'fail' { $Cmdlet.ThrowTerminatingError((& $newRecord $said)) }
            'throw' { throw [string]$said['message'] }
            'end' { $running = $false }
        }
    }
}
finally {
    $client.Dispose()
}
