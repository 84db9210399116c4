# {} -> { iis: { major, minor, osBuild }, powershell, sites: [ { id, name, state, physicalPath, bindings, ftp } ] }
$states = @{ Started = 'Started'; Starting = 'Started'; Stopped = 'Stopped'; Stopping = 'Stopped' }
# by the numbers that the state of an ftpServer element has
$ftpStates = @('Started', 'Started', 'Stopped', 'Stopped')

function Get-State($site, $bindings) {
    $web = @($bindings | Where-Object -FilterScript { -not (Test-Same $_.protocol 'ftp') })
    try {
        # State throws for a site without a web part, and for one whose application pool is broken
        if ($web.Length -eq 0) { return $ftpStates[[int]$site.GetChildElement('ftpServer').GetAttributeValue('state')] }
        return $states[[string]$site.State]
    } catch { return $null }
}

Invoke-Main {
    Import-Mwa
    $manager = [Microsoft.Web.Administration.ServerManager]::new()
    try {
        $sites = [System.Collections.Generic.List[object]]::new()
        foreach ($site in $manager.Sites) {
            $bindings = [System.Collections.Generic.List[object]]::new()
            foreach ($binding in $site.Bindings) { $bindings.Add((Read-Binding $binding)) }
            $ftp = $null
            if (@($bindings | Where-Object -FilterScript { Test-Same $_.protocol 'ftp' }).Length -gt 0) {
                $ftp = Read-Ftp $site
                if ($null -eq $ftp) { $ftp = [ordered]@{ thumbprint = $null; store = $null } }
            }
            $state = Get-State $site $bindings
            if ($null -eq $state) { $state = 'Unknown' }
            $sites.Add([ordered]@{ id = [long]$site.Id; name = [string]$site.Name; state = $state; physicalPath = (Get-SitePath $site); bindings = $bindings.ToArray(); ftp = $ftp })
        }
        return @{ iis = (Get-HostVersion); powershell = $PSVersionTable.PSVersion.ToString(); sites = $sites.ToArray() }
    } finally { $manager.Dispose() }
}
