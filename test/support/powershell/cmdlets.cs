// Stand-ins for the three cmdlets of Microsoft.PowerShell.Utility that the scripts use. They do what Windows PowerShell 5.1 and
// PowerShell 7 have in common; where those differ they do what a careless script would not survive (dates, the depth of JSON).
using System;
using System.Collections;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Management.Automation;
using System.Text;
using System.Threading;
using Newtonsoft.Json;
using Newtonsoft.Json.Linq;

namespace PsHost
{
    static class Cmdlets
    {
        public static readonly (string, Type)[] All =
        {
            ("ConvertFrom-Json", typeof(ConvertFromJson)),
            ("ConvertTo-Json", typeof(ConvertToJson)),
            ("Start-Sleep", typeof(StartSleep)),
        };
    }

    [Cmdlet("ConvertFrom", "Json")]
    public sealed class ConvertFromJson : PSCmdlet
    {
        [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)][AllowEmptyString] public string InputObject { get; set; }
        readonly StringBuilder _sb = new();
        protected override void ProcessRecord() => _sb.AppendLine(InputObject);
        protected override void EndProcessing()
        {
            JToken t;
            try
            {
                using var r = new JsonTextReader(new StringReader(_sb.ToString())) { DateParseHandling = DateParseHandling.DateTime, MaxDepth = 1024 };
                t = JToken.ReadFrom(r);
            }
            catch (JsonException e) { ThrowTerminatingError(new ErrorRecord(new ArgumentException("Conversion from JSON failed with error: " + e.Message, e), "ConvertFromJson", ErrorCategory.InvalidArgument, null)); return; }
            WriteObject(Conv(t), false);
        }
        static object Conv(JToken t)
        {
            switch (t)
            {
                case JObject o:
                    var p = new PSObject();
                    foreach (var kv in o)
                    {
                        if (p.Properties[kv.Key] != null) throw new InvalidOperationException($"Cannot convert the JSON string because it contains keys with different casing: '{kv.Key}'");
                        p.Properties.Add(new PSNoteProperty(kv.Key, Conv(kv.Value)));
                    }
                    return p;
                case JArray a: return a.Select(Conv).ToArray();
                case JValue v: return v.Value is int i ? (long)i : v.Value;
                default: return null;
            }
        }
    }

    [Cmdlet("ConvertTo", "Json")]
    public sealed class ConvertToJson : PSCmdlet
    {
        [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true)][AllowNull] public object InputObject { get; set; }
        [Parameter][ValidateRange(1, 100)] public int Depth { get; set; } = 2;
        [Parameter] public SwitchParameter Compress { get; set; }
        readonly List<object> _in = new();
        protected override void ProcessRecord() => _in.Add(InputObject);
        protected override void EndProcessing()
        {
            if (_in.Count == 0) return;
            object o = _in.Count == 1 ? _in[0] : _in.ToArray();
            bool cut = false;
            var t = Tok(o, 0, ref cut);
            if (cut) WriteWarning($"Resulting JSON is truncated as serialization has exceeded the set depth of {Depth}.");
            WriteObject(t.ToString(Compress ? Formatting.None : Formatting.Indented));
        }
        JToken Tok(object o, int d, ref bool cut)
        {
            var ps = o as PSObject; var b = ps != null ? ps.BaseObject : o;
            if (b == null || ReferenceEquals(b, System.Management.Automation.Internal.AutomationNull.Value) || b is DBNull) return JValue.CreateNull();
            if (b is string || b is char || b is Guid || b is Uri || b is Version) return new JValue(b.ToString());
            if (b is bool || b is int || b is long || b is uint || b is ulong || b is short || b is ushort || b is byte || b is sbyte || b is double || b is float || b is decimal) return new JValue(b);
            if (b is DateTime dt) return new JValue("/Date(" + new DateTimeOffset(dt.ToUniversalTime()).ToUnixTimeMilliseconds() + ")/");   // 5.1's form: a script must format dates itself
            if (b is Enum e) return new JValue(Convert.ToInt64(e));
            // 5.1 does so with an array that has been through the pipeline in one piece
            if (ps != null && b is Array whole) return new JObject { ["value"] = Tok(whole, d, ref cut), ["Count"] = whole.Length };
            if (d > Depth) { cut = true; return new JValue(ps != null ? ps.ToString() : b.ToString()); }
            if (b is IDictionary dict) { var jo = new JObject(); foreach (DictionaryEntry kv in dict) jo[kv.Key.ToString()] = Tok(kv.Value, d + 1, ref cut); return jo; }
            if (b is IEnumerable en) { var ja = new JArray(); foreach (var x in en) ja.Add(Tok(x, d + 1, ref cut)); return ja; }
            var r = new JObject();
            foreach (var p in PSObject.AsPSObject(o).Properties) { object v; try { v = p.Value; } catch { v = null; } r[p.Name] = Tok(v, d + 1, ref cut); }
            return r;
        }
    }

    [Cmdlet("Start", "Sleep", DefaultParameterSetName = "Seconds")]
    public sealed class StartSleep : PSCmdlet
    {
        [Parameter(Position = 0, Mandatory = true, ParameterSetName = "Seconds")] public double Seconds { get; set; }
        [Parameter(Mandatory = true, ParameterSetName = "Milliseconds")] public int Milliseconds { get; set; }
        protected override void ProcessRecord() => Thread.Sleep(ParameterSetName == "Seconds" ? (int)(Seconds * 1000) : Milliseconds);
    }
}
