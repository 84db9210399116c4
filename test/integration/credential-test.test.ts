import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfig } from '#libs/config';
import { createDnsAccess } from '#libs/service/dns-access';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import { createOutlook } from '../../services/validation-worker/outlook.ts';
import { createCredentialTest } from '../../services/validation-worker/test-credential.ts';
import { startAcmeDns } from '../support/acme-dns.ts';
import { type ApiSession, openApiSession } from '../support/api-session.ts';
import { type DnsLab, nothingLeft, startDnsLab } from '../support/dns-lab.ts';
import { never, providerDeps } from '../support/dns-providers.ts';
import { startDnsReceiver } from '../support/dns-receiver.ts';
import { type FakeClock, fakeClock } from '../support/fake-clock.ts';

type Json = Record<string, unknown>;
interface Test {
  ok: boolean;
  zones: string[] | null;
  steps: { step: string; ok: boolean; detail: string }[];
}

/** Credentials for DNS are tried on real name servers. */
let dns: DnsLab;
let session: ApiSession;
let bind: string;

const make = async (body: Json): Promise<string> =>
  String((await session.api.send('POST', '/v1/credentials', body)).id);
const test = async (id: string, body?: Json): Promise<Test> =>
  (await session.api.send('POST', `/v1/credentials/${id}/test`, body)) as unknown as Test;
/** `step ok`, or `step failed`. */
const endsOf = ({ steps }: Pick<Test, 'steps'>): string[] =>
  steps.map(({ step, ok }) => `${step} ${ok ? 'ok' : 'failed'}`);
const wordsOf = ({ steps }: Pick<Test, 'steps'>, wanted: string): string =>
  steps.find(({ step }) => step === wanted)?.detail ?? '';
const recordOf = (tested: Pick<Test, 'steps'>): string =>
  /_acme-challenge\.\S+/.exec(wordsOf(tested, 'write'))?.[0] ?? '';

beforeAll(async () => {
  dns = await startDnsLab();
  session = await openApiSession({ workers: true, env: dns.env, pebble: { dnsServer: dns.dnsServer } });
  bind = await make(dns.rfc2136('BIND'));
});
afterAll(async () => {
  await session?.close();
  await dns?.close();
});

describe('the test of a credential for DNS', { timeout: 60_000 }, () => {
  it('writes a record of its own, sees it on the name server, and leaves nothing', async () => {
    const tested = await test(bind, { zone: 'fast.test' });
    expect(tested).toMatchObject({ ok: true, zones: null });
    expect(endsOf(tested)).toEqual(['credential ok', 'zones ok', 'zone ok', 'write ok', 'visible ok', 'remove ok']);
    const name = recordOf(tested);
    expect(name).toMatch(/^_acme-challenge\.certline-test-[0-9a-f]+\.fast\.test$/);
    const log = await dns.primary.log();
    expect(log).toContain(`adding an RR at '${name}' TXT`);
    expect(log).toContain(`deleting an RR at ${name} TXT`);
    expect(await dns.valuesAt(name)).toEqual([]);
    expect(await session.store.cleanUps.count()).toBe(0);
  });

  it('finds the zone of a name', async () => {
    const tested = await test(bind, { zone: 'WWW.shop.Fast.test.' });
    expect(wordsOf(tested, 'zone')).toBe('www.shop.fast.test lies in the zone fast.test');
    expect(tested.ok).toBe(true);
  });

  it('takes the first zone that the provider tells of', async () => {
    const tested = await test(await make(dns.powerDns('PowerDNS')));
    expect(tested).toMatchObject({ ok: true, zones: ['handed.test'] });
    expect(wordsOf(tested, 'zones')).toBe('it sees handed.test');
    expect(recordOf(tested)).toMatch(/\.handed\.test$/);
    await nothingLeft(dns, session.redis, recordOf(tested));
  });

  it('says that a zone is to be given when the provider tells of none', async () => {
    const tested = await test(bind);
    expect(endsOf(tested)).toEqual(['credential ok', 'zones ok', 'zone failed']);
    expect(wordsOf(tested, 'zone')).toContain('`zone`');
    expect(tested.ok).toBe(false);
  });

  it.each<[string, () => Json, string, RegExp]>([
    [
      'a wrong key',
      () => dns.rfc2136('wrong', randomBytes(32).toString('base64')),
      'fast.test',
      /^dns_credential_refused: .*secret\.key/,
    ],
    [
      'a key for other zones',
      () => dns.rfc2136('elsewhere'),
      'delegating.test',
      /^dns_zone_not_managed: .*update policy/,
    ],
    [
      'a server that does not have the zone',
      () => dns.powerDns('other server'),
      'fast.test',
      /^dns_zone_not_managed: .*handed\.test/,
    ],
    [
      'a program that is not to be run',
      () => ({
        ...{ name: 'own program', kind: 'dns', provider: 'exec', secret: {} },
        settings: { program: '/bin/true' },
      }),
      'fast.test',
      /^dns_provider_refused: .*ALLOW_COMMANDS/,
    ],
  ])('tells of %s in the words of the provider; nothing is left to take away', async (_what, body, zone, words) => {
    const id = await make(body());
    const tested = await test(id, { zone });
    expect(endsOf(tested)).toEqual(['credential ok', 'zones ok', 'zone ok', 'write failed']);
    expect(wordsOf(tested, 'write')).toMatch(words);
    expect(tested.ok).toBe(false);
    expect(await session.store.cleanUps.count()).toBe(0);
    expect(await session.api.send('GET', `/v1/credentials/${id}`)).toMatchObject({ parked: null });
  });

  it('with a wrong API key ends at the list of zones, unless a zone is given: then at the write', async () => {
    const id = await make(dns.powerDns('wrong API key', 'wrong'));
    expect(endsOf(await test(id))).toEqual(['credential ok', 'zones failed']);
    const given = await test(id, { zone: 'handed.test' });
    expect(endsOf(given)).toEqual(['credential ok', 'zones ok', 'zone ok', 'write failed']);
    expect(wordsOf(given, 'zones')).toMatch(/^not listed, and not needed/);
    expect(wordsOf(given, 'write')).toMatch(/^dns_credential_refused/);
  });

  it('tells of a zone that is in no DNS', async () => {
    const tested = await test(bind, { zone: 'nowhere.example' });
    expect(endsOf(tested)).toEqual(['credential ok', 'zones ok', 'zone failed']);
    expect(wordsOf(tested, 'zone')).toMatch(/^dns_zone_not_found/);
  });

  it('takes away what may have been written by a provider that gave no answer', async () => {
    const receiver = await startDnsReceiver((response, { action }) => {
      response.writeHead(action === 'present' ? 500 : 204).end();
    });
    const tested = await test(await make({ ...receiver.body, name: 'broken' }), { zone: 'fast.test' });
    expect(endsOf(tested)).toEqual(['credential ok', 'zones ok', 'zone ok', 'write failed', 'remove ok']);
    const [written, removed] = receiver.deliveries;
    expect(removed).toMatchObject({ action: 'cleanUp', name: written?.name, value: written?.value });
    expect(await session.store.cleanUps.count()).toBe(0);
    await receiver.close();
  });

  it('leaves to the rounds what cannot be taken away at once', async () => {
    let removals = 0;
    const receiver = await startDnsReceiver((response, { action }) => {
      if (action === 'cleanUp') removals += 1;
      response.writeHead(action === 'present' || removals < 2 ? 500 : 204).end();
    });
    const tested = await test(await make({ ...receiver.body, name: 'stubborn' }), { zone: 'fast.test' });
    expect(endsOf(tested).slice(-2)).toEqual(['write failed', 'remove failed']);
    expect(wordsOf(tested, 'remove')).toContain('tried again until it is gone');
    await nothingLeft(dns, session.redis);
    expect(receiver.deliveries.map(({ action }) => action)).toEqual(['present', 'cleanUp', 'cleanUp']);
    expect(new Set(receiver.deliveries.map(({ value }) => value)).size).toBe(1);
    await receiver.close();
  });

  it('is no way around what is asked: only credentials for DNS, and only names', async () => {
    const { id } = await session.api.send('POST', '/v1/credentials', { name: 'pfx', kind: 'secret', secret: 'x' });
    expect(await session.api.request('POST', `/v1/credentials/${id}/test`)).toMatchObject({
      status: 422,
      body: { code: 'request_invalid', detail: expect.stringContaining('kind secret') },
    });
    for (const zone of ['*.fast.test', 'a b', ''])
      expect(await session.api.request('POST', `/v1/credentials/${bind}/test`, { zone })).toMatchObject({
        status: 422,
      });
    expect(await session.api.request('POST', '/v1/credentials/cred_0/test')).toMatchObject({ status: 404 });
  });
});

describe('the test of a credential that is parked', { timeout: 60_000 }, () => {
  const parked = { code: 'dns_credential_refused', detail: 'no such key', at: 1 } as const;
  const park = (id: string) =>
    session.store.credentials.update(id, (one) => (one.kind === 'dns' ? { ...one, parked } : one));
  const held = async (name: string, credential: string): Promise<string> => {
    const account = await session.account({ allowInternalNames: true });
    const challenge = { type: 'dns-01', credential };
    const id = await session.order({ names: [name], account, key: { type: 'ec-p256' }, challenge });
    await session.until(id, 'it is held', ({ parkedOn }) => parkedOn === credential);
    return id;
  };

  it('lets its orders go on when the provider takes it again', async () => {
    const id = await make(dns.rfc2136('mended at the provider'));
    await park(id);
    const order = await held('mended.fast.test', id);
    const tested = await test(id, { zone: 'fast.test' });
    expect(tested.ok).toBe(true);
    expect(wordsOf(tested, 'credential')).toContain('its orders are held since it was refused: no such key');
    expect(await session.api.send('GET', `/v1/credentials/${id}`)).toMatchObject({ parked: null });
    await session.until(order, 'it is issued', ({ complete }) => complete === true, 25_000);
    await nothingLeft(dns, session.redis, '_acme-challenge.mended.fast.test');
  });

  it('changes nothing as long as it is refused', async () => {
    const id = await make(dns.rfc2136('still wrong', randomBytes(32).toString('base64')));
    await park(id);
    const order = await held('still-held.fast.test', id);
    expect(wordsOf(await test(id, { zone: 'fast.test' }), 'write')).toMatch(/^dns_credential_refused: .*secret\.key/);
    expect(await session.api.send('GET', `/v1/credentials/${id}`)).toMatchObject({ parked: { detail: 'no such key' } });
    expect(await session.read(order)).toMatchObject({ parkedOn: id });
    await session.api.send('POST', `/v1/orders/${order}/cancel`);
  });
});

describe('where a test waits', () => {
  const testIn = (clock: FakeClock) => {
    const { MASTER_KEY = '' } = session.lab.env;
    const { store } = session;
    const box = createSecretBox(parseMasterKeys(MASTER_KEY));
    const outlook = createOutlook(readConfig(['validation'], session.lab.env));
    const access = createDnsAccess({ ...providerDeps, store, box });
    return createCredentialTest({ store, outlook, dns: access, clock });
  };

  it('a name server that lags is named, after 20 s; the record is taken away all the same', async () => {
    const clock = fakeClock(Date.now());
    const tested = await testIn(clock)(bind, 'slow.test', never);
    expect(endsOf(tested).slice(-3)).toEqual(['write ok', 'visible failed', 'remove ok']);
    expect(wordsOf(tested, 'visible')).toMatch(/^dns_record_not_visible: .*ns2\.host\.test.*looked for 20 s/);
    expect(clock.sleeps.length).toBeGreaterThan(15);
    await nothingLeft(dns, session.redis, recordOf(tested));
  });

  it('an acme-dns account is tried at its own name, and a name must lead there', async () => {
    const acmeDns = await startAcmeDns();
    const { username, password, subdomain, ...account } = await acmeDns.register();
    const settings = { url: acmeDns.url, subdomain, fulldomain: 'account.fast.test' };
    const body = { kind: 'dns', provider: 'acme-dns', settings, secret: { username, password } };
    const id = await make({ ...body, name: 'acme-dns' });
    const tested = await testIn(fakeClock(Date.now()))(id, null, never);
    expect(endsOf(tested)).toEqual(['credential ok', 'zones ok', 'zone ok', 'write ok', 'visible failed', 'remove ok']);
    expect(wordsOf(tested, 'zone')).toBe('the provider writes at account.fast.test alone');
    expect(acmeDns.values({ username, password, subdomain, ...account }).filter((value) => value !== '')).toHaveLength(
      1,
    );
    const elsewhere = await testIn(fakeClock(Date.now()))(id, 'www.delegating.test', never);
    expect(endsOf(elsewhere)).toEqual(['credential ok', 'zones ok', 'zone failed']);
    expect(wordsOf(elsewhere, 'zone')).toMatch(/must be a CNAME to account\.fast\.test; it leads to www-delegating/);
    await acmeDns.close();
  });

  it('it does not go on for nobody, and takes away what it wrote', async () => {
    const gone = new AbortController();
    const clock = fakeClock(Date.now());
    const sleep = async (): Promise<void> => {
      gone.abort(new Error('nobody waits'));
      gone.signal.throwIfAborted();
    };
    await expect(testIn({ ...clock, sleep })(bind, 'slow.test', gone.signal)).rejects.toThrow('nobody waits');
    expect(await session.store.cleanUps.count()).toBe(0);
    const log = await dns.primary.log();
    const [added = 0, deleted = 0] = [/adding an RR at '\S*certline-test/g, /deleting an RR at \S*certline-test/g].map(
      (line) => log.match(line)?.length,
    );
    expect(deleted).toBe(added);
  });
});
