import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { DnsProvider } from '#libs/dns/dns-provider';
import { openRfc2136 } from '#libs/dns/providers/rfc2136';
import { type Bind, startBind } from '../../services/lab/bind.ts';
import { freePort, withFreePorts } from '../../services/lab/running-program.ts';
import { providerDeps } from '../support/dns-providers.ts';
import { zoneText } from '../support/dns-world.ts';

/** `chaos.test` at a BIND that takes signed updates, a registry above it and a resolver: all names in it are this machine, those of the web server at an address of its own. */
export interface ChaosZone {
  name: string;
  nameServer: string;
  /** Settings of the services. */
  env: Record<string, string>;
  tsigKey: string;
  /** Body of the credential. */
  credential: Record<string, unknown>;
  /** What a person changes records with. */
  records: Pick<DnsProvider, 'present' | 'cleanUp'>;
  close(): Promise<void>;
}

export const zoneName = 'chaos.test';
/** Names below `static.` lead there, all others to the API. */
export const webAddress = '127.0.0.4';
const apiAddress = '127.0.0.1';

export const addressOf = (name: string): string => (name.endsWith(`.static.${zoneName}`) ? webAddress : apiAddress);

export async function startZone(dir: string): Promise<ChaosZone> {
  const tsigKey = randomBytes(32).toString('base64');
  const started: Bind[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(started.map((bind) => bind.close()));
  };
  let attempt = 0;
  const { port, owner, resolver } = await withFreePorts(async () => {
    attempt += 1;
    const at = join(dir, String(attempt));
    const port = await freePort();
    const start = async (name: string, address: string, options: Partial<Parameters<typeof startBind>[0]>) => {
      const bind = await startBind({ dir: join(at, name), address, port, ...options });
      started.push(bind);
      return bind;
    };
    try {
      const keys = [{ name: 'certline.key', algorithm: 'hmac-sha256', secret: tsigKey }];
      const records = ['@ NS ns1.chaos.test.', 'ns1 A 127.0.0.3', `* A ${apiAddress}`, `*.static A ${webAddress}`];
      const zone = { name: zoneName, text: zoneText(zoneName, records), updateKeys: ['certline.key'] };
      const owner = await start('owner', '127.0.0.3', { keys, zones: [zone] });
      const root = ['@ NS ns.nic.test.', 'ns.nic.test. A 127.0.0.2', 'test. NS ns.nic.test.'];
      const top = ['@ NS ns.nic.test.', 'ns.nic A 127.0.0.2', 'chaos.test. NS ns1.chaos.test.'];
      const registry = [
        { name: '.', text: zoneText('.', root) },
        { name: 'test', text: zoneText('test', [...top, 'ns1.chaos.test. A 127.0.0.3']) },
      ];
      await start('registry', '127.0.0.2', { zones: registry });
      const recursion = { roots: ['127.0.0.2'], trust: [] };
      const resolver = await start('resolver', '127.0.0.5', { recursion });
      return { port, owner, resolver };
    } catch (error) {
      await close();
      started.length = 0;
      throw error;
    }
  });
  const settings = { server: owner.server, keyName: 'certline.key' };
  return {
    name: zoneName,
    nameServer: owner.server,
    tsigKey,
    env: { DNS_RESOLVERS: resolver.server, DNS01_PORT: String(port), ALLOW_PRIVATE_DNS_SERVERS: 'true' },
    credential: {
      ...{ name: 'BIND', kind: 'dns', provider: 'rfc2136', secret: { key: tsigKey } },
      settings,
    },
    records: await openRfc2136({ ...settings, algorithm: 'hmac-sha256' }, { key: tsigKey }, providerDeps),
    close,
  };
}
