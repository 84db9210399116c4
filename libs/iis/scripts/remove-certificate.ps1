# { thumbprint, storeName } -> { result: removed|absent|in use, usedBy: [ text ] }
# Whoever uses it out of another store counts too: both may have the same key.

function Find-Users($thumbprint, $users) {
    Import-Mwa
    $manager = [Microsoft.Web.Administration.ServerManager]::new()
    try {
        foreach ($site in $manager.Sites) {
            foreach ($binding in $site.Bindings) {
                $read = Read-Binding $binding
                if ($read.thumbprint -eq $thumbprint) { $users.Add("$($read.protocol) $($read.bindingInformation) of site $($site.Id)") }
            }
            $ftp = Get-FtpCertificate $site
            if ($ftp -eq $thumbprint) { $users.Add("ftp of site $($site.Id)") }
        }
        if ((Get-FtpCertificate $manager.SiteDefaults) -eq $thumbprint) { $users.Add('ftp of the site defaults') }
    } finally { $manager.Dispose() }

    # Other programs have records too, which IIS does not list. The labels are in the host's language: whatever has our hash is ours.
    $run = Invoke-SystemProgram 'netsh.exe' 'http show sslcert'
    if ($run.exitCode -ne 0 -and $run.output -notmatch '[0-9a-fA-F]{40}') { $users.Add("unknown: netsh does not list the certificates of http.sys: $($run.output)") }
    $record = ''
    foreach ($line in $run.output -split '\r?\n') {
        if ($line -match '\s:\s+(\S+:\d+)\s*$') { $record = $Matches[1] }
        if ($line -match "(^|[^0-9a-fA-F])$thumbprint([^0-9a-fA-F]|$)") { $users.Add("http.sys $record".Trim()) }
    }
}

# IIS without ftp has no such part
function Get-FtpCertificate($element) {
    try { $ftp = Read-Ftp $element } catch { return '' }
    if ($null -eq $ftp) { return '' }
    return $ftp.thumbprint
}

function Remove-Key($certificate) {
    $key = Get-PrivateKey $certificate
    if ($null -eq $key) { return }
    if ($key -is [System.Security.Cryptography.RSACryptoServiceProvider]) {
        $key.PersistKeyInCsp = $false
        $key.Clear()
    } else { $key.Key.Delete() }
}

Invoke-Main {
    $thumbprint = ([string]$request.thumbprint).ToUpperInvariant()
    if ($thumbprint -notmatch '^[0-9A-F]{40}$') { throw [System.ArgumentException]::new('the thumbprint is not 40 hexadecimal digits') }
    $store = Open-Store ([string]$request.storeName) 'ReadWrite'
    try {
        $certificate = Find-Certificate $store $thumbprint
        if ($null -eq $certificate) { return @{ result = 'absent'; usedBy = @() } }
        $users = [System.Collections.Generic.List[string]]::new()
        Find-Users $thumbprint $users
        if ($users.Count -gt 0) { return @{ result = 'in use'; usedBy = $users.ToArray() } }
        # first the certificate: without it nothing can begin to use the key
        $store.Remove($certificate)
        try { Remove-Key $certificate } catch { $null = $_ }
        return @{ result = 'removed'; usedBy = @() }
    } finally { $store.Close() }
}
