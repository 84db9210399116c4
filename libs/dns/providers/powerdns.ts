import { randomInt } from 'node:crypto';
import { z } from 'zod';
import { CertlineError } from '../../errors.ts';
import { webhookSettingsSchema } from '../../model/target-kinds.ts';
import { readAnswer } from '../api-answers.ts';
import { type DnsProvider, defineProvider, type ProviderDeps, type TxtRecord } from '../dns-provider.ts';
import { createOwnServerApi } from '../own-server.ts';
import {
  changeOf,
  changesSingleRecords,
  isServed,
  type PowerDnsZone,
  type PowerDnsZoneState,
  setOf,
  zoneListSchema,
  zoneSchema,
} from '../powerdns-records.ts';
import { pathBelow, serverUrlField } from '../server-fields.ts';
import { inTurn } from '../turns.ts';
import { plainName, zoneNotManaged } from '../zone-names.ts';

const title = 'PowerDNS';
/** How long somebody else may take between reading a record set and writing it back, after which our value would be gone. */
const settleMs = 500;
const mostRounds = 6;

const settings = z.strictObject({
  url: serverUrlField.describe(
    'Address of the API, such as `https://ns1.example.org:8081`; http within a private network only.',
  ),
  serverId: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,100}$/, 'the id of a server')
    .default('localhost')
    .describe('`localhost`, unless something in front of several servers has other ids.'),
  caBundle: webhookSettingsSchema.shape.caBundle,
});
const secret = z.strictObject({
  apiKey: z.string().min(1).max(1000).describe('`api-key` of pdns.conf.'),
});
const serverSchema = z.object({ version: z.string() });
const primaryKinds = new Set(['Master', 'Primary', 'Producer']);
const copyKinds = new Set(['Slave', 'Secondary', 'Consumer']);

/**
 * PowerDNS Authoritative, API v1: https://doc.powerdns.com/authoritative/http-api/zone.html. Before 4.9.12 and 5.0.2 a record set can only be written as
 * a whole, without conditions. What holds then: in this process changes at a name come one after the other; and half a second after each write the set
 * is read again, and the change made anew when somebody had read before it and written after it. So a change of ours is not lost, to others who
 * write in less than that. A value of another program that comes between our reading and our writing, some milliseconds, is lost unless it looks too:
 * where that matters, let both use dynamic updates (`rfc2136`, `dnsupdate=yes`). Records that are disabled are not shown before 5.0, and do not stay.
 */
export async function openPowerDns(
  { url, serverId, caBundle }: z.infer<typeof settings>,
  { apiKey }: z.infer<typeof secret>,
  { clock, ttlSeconds, allowPrivate }: ProviderDeps,
): Promise<DnsProvider> {
  const api = createOwnServerApi({
    ...{ title, baseUrl: url, clock, caBundle, allowPrivate, plain: 'private' },
    authorize: async () => ({ 'x-api-key': apiKey }),
    read: ({ status, text }) =>
      status === 404 ? { words: `${text}: check settings.url and settings.serverId` } : undefined,
  });
  const server = pathBelow(url, `api/v1/servers/${serverId}`);
  let single: boolean | undefined;

  /** Asked once: a server that is made older meanwhile is no case. */
  async function canChangeSingle(signal: AbortSignal): Promise<boolean> {
    const read = async (): Promise<boolean> => {
      const answer = await api.send({ method: 'GET', path: server }, signal);
      return changesSingleRecords(readAnswer(title, serverSchema, answer).version);
    };
    single ??= await read();
    return single;
  }

  async function listZones(query: string, signal: AbortSignal): Promise<PowerDnsZone[]> {
    return readAnswer(
      title,
      zoneListSchema,
      await api.send({ method: 'GET', path: `${server}/zones${query}` }, signal),
    );
  }

  async function findZone(zone: string, signal: AbortSignal): Promise<PowerDnsZone> {
    const found = await listZones(`?zone=${encodeURIComponent(`${zone}.`)}`, signal);
    const mine = found.find(({ name }) => plainName(name) === zone);
    if (!mine) throw zoneNotManaged(title, zone, await nameZones(signal));
    if (!copyKinds.has(mine.kind)) return mine;
    const words = `${title}: the zone ${zone} is a copy there (${mine.kind}), which the next transfer overwrites; give the server that it comes from in settings.url`;
    throw new CertlineError('dns_zone_not_managed', words);
  }

  async function nameZones(signal: AbortSignal): Promise<string[]> {
    // Without the look at the keys of each zone, which takes long where there are many.
    return (await listZones('?dnssec=false', signal)).map(({ name }) => plainName(name)).sort();
  }

  async function readZone(path: string, name: string, signal: AbortSignal): Promise<PowerDnsZoneState> {
    const query = `?rrset_name=${encodeURIComponent(`${name}.`)}&rrset_type=TXT`;
    return readAnswer(title, zoneSchema, await api.send({ method: 'GET', path: path + query }, signal));
  }

  /** What follows a write: proofs of DNSSEC where the server does not renew them by itself, and word to the secondaries, which they get later anyway. */
  async function afterWrite(
    path: string,
    { kind }: PowerDnsZone,
    state: PowerDnsZoneState,
    signal: AbortSignal,
  ): Promise<void> {
    if (state.dnssec && !state.api_rectify) await api.send({ method: 'PUT', path: `${path}/rectify` }, signal);
    if (primaryKinds.has(kind))
      await api.send({ method: 'PUT', path: `${path}/notify`, accept: [400, 404, 422, 500] }, signal);
  }

  /** Its database says by a 500 that somebody else is writing: nothing was changed then, and that refusal is the answer. */
  async function write(path: string, rrset: object, signal: AbortSignal): Promise<CertlineError | undefined> {
    try {
      await api.send({ method: 'PATCH', path, body: { rrsets: [rrset] } }, signal);
      return undefined;
    } catch (error) {
      if (error instanceof CertlineError && error.evidence?.status === 500) return error;
      throw error;
    }
  }

  async function change({ zone, name, value }: TxtRecord, present: boolean, signal: AbortSignal): Promise<void> {
    const found = await findZone(zone, signal);
    const path = `${server}/zones/${found.id}`;
    const writesSingle = await canChangeSingle(signal);
    let lost: CertlineError | undefined;
    for (let round = 0; round < mostRounds; round += 1) {
      const asItShould = await inTurn(`${url} ${serverId} ${name}`, async () => {
        const state = await readZone(path, name, signal);
        const set = setOf(state, name);
        if (isServed(set, value) === present) return true;
        const rrset = changeOf(name, set, { value, present, ttlSeconds, single: writesSingle });
        lost = await write(path, rrset, signal);
        if (!lost) await afterWrite(path, found, state, signal);
        return false;
      });
      if (asItShould) return;
      // Not in step with others who do the same.
      await clock.sleep(settleMs + randomInt(settleMs * (round + 1)), signal);
    }
    if (lost) throw lost;
    throw new CertlineError(
      'dns_provider_busy',
      `${title}: ${name}: others wrote the record set back without the change, ${mostRounds} times`,
    );
  }

  return {
    present: (record, signal) => change(record, true, signal),
    cleanUp: (record, signal) => change(record, false, signal),
    zones: nameZones,
  };
}

export const powerdns = defineProvider({
  ...{ name: 'powerdns', title: 'PowerDNS Authoritative (HTTP API)' },
  // https://doc.powerdns.com/authoritative/http-api/
  rights:
    '`api=yes` and an `api-key` in pdns.conf, the workers in `webserver-allow-from`. The key may change everything.',
  ...{ settings, secret, open: openPowerDns },
});
