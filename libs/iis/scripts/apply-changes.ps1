# { changes: [ { op: add|update|remove, siteId, protocol: https|ftp, bindingInformation, sslFlags, thumbprint, store,
#                expect: { thumbprint, sslFlags } | null } ], attempts, delayMs } -> { attempts, readBack: [ binding | null ] }
# All changes in one commit, or none. protocol ftp is the certificate of the site's ftp bindings; it has no information and no flags.

function Show-Hash($thumbprint) { if ($thumbprint) { return [string]$thumbprint } else { return 'no certificate' } }

# What the request is about, as it is now; null when it is not there.
function Read-Place($sites, $change) {
    $site = Find-Site $sites $change.siteId
    $read = $null
    if ($change.protocol -eq 'ftp') {
        $ftp = Read-Ftp $site
        if ($null -ne $ftp) { $read = [ordered]@{ protocol = 'ftp'; bindingInformation = ''; sslFlags = 0; thumbprint = $ftp.thumbprint; store = $ftp.store } }
    } else {
        $binding = Find-Binding $site $change.protocol $change.bindingInformation
        if ($null -ne $binding) { $read = Read-Binding $binding }
    }
    if ($null -eq $read) { return $null }
    $place = [ordered]@{ siteId = [long]$change.siteId }
    foreach ($key in $read.Keys) { $place[$key] = $read[$key] }
    return $place
}

function Assert-Expected($sites, $change) {
    $what = "$($change.protocol) $($change.bindingInformation) of site $($change.siteId)"
    $is = Read-Place $sites $change
    $expect = Get-Field $change 'expect' $null
    if ($null -eq $expect) {
        if ($null -ne $is) { Stop-Precondition "$what is there already, with $(Show-Hash $is.thumbprint)" }
        return
    }
    $thumbprint = [string](Get-Field $expect 'thumbprint' '')
    if ($null -eq $is) {
        # a site's ftp part without a certificate is nothing that could be gone
        if ($change.protocol -eq 'ftp' -and $thumbprint -eq '') { return }
        Stop-Precondition "$what is gone"
    }
    if (-not (Test-Same $is.thumbprint $thumbprint)) { Stop-Precondition "$what has $(Show-Hash $is.thumbprint) and not $(Show-Hash $thumbprint)" }
    if ($is.sslFlags -ne [int]$expect.sslFlags) { Stop-Precondition "$what has sslFlags $($is.sslFlags) and not $([int]$expect.sslFlags)" }
}

function Set-Ftp($site, $change) {
    $ssl = Get-FtpSsl $site
    $hash = [string](Get-Field $change 'thumbprint' '')
    $ssl.SetAttributeValue('serverCertHash', $hash)
    if ($hash -ne '') { $ssl.SetAttributeValue('serverCertStoreName', [string]$change.store) }
}

# The record of http.sys that a binding takes its certificate from; null when there is none.
function Get-SslRecord($binding) {
    $information = [string]$binding.BindingInformation
    $hostColon = $information.LastIndexOf(':')
    if ($hostColon -lt 1 -or -not (Test-Same $binding.Protocol 'https')) { return $null }
    $portColon = $information.LastIndexOf(':', $hostColon - 1)
    if ($portColon -lt 0) { return $null }
    $flags = Get-SslFlags $binding
    if (($flags -band 2) -ne 0) { return $null }
    $port = $information.Substring($portColon + 1, $hostColon - $portColon - 1)
    $name = $information.Substring($hostColon + 1).ToLowerInvariant()
    if (($flags -band 1) -ne 0 -and $name.Length -gt 0) { return "${name}:$port" }
    $ip = $information.Substring(0, $portColon).ToLowerInvariant()
    if ($ip -cmatch '^(|\*|::|\[::\])\z') { $ip = '0.0.0.0' }
    return "${ip}:$port"
}

# How many bindings take their certificate from each record.
function Get-RecordUses($sites) {
    $uses = [System.Collections.Generic.Dictionary[string, int]]::new([System.StringComparer]::OrdinalIgnoreCase)
    foreach ($site in $sites.Values) {
        foreach ($binding in $site.Bindings) { Add-RecordUse $uses (Get-SslRecord $binding) 1 }
    }
    return $uses
}

function Add-RecordUse($uses, $record, [int]$more) {
    if ($null -eq $record) { return }
    $count = 0
    $null = $uses.TryGetValue($record, [ref]$count)
    $uses[$record] = $count + $more
}

# A record that is left behind would go on answering for its host, before any other. One that others use must stay: Remove takes it
# along unless told that only the configuration is meant.
function Remove-Binding($uses, $site, $old, $newRecord) {
    $record = Get-SslRecord $old
    Add-RecordUse $uses $record (-1)
    $site.Bindings.Remove($old, ($null -eq $record -or $uses[$record] -gt 0 -or (Test-Same $newRecord $record)))
}

function Set-Binding($uses, $site, $change) {
    $old = Find-Binding $site $change.protocol $change.bindingInformation
    if ($change.op -eq 'remove') {
        Remove-Binding $uses $site $old $null
        return
    }
    # A new element instead of the old one: a hash that is written into a binding in place does not always reach http.sys.
    $new = $site.Bindings.CreateElement('binding')
    $new.Protocol = [string]$change.protocol
    $new.BindingInformation = [string]$change.bindingInformation
    if ($null -ne $old -and $change.op -eq 'update') {
        foreach ($attribute in $old.Attributes) {
            if (@('protocol', 'bindingInformation', 'sslFlags', 'certificateHash', 'certificateStoreName') -contains $attribute.Name) { continue }
            if (-not $attribute.IsInheritedFromDefaultValue) { $new.SetAttributeValue($attribute.Name, $attribute.Value) }
        }
    }
    # by the attribute: the enumeration of .SslFlags has two of the bits; and not at all on IIS 7, which does not know it
    if ([int]$change.sslFlags -ne 0) { $new.SetAttributeValue('sslFlags', [uint32]$change.sslFlags) }
    $thumbprint = [string](Get-Field $change 'thumbprint' '')
    $newRecord = $null
    if ($thumbprint -ne '') {
        $newRecord = Get-SslRecord $new
        $new.CertificateStoreName = [string]$change.store
        $new.CertificateHash = [byte[]](ConvertFrom-Hex $thumbprint)
    }
    if ($null -ne $old -and $change.op -eq 'update') { Remove-Binding $uses $site $old $newRecord }
    $null = $site.Bindings.Add($new)
    Add-RecordUse $uses (Get-SslRecord $new) 1
}

# Somebody else was writing at the same time. A missing right is told in the same words, and stays missing.
function Test-Race($exception) {
    if ($exception -is [System.IO.FileLoadException]) { return $true }
    return $exception.HResult -ne 0x80070005 -and $exception.Message -match 'changed on disk|cannot write configuration file'
}

Invoke-Main {
    Import-Mwa
    $changes = @(Get-Field $request 'changes' @())
    $attempts = [int](Get-Field $request 'attempts' 3)
    $delayMs = [int](Get-Field $request 'delayMs' 2000)
    $tries = 0
    $done = $false
    while (-not $done) {
        $tries++
        # a new one each time: one that has failed keeps failing
        $manager = [Microsoft.Web.Administration.ServerManager]::new()
        try {
            $sites = Get-SiteTable $manager
            foreach ($change in $changes) { Assert-Expected $sites $change }
            $uses = Get-RecordUses $sites
            foreach ($change in $changes) {
                $site = Find-Site $sites $change.siteId
                if ($change.protocol -eq 'ftp') { Set-Ftp $site $change } else { Set-Binding $uses $site $change }
            }
            if ($changes.Length -gt 0) { $manager.CommitChanges() }
            $done = $true
        } catch {
            if ($tries -ge $attempts -or -not (Test-Race (Get-RootException $_))) { throw }
        } finally { $manager.Dispose() }
        if (-not $done) { Start-Sleep -Milliseconds ($delayMs * $tries) }
    }

    $readBack = [System.Collections.Generic.List[object]]::new()
    $manager = [Microsoft.Web.Administration.ServerManager]::new()
    try {
        $sites = Get-SiteTable $manager
        foreach ($change in $changes) { $readBack.Add((Read-Place $sites $change)) }
    } finally { $manager.Dispose() }
    return @{ attempts = $tries; readBack = $readBack.ToArray() }
}
