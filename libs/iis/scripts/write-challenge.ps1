# { siteId | path, token, keyAuthorization, webConfig: none|mime|mime-handlers|any|any-handlers|full } -> { file, webConfig: none|written|kept }
# IIS serves no file without an extension unless a web.config says so; which one works depends on the site. Where one is that
# somebody else wrote it stays, and a file of that name with other content too.
$mime = '<staticContent><mimeMap fileExtension="." mimeType="text/plain" /></staticContent>'
$any = '<staticContent><mimeMap fileExtension=".*" mimeType="text/plain" /></staticContent>'
$handlers = '<handlers><clear /><add name="StaticFile" path="*" verb="*" modules="StaticFileModule" resourceType="Either" requireAccess="Read" /></handlers>'
$variants = @{
    'mime' = "<system.webServer>$mime</system.webServer>"
    'mime-handlers' = "<system.webServer>$mime$handlers</system.webServer>"
    'any' = "<system.webServer>$any</system.webServer>"
    'any-handlers' = "<system.webServer>$any$handlers</system.webServer>"
    # against redirects, request filters and logins of the site; fails where these sections are locked
    'full' = '<system.webServer><httpRedirect enabled="false" /><validation validateIntegratedModeConfiguration="false" />' +
        '<staticContent><clear /><mimeMap fileExtension="." mimeType="text/plain" /><mimeMap fileExtension=".*" mimeType="text/plain" /></staticContent>' +
        '</system.webServer><system.web><authorization><allow users="*" /></authorization></system.web>'
}

Invoke-Main {
    $token = Get-Token $request
    $webConfig = [string](Get-Field $request 'webConfig' 'none')
    if ($webConfig -ne 'none' -and -not $variants.ContainsKey($webConfig)) { throw [System.ArgumentException]::new("there is no web.config '$webConfig'") }
    $content = [System.Text.Encoding]::ASCII.GetBytes([string]$request.keyAuthorization)
    $folder = Find-ChallengeFolder
    $null = [System.IO.Directory]::CreateDirectory($folder)
    $file = [System.IO.Path]::Combine($folder, $token)
    if ([System.IO.File]::Exists($file)) {
        if ([System.IO.File]::ReadAllText($file) -cne [string]$request.keyAuthorization) { throw [System.IO.IOException]::new("$file is there already, with other content") }
    } else { [System.IO.File]::WriteAllBytes($file, $content) }

    $result = 'none'
    $target = [System.IO.Path]::Combine($folder, 'web.config')
    if ([System.IO.File]::Exists($target) -and -not (Test-OwnWebConfig $target)) { $result = 'kept' }
    elseif ($webConfig -ne 'none') {
        $text = '<?xml version="1.0" encoding="UTF-8"?>' + "`r`n$ownWebConfig`r`n<configuration>$($variants[$webConfig])</configuration>`r`n"
        [System.IO.File]::WriteAllBytes($target, [System.Text.Encoding]::ASCII.GetBytes($text))
        $result = 'written'
    }
    return @{ file = $file; webConfig = $result }
}
