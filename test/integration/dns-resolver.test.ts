import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkCaa, lookupCaa } from '#libs/dns/caa-lookup';
import { createResolver } from '#libs/dns/resolver';
import { parseServer } from '#libs/dns/servers';
import { type DnsWorld, deadAddress, startDnsWorld } from '../support/dns-world.ts';

const never = new AbortController().signal;
let dir = '';
let world: DnsWorld;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'certline-dns-'));
  world = await startDnsWorld(dir);
});
afterAll(async () => {
  await world?.close();
  await rm(dir, { recursive: true, force: true });
});

describe('A lookup', () => {
  test('gives the records of each type', async () => {
    const { resolver } = world;
    const records = async (name: string, type: Parameters<typeof resolver.lookup>[1]) =>
      (await resolver.lookup(name, type, never)).records;
    expect(await records('www.example.test', 'A')).toEqual(['192.0.2.1']);
    expect(await records('ns4.host.test', 'AAAA')).toEqual(['2001:db8::53']);
    expect((await records('example.test', 'NS')).sort()).toEqual(['ns1.host.test', 'ns2.host.test']);
    expect((await records('_acme-challenge.www.example.test', 'TXT')).sort()).toEqual(['first', 'second']);
    expect(await records('alias.example.test', 'CNAME')).toEqual(['www.example.test']);
    expect(await records('example.test', 'SOA')).toEqual([{ primary: 'ns1.host.test', serial: 1 }]);
    expect(await records('closed.caa.test', 'CAA')).toEqual([{ flags: 0, tag: 'issue', value: ';' }]);
  });

  test('takes a name in any case, with its final dot, and follows its CNAMEs', async () => {
    expect(await world.resolver.lookup('Alias.Example.TEST.', 'A', never)).toMatchObject({
      ...{ rcode: 'NOERROR', name: 'www.example.test', aliases: ['www.example.test'], records: ['192.0.2.1'] },
      server: world.validating.server,
    });
  });

  test('tells a name that is not there from one without such records', async () => {
    const missing = await world.resolver.lookup('nobody.example.test', 'A', never);
    expect(missing).toMatchObject({ rcode: 'NXDOMAIN', records: [], soa: { zone: 'example.test', serial: 1 } });
    const empty = await world.resolver.lookup('www.example.test', 'AAAA', never);
    expect(empty).toMatchObject({ rcode: 'NOERROR', records: [], soa: { zone: 'example.test' } });
  });

  test('reads an answer too large for UDP over TCP', async () => {
    const { records } = await world.resolver.lookup('_acme-challenge.big.test', 'TXT', never);
    expect(records).toHaveLength(80);
  });

  test('goes to the next server when one is dead, and names each when all are', async () => {
    const dead = parseServer(`${deadAddress}:${world.port}`);
    const { exchange } = world;
    const both = createResolver({ servers: [dead, parseServer(world.validating.server)], exchange });
    expect((await both.lookup('www.example.test', 'A', never)).records).toEqual(['192.0.2.1']);

    // ns1 answers for its own zones only.
    const none = createResolver({ servers: [dead, parseServer(world.primary.server)], exchange });
    await expect(none.lookup('www.elsewhere.com', 'TXT', never)).rejects.toMatchObject({
      code: 'dns_lookup_failed',
      plan: { kind: 'retryable' },
      message: `www.elsewhere.com (TXT) could not be looked up: ${deadAddress}:${world.port} refuses the connection (UDP); ${world.primary.server} answers REFUSED.`,
    });
  });

  test('ends at its limit of time however silent the servers are, and at the caller’s word with the caller’s reason', async () => {
    const { validating, exchange } = world;
    const servers = [parseServer(validating.server)];
    await validating.signal('SIGSTOP');
    try {
      const limited = createResolver({ servers, exchange, limitMs: 300 });
      await expect(limited.lookup('www.example.test', 'A', never)).rejects.toMatchObject({
        code: 'dns_lookup_failed',
        message: `www.example.test (A), asked of ${validating.server}: not answered within 0.3 s`,
      });
      const patient = createResolver({ servers, exchange });
      const caller = new AbortController();
      const asked = patient.lookup('www.example.test', 'A', caller.signal);
      caller.abort(new Error('the worker stops'));
      await expect(asked).rejects.toThrow('the worker stops');
    } finally {
      await validating.signal('SIGCONT');
    }
  });
});

describe('DNSSEC', () => {
  test('that holds is told as authenticated', async () => {
    const { authenticated, records } = await world.resolver.lookup('_acme-challenge.signed.test', 'TXT', never);
    expect({ authenticated, records }).toEqual({ authenticated: true, records: ['signed'] });
    expect((await world.resolver.lookup('www.example.test', 'A', never)).authenticated).toBe(false);
  });

  test('that does not hold is told as such, and not as a failed lookup', async () => {
    const failure = {
      code: 'dnssec_bogus',
      plan: { kind: 'permanent' },
      message: expect.stringMatching(
        /^The DNSSEC signatures of www\.broken\.test \(A\) do not hold: 127\.0\.0\.5:\d+ does not trust the answer.*gives it only when told not to check signatures \(RFC 4035\)\.$/,
      ),
    };
    await expect(world.resolver.lookup('www.broken.test', 'A', never)).rejects.toMatchObject(failure);
    await expect(world.zones.locate('_acme-challenge.broken.test', never)).rejects.toMatchObject({
      code: 'dnssec_bogus',
    });
  });

  test('that does not hold is not overlooked for a second resolver that does not check', async () => {
    const servers = [world.validating, world.primary].map(({ server }) => parseServer(server));
    const mixed = createResolver({ servers, exchange: world.exchange });
    await expect(mixed.lookup('www.broken.test', 'A', never)).rejects.toMatchObject({ code: 'dnssec_bogus' });
  });

  test('is not blamed for servers of a zone that cannot be asked', async () => {
    await world.primary.stop();
    try {
      const error = await world.resolver.lookup('srv.dev.example.test', 'A', never).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'dns_lookup_failed' });
      expect(String(error)).toContain('answers SERVFAIL');
    } finally {
      await world.primary.start();
    }
  });
});

describe('The zone of a name', () => {
  test.each([
    ['www.example.test', 'example.test'],
    ['example.test', 'example.test'],
    ['_acme-challenge.deep.below.www.example.test', 'example.test'],
    ['srv.dev.example.test', 'dev.example.test'],
    ['dev.example.test', 'dev.example.test'],
    ['alias.example.test', 'example.test'],
    // Its CNAME leads to another zone, where the name itself does not lie.
    ['_acme-challenge.shop.example.test', 'example.test'],
    ['up.dev.example.test', 'dev.example.test'],
  ])('%s is %s', async (name, zone) => {
    expect(await world.zones.findZone(name, never)).toBe(zone);
  });

  test.each([
    ['www.not-registered.com', 'does not exist (says the zone com)'],
    ['www.example.nowhere', 'does not exist (says the root zone)'],
  ])('%s is none', async (name, why) => {
    const expected = { code: 'dns_zone_not_found', message: expect.stringContaining(why), plan: { kind: 'permanent' } };
    await expect(world.zones.findZone(name, never)).rejects.toMatchObject(expected);
    await expect(world.zones.locate(`_acme-challenge.${name}`, never)).rejects.toMatchObject(expected);
  });
});

describe('The place of a challenge', () => {
  const first = '_acme-challenge';
  test.each([
    [`${first}.www.example.test`, [], 'example.test'],
    [`${first}.new.example.test`, [], 'example.test'],
    [`${first}.shop.example.test`, ['shop.challenges.test'], 'challenges.test'],
    // Where a CNAME leads, nothing has to be yet.
    [`${first}.gone.example.test`, ['nothing.challenges.test'], 'challenges.test'],
    [`${first}.far.example.test`, ['a.challenges.test', 'b.challenges.test', 'c.dev.example.test'], 'dev.example.test'],
  ])('%s is found over %j', async (name, over, zone) => {
    expect(await world.zones.locate(name, never)).toEqual({
      ...{ name: over.at(-1) ?? name, zone, chain: [name, ...over] },
      nameservers: zone === 'example.test' ? ['ns1.host.test', 'ns2.host.test'] : ['ns1.host.test'],
    });
  });

  test('is not looked for in a circle', async () => {
    await expect(world.zones.locate(`${first}.round.example.test`, never)).rejects.toMatchObject({
      code: 'dns_lookup_failed',
      message: `The CNAMEs of ${first}.round.example.test lead in a circle: ${first}.round.example.test → b.round.test → c.round.test → ${first}.round.example.test. Mend the one that is wrong.`,
    });
  });

  test('is not looked for over more than eight CNAMEs', async () => {
    await expect(world.zones.locate(`${first}.long.example.test`, never)).rejects.toMatchObject({
      code: 'dns_lookup_failed',
      message: expect.stringContaining('leads over more than 8 CNAMEs'),
    });
    const eighth = await world.zones.locate('l5.challenges.test', never);
    expect(eighth.chain).toHaveLength(9);
  });
});

describe('CAA records', () => {
  test.each([
    ['caa.test', 'caa.test', 3],
    ['a.b.caa.test', 'caa.test', 3],
    ['*.a.b.caa.test', 'caa.test', 3],
    ['closed.caa.test', 'closed.caa.test', 1],
    ['to-closed.caa.test', 'to-closed.caa.test', 1],
    // Not `open.test`, above the target of its CNAME (RFC 8659 §3, other than RFC 6844).
    ['to-below.caa.test', 'caa.test', 3],
    ['www.example.test', null, 0],
  ])('of %s are those at %s', async (name, at, count) => {
    const found = await lookupCaa(world.resolver, name, never);
    expect([found.at, found.records.length]).toEqual([at, count]);
  });

  test('decide whether a CA may issue', async () => {
    const ca = { issuerDomains: ['ca.example'], accountUri: 'https://ca.example/acct/1', method: 'dns-01' };
    const allowed = async (name: string, question = ca) =>
      (await checkCaa(world.resolver, name, question, never)).allowed;
    expect(await allowed('www.caa.test')).toBe(true);
    expect(await allowed('*.caa.test')).toBe(false);
    expect(await allowed('strange.caa.test')).toBe(false);
    expect(await allowed('to-closed.caa.test')).toBe(false);
    expect(await allowed('bound.caa.test')).toBe(true);
    expect(await allowed('bound.caa.test', { ...ca, method: 'http-01' })).toBe(false);
    expect(await allowed('www.open.test')).toBe(false);
  });

  test('that cannot be looked up are no leave to issue', async () => {
    await expect(lookupCaa(world.resolver, 'www.broken.test', never)).rejects.toMatchObject({ code: 'dnssec_bogus' });
  });
});
