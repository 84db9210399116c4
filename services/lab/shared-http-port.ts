import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { join } from 'node:path';

export interface SharedHttpPortOptions {
  /** Where it keeps what processes have registered; made when it is not there. */
  dir: string;
  /** The port it has; a free one unless told. */
  port?: number;
  /** Folder of the one site, which gets what nobody has registered. */
  root: string;
  /** Whether IIS serves files without an extension there, by the web.config that lies beside them; with a mime map for them unless told. */
  serves?: (webConfig: string) => boolean;
}

/** The HTTP port of a Windows machine, which processes with an HttpListener share with IIS (test/support/powershell/http-sys.cs). */
export interface SharedHttpPort {
  readonly port: number;
  /** The environment in which processes of the machine share it. */
  readonly env: { FAKE_HTTP_SYS: string };
  /** The prefixes that living processes have registered. */
  registered(): Promise<string[]>;
  close(): Promise<void>;
}

interface Registration {
  prefix: string;
  port: number;
}

const hasMimeMap = (webConfig: string): boolean => /fileExtension="\.\*?"/.test(webConfig);

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Starts it. */
export async function startSharedHttpPort({
  dir,
  port = 0,
  root,
  serves = hasMimeMap,
}: SharedHttpPortOptions): Promise<SharedHttpPort> {
  await mkdir(dir, { recursive: true });

  async function registrations(): Promise<Registration[]> {
    const files = (await readdir(dir)).filter((file) => file.endsWith('%2F'));
    const all = await Promise.all(
      files.map(async (file) => {
        const [own, pid] = (await readFile(join(dir, file), 'utf8').catch(() => '')).split(' ').map(Number);
        // With a process its registrations go.
        return pid && own && isAlive(pid) ? [{ prefix: decodeURIComponent(file), port: own }] : [];
      }),
    );
    return all.flat();
  }

  /** Who gets a path: the longest prefix, with or without the slash at its end, in any case of letters. */
  async function ownerOf(path: string): Promise<Registration | undefined> {
    const asked = `http://+:${portOf()}${path}/`.toLowerCase();
    const fitting = (await registrations()).filter(({ prefix }) => asked.startsWith(prefix.toLowerCase()));
    return fitting.sort((a, b) => b.prefix.length - a.prefix.length)[0];
  }

  async function answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(incoming.url ?? '/', 'http://localhost');
    const owner = await ownerOf(pathname);
    if (owner) return pass(incoming, response, owner.port);
    const file = join(root, pathname);
    const [text, webConfig] = await Promise.all(
      [file, join(file, '..', 'web.config')].map((one) => readFile(one, 'utf8').catch(() => null)),
    );
    const isServed = typeof text === 'string' && serves(webConfig ?? '');
    response.writeHead(isServed ? 200 : 404, { 'content-type': 'text/plain' }).end(isServed ? text : 'no such file');
  }

  const server = createServer((incoming, response) => {
    answer(incoming, response).catch(() => response.writeHead(503).end());
  });
  const portOf = (): number => {
    const address = server.address();
    return typeof address === 'object' && address ? address.port : 0;
  };
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return {
    port: portOf(),
    env: { FAKE_HTTP_SYS: dir },
    registered: async () => (await registrations()).map(({ prefix }) => prefix).sort(),
    async close() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await rm(dir, { recursive: true, force: true });
    },
  };
}

function pass(incoming: IncomingMessage, response: ServerResponse, port: number): void {
  const { method, url, headers } = incoming;
  const passed = request(
    { host: '127.0.0.1', port, method, path: url, headers: { ...headers, host: `127.0.0.1:${port}` } },
    (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    },
  );
  passed.on('error', () => response.writeHead(503).end());
  incoming.pipe(passed);
}
