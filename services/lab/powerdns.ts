import { randomBytes } from 'node:crypto';
import { mkdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { run } from './debian-packages.ts';
import { provideFromDebian } from './debian-programs.ts';
import { freePort, startProgram, untilReady, withFreePorts } from './running-program.ts';

const READY_MS = 20_000;
const STOP_MS = 5_000;
const schemaBelow = 'usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql';

/** A PowerDNS Authoritative Server on loopback, with SQLite, that ends when this process ends. */
export interface PowerDns {
  /** Of its HTTP API. */
  readonly url: string;
  readonly apiKey: string;
  /** Where it answers DNS. */
  readonly address: string;
  readonly version: string;
  /** A request to the API, as anybody else with the key makes it; throws unless it is answered 2xx. */
  call(method: string, path: string, body?: object): Promise<unknown>;
  /** Makes a zone; `more` is of the API's Zone. */
  createZone(name: string, more?: object): Promise<void>;
  /** Runs SQL on its database, which the API does not show all of. */
  rows(sql: string, ...values: string[]): Record<string, unknown>[];
  close(): Promise<void>;
}

/** Starts one and waits until its API answers. */
export async function startPowerDns(options: { dir: string }): Promise<PowerDns> {
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  const dir = await realpath(options.dir);
  const program = await provideFromDebian('pdns_server', ['pdns-server', 'pdns-backend-sqlite3']);
  const root = program.root ?? '/';
  const apiKey = randomBytes(12).toString('hex');
  const database = join(dir, 'pdns.sqlite3');
  const db = new DatabaseSync(database);
  db.exec(await readFile(join(root, schemaBelow), 'utf8'));
  const modules = await run('find', [join(root, 'usr/lib'), '-name', 'libgsqlite3backend.so']);
  const logFile = join(dir, 'pdns.log');

  const started = await withFreePorts(async () => {
    const [dns, api] = [await freePort(), await freePort()];
    const lines = [
      ...[
        'launch=gsqlite3',
        `gsqlite3-database=${database}`,
        'gsqlite3-dnssec=yes',
        `module-dir=${dirname(modules.split('\n')[0] ?? '')}`,
      ],
      ...['local-address=127.0.0.1', `local-port=${dns}`, `socket-dir=${dir}`, 'daemon=no', 'guardian=no'],
      ...['webserver=yes', 'webserver-address=127.0.0.1', `webserver-port=${api}`, 'webserver-allow-from=127.0.0.0/8'],
      ...['api=yes', `api-key=${apiKey}`, 'dnsupdate=no', 'cache-ttl=0', 'query-cache-ttl=0', 'negquery-cache-ttl=0'],
    ];
    // Without its cache of zones, which learns of a new one later.
    await writeFile(join(dir, 'pdns.conf'), `${[...lines, 'zone-cache-refresh-interval=0'].join('\n')}\n`, {
      mode: 0o600,
    });
    const running = await startProgram(
      { kind: 'file', path: program.path },
      { args: [`--config-dir=${dir}`], dir, logFile, env: program.env },
    );
    const url = `http://127.0.0.1:${api}`;
    const answers = async (): Promise<boolean> => {
      const headers = { 'x-api-key': apiKey };
      return (await fetch(`${url}/api/v1/servers/localhost`, { headers })).ok;
    };
    await untilReady(running, 'pdns_server', logFile, READY_MS, answers).catch(async (error) => {
      await running.stop('SIGKILL', 0);
      throw error;
    });
    return { running, url, dns };
  });

  const { running, url, dns } = started;
  async function call(method: string, path: string, body?: object): Promise<unknown> {
    const response = await fetch(`${url}/api/v1/servers/localhost${path}`, {
      ...{ method, headers: { 'x-api-key': apiKey, 'content-type': 'application/json' } },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }
  const { version } = (await call('GET', '')) as { version: string };
  return {
    ...{ url, apiKey, version, address: `127.0.0.1:${dns}`, call },
    createZone: async (name, more = {}) => {
      await call('POST', '/zones', { name: `${name}.`, kind: 'Native', nameservers: [`ns1.${name}.`], ...more });
    },
    rows: (sql, ...values) => db.prepare(sql).all(...values),
    close: async () => {
      db.close();
      await running.stop('SIGTERM', STOP_MS);
    },
  };
}
