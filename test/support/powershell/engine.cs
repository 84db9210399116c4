using System;
using System.Collections.Generic;
using System.Collections.ObjectModel;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Management.Automation.Host;
using System.Management.Automation.Runspaces;
using System.Text;

namespace PsHost
{
    /// <summary>One run of a script, as one start of powershell.exe.</summary>
    static class Engine
    {
        public static int Run(string command, TextReader stdin, TextWriter stdout, TextWriter stderr)
        {
            Windows.LoadIis();
            var state = InitialSessionState.CreateDefault2();
            // The cmdlets of Microsoft.PowerShell.Utility and Management that scripts may use: those modules are not in the engine's package.
            foreach (var (name, type) in Cmdlets.All) state.Commands.Add(new SessionStateCmdletEntry(name, type, null));
            Windows.Describe(state);
            state.ThreadOptions = PSThreadOptions.UseCurrentThread;
            var host = new Host(stdout, stderr);
            using var runspace = RunspaceFactory.CreateRunspace(host, state);
            runspace.Open();
            Runspace.DefaultRunspace = runspace;
            using var shell = PowerShell.Create();
            shell.Runspace = runspace;
            shell.AddScript(command, false);
            var output = new PSDataCollection<PSObject>();
            output.DataAdded += (_, _) => { foreach (var item in output.ReadAll()) if (item != null) stdout.WriteLine(LanguagePrimitives.ConvertTo<string>(item)); };
            shell.Streams.Error.DataAdded += (_, e) => stderr.WriteLine(shell.Streams.Error[e.Index].ToString());
            shell.Streams.Warning.DataAdded += (_, e) => stderr.WriteLine("WARNING: " + shell.Streams.Warning[e.Index]);
            try
            {
                // As powershell.exe does (ConsoleHost): stdin is read for a command that names $input, to its end, and else left to the command.
                shell.Invoke(command.Contains("$input") ? Lines(stdin) : Enumerable.Empty<string>(), output);
                return host.ExitCode ?? 0;
            }
            catch (RuntimeException error)
            {
                if (host.ExitCode is int code) return code;
                stderr.WriteLine(error.ErrorRecord?.ToString() ?? error.Message);
                stderr.WriteLine(error.ErrorRecord?.InvocationInfo?.PositionMessage);
                return 1;
            }
            finally { stdout.Flush(); }
        }

        static IEnumerable<string> Lines(TextReader reader)
        {
            for (string line; (line = reader.ReadLine()) != null;) yield return Windows.Adapt(line);
        }
    }

    sealed class Host : PSHost
    {
        readonly Screen _screen;
        public Host(TextWriter output, TextWriter errors) { _screen = new Screen(output, errors); }
        public int? ExitCode { get; private set; }
        public override CultureInfo CurrentCulture => CultureInfo.InvariantCulture;
        public override CultureInfo CurrentUICulture => CultureInfo.InvariantCulture;
        public override Guid InstanceId { get; } = Guid.NewGuid();
        public override string Name => "pshost";
        public override PSHostUserInterface UI => _screen;
        public override Version Version => new Version(1, 0);
        public override void EnterNestedPrompt() => throw new NotSupportedException();
        public override void ExitNestedPrompt() => throw new NotSupportedException();
        public override void NotifyBeginApplication() { }
        public override void NotifyEndApplication() { }
        public override void SetShouldExit(int exitCode) => ExitCode = exitCode;
    }

    /// <summary>Prints; asking anything is an error, as with -NonInteractive.</summary>
    sealed class Screen : PSHostUserInterface
    {
        readonly TextWriter _output, _errors;
        public Screen(TextWriter output, TextWriter errors) { _output = output; _errors = errors; }
        static Exception Asked(string what) => new PSNotImplementedException("a prompt: " + what);
        public override PSHostRawUserInterface RawUI => null;
        public override Dictionary<string, PSObject> Prompt(string caption, string message, Collection<FieldDescription> descriptions) => throw Asked(message);
        public override int PromptForChoice(string caption, string message, Collection<ChoiceDescription> choices, int defaultChoice) => throw Asked(message);
        public override PSCredential PromptForCredential(string caption, string message, string userName, string targetName) => throw Asked(message);
        public override PSCredential PromptForCredential(string caption, string message, string userName, string targetName, PSCredentialTypes types, PSCredentialUIOptions options) => throw Asked(message);
        public override string ReadLine() => throw Asked("Read-Host");
        public override System.Security.SecureString ReadLineAsSecureString() => throw Asked("Read-Host");
        public override void Write(string value) => _output.Write(value);
        public override void Write(ConsoleColor foreground, ConsoleColor background, string value) => _output.Write(value);
        public override void WriteLine(string value) => _output.WriteLine(value);
        public override void WriteErrorLine(string value) => _errors.WriteLine(value);
        public override void WriteDebugLine(string value) => _errors.WriteLine("DEBUG: " + value);
        public override void WriteVerboseLine(string value) => _errors.WriteLine("VERBOSE: " + value);
        public override void WriteWarningLine(string value) => _errors.WriteLine("WARNING: " + value);
        public override void WriteProgress(long sourceId, ProgressRecord record) { }
    }
}
