# Comes before every script. stdin: the request, one line of JSON. stdout: the answer, one line of JSON that begins with "{".
# A line of JSON that does not begin with {"ok": is no answer but what a script says on the way.
# ASCII only both ways: Windows PowerShell 5.1 reads and writes in the code page of the console. Runs on 5.1 and on 7.
Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$StoreLocation = 'LocalMachine'
$requestText = @($input) -join ''

# A field of the request; fields may be missing.
function Get-Field($object, $name, $default) {
    if ($null -ne $object) {
        $property = $object.PSObject.Properties[$name]
        if ($null -ne $property -and $null -ne $property.Value) { return $property.Value }
    }
    return $default
}

function Send-Json($value) {
    $json = ConvertTo-Json -InputObject $value -Depth 12 -Compress
    $line = [System.Text.RegularExpressions.Regex]::Replace($json, '[^\x20-\x7e]', { param($match) '\u' + ([int][char]$match.Value).ToString('x4') })
    [Console]::Out.WriteLine($line)
    [Console]::Out.Flush()
}

function ConvertTo-Hex($bytes) {
    if ($null -eq $bytes -or $bytes.Length -eq 0) { return $null }
    return [System.BitConverter]::ToString([byte[]]$bytes).Replace('-', '')
}

function ConvertFrom-Hex([string]$hex) {
    $bytes = [byte[]]::new($hex.Length / 2)
    for ($i = 0; $i -lt $bytes.Length; $i++) { $bytes[$i] = [Convert]::ToByte($hex.Substring(2 * $i, 2), 16) }
    return , $bytes
}

# PowerShell and .NET wrap what went wrong; Windows' own error is the innermost.
function Get-RootException($record) {
    $exception = $record.Exception
    while ($null -ne $exception.InnerException) { $exception = $exception.InnerException }
    return $exception
}

function Get-Hresult($exception) {
    # HttpListener and others keep the Win32 number apart and say E_FAIL
    if ($exception -is [System.ComponentModel.Win32Exception] -and $exception.HResult -eq 0x80004005) {
        return '0x8007{0:X4}' -f ($exception.NativeErrorCode -band 0xFFFF)
    }
    return '0x{0:X8}' -f $exception.HResult
}

# The host is not as the request says it was.
function Stop-Precondition([string]$message) {
    $exception = [System.InvalidOperationException]::new($message)
    $exception.Data['precondition'] = $true
    throw $exception
}

# Does the work of a script, answers what it returns or why it does not, and ends.
function Invoke-Main([scriptblock]$work) {
    $exitCode = 1
    try {
        if ($PSVersionTable.PSVersion -lt [Version]'5.1') {
            throw "PowerShell 5.1 or later is needed (Windows Management Framework 5.1); this host has $($PSVersionTable.PSVersion)"
        }
        $request = ConvertFrom-Json -InputObject $requestText
        $result = @(& $work)[-1]
        $answer = [ordered]@{ ok = $true }
        foreach ($key in $result.Keys) { $answer[$key] = $result[$key] }
        Send-Json $answer
        $exitCode = 0
    } catch {
        $exception = Get-RootException $_
        Send-Json ([ordered]@{
            ok = $false
            error = [ordered]@{
                precondition = [bool]$exception.Data['precondition']
                type = $exception.GetType().FullName
                hresult = Get-Hresult $exception
                message = $exception.Message
                line = $_.InvocationInfo.ScriptLineNumber
            }
        })
    }
    exit $exitCode
}

# A program of Windows, found in System32. Its output is for people: in the language and code page of the host.
# Not with the call operator: that would leave its exit code as ours and its stderr as our error.
function Invoke-SystemProgram([string]$name, [string]$arguments) {
    $start = [System.Diagnostics.ProcessStartInfo]::new([System.IO.Path]::Combine([Environment]::GetFolderPath('System'), $name), $arguments)
    $start.UseShellExecute = $false
    $start.CreateNoWindow = $true
    $start.RedirectStandardInput = $true
    $start.RedirectStandardOutput = $true
    $start.RedirectStandardError = $true
    $process = [System.Diagnostics.Process]::Start($start)
    try {
        $process.StandardInput.Close()
        $errors = $process.StandardError.ReadToEndAsync()
        $output = $process.StandardOutput.ReadToEnd()
        $process.WaitForExit()
        return @{ exitCode = $process.ExitCode; output = ($output + $errors.Result).Trim() }
    } finally { $process.Dispose() }
}

function Import-Mwa {
    if ($null -ne ('Microsoft.Web.Administration.ServerManager' -as [type])) { return }
    $dll = [System.IO.Path]::Combine([Environment]::GetFolderPath('System'), 'inetsrv', 'Microsoft.Web.Administration.dll')
    if (-not [System.IO.File]::Exists($dll)) {
        throw [System.Runtime.InteropServices.COMException]::new("IIS is not installed, or not its management scripts and tools: $dll is missing", 0x80040154)
    }
    $null = [System.Reflection.Assembly]::LoadFrom($dll)
}

# major and minor are 0 without IIS
function Get-HostVersion {
    $version = [ordered]@{ major = 0; minor = 0; osBuild = 0 }
    $windows = [Microsoft.Win32.Registry]::LocalMachine.OpenSubKey('SOFTWARE\Microsoft\Windows NT\CurrentVersion', $false)
    if ($null -ne $windows) { $version.osBuild = [int]$windows.GetValue('CurrentBuildNumber', '0'); $windows.Close() }
    $iis = [Microsoft.Win32.Registry]::LocalMachine.OpenSubKey('SOFTWARE\Microsoft\InetStp', $false)
    if ($null -ne $iis) { $version.major = [int]$iis.GetValue('MajorVersion', 0); $version.minor = [int]$iis.GetValue('MinorVersion', 0); $iis.Close() }
    return $version
}

# Whether two texts of the configuration are one to IIS. Not -eq: it compares as people of some language read, and does not see U+200D.
function Test-Same($one, $other) {
    return [string]::Equals([string]$one, [string]$other, [System.StringComparison]::OrdinalIgnoreCase)
}

# By id: a host may have thousands of them.
function Get-SiteTable($manager) {
    $sites = [System.Collections.Generic.Dictionary[long, object]]::new()
    foreach ($site in $manager.Sites) { $sites[[long]$site.Id] = $site }
    return $sites
}

function Find-Site($sites, $id) {
    if (-not $sites.ContainsKey([long]$id)) { Stop-Precondition "there is no site $id" }
    return $sites[[long]$id]
}

function Find-Binding($site, [string]$protocol, [string]$information) {
    foreach ($binding in $site.Bindings) {
        # as Test-Same, without a call for each of a thousand bindings
        if ([string]::Equals($binding.BindingInformation, $information, [System.StringComparison]::OrdinalIgnoreCase) -and (Test-Same $binding.Protocol $protocol)) { return $binding }
    }
    return $null
}

# IIS 7 has no such attribute, and throws on .SslFlags; .SslFlags knows two of the bits.
function Get-SslFlags($binding) {
    foreach ($attribute in $binding.Attributes) {
        if ($attribute.Name -eq 'sslFlags' -and $null -ne $attribute.Value) { return [int]$attribute.Value }
    }
    return 0
}

function Read-Binding($binding) {
    $read = [ordered]@{ protocol = [string]$binding.Protocol; bindingInformation = [string]$binding.BindingInformation; sslFlags = Get-SslFlags $binding; thumbprint = $null; store = $null }
    if (Test-Same $read.protocol 'https') {
        # they come from http.sys and throw when its record is broken
        try { $read.thumbprint = ConvertTo-Hex $binding.CertificateHash } catch { $read.thumbprint = $null }
        try { $read.store = $binding.CertificateStoreName } catch { $read.store = $null }
        if ($null -eq $read.thumbprint) { $read.store = $null }
    }
    return $read
}

# The element with the certificate of a site's ftp bindings; for siteDefaults too. Throws where IIS has no ftp.
function Get-FtpSsl($element) {
    return $element.GetChildElement('ftpServer').GetChildElement('security').GetChildElement('ssl')
}

# null when there is no certificate
function Read-Ftp($element) {
    $ssl = Get-FtpSsl $element
    $hash = [string]$ssl.GetAttributeValue('serverCertHash')
    if ($hash -eq '') { return $null }
    return [ordered]@{ thumbprint = $hash.ToUpperInvariant(); store = [string]$ssl.GetAttributeValue('serverCertStoreName') }
}

# The root folder of a site, as the file system has it; null when it has none.
function Get-SitePath($site) {
    $application = $site.Applications['/']
    if ($null -eq $application) { return $null }
    $directory = $application.VirtualDirectories['/']
    if ($null -eq $directory -or -not $directory.PhysicalPath) { return $null }
    return [Environment]::ExpandEnvironmentVariables($directory.PhysicalPath)
}

# Only stores that are there: opening another would make it.
function Open-Store([string]$name, $access) {
    $store = [System.Security.Cryptography.X509Certificates.X509Store]::new($name, [System.Security.Cryptography.X509Certificates.StoreLocation]$StoreLocation)
    $store.Open([System.Security.Cryptography.X509Certificates.OpenFlags]$access -bor [System.Security.Cryptography.X509Certificates.OpenFlags]::OpenExistingOnly)
    return $store
}

function Find-Certificate($store, [string]$thumbprint) {
    $found = $store.Certificates.Find('FindByThumbprint', $thumbprint, $false)
    if ($found.Count -eq 0) { return $null }
    return $found[0]
}

# Opens the private key; null when there is none or it cannot be opened.
function Get-PrivateKey($certificate) {
    if (-not $certificate.HasPrivateKey) { return $null }
    try {
        $key = [System.Security.Cryptography.X509Certificates.RSACertificateExtensions]::GetRSAPrivateKey($certificate)
        if ($null -eq $key) { $key = [System.Security.Cryptography.X509Certificates.ECDsaCertificateExtensions]::GetECDsaPrivateKey($certificate) }
        return $key
    } catch { return $null }
}

# The folder of http-01 challenges below the root of a site, or below a folder that the request names.
function Find-ChallengeFolder {
    $root = [string](Get-Field $request 'path' '')
    if ($root -eq '') {
        Import-Mwa
        $manager = [Microsoft.Web.Administration.ServerManager]::new()
        try { $root = [string](Get-SitePath (Find-Site (Get-SiteTable $manager) $request.siteId)) } finally { $manager.Dispose() }
    }
    if (-not [System.IO.Path]::IsPathRooted($root) -or -not [System.IO.Directory]::Exists($root)) {
        throw [System.IO.DirectoryNotFoundException]::new("the folder '$root' is not there")
    }
    return [System.IO.Path]::Combine($root, '.well-known', 'acme-challenge')
}

# A token becomes the name of a file, and part of a URL.
function Get-Token($from) {
    $token = [string]$from.token
    if ($token -notmatch '^[A-Za-z0-9_-]{1,128}\z') { throw [System.ArgumentException]::new('the token has characters that no token has') }
    return $token
}

# Says that a web.config is ours to change and to delete.
$ownWebConfig = '<!-- certline wrote this for a challenge and deletes it -->'
function Test-OwnWebConfig([string]$file) {
    return [System.IO.File]::Exists($file) -and [System.IO.File]::ReadAllText($file).Contains($ownWebConfig)
}
