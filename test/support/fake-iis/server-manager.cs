// The configuration as one transaction, and how it fails. Besides applicationHost.config at FAKE_IIS_CONFIG it keeps
// <config>.httpsys.json: { sslcert: the table of http.sys, siteState: where it is not what serverAutoStart says, tries, commits }.
//   FAKE_IIS_MAJOR=7          no sslFlags
//   FAKE_IIS_FAIL_COMMITS=n   the first n commits on this configuration find that the file has changed on disk
//   FAKE_IIS_REFUSE=...       every commit fails: denied (no right), not written (another process has the file), key unusable (http.sys
//                             cannot open the key: the file has been written by then), access denied (http.sys, likewise)
//   FAKE_IIS_PAUSE=before:ms  or after:ms: a commit waits before it writes anything, or when all is written
//   FAKE_IIS_RECORD=hash      http.sys takes this certificate whatever it is given
//   FAKE_IIS_SKIP_CERT_CHECK  any thumbprint will do, in the stores or not
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using System.Threading;
using System.Xml;
using System.Xml.Linq;

namespace Microsoft.Web.Administration
{
    internal sealed class HttpSysRecord
    {
        public string Hash { get; set; }
        public string Store { get; set; }
        public uint Flags { get; set; }
    }

    internal sealed class HttpSysState
    {
        public Dictionary<string, HttpSysRecord> sslcert { get; set; } = new();
        public Dictionary<string, string> siteState { get; set; } = new();
        public int tries { get; set; }
        public int commits { get; set; }
    }

    public sealed class ServerManager : IDisposable
    {
        private readonly string _path;
        private readonly XDocument _document;
        private readonly string _stamp;
        private readonly HttpSysState _state;
        private readonly List<Binding> _tracked = new();
        private bool _disposed;
        internal readonly Dictionary<string, HttpSysRecord> HttpSys;
        internal readonly Dictionary<XElement, Binding> Bindings = new();
        internal readonly List<string> PendingDeletes = new();
        internal readonly int IisMajor = int.TryParse(Setting("MAJOR"), out var major) ? major : 10;
        internal Dictionary<string, string> States => _state.siteState;

        public ServerManager()
        {
            _path = Setting("CONFIG") ?? throw Com("Retrieving the COM class factory for component with CLSID {2B72133B-3F5B-4602-8952-803546CE3344} failed due to the following error: 80040154 Class not registered", 0x80040154);
            var bytes = File.ReadAllBytes(_path);
            _stamp = Stamp(bytes);
            _document = XDocument.Load(new MemoryStream(bytes));
            _state = LoadState();
            HttpSys = new(_state.sslcert, StringComparer.OrdinalIgnoreCase);
        }

        public SiteCollection Sites => new SiteCollection(Section("system.applicationHost", "sites"), this);
        public SiteDefaults SiteDefaults => new SiteDefaults(Section("system.applicationHost", "sites", "siteDefaults"), this);

        public void CommitChanges()
        {
            if (_disposed) throw new ObjectDisposedException(nameof(ServerManager));
            CountTry();
            Pause("before");
            if (int.TryParse(Setting("FAIL_COMMITS"), out var fail) && _state.tries <= fail) throw Changed();
            if (Stamp(File.ReadAllBytes(_path)) != _stamp) throw Changed();
            var refuse = Setting("REFUSE");
            if (refuse == "denied") throw new UnauthorizedAccessException("Filename: redirection.config\r\nError: Cannot write configuration file due to insufficient permissions\r\n");
            if (refuse == "not written") throw Com("Filename: \\\\?\\C:\\Windows\\system32\\inetsrv\\config\\applicationHost.config\r\nError: Cannot write configuration file\r\n", 0x80070020);

            // The file first, http.sys second: whether Windows does it so is not known, and this is the worse order when http.sys refuses.
            RemoveEmpty(_document.Root);
            WriteWhole(_path, Xml());
            foreach (var key in PendingDeletes) HttpSys.Remove(key);
            foreach (var binding in _tracked)
            {
                if (binding.X.Document == null) continue; // created and never added
                if (binding.HttpSysKey is not string key || binding.PendingHash == null) continue;
                var store = binding.PendingStore ?? "MY";
                if (refuse == "access denied") throw new UnauthorizedAccessException("Access is denied. (Exception from HRESULT: 0x80070005 (E_ACCESSDENIED))");
                if (refuse == "key unusable" || !Usable(binding.PendingHash, store)) throw Com("A specified logon session does not exist. It may already have been terminated. (Exception from HRESULT: 0x80070520)", 0x80070520);
                HttpSys[key] = new HttpSysRecord { Hash = Setting("RECORD") ?? Convert.ToHexString(binding.PendingHash), Store = store, Flags = binding.Flags };
            }
            _state.commits++;
            SaveState();
            Pause("after");
        }

        public void Dispose() => _disposed = true;

        internal void Track(Binding binding) { if (!_tracked.Contains(binding)) _tracked.Add(binding); }
        internal void Untrack(Binding binding) => _tracked.Remove(binding);

        private static string Setting(string name) => Environment.GetEnvironmentVariable("FAKE_IIS_" + name) is { Length: > 0 } value ? value : null;
        private static COMException Com(string message, uint code) => ConfigurationElement.Com(message, code);
        private static Exception Changed() => new FileLoadException("Filename: \\\\?\\C:\\Windows\\system32\\inetsrv\\config\\applicationHost.config\r\nError: Cannot commit configuration changes because the file has changed on disk\r\n");
        private static string Stamp(byte[] bytes) => Convert.ToHexString(SHA256.HashData(bytes));
        private static readonly JsonSerializerOptions Indented = new JsonSerializerOptions { WriteIndented = true };
        private string StatePath => _path + ".httpsys.json";

        private static void Pause(string when)
        {
            if (Setting("PAUSE")?.Split(':') is [var at, var milliseconds] && at == when) Thread.Sleep(int.Parse(milliseconds));
        }

        private HttpSysState LoadState() => File.Exists(StatePath) ? JsonSerializer.Deserialize<HttpSysState>(File.ReadAllText(StatePath)) : new HttpSysState();

        /// <summary>Read afresh: another process may have committed since.</summary>
        private void CountTry()
        {
            var state = LoadState();
            _state.tries = ++state.tries;
            WriteWhole(StatePath, JsonSerializer.SerializeToUtf8Bytes(state, Indented));
        }

        private void SaveState()
        {
            _state.sslcert = new(HttpSys);
            WriteWhole(StatePath, JsonSerializer.SerializeToUtf8Bytes(_state, Indented));
        }

        /// <summary>A process that is killed meanwhile leaves the old file or the new one.</summary>
        private static void WriteWhole(string path, byte[] bytes)
        {
            var fresh = path + "." + Environment.ProcessId;
            File.WriteAllBytes(fresh, bytes);
            File.Move(fresh, path, true);
        }

        private byte[] Xml()
        {
            var xml = new MemoryStream();
            using (var writer = XmlWriter.Create(xml, new XmlWriterSettings { Indent = true, Encoding = new UTF8Encoding(false) })) _document.Save(writer);
            return xml.ToArray();
        }

        private XElement Section(params string[] path)
        {
            var element = _document.Root;
            foreach (var name in path)
            {
                if (element.Element(name) == null) element.Add(new XElement(name));
                element = element.Element(name);
            }
            return element;
        }

        /// <summary>Elements that were only looked at.</summary>
        private static void RemoveEmpty(XElement element)
        {
            foreach (var child in element.Elements().ToList()) RemoveEmpty(child);
            if (element.Name.LocalName is "ftpServer" or "security" or "ssl" or "siteDefaults" && !element.HasAttributes && !element.HasElements) element.Remove();
        }

        private static bool Usable(byte[] hash, string store)
        {
            if (Setting("SKIP_CERT_CHECK") != null) return true;
            using var certificates = new X509Store(store, StoreLocation.CurrentUser); // Linux has no LocalMachine\My
            try { certificates.Open(OpenFlags.ReadOnly | OpenFlags.OpenExistingOnly); }
            catch (CryptographicException) { return false; }
            return certificates.Certificates.Any(one => one.GetCertHash().SequenceEqual(hash) && one.HasPrivateKey);
        }
    }
}
