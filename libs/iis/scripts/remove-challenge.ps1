# { siteId | path, token } -> { removed }
# Deletes the file if it is a challenge; with the last one our web.config and the folders, if nothing else is in them.

# A challenge's file holds its own name, a dot and the fingerprint of an account.
function Test-Challenge([string]$file) {
    $name = [System.IO.Path]::GetFileName($file)
    if ([System.IO.FileInfo]::new($file).Length -gt 1024) { return $false }
    return [System.IO.File]::ReadAllText($file).StartsWith("$name.", [System.StringComparison]::Ordinal)
}

# A link to another place is not ours, and neither is what lies there.
function Remove-EmptyFolder([string]$folder) {
    if (([System.IO.File]::GetAttributes($folder) -band [System.IO.FileAttributes]::ReparsePoint) -ne 0) { return $false }
    if ([System.IO.Directory]::GetFileSystemEntries($folder).Length -gt 0) { return $false }
    [System.IO.Directory]::Delete($folder)
    return $true
}

Invoke-Main {
    $token = Get-Token $request
    $folder = Find-ChallengeFolder
    $removed = $false
    if ([System.IO.Directory]::Exists($folder)) {
        $file = [System.IO.Path]::Combine($folder, $token)
        if ([System.IO.File]::Exists($file) -and (Test-Challenge $file)) {
            [System.IO.File]::Delete($file)
            $removed = $true
        }
        $others = @([System.IO.Directory]::GetFiles($folder) | Where-Object -FilterScript { Test-Challenge $_ })
        if ($others.Length -eq 0) {
            $webConfig = [System.IO.Path]::Combine($folder, 'web.config')
            if (Test-OwnWebConfig $webConfig) { [System.IO.File]::Delete($webConfig) }
            if (Remove-EmptyFolder $folder) { $null = Remove-EmptyFolder ([System.IO.Path]::GetDirectoryName($folder)) }
        }
    }
    return @{ removed = $removed }
}
