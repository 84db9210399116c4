import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { webAddress } from './zone.ts';

/** A web server of somebody, whose folders certline may write answers to. */
export interface WebServer {
  /** The folder that all of its roots are below. */
  dir: string;
  /** The root of a name. Several names share one: what an order makes there, another may need. */
  rootOf(name: string): string;
  /** Files and folders that were not there before, and what is missing of those that were. */
  left(): Promise<string[]>;
  close(): Promise<void>;
}

/** In the second root the folder of the challenges was there before, with something in it. */
const before = [
  'one',
  'three',
  'two',
  'two/.well-known',
  'two/.well-known/acme-challenge',
  'two/.well-known/security.txt',
];
const roots = ['one', 'two', 'three'];

/** Serves below `dir` at the port that the CA asks, at the address of the web server. */
export async function startWebServer(dir: string, port: number): Promise<WebServer> {
  const rootOf = (name: string): string => {
    const number = Number(/o(\d+)\./.exec(name)?.[1] ?? 0);
    return join(dir, roots[number % roots.length] ?? '');
  };
  for (const root of roots) await mkdir(join(dir, root), { recursive: true });
  await mkdir(join(dir, 'two/.well-known/acme-challenge'), { recursive: true });
  await writeFile(join(dir, 'two/.well-known/security.txt'), 'Contact: mailto:ops@example.com\n');
  const server = createServer((request, response) => {
    const { pathname, hostname } = new URL(`http://${request.headers.host}${request.url}`);
    readFile(join(rootOf(hostname), pathname)).then(
      (data) => response.end(data),
      () => response.writeHead(404).end(),
    );
  });
  server.listen(port, webAddress);
  await once(server, 'listening');
  return {
    dir,
    rootOf,
    async left() {
      const now = (await readdir(dir, { recursive: true })).sort();
      const more = now.filter((path) => !before.includes(path));
      return [...more, ...before.filter((path) => !now.includes(path)).map((path) => `no ${path}`)];
    },
    async close() {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}
