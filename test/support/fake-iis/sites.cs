using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using System.Xml.Linq;

namespace Microsoft.Web.Administration
{
    [Flags] public enum SslFlags { None = 0, Sni = 1, CentralCertStore = 2 }
    public enum ObjectState { Starting = 0, Started = 1, Stopping = 2, Stopped = 3, Unknown = 4 }

    public sealed class VirtualDirectory : ConfigurationElement
    {
        internal VirtualDirectory(XElement x, ServerManager server) : base(x, server) { }
        public string Path => (string)X.Attribute("path");
        public string PhysicalPath => (string)X.Attribute("physicalPath");
    }

    public sealed class VirtualDirectoryCollection : ConfigurationElementCollectionBase<VirtualDirectory>
    {
        internal VirtualDirectoryCollection(XElement x, ServerManager server) : base(x, server, "virtualDirectory") { }
        internal override VirtualDirectory Wrap(XElement x) => new VirtualDirectory(x, Server);
        public VirtualDirectory this[string path] => Items.FirstOrDefault(one => one.Path == path);
    }

    public sealed class Application : ConfigurationElement
    {
        internal Application(XElement x, ServerManager server) : base(x, server) { }
        public string Path => (string)X.Attribute("path");
        public VirtualDirectoryCollection VirtualDirectories => new VirtualDirectoryCollection(X, Server);
    }

    public sealed class ApplicationCollection : ConfigurationElementCollectionBase<Application>
    {
        internal ApplicationCollection(XElement x, ServerManager server) : base(x, server, "application") { }
        internal override Application Wrap(XElement x) => new Application(x, Server);
        public Application this[string path] => Items.FirstOrDefault(one => one.Path == path);
    }

    public sealed class SiteDefaults : ConfigurationElement
    {
        internal SiteDefaults(XElement x, ServerManager server) : base(x, server) { }
    }

    public sealed class Binding : ConfigurationElement
    {
        private string _store;
        private bool _hashSet, _storeSet;
        internal Binding(XElement x, ServerManager server) : base(x, server) { }

        public string BindingInformation { get => (string)X.Attribute("bindingInformation") ?? ""; set => X.SetAttributeValue("bindingInformation", value); }
        public string Protocol { get => (string)X.Attribute("protocol") ?? ""; set => X.SetAttributeValue("protocol", value); }
        /// <summary>Throws below IIS 8.</summary>
        public SslFlags SslFlags { get => (SslFlags)Convert.ToInt64(GetAttributeValue("sslFlags")); set => SetAttributeValue("sslFlags", value); }

        internal byte[] PendingHash { get; private set; }
        internal string PendingStore => _store;
        internal uint Flags => uint.TryParse((string)X.Attribute("sslFlags"), out var flags) ? flags : 0;

        /// <summary>Where http.sys keeps the certificate: with SNI one record per host and port, else one per address and port. Null when it has none: http, or the central store.</summary>
        internal string HttpSysKey
        {
            get
            {
                var end = BindingInformation.LastIndexOf(':');
                var middle = end > 0 ? BindingInformation.LastIndexOf(':', end - 1) : -1;
                if (middle < 0 || !Protocol.Equals("https", StringComparison.OrdinalIgnoreCase) || (Flags & 2) != 0) return null;
                var ip = BindingInformation.Substring(0, middle);
                var port = BindingInformation.Substring(middle + 1, end - middle - 1);
                if ((Flags & 1) != 0) return $"{BindingInformation.Substring(end + 1).ToLowerInvariant()}:{port}";
                return $"{(ip is "" or "*" ? "0.0.0.0" : ip)}:{port}";
            }
        }

        private HttpSysRecord Record => HttpSysKey is string key && Server.HttpSys.TryGetValue(key, out var record) ? record : null;

        public byte[] CertificateHash
        {
            get
            {
                if (_hashSet) return PendingHash;
                // without a hash it is a record such as another program leaves behind
                return Record?.Hash == "" ? throw Com("A specified logon session does not exist. It may already have been terminated. (Exception from HRESULT: 0x80070520)", 0x80070520) : Record == null ? null : Convert.FromHexString(Record.Hash);
            }
            set { PendingHash = value; _hashSet = true; Server.Track(this); }
        }

        public string CertificateStoreName
        {
            get => _storeSet ? _store : Record?.Store;
            set { _store = value; _storeSet = true; Server.Track(this); }
        }

        public override object GetAttributeValue(string name) => name switch
        {
            "certificateHash" => CertificateHash is byte[] hash ? Convert.ToHexString(hash) : "",
            "certificateStoreName" => CertificateStoreName ?? "",
            _ => base.GetAttributeValue(name),
        };

        public override void SetAttributeValue(string name, object value)
        {
            if (name is "certificateHash" or "certificateStoreName") throw Com("The attribute is read-only", 0x80070005);
            base.SetAttributeValue(name, value);
        }
    }

    public sealed class BindingCollection : ConfigurationElementCollectionBase<Binding>
    {
        internal BindingCollection(XElement x, ServerManager server) : base(x, server, "binding") { }

        internal override Binding Wrap(XElement x)
        {
            if (!Server.Bindings.TryGetValue(x, out var binding)) Server.Bindings[x] = binding = new Binding(x, Server);
            return binding;
        }

        public override Binding Add(Binding element)
        {
            static bool Same(string one, string other) => string.Equals(one, other, StringComparison.OrdinalIgnoreCase);
            if (Items.Any(other => Same(other.Protocol, element.Protocol) && Same(other.BindingInformation, element.BindingInformation)))
                throw Com($"Filename: \r\nError: Cannot add duplicate collection entry of type 'binding' with combined key attributes 'protocol, bindingInformation' respectively set to '{element.Protocol}, {element.BindingInformation}'\r\n", 0x800700B7);
            return base.Add(element);
        }

        public override void Remove(Binding element) => Remove(element, false);

        /// <summary>Unless told to leave it, takes the record of http.sys away too, which other bindings may share.</summary>
        public void Remove(Binding element, bool removeConfigOnly)
        {
            if (!removeConfigOnly && element.HttpSysKey is string key) Server.PendingDeletes.Add(key);
            Server.Untrack(element);
            element.X.Remove();
        }
    }

    public sealed class Site : ConfigurationElement
    {
        internal Site(XElement x, ServerManager server) : base(x, server) { }
        public long Id => (long)X.Attribute("id");
        public string Name => (string)X.Attribute("name");
        public BindingCollection Bindings => new BindingCollection(GetChildElement("bindings").X, Server);
        public ApplicationCollection Applications => new ApplicationCollection(X, Server);

        /// <summary>Of the web site: a site with nothing but ftp has its state at the ftpServer element.</summary>
        public ObjectState State => Bindings.All(one => one.Protocol == "ftp") && Bindings.Count > 0 ? throw Gone() : AnyState;

        internal ObjectState AnyState
        {
            get
            {
                if (Server.States.TryGetValue(Id.ToString(), out var state)) return state == "error" ? throw Gone() : Enum.Parse<ObjectState>(state);
                return (string)X.Attribute("serverAutoStart") == "false" ? ObjectState.Stopped : ObjectState.Started;
            }
        }

        private static COMException Gone() => Com("The object identifier does not represent a valid object. (Exception from HRESULT: 0x800710D8)", 0x800710D8);
    }

    public sealed class SiteCollection : ConfigurationElementCollectionBase<Site>
    {
        internal SiteCollection(XElement x, ServerManager server) : base(x, server, "site") { }
        internal override Site Wrap(XElement x) => new Site(x, Server);
        public Site this[string name] => Items.FirstOrDefault(one => string.Equals(one.Name, name, StringComparison.OrdinalIgnoreCase));
    }
}
