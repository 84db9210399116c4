# { port, seconds, answers: [{ token, keyAuthorization }] }: first says { listening, taken: [token] }, taken being those that somebody else has a
# listener for; at the end -> { served }. Ends when its time is over, when stdin is at its end, or when all are taken. Not by its connection
# alone: sshd of Windows lets a process run on whose connection is lost (issue 1751 of PowerShell/Win32-OpenSSH).
# HttpListener is http.sys on Windows. Of all prefixes there, also those of IIS, the longest one below a strong wildcard gets a request, with or
# without the slash at its end, as http://+:5985/wsman/ gets those for /wsman. So every token is a prefix, and nobody else loses a path.
Invoke-Main {
    $folder = '/.well-known/acme-challenge/'
    $alreadyExists = 183
    $answers = [System.Collections.Generic.Dictionary[string, string]]::new([System.StringComparer]::Ordinal)
    $taken = @()
    $served = 0
    $stdin = [Console]::OpenStandardInput()
    $unwanted = $stdin.ReadAsync([byte[]]::new(1), 0, 1)
    $listener = [System.Net.HttpListener]::new()
    try {
        $listener.Start()
        foreach ($answer in $request.answers) {
            $path = $folder + (Get-Token $answer)
            try {
                $listener.Prefixes.Add("http://+:$([int]$request.port)$path/")
                $answers[$path] = [string]$answer.keyAuthorization
            } catch {
                $exception = Get-RootException $_
                if ($exception -isnot [System.Net.HttpListenerException] -or $exception.ErrorCode -ne $alreadyExists) { throw }
                $taken += [string]$answer.token
            }
        }
        Send-Json ([ordered]@{ listening = $true; taken = $taken })
        $until = [DateTime]::UtcNow.AddSeconds([double]$request.seconds)
        $next = $null
        while ($answers.Count -gt 0 -and -not $unwanted.IsCompleted -and [DateTime]::UtcNow -lt $until) {
            if ($null -eq $next) { $next = $listener.GetContextAsync() }
            if (-not $next.Wait(200)) { continue }
            $context = $next.Result
            $next = $null
            try {
                $path = $context.Request.Url.AbsolutePath
                if ($answers.ContainsKey($path)) {
                    $bytes = [System.Text.Encoding]::ASCII.GetBytes($answers[$path])
                    $context.Response.ContentType = 'application/octet-stream'
                    $context.Response.ContentLength64 = $bytes.Length
                    $context.Response.OutputStream.Write($bytes, 0, $bytes.Length)
                    $served++
                } else { $context.Response.StatusCode = 404 }
                $context.Response.Close()
            } catch { $context.Response.Abort() } # a client that has gone away
        }
    } finally { $listener.Close() }
    return @{ served = $served }
}
