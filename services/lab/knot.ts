import { Resolver } from 'node:dns/promises';
import { mkdir, realpath, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { provideFromDebian } from './debian-programs.ts';
import { freePort, startProgram, untilReady, withFreePorts } from './running-program.ts';

const READY_MS = 20_000;
const STOP_MS = 5_000;

export interface KnotKey {
  readonly name: string;
  readonly algorithm: string;
  /** Base64. */
  readonly secret: string;
}

export interface KnotOptions {
  readonly dir: string;
  /** Zones whose TXT at `_acme-challenge` and below may be changed by the keys. */
  readonly zones: readonly string[];
  /** Zones that take updates without a key, of anything. */
  readonly openZones?: readonly string[];
  readonly keys: readonly KnotKey[];
}

/** A Knot DNS server on loopback that ends when this process ends. */
export interface Knot {
  /** Where it answers, `127.0.0.1:port`. */
  readonly address: string;
  close(): Promise<void>;
}

/** What a zone begins with: its own records, and one more that updates must leave alone. */
const zoneFile = (name: string): string =>
  [
    `$ORIGIN ${name}.`,
    '$TTL 300',
    '@ SOA ns1 hostmaster 1 3600 600 86400 300',
    '@ NS ns1',
    'ns1 A 127.0.0.1',
    'alias CNAME ns1',
    '_acme-challenge.aliased CNAME ns1',
    '_acme-challenge TXT "of somebody else"',
    '',
  ].join('\n');

function settings(dir: string, port: number, { zones, openZones = [], keys }: KnotOptions): string {
  const zone = (acl: string) => (name: string) => [
    ...[`  - domain: ${name}`, `    file: ${join(dir, `${name}.zone`)}`, `    acl: [${acl}]`],
    ...['    zonefile-sync: -1', '    zonefile-load: difference', '    journal-content: changes'],
  ];
  return [
    ...['server:', `    listen: 127.0.0.1@${port}`, `    rundir: ${dir}`],
    ...['log:', '  - target: stderr', '    any: info'],
    ...['database:', `    storage: ${dir}`],
    'key:',
    ...keys.flatMap(({ name, algorithm, secret }) => [
      ...[`  - id: ${name}`, `    algorithm: ${algorithm}`, `    secret: ${secret}`],
    ]),
    'acl:',
    ...['  - id: keys', `    key: [${keys.map(({ name }) => name).join(', ')}]`, '    action: update'],
    ...['    update-type: [TXT]', '    update-owner: name', '    update-owner-match: sub-or-equal'],
    '    update-owner-name: [_acme-challenge, _acme-challenge.www, _acme-challenge.aliased]',
    ...['  - id: anybody', '    address: 127.0.0.1', '    action: update'],
    'zone:',
    ...[...zones.flatMap(zone('keys')), ...openZones.flatMap(zone('anybody'))],
    '',
  ].join('\n');
}

/** Starts one with its zones and waits until it answers for all of them. */
export async function startKnot(options: KnotOptions): Promise<Knot> {
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  const dir = await realpath(options.dir);
  const program = await provideFromDebian('knotd', ['knot']);
  const all = [...options.zones, ...(options.openZones ?? [])];
  for (const name of all) await writeFile(join(dir, `${name}.zone`), zoneFile(name));
  const logFile = join(dir, 'knot.log');
  return withFreePorts(async () => {
    const port = await freePort();
    const file = join(dir, 'knot.conf');
    await writeFile(file, settings(dir, port, options), { mode: 0o600 });
    const running = await startProgram(
      { kind: 'file', path: program.path },
      { args: ['-c', file], dir, logFile, env: program.env },
    );
    const address = `127.0.0.1:${port}`;
    const resolver = new Resolver({ timeout: 1000, tries: 1 });
    resolver.setServers([address]);
    const answers = async (): Promise<boolean> => {
      for (const name of all) await resolver.resolveSoa(name);
      return true;
    };
    await untilReady(running, 'knotd', logFile, READY_MS, answers).catch(async (error) => {
      await running.stop('SIGKILL', 0);
      throw error;
    });
    return { address, close: () => running.stop('SIGTERM', STOP_MS) };
  });
}
