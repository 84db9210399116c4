# {} -> { user, admin, powershell, osBuild, iis: { major, minor } | null, iisError, stores: [ { name, ok, detail } ] }
Invoke-Main {
    $identity = [System.Security.Principal.WindowsIdentity]::GetCurrent()
    $admin = [System.Security.Principal.WindowsPrincipal]::new($identity).IsInRole([System.Security.Principal.WindowsBuiltInRole]::Administrator)
    $version = Get-HostVersion
    $iis = $null
    $iisError = $null
    try {
        Import-Mwa
        $manager = [Microsoft.Web.Administration.ServerManager]::new()
        # the constructor reads nothing; counting does
        try { $null = $manager.Sites.Count } finally { $manager.Dispose() }
        $iis = [ordered]@{ major = $version.major; minor = $version.minor }
    } catch {
        $exception = Get-RootException $_
        $iisError = "$($exception.Message) ($(Get-Hresult $exception))"
    }
    $stores = [System.Collections.Generic.List[object]]::new()
    foreach ($name in @('My', 'WebHosting', 'CA')) {
        $ok = $true
        $detail = 'can be written'
        try { (Open-Store $name 'ReadWrite').Close() } catch { $ok = $false; $detail = (Get-RootException $_).Message }
        $stores.Add([ordered]@{ name = $name; ok = $ok; detail = $detail })
    }
    return @{ user = $identity.Name; admin = $admin; powershell = $PSVersionTable.PSVersion.ToString(); osBuild = $version.osBuild; iis = $iis; iisError = $iisError; stores = $stores.ToArray() }
}
