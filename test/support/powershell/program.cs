// pshost: the PowerShell 7 engine with the command line of powershell.exe.
//   pshost -EncodedCommand <base64>   UTF-16LE script text; stdin is its $input, line by line, as powershell.exe has it,
//                                     unless the script does not name $input
//   pshost -Serve                     one request {command, stdin, env} a line, one answer {exit, stdout, stderr} a line
//   pshost -Lint a.ps1 b.ps1          parses, and says what Windows PowerShell 5.1 on .NET Framework 4.8 would not run
//   pshost -Netsh                     what `netsh http show sslcert` prints of the stand-in's certificate table
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;

namespace PsHost
{
    public static class Program
    {
        public static int Main(string[] args)
        {
            Environment.SetEnvironmentVariable("POWERSHELL_TELEMETRY_OPTOUT", "1");
            Console.OutputEncoding = new UTF8Encoding(false);
            for (var i = 0; i < args.Length; i++)
            {
                switch (args[i].ToLowerInvariant())
                {
                    case "-noprofile": case "-noninteractive": break;
                    case "-executionpolicy": i++; break;
                    case "-encodedcommand": return Engine.Run(Encoding.Unicode.GetString(Convert.FromBase64String(args[i + 1])), Console.In, Console.Out, Console.Error);
                    case "-serve": return Serve();
                    case "-lint": return Lint.Run(args.Skip(i + 1).ToArray());
                    case "-netsh": return Netsh.Run();
                    default: Console.Error.WriteLine("unknown argument " + args[i]); return 64;
                }
            }
            return 64;
        }

        /// <summary>Scripts one after another in this process, each in an engine of its own and with its own environment.</summary>
        static int Serve()
        {
            var stdout = Console.Out;
            var stderr = Console.Error;
            for (string line; (line = Console.In.ReadLine()) != null;)
            {
                using var document = JsonDocument.Parse(line);
                var request = document.RootElement;
                var saved = new Dictionary<string, string>();
                foreach (var variable in request.GetProperty("env").EnumerateObject())
                {
                    saved[variable.Name] = Environment.GetEnvironmentVariable(variable.Name);
                    Environment.SetEnvironmentVariable(variable.Name, variable.Value.GetString());
                }
                Windows.ForgetHome();
                var output = new StringWriter();
                var errors = new StringWriter();
                int exit;
                Console.SetOut(output);
                Console.SetError(errors);
                try
                {
                    exit = Engine.Run(request.GetProperty("command").GetString(), new StringReader(request.GetProperty("stdin").GetString()), output, errors);
                }
                finally
                {
                    Console.SetOut(stdout);
                    Console.SetError(stderr);
                    foreach (var (name, value) in saved) Environment.SetEnvironmentVariable(name, value);
                }
                stdout.WriteLine(JsonSerializer.Serialize(new { exit, stdout = output.ToString(), stderr = errors.ToString() }));
                stdout.Flush();
            }
            return 0;
        }
    }
}
