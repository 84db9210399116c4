import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { signMessage } from '#libs/dns/tsig';
import { exchangeOverTcp } from '#libs/dns/update-exchange';
import { rcodeOf } from '#libs/dns/update-message';
import { classes, encodeName, encodeRecord, types, uint16 } from '#libs/dns/wire';
import type { RedisClient } from '#libs/store/redis';
import { createStore } from '#libs/store/store';
import { type Bind, type BindZone, startBind } from '../../services/lab/bind.ts';
import { type DnsRelay, startDnsRelay } from '../../services/lab/dns-relay.ts';
import { type PowerDns, startPowerDns } from '../../services/lab/powerdns.ts';
import { freePort, withFreePorts } from '../../services/lab/running-program.ts';
import { serialAt, txtAt } from './dns-providers.ts';
import { zoneText } from './dns-world.ts';
import { eventually } from './lab-session.ts';

/** What orders with dns-01 need around them: name servers that take updates, and a resolver for certline and the CA. All real. */
export interface DnsLab {
  /** `ns1.host.test`: takes updates, signed with `certline.key`, of `fast.test` (its own) and `slow.test`. */
  primary: Bind;
  /** `ns2.host.test`: has a copy of `slow.test`, which it renews only by `catchUp`. */
  secondary: Bind;
  /** Has `handed.test`, below which `_acme-challenge.www.delegating.test` leads. */
  powerdns: PowerDns;
  /** Settings of the services. */
  env: Record<string, string>;
  /** What a Pebble asks. */
  dnsServer: string;
  /** Bodies of credentials. */
  rfc2136(name: string, key?: string): Record<string, unknown>;
  powerDns(name: string, apiKey?: string): Record<string, unknown>;
  tsigKey: string;
  catchUp(): Promise<void>;
  /** Gives `example.com`, a public domain whose names all lead to this machine, these records besides. */
  writePublic(...records: string[]): Promise<void>;
  /** Puts a CNAME in the place of what a name of `slow.test` has, at both servers. */
  delegate(name: string, to: string): Promise<void>;
  /** All values at the name on every server of its zone. */
  valuesAt(name: string): Promise<string[]>;
  close(): Promise<void>;
}

const addresses = {
  registry: '127.0.0.2',
  primary: '127.0.0.3',
  secondary: '127.0.0.4',
  resolver: '127.0.0.5',
  resolverOfCa: '127.0.0.7',
};
const powerDnsAddress = '127.0.0.6';

export const inHandedZone = 'www-delegating.handed.test';

const zones: Record<string, string[]> = {
  'host.test': ['@ NS ns1.host.test.', 'ns1 A 127.0.0.3', 'ns2 A 127.0.0.4', `ns3 A ${powerDnsAddress}`],
  'fast.test': ['@ NS ns1.host.test.', '* A 127.0.0.1'],
  'slow.test': ['@ NS ns1.host.test.', '@ NS ns2.host.test.'],
  'delegating.test': ['@ NS ns1.host.test.', `_acme-challenge.www CNAME ${inHandedZone}.`],
  'example.com': ['@ NS ns1.host.test.', '* A 127.0.0.1'],
};

async function startServers(dir: string, tsigKey: string, powerdns: PowerDns) {
  const port = await freePort();
  const stops: (() => Promise<void>)[] = [];
  const start = async (name: keyof typeof addresses, options: Partial<Parameters<typeof startBind>[0]>) => {
    const bind = await startBind({ dir: join(dir, name), address: addresses[name], port, ...options });
    stops.push(bind.close);
    return bind;
  };
  const close = async (): Promise<void> => {
    await Promise.all(stops.map((stop) => stop()));
  };
  try {
    const keys = [{ name: 'certline.key', algorithm: 'hmac-sha256', secret: tsigKey }];
    const primary = await start('primary', {
      keys,
      zones: Object.entries(zones).map(
        ([name, records]): BindZone => ({
          ...{ name, text: zoneText(name, records) },
          ...(name === 'fast.test' || name === 'slow.test' ? { updateKeys: ['certline.key'] } : {}),
        }),
      ),
    });
    const secondary = await start('secondary', { zones: [{ name: 'slow.test', copyOf: addresses.primary }] });
    const delegated = (top: string): string[] =>
      Object.keys(zones)
        .filter((name) => name.endsWith(`.${top}`))
        .map((name) => `${name}. NS ns1.host.test.`);
    const delegations = [
      ...delegated('test'),
      ...['slow.test. NS ns2.host.test.', 'handed.test. NS ns3.host.test.', 'ns1.host.test. A 127.0.0.3'],
    ];
    const root = ['@ NS ns.nic.test.', 'ns.nic.test. A 127.0.0.2', 'test. NS ns.nic.test.', 'com. NS ns.nic.test.'];
    await start('registry', {
      zones: [
        { name: '.', text: zoneText('.', root) },
        { name: 'test', text: zoneText('test', ['@ NS ns.nic.test.', 'ns.nic A 127.0.0.2', ...delegations]) },
        { name: 'com', text: zoneText('com', ['@ NS ns.nic.test.', ...delegated('com')]) },
      ],
    });
    const recursion = { roots: [addresses.registry], trust: [] };
    const resolver = await start('resolver', { recursion });
    // One that has not heard from certline, a moment ago, that there is nothing.
    const resolverOfCa = await start('resolverOfCa', { recursion });
    const [host = '', dnsPort] = powerdns.address.split(':');
    const relay: DnsRelay = await startDnsRelay(
      { address: powerDnsAddress, port },
      { address: host, port: Number(dnsPort) },
    );
    stops.push(relay.close);
    return { port, primary, secondary, resolver, resolverOfCa, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const updateId = 1;
const typeAny = 255;

/** A dynamic update (RFC 2136 §2.5.3, §2.5.1) that takes everything away from a name and makes it a CNAME. */
function cnameUpdate(zone: string, name: string, to: string): Buffer {
  const updates = [
    encodeRecord(name, typeAny, classes.ANY, 0, Buffer.alloc(0)),
    encodeRecord(name, types.CNAME, classes.IN, 1, encodeName(to)),
  ];
  const header = [updateId, 5 << 11, 1, 0, updates.length, 0].map(uint16);
  return Buffer.concat([...header, encodeName(zone), uint16(types.SOA), uint16(classes.IN), ...updates]);
}

export async function startDnsLab(): Promise<DnsLab> {
  const dir = await mkdtemp(join(tmpdir(), 'certline-dns-'));
  const tsigKey = randomBytes(32).toString('base64');
  const powerdns = await startPowerDns({ dir: join(dir, 'powerdns') });
  await powerdns.createZone('handed.test', { nameservers: ['ns3.host.test.'] });
  let attempt = 0;
  const servers = await withFreePorts(() => {
    attempt += 1;
    return startServers(join(dir, `servers-${attempt}`), tsigKey, powerdns);
  });
  const { port, primary, secondary, resolver, resolverOfCa } = servers;
  const catchUp = async (): Promise<void> => {
    await secondary.control('retransfer', 'slow.test');
  };
  let publicSerial = 1;
  const copied = async (): Promise<boolean> => (await secondary.log()).includes('zone slow.test/IN: transferred');
  await eventually('ns2 has its copy', 20_000, copied);
  const serversOf = (name: string): string[] => {
    if (name.endsWith('.handed.test')) return [powerdns.address];
    return name.endsWith('slow.test') ? [primary.server, secondary.server] : [primary.server];
  };
  return {
    ...{ primary, secondary, powerdns, tsigKey, dnsServer: resolverOfCa.server },
    env: {
      DNS_RESOLVERS: resolver.server,
      DNS01_PORT: String(port),
      ALLOW_PRIVATE_DNS_SERVERS: 'true',
      RECONCILE_INTERVAL_MS: '200',
    },
    rfc2136: (name, key = tsigKey) => ({
      ...{ name, kind: 'dns', provider: 'rfc2136', secret: { key } },
      settings: { server: primary.server, keyName: 'certline.key' },
    }),
    powerDns: (name, apiKey = powerdns.apiKey) => ({
      ...{ name, kind: 'dns', provider: 'powerdns', secret: { apiKey }, settings: { url: powerdns.url } },
    }),
    catchUp,
    async writePublic(...records) {
      publicSerial += 1;
      const text = zoneText('example.com', [...(zones['example.com'] ?? []), ...records], publicSerial);
      await primary.writeZone('example.com', text);
      const loaded = async () => (await serialAt(primary.server, 'example.com')) === publicSerial;
      await eventually('ns1 has loaded it', 20_000, loaded);
      await Promise.all([resolver, resolverOfCa].map((one) => one.control('flush')));
    },
    async delegate(name, to) {
      const key = { name: 'certline.key', algorithm: 'hmac-sha256', secret: Buffer.from(tsigKey, 'base64') } as const;
      const { signed } = signMessage(cnameUpdate('slow.test', name, to), key, Date.now());
      const answer = await exchangeOverTcp(primary.server, signed, AbortSignal.timeout(10_000));
      if (rcodeOf(answer, updateId) !== 'NOERROR') throw new Error(`not delegated: ${rcodeOf(answer, updateId)}`);
      const serial = await serialAt(primary.server, 'slow.test');
      await catchUp();
      await eventually('ns2 has it too', 20_000, async () => (await serialAt(secondary.server, 'slow.test')) >= serial);
    },
    async valuesAt(name) {
      return (await Promise.all(serversOf(name).map((server) => txtAt(server, name)))).flat();
    },
    async close() {
      await servers.close();
      await powerdns.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Waits until nothing is left of what was written: on no server, and on no list. A clean-up that fails once comes again after 10 s. */
export async function nothingLeft(dns: DnsLab, redis: RedisClient, ...names: string[]): Promise<void> {
  const { cleanUps } = createStore(redis, 'certline');
  await eventually(`nothing is left at ${names.join(', ')}`, 60_000, async () => {
    const values = await Promise.all(names.map(dns.valuesAt));
    return values.flat().length === 0 && (await cleanUps.count()) === 0;
  });
}
