# { pfx: base64, password, thumbprint, storeName, friendlyName, exportable, readers: [ SID or account ] } -> { alreadyPresent, notes }
# The certificate with its key goes into the store, the intermediate certificates of the PFX into CA, never a root.

# Where Windows keeps the key; a name is in one of these folders only.
function Find-KeyFile($key) {
    if ($key -is [System.Security.Cryptography.RSACryptoServiceProvider]) { $name = $key.CspKeyContainerInfo.UniqueKeyContainerName }
    else { $name = $key.Key.UniqueName }
    foreach ($folder in @('Keys', 'RSA\MachineKeys', 'SystemKeys')) {
        $file = [System.IO.Path]::Combine([string][Environment]::GetEnvironmentVariable('ProgramData'), 'Microsoft', 'Crypto', $folder)
        $file = [System.IO.Path]::Combine($file, [string]$name)
        if ([System.IO.File]::Exists($file)) { return $file }
    }
    throw [System.InvalidOperationException]::new("the file of the private key ($name) is not below %ProgramData%\Microsoft\Crypto")
}

# icacls and not .NET: the two PowerShells have different ways to the rights of a file.
function Grant-Read($key, $readers) {
    if ($readers.Length -eq 0) { return }
    try { $file = Find-KeyFile $key } catch { throw [System.InvalidOperationException]::new("readers of the private key were not set: $((Get-RootException $_).Message)") }
    foreach ($reader in $readers) {
        if ($reader -match '["\x00-\x1f:]' -or $reader.Trim() -eq '') { throw [System.InvalidOperationException]::new("readers of the private key were not set: '$reader' is no account") }
        $who = $reader
        if ($reader -match '^S-1-[0-9-]+$') { $who = "*$reader" }
        $run = Invoke-SystemProgram 'icacls.exe' "`"$file`" /grant `"${who}:R`""
        if ($run.exitCode -ne 0) { throw [System.InvalidOperationException]::new("$reader was not made a reader of the private key: icacls says $($run.output)") }
    }
}

function Import-Chain($certificates, $notes) {
    try { $store = Open-Store 'CA' 'ReadWrite' } catch { $notes.Add('intermediate certificates not stored: ' + (Get-RootException $_).Message); return }
    try {
        foreach ($certificate in $certificates) {
            if ($certificate.Subject -eq $certificate.Issuer) { continue }
            if ($null -eq (Find-Certificate $store $certificate.Thumbprint)) { $store.Add($certificate) }
        }
    } catch { $notes.Add('intermediate certificates not stored: ' + (Get-RootException $_).Message) } finally { $store.Close() }
}

Invoke-Main {
    $notes = [System.Collections.Generic.List[string]]::new()
    $thumbprint = [string]$request.thumbprint
    $storeName = [string]$request.storeName
    $readers = @(Get-Field $request 'readers' @())
    $store = Open-Store $storeName 'ReadWrite'
    try {
        # importing again would leave the first key's file behind, without an owner
        $present = Find-Certificate $store $thumbprint
        if ($null -ne $present) {
            $key = Get-PrivateKey $present
            if ($null -ne $key) {
                Grant-Read $key $readers
                return @{ alreadyPresent = $true; notes = $notes.ToArray() }
            }
        }
        # PersistKeySet: without it .NET deletes the key when the object goes
        $flags = [System.Security.Cryptography.X509Certificates.X509KeyStorageFlags]'MachineKeySet, PersistKeySet'
        if (Get-Field $request 'exportable' $false) { $flags = $flags -bor [System.Security.Cryptography.X509Certificates.X509KeyStorageFlags]::Exportable }
        $all = [System.Security.Cryptography.X509Certificates.X509Certificate2Collection]::new()
        $all.Import([Convert]::FromBase64String([string]$request.pfx), [string](Get-Field $request 'password' ''), $flags)
        $leaf = Find-Certificate @{ Certificates = $all } $thumbprint
        if ($null -eq $leaf) { throw [System.InvalidOperationException]::new("the PFX does not hold the certificate $thumbprint") }
        # Server 2019 has been seen to take a wrong password this way
        if (-not $leaf.HasPrivateKey) { throw [System.Runtime.InteropServices.COMException]::new('the PFX was read without its private key: wrong password, or damaged', 0x80070056) }
        $name = [string](Get-Field $request 'friendlyName' '')
        if ($name -ne '') { try { $leaf.FriendlyName = $name } catch { $notes.Add('friendly name not set: ' + (Get-RootException $_).Message) } }
        # replaces a copy without its key
        $store.Add($leaf)
    } finally { $store.Close() }

    # as IIS will find it
    $store = Open-Store $storeName 'ReadOnly'
    try {
        $stored = Find-Certificate $store $thumbprint
        if ($null -eq $stored) { throw [System.InvalidOperationException]::new('the certificate is not in the store after the import') }
        $key = Get-PrivateKey $stored
        if ($null -eq $key) { throw [System.Runtime.InteropServices.COMException]::new('the private key of the stored certificate cannot be opened', 0x80070520) }
        Grant-Read $key $readers
    } finally { $store.Close() }
    Import-Chain @($all | Where-Object -FilterScript { $_.Thumbprint -ne $thumbprint }) $notes
    return @{ alreadyPresent = $false; notes = $notes.ToArray() }
}
