// What the scripts find on Windows and nowhere else: the registry, who is logged in, key files, the stores of the machine, netsh, http.sys.
// The scripts have no switch for tests: the names they use are given other types here.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Management.Automation.Runspaces;
using System.Reflection;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;

namespace PsHost
{
    static class Windows
    {
        static bool _adapted;

        internal static string Variable(string name, string otherwise) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : otherwise;

        /// <summary>IIS is installed unless FAKE_MWA says `none`; else FAKE_MWA is the path of the stand-in, which lies beside this program.</summary>
        public static void LoadIis()
        {
            var path = Variable("FAKE_MWA", Path.Combine(AppContext.BaseDirectory, "Microsoft.Web.Administration.dll"));
            if (path != "none") Assembly.LoadFrom(path);
        }

        public static void Describe(InitialSessionState state)
        {
            foreach (var type in new[] { typeof(RSAOpenSsl), typeof(ECDsaOpenSsl) })
            {
                var data = new TypeData(type);
                data.Members.Add("Key", new CodePropertyData("Key", typeof(FakeKey).GetMethod(nameof(FakeKey.Of))));
                state.Types.Add(new SessionStateTypeEntry(data, false));
            }
            if (_adapted) return;
            _adapted = true;
            var accelerators = typeof(PSObject).Assembly.GetType("System.Management.Automation.TypeAccelerators");
            var add = accelerators.GetMethod("Add", BindingFlags.Public | BindingFlags.Static);
            add.Invoke(null, new object[] { "Microsoft.Win32.Registry", typeof(FakeRegistry) });
            add.Invoke(null, new object[] { "System.Security.Principal.WindowsIdentity", typeof(FakeIdentity) });
            add.Invoke(null, new object[] { "System.Security.Principal.WindowsPrincipal", typeof(FakePrincipal) });
            add.Invoke(null, new object[] { "System.Net.HttpListener", typeof(FakeHttpListener) });
        }

        /// <summary>.NET on Linux has no LocalMachine\My: the first line of stdin, the script, gets the stores of the user instead.</summary>
        public static string Adapt(string line)
        {
            var bytes = new byte[line.Length];
            if (line.Length == 0 || !Convert.TryFromBase64String(line, bytes, out var length)) return line;
            var script = Encoding.UTF8.GetString(bytes, 0, length);
            return Convert.ToBase64String(Encoding.UTF8.GetBytes(script.Replace("'LocalMachine'", "'CurrentUser'")));
        }

        /// <summary>.NET remembers where the user's stores are; the next script has another HOME.</summary>
        public static void ForgetHome()
        {
            var assembly = typeof(X509Store).Assembly;
            foreach (var (type, field) in new[] { ("System.Security.Cryptography.X509Certificates.OpenSslDirectoryBasedStoreProvider", "s_userStoreRoot"), ("System.IO.PersistedFiles", "s_userProductDirectory") })
                assembly.GetType(type, true).GetField(field, BindingFlags.Static | BindingFlags.NonPublic).SetValue(null, null);
        }
    }

    public static class FakeRegistry { public static readonly FakeRegistryKey LocalMachine = new FakeRegistryKey(""); }

    public sealed class FakeRegistryKey : IDisposable
    {
        readonly string _path;
        internal FakeRegistryKey(string path) { _path = path; }
        public FakeRegistryKey OpenSubKey(string name, bool writable)
        {
            if (name == @"SOFTWARE\Microsoft\InetStp" && Windows.Variable("FAKE_MWA", "") == "none") return null;
            return name is @"SOFTWARE\Microsoft\InetStp" or @"SOFTWARE\Microsoft\Windows NT\CurrentVersion" ? new FakeRegistryKey(name) : null;
        }
        public object GetValue(string name, object otherwise) => name switch
        {
            "MajorVersion" => int.Parse(Windows.Variable("FAKE_IIS_MAJOR", "10")),
            "MinorVersion" => 0,
            "CurrentBuildNumber" => Windows.Variable("FAKE_OS_BUILD", "20348"),
            _ => otherwise,
        };
        public void Close() { }
        public void Dispose() { }
    }

    public sealed class FakeIdentity : IDisposable
    {
        public static FakeIdentity GetCurrent() => new FakeIdentity();
        public string Name => @"HOST\" + Windows.Variable("FAKE_USER", "Administrator");
        public void Dispose() { }
    }

    public sealed class FakePrincipal
    {
        public FakePrincipal(FakeIdentity identity) { }
        public bool IsInRole(System.Security.Principal.WindowsBuiltInRole role) => Windows.Variable("FAKE_USER", "Administrator") == "Administrator";
    }

    /// <summary>What CngKey is on Windows: a name, which is that of a file below ProgramData. None without ProgramData.</summary>
    public sealed class FakeKey
    {
        readonly string _file;
        FakeKey(string file) { _file = file; UniqueName = Path.GetFileName(file); }
        public string UniqueName { get; }
        public void Delete() => File.Delete(_file);

        public static FakeKey Of(PSObject instance)
        {
            var folder = Environment.GetEnvironmentVariable("ProgramData");
            if (string.IsNullOrEmpty(folder)) return null;
            folder = Path.Combine(folder, "Microsoft", "Crypto", "Keys");
            Directory.CreateDirectory(folder);
            var key = ((AsymmetricAlgorithm)instance.BaseObject).ExportSubjectPublicKeyInfo();
            var file = Path.Combine(folder, Convert.ToHexString(SHA256.HashData(key)).Substring(0, 32));
            if (!File.Exists(file)) File.WriteAllText(file, "");
            return new FakeKey(file);
        }
    }

    static class Netsh
    {
        public static int Run()
        {
            Console.Out.Write("\r\nSSL Certificate bindings: \r\n------------------------- \r\n\r\n");
            var state = Environment.GetEnvironmentVariable("FAKE_IIS_CONFIG") + ".httpsys.json";
            using var document = JsonDocument.Parse(File.ReadAllText(state));
            foreach (var record in document.RootElement.GetProperty("sslcert").EnumerateObject())
            {
                var label = char.IsDigit(record.Name[0]) || record.Name[0] == '[' ? "IP:port     " : "Hostname:port";
                Console.Out.Write($"    {label}                : {record.Name}\r\n    Certificate Hash             : {record.Value.GetProperty("Hash").GetString().ToLowerInvariant()}\r\n");
                Console.Out.Write($"    Application ID               : {{4dc3e181-e14b-4a21-b022-59fc669b0914}}\r\n    Certificate Store Name       : {record.Value.GetProperty("Store").GetString()}\r\n\r\n");
            }
            return 0;
        }
    }
}
