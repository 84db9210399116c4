import { join } from 'node:path';
import { systemClock } from '#libs/clock';
import { type Authoritative, createAuthoritative } from '#libs/dns/authoritative';
import { createExchange, type Exchange } from '#libs/dns/exchange';
import { createResolver, type Resolver } from '#libs/dns/resolver';
import { parseServer } from '#libs/dns/servers';
import { createZoneFinder, type ZoneFinder } from '#libs/dns/zone';
import { type Bind, type BindZone, startBind } from '../../services/lab/bind.ts';
import { freePort, withFreePorts } from '../../services/lab/running-program.ts';

const READY_MS = 20_000;

/** A DNS of its own: a registry (root, `test`, `com`), two name servers of customers, and a validating resolver. All real BINDs. */
export interface DnsWorld {
  port: number;
  /** `ns1.host.test`: every zone below is its own. */
  primary: Bind;
  /** `ns2.host.test`: has a copy of `example.test`, which it renews only when it is told to. */
  secondary: Bind;
  validating: Bind;
  exchange: Exchange;
  resolver: Resolver;
  zones: ZoneFinder;
  authoritative: Authoritative;
  close(): Promise<void>;
}

const addresses = { registry: '127.0.0.2', primary: '127.0.0.3', secondary: '127.0.0.4', validating: '127.0.0.5' };
/** Nobody is there. */
export const deadAddress = '127.0.0.9';

/** The text of a zone: its records below a start that every zone has. Everything lives a second. */
export function zoneText(name: string, records: readonly string[], serial = 1): string {
  const origin = name === '.' ? '.' : `${name}.`;
  const start = [`$ORIGIN ${origin}`, '$TTL 1', `@ SOA ns1.host.test. admin.host.test. ${serial} 86400 86400 864000 1`];
  return `${[...start, ...records].join('\n')}\n`;
}

const bothServers = ['@ NS ns1.host.test.', '@ NS ns2.host.test.'];
const oneServer = ['@ NS ns1.host.test.'];

/** The zones of customers, each with what it is there for. */
export const customerZones: Record<string, string[]> = {
  'host.test': [
    ...oneServer,
    ...['ns1 A 127.0.0.3', 'ns2 A 127.0.0.4', `ns3 A ${deadAddress}`, 'ns4 AAAA 2001:db8::53', 'ns4 A 127.0.0.3'],
  ],
  'example.test': [
    ...bothServers,
    ...['www A 192.0.2.1', '_acme-challenge.www TXT "first"', '_acme-challenge.www TXT "sec" "ond"', 'alias CNAME www'],
    '_acme-challenge.shop CNAME shop.challenges.test.',
    '_acme-challenge.far CNAME a.challenges.test.',
    '_acme-challenge.gone CNAME nothing.challenges.test.',
    '_acme-challenge.round CNAME b.round.test.',
    '_acme-challenge.long CNAME l1.challenges.test.',
    'dev NS ns1.host.test.',
  ],
  'dev.example.test': [...oneServer, 'srv A 192.0.2.2', 'up CNAME www.example.test.'],
  'challenges.test': [
    ...oneServer,
    ...['shop TXT "delegated"', 'a CNAME b', 'b CNAME c.dev.example.test.'],
    ...Array.from({ length: 12 }, (_, at) => `l${at + 1} CNAME l${at + 2}`),
  ],
  'round.test': [...oneServer, 'b CNAME c', 'c CNAME _acme-challenge.round.example.test.'],
  'signed.test': [...oneServer, 'www A 192.0.2.3', '_acme-challenge TXT "signed"'],
  'broken.test': [...oneServer, 'www A 192.0.2.4'],
  // `lame`: ns2 does not have it. `dead`: nobody is at ns3. `six`: an address of a kind that there may be no way to.
  'lame.test': [...bothServers, '_acme-challenge TXT "here"'],
  'dead.test': [...oneServer, '@ NS ns3.host.test.', '_acme-challenge TXT "here"'],
  'six.test': ['@ NS ns4.host.test.', '_acme-challenge TXT "here"'],
  // The registry knows only ns1; the zone names ns2, too, which has nothing of it.
  'more.test': [...bothServers, '_acme-challenge TXT "here"'],
  // The other way round: the registry still knows ns2.
  'less.test': [...oneServer, '_acme-challenge TXT "here"'],
  'big.test': [
    ...oneServer,
    ...Array.from({ length: 80 }, (_, at) => `_acme-challenge TXT "${`${at}-`.padEnd(120, 'x')}"`),
  ],
  'caa.test': [
    ...oneServer,
    ...['@ CAA 0 issue "ca.example"', '@ CAA 0 issuewild ";"', '@ CAA 0 iodef "mailto:security@caa.test"'],
    ...['closed CAA 0 issue ";"', 'strange CAA 128 tbs "unknown"', 'a.b A 192.0.2.5'],
    // Through the CNAME the records of its target count, but not those above the target.
    ...['to-closed CNAME closed', 'to-below CNAME below.open.test.'],
    'bound CAA 0 issue "ca.example; accounturi=https://ca.example/acct/1; validationmethods=dns-01"',
  ],
  'open.test': [...oneServer, '@ CAA 0 issue "other.example"', 'below A 192.0.2.6'],
};

const delegatedTo: Record<string, string[]> = {
  'example.test': ['ns1.host.test.', 'ns2.host.test.'],
  'lame.test': ['ns1.host.test.', 'ns2.host.test.'],
  'less.test': ['ns1.host.test.', 'ns2.host.test.'],
  'dead.test': ['ns1.host.test.', 'ns3.host.test.'],
  'six.test': ['ns4.host.test.'],
};

/** With the digest of somebody else's key. */
function otherDigest(record: string): string {
  return record.replace(/[0-9A-F]{8}\s*$/i, (end) => (end.trim() === '00000000' ? '11111111' : '00000000'));
}

async function startServers(dir: string): Promise<Omit<DnsWorld, keyof ReturnType<typeof clients>>> {
  const port = await freePort();
  const started: Bind[] = [];
  const start = async (name: keyof typeof addresses, options: Partial<Parameters<typeof startBind>[0]>) => {
    const bind = await startBind({ dir: join(dir, name), address: addresses[name], port, ...options });
    started.push(bind);
    return bind;
  };
  const close = async (): Promise<void> => {
    await Promise.all(started.map((bind) => bind.close()));
  };
  try {
    const zones = Object.entries(customerZones).map(
      ([name, records]): BindZone => ({
        ...{ name, text: zoneText(name, records) },
        ...(name === 'signed.test' || name === 'broken.test' ? { signed: true } : {}),
      }),
    );
    const primary = await start('primary', { zones });
    const secondary = await start('secondary', { zones: [{ name: 'example.test', copyOf: addresses.primary }] });
    const top = Object.keys(customerZones).filter((name) => name.split('.').length === 2);
    const delegations = top.flatMap((name) =>
      (delegatedTo[name] ?? ['ns1.host.test.']).map((ns) => `${name}. NS ${ns}`),
    );
    const glue = [
      ...['ns1.host.test. A 127.0.0.3', 'ns2.host.test. A 127.0.0.4', `ns3.host.test. A ${deadAddress}`],
      ...['ns4.host.test. AAAA 2001:db8::53', 'ns4.host.test. A 127.0.0.3'],
    ];
    const signers = [
      await primary.delegationSigner('signed.test'),
      otherDigest((await primary.delegationSigner('broken.test')).trim()),
    ];
    const test = ['@ NS ns.nic', 'ns.nic A 127.0.0.2', ...delegations, ...glue, ...signers];
    const root = ['@ NS root0.', 'root0. A 127.0.0.2', 'test. NS ns.nic.test.', 'com. NS ns.nic.test.'];
    const registry = await start('registry', {
      zones: [
        { name: '.', text: zoneText('.', [...root, 'ns.nic.test. A 127.0.0.2']) },
        { name: 'test', text: zoneText('test', test), signed: true },
        { name: 'com', text: zoneText('com', ['@ NS ns.nic.test.']) },
      ],
    });
    const trust = [await registry.delegationSigner('test')];
    const validating = await start('validating', { recursion: { roots: [addresses.registry], trust } });
    return { port, primary, secondary, validating, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function clients(port: number, server: string) {
  const exchange = createExchange({ timeoutMs: 1_000, tries: 2 });
  const resolver = createResolver({ servers: [parseServer(server)], exchange });
  return {
    exchange,
    resolver,
    zones: createZoneFinder({ resolver }),
    authoritative: createAuthoritative({ resolver, exchange, portOf: () => port }),
  };
}

/** Waits for something to become so; what it was in the end is in the error. */
export async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = systemClock.now() + READY_MS;
  while (!(await isSo())) {
    if (systemClock.now() > deadline) throw new Error(`not in ${READY_MS} ms: ${what}`);
    await systemClock.sleep(50);
  }
}

export async function startDnsWorld(dir: string): Promise<DnsWorld> {
  let attempt = 0;
  const servers = await withFreePorts(() => {
    attempt += 1;
    return startServers(join(dir, `world-${attempt}`));
  });
  const world = { ...servers, ...clients(servers.port, servers.validating.server) };
  const { resolver } = world;
  const never = new AbortController().signal;
  try {
    // Zones are signed after they are loaded, and copied after the copy has started.
    await until('signed.test is validated', async () =>
      resolver.lookup('www.signed.test', 'A', never).then(
        ({ authenticated }) => authenticated,
        () => false,
      ),
    );
    await until('ns2 has its copy', async () =>
      (await world.secondary.log()).includes('zone example.test/IN: transferred'),
    );
  } catch (error) {
    await world.close();
    throw error;
  }
  return world;
}
