import { createHmac, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type WebhookSettings, webhookSettingsSchema } from '#libs/model/target-kinds';
import { createWebhook, type WebhookDeps } from '#libs/targets/webhook';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import { deployable, inContext } from '../support/deployable.ts';
import { fakeClock } from '../support/fake-clock.ts';

interface Delivery {
  method: string | undefined;
  url: string | undefined;
  headers: IncomingHttpHeaders;
  body: string;
}
type Answer = (response: ServerResponse, delivery: Delivery) => void;

const secret = 'whsec_0123456789';
const start = Date.UTC(2026, 0, 1);
const servers: (Server & { closeAllConnections(): void })[] = [];
const root = createRootCa();
let tls: { key: string; cert: string };
beforeAll(() => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const cert = root.issue({ key: privateKey, names: ['hooks.example.com'], addresses: [Buffer.of(127, 0, 0, 1)] });
  tls = { key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), cert };
});
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  }
});

/** A receiver on this machine; what it got, and its port. */
async function receiver(answer: Answer, kind: 'http' | 'https' = 'http') {
  const deliveries: Delivery[] = [];
  const listener = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { method, url, headers } = request;
    const delivery = { method, url, headers, body: Buffer.concat(chunks).toString('utf8') };
    deliveries.push(delivery);
    answer(response, delivery);
  };
  const server = kind === 'http' ? createServer(listener) : createTlsServer(tls, listener);
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { deliveries, port, url: `${kind}://127.0.0.1:${port}/certline?token=abc` };
}

const webhook = (url: string, deps: Partial<WebhookDeps> = {}, settings: Partial<WebhookSettings> = {}) =>
  createWebhook(webhookSettingsSchema.parse({ kind: 'webhook', url, credential: 'crd_1', ...settings }), {
    ...{ clock: fakeClock(start), secret, allowPrivate: true, ...deps },
  });
const ok: Answer = (response) => response.writeHead(204).end();
const status =
  (code: number, headers: Record<string, string> = {}, body = ''): Answer =>
  (response) =>
    response.writeHead(code, headers).end(body);
const failureOf = (work: Promise<unknown>): Promise<Record<string, unknown>> =>
  work.then(
    () => ({ code: 'it succeeded' }),
    (error) => error,
  );

/** As a receiver would check it, after the documentation. */
function signatureHolds({ headers, body }: Delivery): boolean {
  const [, t, v1] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['certline-signature'])) ?? [];
  return v1 === createHmac('sha256', secret).update(`${t}.`).update(body).digest('hex');
}

describe('a webhook', () => {
  const certificate = deployable('www.example.com', 'example.com');

  it.each(['http', 'https'] as const)('is told of a certificate, signed, over %s', async (kind) => {
    const { deliveries, url } = await receiver(ok, kind);
    const trusting = { caBundle: root.certificatePem };
    const deployed = await webhook(url, {}, trusting).deploy(certificate, inContext('ord_7.2'));
    expect(deployed).toEqual({ changed: true, detail: `${new URL(url).origin} answers 204` });
    const [delivery] = deliveries;
    if (!delivery) throw new Error('nothing came');
    expect(delivery).toMatchObject({ method: 'POST', url: '/certline?token=abc' });
    expect(delivery.headers).toMatchObject({
      'content-type': 'application/json',
      'certline-event': 'certificate.deployed',
      'certline-delivery': 'ord_7.2',
      'certline-signature': expect.stringMatching(`^t=${start / 1000},v1=`),
    });
    expect(signatureHolds(delivery)).toBe(true);
    expect(signatureHolds({ ...delivery, body: `${delivery.body} ` })).toBe(false);
    const { id, names, thumbprint, serial, notAfter, chainPem } = certificate;
    expect(JSON.parse(delivery.body)).toEqual({
      ...{ event: 'certificate.deployed', delivery: 'ord_7.2' },
      certificate: { id, names, thumbprint, serial, notAfter: new Date(notAfter).toISOString(), chainPem },
    });
  });

  it('is never sent the private key, not even one that stands in the chain', async () => {
    const { deliveries, url } = await receiver(ok);
    const careless = { ...certificate, chainPem: certificate.chainPem + certificate.privateKeyPem };
    for (const one of [certificate, careless]) await webhook(url).deploy(one, inContext());
    const secretLines = certificate.privateKeyPem.split('\n').slice(1, -2);
    for (const { body, headers } of deliveries) {
      expect(body).not.toContain('PRIVATE KEY');
      for (const line of secretLines) expect(body + JSON.stringify(headers)).not.toContain(line);
    }
    expect(deliveries).toHaveLength(2);
  });

  it('gets the same delivery in every attempt, signed anew', async () => {
    let first = true;
    const { deliveries, url } = await receiver((response) => {
      if (first)
        response.destroy(); // the answer is lost
      else response.writeHead(200).end();
      first = false;
    });
    const clock = fakeClock(start);
    const target = webhook(url, { clock });
    await expect(target.deploy(certificate, inContext('ord_8.1'))).rejects.toMatchObject({
      ...{ code: 'target_unreachable', plan: { kind: 'retryable' } },
    });
    clock.advance(60_000);
    await target.deploy(certificate, inContext('ord_8.1'));
    const [one, two] = deliveries;
    expect(one?.body).toBe(two?.body);
    expect(one?.headers['certline-delivery']).toBe(two?.headers['certline-delivery']);
    expect(one?.headers['certline-signature']).not.toBe(two?.headers['certline-signature']);
    expect(deliveries.every(signatureHolds)).toBe(true);
  });

  it.each([
    [410, {}, { kind: 'permanent' }],
    [429, { 'retry-after': '120' }, { kind: 'retryable', notBefore: start + 120_000 }],
    [503, { 'retry-after': '30' }, { kind: 'retryable', notBefore: start + 30_000 }],
    [
      503,
      { date: 'Wed, 31 Dec 2025 00:00:00 GMT', 'retry-after': 'Wed, 31 Dec 2025 01:00:00 GMT' },
      { kind: 'retryable', notBefore: start + 3_600_000 },
    ],
    [429, { 'retry-after': '99999999' }, { kind: 'retryable', notBefore: start + 86_400_000 }],
    [429, {}, { kind: 'retryable' }],
    [503, { 'retry-after': 'soon' }, { kind: 'retryable' }],
    [500, { 'retry-after': '120' }, { kind: 'retryable' }],
    [404, {}, { kind: 'retryable' }],
  ])('that answers %i %j is asked again after the plan %j', async (code, headers, plan) => {
    const { url } = await receiver(status(code, headers, 'why not'));
    const failure = await failureOf(webhook(url).deploy(certificate, inContext()));
    expect(failure).toMatchObject({ code: 'target_refused', plan, evidence: { status: code, answer: 'why not' } });
    expect(String(failure.message)).toContain(String(code));
    expect(String(failure.message)).not.toContain('token=abc');
  });

  it.each([200, 201, 202, 204, 299])('has taken it when it answers %i', async (code) => {
    const { url } = await receiver(status(code));
    expect(await webhook(url).deploy(certificate, inContext())).toMatchObject({ changed: true });
  });

  it.each([301, 302, 303, 307, 308])('leads nobody elsewhere by %i', async (code) => {
    const other = await receiver(ok);
    const { url } = await receiver(status(code, { location: other.url }));
    expect(await failureOf(webhook(url).deploy(certificate, inContext()))).toMatchObject({
      ...{ code: 'target_refused', message: expect.stringContaining('redirects are not followed') },
    });
    expect(other.deliveries).toEqual([]);
  });

  it('is given up when it does not answer in time, and when the worker stops', async () => {
    const { url, deliveries } = await receiver(() => {});
    const slow = webhook(url, { timeoutMs: 300 }).deploy(certificate, inContext());
    await expect(slow).rejects.toMatchObject({ code: 'target_timeout', message: expect.stringContaining('300 ms') });
    const stop = new AbortController();
    const stopped = expect(webhook(url).deploy(certificate, inContext('x', stop.signal))).rejects.toThrow('stopping');
    await expect.poll(() => deliveries.length).toBe(2);
    stop.abort(new Error('stopping'));
    await stopped;
  });

  it('has taken it by its status, whatever its body is', async () => {
    const endless = await receiver((response) => {
      response.writeHead(200);
      const more = setInterval(() => response.write('x'.repeat(10_000)), 1);
      response.on('close', () => clearInterval(more));
    });
    expect(await webhook(endless.url).deploy(certificate, inContext())).toMatchObject({ changed: true });
    const broken = await receiver((response) => {
      response.writeHead(200, { 'content-length': '1000' }).write('x', () => response.destroy());
    });
    expect(await webhook(broken.url).deploy(certificate, inContext())).toMatchObject({ changed: true });
  });

  it('that nobody serves, or whose certificate is not trusted, or is of another host, is told of', async () => {
    const { url, port } = await receiver(ok, 'https');
    const unknown = await failureOf(webhook(url).deploy(certificate, inContext()));
    expect(unknown).toMatchObject({ code: 'target_unreachable', message: expect.stringMatching(/certificate/) });
    const resolve = async () => ['127.0.0.1'];
    const trusting = { caBundle: root.certificatePem };
    const wrong = webhook(`https://other.example.com:${port}/`, { resolve }, trusting);
    expect(await failureOf(wrong.deploy(certificate, inContext()))).toMatchObject({
      ...{ code: 'target_unreachable', message: expect.stringContaining("does not match certificate's altnames") },
    });
    const right = webhook(`https://hooks.example.com:${port}/`, { resolve }, trusting);
    expect(await right.deploy(certificate, inContext())).toMatchObject({ changed: true });
    const nobody = webhook('http://127.0.0.1:1/');
    expect(await failureOf(nobody.deploy(certificate, inContext()))).toMatchObject({ code: 'target_unreachable' });
    const lost = webhook('https://hooks.example.com/', { resolve: () => Promise.reject(new Error('ENOTFOUND')) });
    expect(await failureOf(lost.deploy(certificate, inContext()))).toMatchObject({
      ...{ code: 'target_unreachable', message: 'hooks.example.com does not resolve: ENOTFOUND' },
    });
  });

  it('keeps nothing that could be looked at', async () => {
    const { url } = await receiver(ok);
    expect(await webhook(url).check(certificate, inContext().signal)).toEqual({ state: 'unknown', differences: [] });
  });

  it('is tested by a delivery of its own', async () => {
    const { deliveries, url } = await receiver(ok);
    const steps = await webhook(url).test(inContext().signal);
    expect(steps.map(({ step, ok: good }) => [step, good])).toEqual([
      ['address', true],
      ['delivery', true],
    ]);
    expect(deliveries.map(({ headers }) => headers['certline-event'])).toEqual(['target.test']);
    expect(deliveries.every(signatureHolds)).toBe(true);
    const refusing = await receiver(status(401));
    expect((await webhook(refusing.url).test(inContext().signal)).at(-1)).toMatchObject({
      ...{ step: 'delivery', ok: false, detail: expect.stringContaining('answers 401') },
    });
  });
});

describe('the address of a webhook', () => {
  const certificate = deployable('www.example.com');
  const refused = { code: 'target_refused', plan: { kind: 'retryable' } };

  it.each([
    'https://127.0.0.1/',
    'https://[::1]/',
    'https://[::ffff:127.0.0.1]/',
    'https://2130706433/',
    'https://0x7f.1/',
    'https://10.0.0.1/',
    'https://169.254.169.254/latest/meta-data/',
    'https://[fd00::1]/',
    'http://127.0.0.1:1/',
  ])('is refused unless it is allowed: %s', async (url) => {
    const failure = await failureOf(webhook(url, { allowPrivate: false }).deploy(certificate, inContext()));
    expect(failure).toMatchObject(refused);
    expect(String(failure.message)).toMatch(
      /not an address of the public internet: nothing was sent; set ALLOW_PRIVATE_WEBHOOKS=true .*, or give another URL$/,
    );
  });

  it('is refused when one of those behind a name is private, before anything is sent', async () => {
    const { deliveries, port } = await receiver(ok, 'https');
    for (const addresses of [['127.0.0.1'], ['93.184.215.14', '127.0.0.1'], ['::ffff:7f00:1']]) {
      const deps = { allowPrivate: false, resolve: async () => addresses };
      const target = webhook(`https://hooks.example.com:${port}/`, deps);
      expect(await failureOf(target.deploy(certificate, inContext()))).toMatchObject(refused);
      const [step] = await target.test(inContext().signal);
      expect(step).toMatchObject({ step: 'address', ok: false });
    }
    expect(deliveries).toEqual([]);
  });

  it('is asked for once, and connected to as it was then, whatever the name means later', async () => {
    const { deliveries, port } = await receiver(ok, 'https');
    const answers = [['127.0.0.1'], ['10.255.255.1']];
    let asked = 0;
    const resolve = async () => answers[asked++] ?? [];
    const target = webhook(`https://hooks.example.com:${port}/`, { resolve }, { caBundle: root.certificatePem });
    await target.deploy(certificate, inContext());
    expect({ asked, deliveries: deliveries.length, host: deliveries[0]?.headers.host }).toEqual({
      ...{ asked: 1, deliveries: 1, host: `hooks.example.com:${port}` },
    });
  });

  it('is of this machine without TLS, or nothing is sent', async () => {
    const { deliveries, port } = await receiver(ok);
    const elsewhere = webhook(`http://localhost:${port}/`, { resolve: async () => ['127.0.0.1', '10.0.0.1'] });
    expect(await failureOf(elsewhere.deploy(certificate, inContext()))).toMatchObject({
      ...{
        code: 'target_refused',
        plan: { kind: 'permanent' },
        message: expect.stringMatching(/; give an https URL$/),
      },
    });
    expect(deliveries).toEqual([]);
    const here = webhook(`http://localhost:${port}/`, { resolve: async () => ['127.0.0.1'] });
    expect(await here.deploy(certificate, inContext())).toMatchObject({ changed: true });
  });

  it('does not keep a worker waiting for a name that is looked up for long', async () => {
    const forever = () => new Promise<string[]>(() => {});
    const target = webhook('https://hooks.example.com/', { resolve: forever, timeoutMs: 100 });
    expect(await failureOf(target.deploy(certificate, inContext()))).toMatchObject({ code: 'target_timeout' });
  });
});
