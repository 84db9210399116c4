// A stand-in for Microsoft.Web.Administration on machines without Windows. The public names are those of the documented library
// (learn.microsoft.com), as far as the scripts use them; behind them are an applicationHost.config and a table of http.sys.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using System.Xml.Linq;

namespace Microsoft.Web.Administration
{
    public sealed class ConfigurationAttribute
    {
        private readonly ConfigurationElement _element;
        internal ConfigurationAttribute(ConfigurationElement element, string name) { _element = element; Name = name; }
        public string Name { get; }
        public bool IsInheritedFromDefaultValue => _element.X.Attribute(Name) == null;
        public object Value { get => _element.GetAttributeValue(Name); set => _element.SetAttributeValue(Name, value); }
    }

    public sealed class ConfigurationAttributeCollection : IEnumerable<ConfigurationAttribute>
    {
        private readonly List<ConfigurationAttribute> _attributes;
        internal ConfigurationAttributeCollection(List<ConfigurationAttribute> attributes) { _attributes = attributes; }
        public int Count => _attributes.Count;
        public ConfigurationAttribute this[string name] => _attributes.FirstOrDefault(one => one.Name == name);
        public IEnumerator<ConfigurationAttribute> GetEnumerator() => _attributes.GetEnumerator();
        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }

    /// <summary>The part of IIS_schema.xml that matters: what attributes an element has, of which type. Others throw, as in IIS.</summary>
    internal static class Schema
    {
        internal sealed record Attribute(string Name, Type Type, object Default);

        private static readonly Dictionary<string, Attribute[]> Elements = new()
        {
            ["binding"] = new[]
            {
                new Attribute("protocol", typeof(string), ""),
                new Attribute("bindingInformation", typeof(string), ""),
                new Attribute("sslFlags", typeof(uint), 0u),
                // live values out of http.sys, which are not in the file
                new Attribute("certificateHash", typeof(string), ""),
                new Attribute("certificateStoreName", typeof(string), ""),
                new Attribute("isDsMapperEnabled", typeof(bool), false),
            },
            ["ftpServer"] = new[] { new Attribute("serverAutoStart", typeof(bool), true), new Attribute("state", typeof(int), 1) },
            ["ssl"] = new[] { new Attribute("serverCertHash", typeof(string), ""), new Attribute("serverCertStoreName", typeof(string), "MY") },
        };

        /// <summary>Null for an element that is not described here: it has what stands in the file.</summary>
        internal static Attribute[] For(string element, ServerManager manager)
        {
            if (!Elements.TryGetValue(element, out var attributes)) return null;
            return manager.IisMajor < 8 ? attributes.Where(one => one.Name != "sslFlags").ToArray() : attributes;
        }
    }

    public class ConfigurationElement
    {
        internal readonly XElement X;
        internal readonly ServerManager Server;
        internal ConfigurationElement(XElement x, ServerManager server) { X = x; Server = server; }

        public ConfigurationAttributeCollection Attributes
        {
            get
            {
                var names = Schema.For(X.Name.LocalName, Server)?.Select(one => one.Name) ?? X.Attributes().Select(one => one.Name.LocalName);
                return new ConfigurationAttributeCollection(names.Select(name => new ConfigurationAttribute(this, name)).ToList());
            }
        }

        public virtual object GetAttributeValue(string name)
        {
            var attribute = Find(name);
            if (name == "state") return (int)new Site(X.Parent, Server).AnyState;
            var raw = X.Attribute(name)?.Value;
            if (attribute == null) return raw;
            if (raw == null) return attribute.Default;
            if (attribute.Type == typeof(uint)) return uint.Parse(raw);
            return attribute.Type == typeof(bool) ? bool.Parse(raw) : raw;
        }

        public virtual void SetAttributeValue(string name, object value)
        {
            var attribute = Find(name);
            if (value is not (null or string or bool or int or uint or long or Enum)) throw Com($"Specified cast is not valid: {value.GetType()}", 0x80004002);
            if (attribute?.Type == typeof(uint)) value = value is string || Convert.ToInt64(value) < 0 ? throw Com("The parameter is incorrect", 0x80070057) : Convert.ToUInt32(value);
            X.SetAttributeValue(name, value is bool truth ? (truth ? "true" : "false") : value?.ToString());
        }

        public ConfigurationElement GetChildElement(string name)
        {
            // What was only looked at is taken out again before the file is written.
            if (X.Element(name) == null) X.Add(new XElement(name));
            return new ConfigurationElement(X.Element(name), Server);
        }

        internal static COMException Com(string message, uint code) => new COMException(message, unchecked((int)code));

        private Schema.Attribute Find(string name)
        {
            var attributes = Schema.For(X.Name.LocalName, Server);
            if (attributes == null) return null;
            return attributes.FirstOrDefault(one => one.Name == name) ?? throw Com($"Unrecognized attribute '{name}'", 0x80070585);
        }
    }

    public abstract class ConfigurationElementCollectionBase<T> : ConfigurationElement, IEnumerable<T> where T : ConfigurationElement
    {
        private readonly string _name;
        internal ConfigurationElementCollectionBase(XElement x, ServerManager server, string name) : base(x, server) { _name = name; }
        internal abstract T Wrap(XElement x);
        internal List<T> Items => X.Elements(_name).Select(Wrap).ToList();
        public int Count => X.Elements(_name).Count();
        public T this[int index] => Items[index];
        public T CreateElement(string elementTagName) => Wrap(new XElement(elementTagName));
        public virtual T Add(T element) { X.Add(element.X); return element; }
        public virtual void Remove(T element) => element.X.Remove();
        public IEnumerator<T> GetEnumerator() => Items.GetEnumerator();
        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
