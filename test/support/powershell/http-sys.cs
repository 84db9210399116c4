// http.sys as HttpListener shows it: the processes of a machine share a port, each gets the requests below the prefixes that it has registered,
// and a prefix has one process. .NET on Linux gives a port to one process. FAKE_HTTP_SYS is the folder of the registrations, a file each;
// services/lab/shared-http-port.ts has the port and passes requests on. Without it HttpListener is what .NET has.
using System;
using System.Diagnostics;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Threading.Tasks;

namespace PsHost
{
    public sealed class FakeHttpListener
    {
        readonly HttpListener _listener = new();
        readonly FakePrefixes _prefixes;
        public FakeHttpListener()
        {
            var folder = Windows.Variable("FAKE_HTTP_SYS", "");
            _prefixes = folder == "" ? new FakePrefixes(_listener) : new SharedPrefixes(_listener, folder);
        }
        public FakePrefixes Prefixes => _prefixes;
        public void Start() => _prefixes.Start();
        public Task<HttpListenerContext> GetContextAsync() => _listener.GetContextAsync();
        public void Close() { _prefixes.Forget(); _listener.Close(); }
    }

    public class FakePrefixes
    {
        protected readonly HttpListener Listener;
        public FakePrefixes(HttpListener listener) { Listener = listener; }
        public virtual void Start() => Listener.Start();
        public virtual void Add(string prefix) => Listener.Prefixes.Add(prefix);
        public virtual void Forget() { }
    }

    public sealed class SharedPrefixes : FakePrefixes
    {
        const int AlreadyExists = 183;
        readonly string _folder;
        int _port;
        public SharedPrefixes(HttpListener listener, string folder) : base(listener) { _folder = folder; }

        public override void Start()
        {
            var free = new TcpListener(IPAddress.Loopback, 0);
            free.Start();
            _port = ((IPEndPoint)free.LocalEndpoint).Port;
            free.Stop();
            Listener.Prefixes.Add($"http://127.0.0.1:{_port}/");
            Listener.Start();
        }

        public override void Add(string prefix)
        {
            if (!prefix.EndsWith('/')) throw new ArgumentException("Only Uri prefixes ending in '/' are allowed.", nameof(prefix));
            var file = Path.Combine(_folder, Uri.EscapeDataString(prefix));
            var mine = file + "." + Environment.ProcessId;
            File.WriteAllText(mine, $"{_port} {Environment.ProcessId}");
            if (File.Exists(file) && !IsAlive(int.Parse(File.ReadAllText(file).Split(' ')[1]))) File.Delete(file);
            try { File.Move(mine, file, false); }
            catch (IOException)
            {
                File.Delete(mine);
                throw new HttpListenerException(AlreadyExists, $"Failed to listen on prefix '{prefix}' because it conflicts with an existing registration on the machine.");
            }
        }

        public override void Forget()
        {
            foreach (var file in Directory.GetFiles(_folder))
                if (File.ReadAllText(file) == $"{_port} {Environment.ProcessId}") File.Delete(file);
        }

        static bool IsAlive(int id)
        {
            try { using var process = Process.GetProcessById(id); return !process.HasExited; }
            catch (ArgumentException) { return false; }
        }
    }
}
