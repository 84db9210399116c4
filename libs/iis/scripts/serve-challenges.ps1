# { port, seconds, max, tokens: { token: key authorization } }: first the line {"listening":true}, at the end -> { served, notFound }
# HttpListener is http.sys on Windows: a path below a strong wildcard goes before every site of IIS, and only that path is taken.
Invoke-Main {
    $folder = '/.well-known/acme-challenge/'
    $most = 1000
    $listener = [System.Net.HttpListener]::new()
    $served = 0
    $notFound = 0
    try {
        $listener.Prefixes.Add("http://+:$([int]$request.port)$folder")
        $listener.Start()
        Send-Json ([ordered]@{ listening = $true })
        $until = [DateTime]::UtcNow.AddSeconds([double]$request.seconds)
        while ($served -lt [int]$request.max -and $notFound -lt $most) {
            $next = $listener.GetContextAsync()
            while (-not $next.IsCompleted -and [DateTime]::UtcNow -lt $until) { $null = $next.Wait(200) }
            if (-not $next.IsCompleted) { break }
            $context = $next.Result
            try {
                $name = $context.Request.Url.AbsolutePath.Substring($folder.Length)
                $token = $request.tokens.PSObject.Properties[$name]
                if ($null -ne $token -and $token.Name -ceq $name) {
                    $bytes = [System.Text.Encoding]::ASCII.GetBytes([string]$token.Value)
                    $context.Response.ContentType = 'application/octet-stream'
                    $context.Response.ContentLength64 = $bytes.Length
                    $context.Response.OutputStream.Write($bytes, 0, $bytes.Length)
                    $served++
                } else {
                    $context.Response.StatusCode = 404
                    $notFound++
                }
                $context.Response.Close()
            } catch { $null = $_ } # a client that has gone away
        }
    } finally { $listener.Close() }
    return @{ served = $served; notFound = $notFound }
}
