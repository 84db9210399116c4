import { createHmac, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { DnsProvider, ProviderDeps } from '#libs/dns/dns-provider';
import { openWebhook, webhook } from '#libs/dns/providers/webhook';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import { freePort } from '../../services/lab/running-program.ts';
import { never, providerDeps, refusalOf, shownOf } from '../support/dns-providers.ts';
import { fakeClock } from '../support/fake-clock.ts';

interface Delivery {
  method: string | undefined;
  url: string | undefined;
  headers: IncomingHttpHeaders;
  body: string;
}

const key = 'whsec_0123456789abcdef';
const start = Date.UTC(2026, 0, 1);
const zone = 'example.com';
const name = `_acme-challenge.${zone}`;
const record = { zone, name, value: 'gfj9Xq_Rg85nM-DdLkQp3aJt0FZpGmYz3qHkzuT0Wxo' };
const servers: (Server & { closeAllConnections(): void })[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  }
});

type Answer = (response: ServerResponse, delivery: Delivery) => void;

async function receiver(answer: Answer, tls?: { key: string; cert: string }) {
  const deliveries: Delivery[] = [];
  const listener = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { method, url, headers } = request;
    const delivery = { method, url, headers, body: Buffer.concat(chunks).toString('utf8') };
    deliveries.push(delivery);
    answer(response, delivery);
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { deliveries, port, url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}/dns?token=abc` };
}

/** As a receiver would check it, after the documentation. */
function signatureHolds({ headers, body }: Delivery, now: number): boolean {
  const [, t, v1] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['certline-signature'])) ?? [];
  const right = createHmac('sha256', key).update(`${t}.`).update(body).digest('hex');
  return v1 === right && Math.abs(now / 1000 - Number(t)) <= 300;
}

/** A receiver that does it: values by name, in one zone. */
async function dnsReceiver(values: string[]) {
  return receiver((response, delivery) => {
    if (!signatureHolds(delivery, start)) {
      response.writeHead(401).end('the signature does not hold');
      return;
    }
    const change = JSON.parse(delivery.body) as { action: string; zone: string; value: string };
    if (change.zone !== zone) {
      response.writeHead(404).end('no such zone');
      return;
    }
    const at = values.indexOf(change.value);
    if (change.action === 'present' && at < 0) values.push(change.value);
    if (change.action === 'cleanUp' && at >= 0) values.splice(at, 1);
    response.writeHead(204).end();
  });
}

const open = (
  url: string,
  deps: Partial<ProviderDeps> = {},
  secret = key,
  caBundle: string | null = null,
): Promise<DnsProvider> =>
  openWebhook({ url, caBundle }, { secret }, { ...providerDeps, clock: fakeClock(start), ...deps });
const status =
  (code: number, headers: Record<string, string> = {}, text = ''): Answer =>
  (response) =>
    response.writeHead(code, headers).end(text);

describe('a webhook for DNS', () => {
  it('is told what to do, signed as deliveries of certificates are', async () => {
    const { url, deliveries } = await receiver(status(204));
    const provider = await open(url);
    await provider.present(record, never);
    await provider.cleanUp(record, never);
    expect(deliveries.map(({ body }) => JSON.parse(body))).toEqual([
      { action: 'present', ...record, ttl: 60 },
      { action: 'cleanUp', ...record, ttl: 60 },
    ]);
    expect(deliveries.map((one) => signatureHolds(one, start))).toEqual([true, true]);
    expect(deliveries[0]).toMatchObject({ method: 'POST', url: '/dns?token=abc' });
    expect(deliveries.map(({ headers }) => headers['certline-event'])).toEqual(['dns.present', 'dns.cleanUp']);
    const [one] = deliveries;
    if (one) expect(signatureHolds({ ...one, body: `${one.body} ` }, start)).toBe(false);
  });

  it('has a value beside those of others, twice or not, and they alone afterwards', async () => {
    const values = ['theirs'];
    const { url } = await dnsReceiver(values);
    const provider = await open(url);
    for (let times = 0; times < 2; times += 1) await provider.present(record, never);
    expect(values).toEqual(['theirs', record.value]);
    for (let times = 0; times < 2; times += 1) await provider.cleanUp(record, never);
    expect(values).toEqual(['theirs']);
    expect(await provider.zones(never)).toBeNull();
  });

  it('refuses another secret, and an old time, and a zone that it does not have', async () => {
    const values: string[] = [];
    const { url } = await dnsReceiver(values);
    const wrong = [await open(url, {}, 'another-secret-0123'), await open(url, { clock: fakeClock(start - 600_000) })];
    for (const provider of wrong) {
      const refused = await refusalOf(provider.present(record, never));
      expect(refused).toMatchObject({ code: 'dns_credential_refused', plan: { kind: 'park' } });
      expect(shownOf(refused)).not.toMatch(/another-secret|whsec_/);
    }
    const elsewhere = await refusalOf((await open(url)).present({ ...record, zone: 'example.net' }, never));
    expect(elsewhere).toMatchObject({
      ...{ code: 'dns_zone_not_managed', message: expect.stringContaining('no such zone') },
    });
    expect(values).toEqual([]);
  });

  it.each([
    [403, {}, { code: 'dns_credential_refused' }],
    [
      429,
      { 'retry-after': '120' },
      { code: 'dns_provider_busy', plan: { kind: 'retryable', notBefore: start + 120_000 } },
    ],
    [
      503,
      { 'retry-after': '30' },
      { code: 'dns_provider_unreachable', plan: { kind: 'retryable', notBefore: start + 30_000 } },
    ],
    [500, {}, { code: 'dns_provider_unreachable', plan: { kind: 'retryable' } }],
    [422, {}, { code: 'dns_provider_refused', plan: { kind: 'permanent' } }],
  ])('that answers %i %j means %j', async (code, headers, meaning) => {
    const { url } = await receiver(status(code, headers, 'why not'));
    const refused = await refusalOf((await open(url)).present(record, never));
    expect(refused).toMatchObject({ ...meaning, message: expect.stringContaining('why not') });
    // The path may be as good as a password.
    expect(shownOf(refused)).not.toMatch(/token=abc|\/dns/);
  });

  it.each([301, 302, 307, 308])('leads nobody elsewhere by %i', async (code) => {
    const other = await receiver(status(204));
    const { url } = await receiver(status(code, { location: other.url }));
    expect(await refusalOf((await open(url)).present(record, never))).toMatchObject({
      ...{ code: 'dns_provider_refused', message: expect.stringContaining('redirects are not followed') },
    });
    expect(other.deliveries).toEqual([]);
  });

  it('that is down, hangs up or whose certificate is not trusted is not reached', async () => {
    const root = createRootCa('Test Root');
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const cert = root.issue({ key: privateKey, names: ['hooks.example.com'], addresses: [Buffer.of(127, 0, 0, 1)] });
    const tls = { key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), cert };
    const secure = await receiver(status(204), tls);
    const hangingUp = await receiver((response) => response.destroy());
    for (const url of [`http://127.0.0.1:${await freePort()}/dns`, hangingUp.url, secure.url]) {
      const refused = await refusalOf((await open(url)).present(record, never));
      expect(refused).toMatchObject({ code: 'dns_provider_unreachable', plan: { kind: 'retryable' } });
      expect(refused.message).not.toContain('/dns');
    }
    await (await open(secure.url, {}, key, root.certificatePem)).present(record, never);
    expect(secure.deliveries).toHaveLength(1);
  });

  it('is told nothing at a private address unless that is allowed, nor without TLS at another machine', async () => {
    const { url, deliveries } = await receiver(status(204));
    const refused = await refusalOf((await open(url, { allowPrivate: false })).present(record, never));
    expect(refused).toMatchObject({ code: 'dns_provider_refused', plan: { kind: 'permanent' } });
    expect(refused.message).toContain('ALLOW_PRIVATE_DNS_SERVERS');
    expect(deliveries).toEqual([]);
    const plain = await refusalOf((await open('http://10.0.0.1/dns')).present(record, never));
    expect(plain.message).toContain('without TLS');
  });

  it('is left alone when the worker stops', async () => {
    const { url, deliveries } = await receiver(() => {});
    const stop = new AbortController();
    const work = expect((await open(url)).present(record, stop.signal)).rejects.toThrow('stopping');
    await expect.poll(() => deliveries.length).toBe(1);
    stop.abort(new Error('stopping'));
    await work;
  });

  it('has an https URL, or one of this machine, and a secret of some length', () => {
    const isGood = (url: string): boolean => webhook.settings.safeParse({ url }).success;
    expect(['https://hooks.example.com/dns?a=b', 'http://127.0.0.1:8080/'].map(isGood)).toEqual([true, true]);
    expect(['http://hooks.example.com/', 'https://u:p@a/', 'ftp://a'].map(isGood)).toEqual([false, false, false]);
    expect(webhook.secret.safeParse({ secret: 'short' }).success).toBe(false);
  });
});
