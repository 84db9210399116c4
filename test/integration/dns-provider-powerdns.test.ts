import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { DnsProvider, ProviderDeps } from '#libs/dns/dns-provider';
import { openPowerDns, powerdns } from '#libs/dns/providers/powerdns';
import { type PowerDns, startPowerDns } from '../../services/lab/powerdns.ts';
import { freePort } from '../../services/lab/running-program.ts';
import { never, providerDeps, refusalOf, shownOf, txtAt } from '../support/dns-providers.ts';

let folder: string;
let server: PowerDns;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'certline-powerdns-'));
  server = await startPowerDns({ dir: folder });
});
afterAll(async () => {
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

let count = 0;
let zone: string;
let name: string;
let record: { zone: string; name: string; value: string };
beforeEach(async () => {
  count += 1;
  zone = `z${count}.example.com`;
  name = `_acme-challenge.${zone}`;
  record = { zone, name, value: 'gfj9Xq_Rg85nM-DdLkQp3aJt0FZpGmYz3qHkzuT0Wxo' };
  await server.createZone(zone);
});

/** Sleeps are over at once; `during` is what happens meanwhile. */
const impatient = (during: () => Promise<void> = async () => {}): ProviderDeps => ({
  ...providerDeps,
  clock: {
    now: providerDeps.clock.now,
    sleep: async (_, signal) => {
      signal?.throwIfAborted();
      await during();
    },
  },
});
const open = (
  deps = impatient(),
  { url = server.url, apiKey = server.apiKey, serverId = 'localhost' } = {},
): Promise<DnsProvider> => openPowerDns({ url, serverId, caBundle: null }, { apiKey }, deps);
const records = (...values: string[]) => values.map((value) => ({ content: `"${value}"`, disabled: false }));
/** As a program would that knows the whole set, or thinks so. */
const replace = (values: string[], more: object = {}): Promise<unknown> =>
  server.call('PATCH', `/zones/${zone}.`, {
    rrsets: [{ name: `${name}.`, type: 'TXT', ttl: 300, changetype: 'REPLACE', records: records(...values), ...more }],
  });
const shown = (): Promise<string[]> => txtAt(server.address, name);
interface RecordSet {
  type: string;
  name: string;
  ttl: number;
  comments: { content: string }[];
}
const sets = async (): Promise<RecordSet[]> =>
  ((await server.call('GET', `/zones/${zone}.`)) as { rrsets: RecordSet[] }).rrsets.filter(
    ({ type }) => type === 'TXT',
  );

interface Change {
  changetype: string;
  records: { content: string }[];
}

/**
 * The server as one of version 5.0.2 shows itself: EXTEND and PRUNE, which that of Debian 12 does not have, are done here as its documentation
 * says. `before` happens when a change has come and is not made yet; one that it
 * fails with is answered 500.
 */
async function newerServer(before: () => Promise<unknown>) {
  const changes: string[] = [];
  const front = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString('utf8');
    const { method = '', url: path = '' } = request;
    if (method === 'PATCH') {
      const [change] = (JSON.parse(body) as { rrsets: Change[] }).rrsets;
      const content = change?.records.map((one) => one.content.slice(1, -1)) ?? [];
      changes.push(change?.changetype ?? '');
      try {
        await before();
      } catch {
        response.writeHead(500).end('Internal Server Error');
        return;
      }
      const kept = (await shown()).filter((value) => !content.includes(value));
      await replace(change?.changetype === 'EXTEND' ? [...kept, ...content] : kept);
      response.writeHead(204).end();
      return;
    }
    const headers = { 'x-api-key': String(request.headers['x-api-key']) };
    const answer = await fetch(server.url + path, { method, headers });
    const text = await answer.text();
    response.writeHead(answer.status).end(text.replace(`"version": "${server.version}"`, '"version": "5.0.2"'));
  });
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  return {
    ...{ changes, url: `http://127.0.0.1:${(front.address() as AddressInfo).port}` },
    close: async () => {
      front.closeAllConnections();
      await new Promise((closed) => front.close(closed));
    },
  };
}

describe('PowerDNS', () => {
  it('has a value beside those of others, whose TTL and comments stay, and they alone afterwards', async () => {
    await replace(['theirs', 'with \\"quotes\\" and \\\\'], { comments: [{ content: 'ask Ann', account: 'ops' }] });
    const others = await shown();
    const provider = await open();
    await provider.present(record, never);
    expect(await shown()).toEqual([...others, record.value].sort());
    expect(await sets()).toMatchObject([{ ttl: 300, comments: [{ content: 'ask Ann' }] }]);
    await provider.cleanUp(record, never);
    expect(await shown()).toEqual(others);
    expect(await sets()).toMatchObject([{ ttl: 300, comments: [{ content: 'ask Ann' }] }]);
  });

  it('does everything twice, and has nothing left', async () => {
    const provider = await open();
    await provider.present(record, never);
    await provider.present(record, never);
    expect(await shown()).toEqual([record.value]);
    expect(await sets()).toMatchObject([{ ttl: providerDeps.ttlSeconds }]);
    await provider.cleanUp(record, never);
    await provider.cleanUp(record, never);
    expect(await sets()).toEqual([]);
  });

  it('has all of twenty values at one name that came at one time, from two that know nothing of each other', async () => {
    await replace(['theirs']);
    const providers = [await open(providerDeps), await open(providerDeps)];
    const all = Array.from({ length: 20 }, (_, at) => ({ ...record, value: `value-${at}` }));
    await Promise.all(all.map((one, at) => providers[at % 2]?.present(one, never)));
    expect(await shown()).toEqual([...all.map(({ value }) => value), 'theirs'].sort());
    await Promise.all(all.map((one, at) => providers[at % 2]?.cleanUp(one, never)));
    expect(await shown()).toEqual(['theirs']);
  });

  it('gets a value again that somebody overwrote who had read before and wrote after', async () => {
    let stale = true;
    const deps = impatient(async () => {
      if (stale) await replace(['theirs']);
      stale = false;
    });
    await (await open(deps)).present(record, never);
    expect(await shown()).toEqual([record.value, 'theirs'].sort());
  });

  it('loses a value again that somebody wrote back', async () => {
    await replace(['theirs', record.value]);
    let stale = true;
    const deps = impatient(async () => {
      if (stale) await replace(['theirs', record.value, 'new']);
      stale = false;
    });
    await (await open(deps)).cleanUp(record, never);
    expect(await shown()).toEqual(['new', 'theirs']);
  });

  it('that others overwrite again and again is busy', async () => {
    const fought = await refusalOf(
      (await open(impatient(async () => void (await replace(['theirs']))))).present(record, never),
    );
    expect(fought).toMatchObject({ code: 'dns_provider_busy', plan: { kind: 'retryable' } });
    expect(fought.message).toContain(name);
  });

  it('is left alone when the worker stops', async () => {
    const stop = new AbortController();
    const provider = await open(impatient(async () => stop.abort(new Error('stopping'))));
    await expect(provider.present(record, stop.signal)).rejects.toThrow('stopping');
  });

  it('is told by the very zone, not by one above, below or of another kind of name', async () => {
    await server.createZone(`sub.${zone}`);
    const odd = `0/27.${count}.0.192.in-addr.arpa`;
    await server.createZone(odd, { nameservers: ['ns1.example.com.'] });
    const provider = await open();
    const inSub = { zone: `sub.${zone}`, name: `_acme-challenge.sub.${zone}`, value: 'below' };
    await provider.present(inSub, never);
    expect(await txtAt(server.address, inSub.name)).toEqual(['below']);
    expect(await sets()).toEqual([]);
    // Its id has the slash in another form.
    await provider.present({ zone: odd, name: `_acme-challenge.${odd}`, value: 'odd' }, never);
    const apex = { zone, name: zone, value: 'at the apex' };
    await provider.present(apex, never);
    expect(await txtAt(server.address, zone)).toEqual(['at the apex']);
    await provider.cleanUp(apex, never);
    expect((await provider.zones(never)) ?? []).toEqual(expect.arrayContaining([zone, `sub.${zone}`, odd]));
  });

  it('does not have every zone, and has copies that are changed elsewhere', async () => {
    const missing = { zone: `missing.${zone}`, name: `_acme-challenge.missing.${zone}`, value: 'x' };
    const provider = await open();
    for (const work of [provider.present, provider.cleanUp]) {
      const refused = await refusalOf(work(missing, never));
      expect(refused).toMatchObject({ code: 'dns_zone_not_managed', message: expect.stringContaining(missing.zone) });
      expect(refused.message).toMatch(/it sees \w/);
    }
    const copy = `copy${count}.example.com`;
    await server.call('POST', '/zones', { name: `${copy}.`, kind: 'Slave', masters: ['127.0.0.1'] });
    const refused = await refusalOf(provider.present({ zone: copy, name: copy, value: 'x' }, never));
    expect(refused).toMatchObject({ code: 'dns_zone_not_managed', message: expect.stringContaining('a copy there') });
  });

  it('is given the proofs of a signed zone that it does not renew by itself', async () => {
    await server.call('PUT', `/zones/${zone}.`, { dnssec: true, api_rectify: false });
    await (await open()).present(record, never);
    const [row] = server.rows('select auth, ordername from records where name = ?', name);
    expect(row).toEqual({ auth: 1, ordername: '_acme-challenge' });
  });

  it('with a wrong key refuses the credential, which is in no error', async () => {
    const provider = await open(impatient(), { apiKey: 'not-the-key-of-the-server' });
    const { present, cleanUp, zones } = provider;
    for (const work of [() => present(record, never), () => cleanUp(record, never), () => zones(never)]) {
      const refused = await refusalOf(work());
      expect(refused).toMatchObject({ code: 'dns_credential_refused', plan: { kind: 'park' } });
      expect(shownOf(refused)).not.toContain('not-the-key-of-the-server');
    }
    expect(await sets()).toEqual([]);
  });

  it('that is another server, at another address, or down, is told of', async () => {
    expect(await refusalOf((await open(impatient(), { serverId: 'ns2' })).present(record, never))).toMatchObject({
      ...{ code: 'dns_provider_refused', message: expect.stringContaining('settings.serverId') },
    });
    const elsewhere = await open(impatient(), { url: `${server.url}/powerdns/` });
    expect(await refusalOf(elsewhere.present(record, never))).toMatchObject({
      ...{ code: 'dns_provider_refused', message: expect.stringContaining('/powerdns/api/v1/servers/localhost') },
    });
    const down = await open(impatient(), { url: `http://127.0.0.1:${await freePort()}` });
    expect(await refusalOf(down.present(record, never))).toMatchObject({
      ...{ code: 'dns_provider_unreachable', plan: { kind: 'retryable' } },
    });
    const lost = await open(impatient(), { url: 'https://no-such-host.invalid' });
    expect(await refusalOf(lost.present(record, never))).toMatchObject({
      ...{ code: 'dns_provider_unreachable', message: expect.stringContaining('does not resolve') },
    });
  });

  it('is not asked at a private address unless that is allowed, nor without TLS at a public one', async () => {
    const outside = await refusalOf((await open({ ...impatient(), allowPrivate: false })).present(record, never));
    expect(outside).toMatchObject({ code: 'dns_provider_refused', plan: { kind: 'permanent' } });
    expect(outside.message).toContain('ALLOW_PRIVATE_DNS_SERVERS');
    const plain = await refusalOf((await open(impatient(), { url: 'http://93.184.215.14' })).present(record, never));
    expect(plain.message).toContain('without TLS');
    expect(plain.message).toContain('https');
    expect(await sets()).toEqual([]);
  });

  it('of a version that changes single records is told of the one alone, so that what comes between reading and writing stays', async () => {
    await replace(['theirs']);
    const newer = await newerServer(() => replace(['theirs', 'theirs too']));
    const provider = await open(impatient(), { url: newer.url });
    await provider.present(record, never);
    expect(await shown()).toEqual([record.value, 'theirs', 'theirs too'].sort());
    await replace(['theirs', record.value]);
    await provider.cleanUp(record, never);
    expect(await shown()).toEqual(['theirs', 'theirs too']);
    expect(newer.changes).toEqual(['EXTEND', 'PRUNE']);
    await newer.close();
  });

  it('that gives up a write, since somebody else is writing, is asked again, and its words are told in the end', async () => {
    let failures = 2;
    const newer = await newerServer(async () => {
      failures -= 1;
      if (failures >= 0) throw new Error('database is locked');
    });
    const provider = await open(impatient(), { url: newer.url });
    await provider.present(record, never);
    expect(await shown()).toEqual([record.value]);
    failures = 100;
    expect(await refusalOf(provider.cleanUp(record, never))).toMatchObject({
      ...{ code: 'dns_provider_unreachable', message: expect.stringContaining('500 Internal Server Error') },
    });
    await newer.close();
  });

  it('has a URL without user and password, and the server `localhost`', () => {
    expect(powerdns.settings.parse({ url: 'https://ns1.example.org:8081' })).toEqual({
      ...{ url: 'https://ns1.example.org:8081', serverId: 'localhost', caBundle: null },
    });
    for (const url of ['ftp://a', 'https://u:p@a', 'https://a/?key=1', 'https://a/#b'])
      expect(powerdns.settings.safeParse({ url }).success, url).toBe(false);
    expect(powerdns.settings.safeParse({ url: 'https://a', serverId: '../x' }).success).toBe(false);
  });
});
