import { execFile } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTransport } from '#libs/acme/transport';
import { splitChain } from '#libs/crypto/x509';
import { type ApiClient, createApiClient } from '../../services/lab/api-client.ts';
import { type ApiSession, anyTime, fieldsOf, openApiSession } from '../support/api-session.ts';

const run = promisify(execFile);

/** Certificates of two orders, read and exported through the API. */
let session: ApiSession;
let dir: string;
let rsa: Record<string, unknown>;
let ec: Record<string, unknown>;
let exporter: ApiClient;

async function issue(account: string, names: string[], type: string): Promise<Record<string, unknown>> {
  const id = await session.order({ account, names, key: { type } });
  const { certificate } = await session.until(id, 'complete', (order) => order.complete === true);
  return session.api.send('GET', `/v1/certificates/${certificate}`);
}
async function chainOf({ id }: Record<string, unknown>): Promise<string> {
  const { status, headers, body } = await session.api.request('GET', `/v1/certificates/${id}/chain.pem`);
  expect(status).toBe(200);
  expect(headers.get('content-type')).toMatch(/^application\/pem-certificate-chain/);
  return String(body.text);
}
async function exportPfx({ id }: Record<string, unknown>, body: Record<string, unknown>): Promise<string> {
  const answer = await fetch(`${session.url}/v1/certificates/${id}/pfx`, {
    method: 'POST',
    headers: { authorization: `Bearer ${session.lab.apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toBe('application/x-pkcs12');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.headers.get('content-disposition')).toBe(`attachment; filename="${id}.pfx"`);
  const file = join(dir, `${id}-${body.form ?? 'default'}.pfx`);
  await writeFile(file, Buffer.from(await answer.arrayBuffer()));
  return file;
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'certline-certificates-'));
  session = await openApiSession({ workers: true });
  const account = await session.account();
  rsa = await issue(account, ['www.example.com', 'example.com'], 'rsa-2048');
  ec = await issue(account, ['ec.example.com'], 'ec-p256');
  exporter = await session.clientWith('certificates:export');
});
afterAll(async () => {
  await session?.close();
  await rm(dir, { recursive: true, force: true });
});

describe('a certificate', () => {
  it('is shown as it is, without its key', async () => {
    const leaf = new X509Certificate(await chainOf(rsa));
    const [notBefore, notAfter] = [Date.parse(leaf.validFrom), Date.parse(leaf.validTo)];
    expect(rsa).toEqual({
      id: expect.stringMatching(/^crt_[0-9A-Z]{26}_1$/),
      order: expect.stringMatching(/^ord_/),
      account: expect.stringMatching(/^acc_/),
      names: ['www.example.com', 'example.com'],
      key: { type: 'rsa-2048' },
      serial: leaf.serialNumber,
      thumbprint: leaf.fingerprint.replaceAll(':', ''),
      issuer: expect.stringContaining('Pebble Intermediate CA'),
      notBefore: new Date(notBefore).toISOString(),
      notAfter: new Date(notAfter).toISOString(),
      renewAt: expect.stringMatching(anyTime),
      replaces: null,
      replacedBy: null,
      createdAt: expect.stringMatching(anyTime),
    });
    const renewAt = Date.parse(String(rsa.renewAt));
    expect((renewAt - notBefore) / (notAfter - notBefore)).toBeCloseTo(2 / 3, 3);
    expect(leaf.subjectAltName).toBe('DNS:www.example.com, DNS:example.com');
    expect(session.lab.pebble.issued().map(({ serial }) => BigInt(`0x${serial}`))).toContain(BigInt(`0x${rsa.serial}`));
  });

  it('is in the list, newest first, page by page', async () => {
    expect(await session.api.send('GET', '/v1/certificates')).toEqual({ items: [ec, rsa], cursor: null });
    const first = await session.api.send('GET', '/v1/certificates?limit=1');
    expect(first.items).toEqual([ec]);
    const second = await session.api.send('GET', `/v1/certificates?limit=1&cursor=${first.cursor}`);
    expect(second).toEqual({ items: [rsa], cursor: null });
  });

  it('has a chain that leads to the root of the CA', async () => {
    const { caBundle, managementUrl } = session.lab.pebble;
    const transport = createTransport({ userAgentVersion: 'test', caBundle });
    const { body } = await transport.request({ method: 'GET', url: `${managementUrl}/roots/0` });
    transport.close();
    const root = join(dir, 'root.pem');
    await writeFile(root, body);
    for (const certificate of [rsa, ec]) {
      const [leaf = '', ...rest] = splitChain(await chainOf(certificate));
      expect(rest.length).toBeGreaterThan(0);
      const [leafFile, restFile] = [join(dir, 'leaf.pem'), join(dir, 'rest.pem')];
      await writeFile(leafFile, leaf);
      await writeFile(restFile, rest.join(''));
      const verified = await run('openssl', ['verify', '-CAfile', root, '-untrusted', restFile, leafFile]);
      expect(verified.stdout).toContain(': OK');
      await expect(run('openssl', ['verify', '-CAfile', root, leafFile])).rejects.toThrow();
    }
  });

  it('that is not there is 404, whatever is asked of it', async () => {
    const missing = { status: 404, body: { code: 'not_found', detail: 'there is no certificate crt_0' } };
    expect(await session.api.request('GET', '/v1/certificates/crt_0')).toMatchObject(missing);
    expect(await session.api.request('GET', '/v1/certificates/crt_0/chain.pem')).toMatchObject(missing);
    expect(await session.api.request('POST', '/v1/certificates/crt_0/pfx', { password: 'x' })).toMatchObject(missing);
  });
});

describe('an exported certificate', () => {
  const password = 'Grüße & "quotes" 7';
  const forms = {
    'aes-256': { protection: /PBES2.*AES-256-CBC/, mac: 'MAC: sha256' },
    '3des': { protection: /pbeWithSHA1And3-KeyTripleDES-CBC/, mac: 'MAC: sha1' },
  };

  it.each(['aes-256', '3des'] as const)('is opened by openssl in the form %s, with its key', async (form) => {
    for (const certificate of [rsa, ec]) {
      const file = await exportPfx(certificate, { password, form, friendlyName: 'Exported' });
      const openssl = (...options: string[]) => run('openssl', ['pkcs12', '-in', file, ...options]);
      const { stderr } = await openssl('-passin', `pass:${password}`, '-info', '-noout');
      expect(stderr).toMatch(forms[form].protection);
      expect(stderr).toContain(forms[form].mac);
      const { stdout } = await openssl('-passin', `pass:${password}`, '-nodes');
      expect(stdout).toContain('friendlyName: Exported');
      const key = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n/.exec(stdout)?.[0] ?? '';
      const [leaf = '', ...rest] = splitChain(stdout);
      expect(new X509Certificate(leaf).checkPrivateKey(createPrivateKey(key))).toBe(true);
      expect([leaf, ...rest].join('')).toBe(splitChain(await chainOf(certificate)).join(''));
      await expect(openssl('-passin', 'pass:wrong', '-noout')).rejects.toThrow(/mac verify|password/i);
    }
  });

  it('is in the form of new Windows, under its first name, unless told otherwise', async () => {
    const file = await exportPfx(rsa, { password });
    const { stdout, stderr } = await run('openssl', [
      'pkcs12',
      '-in',
      file,
      '-passin',
      `pass:${password}`,
      '-nodes',
      '-info',
    ]);
    expect(stderr).toMatch(forms['aes-256'].protection);
    expect(stdout).toContain('friendlyName: www.example.com');
  });

  it('needs a scope of its own, and no other will do', async () => {
    const path = `/v1/certificates/${rsa.id}/pfx`;
    const reader = await session.clientWith('orders:read', 'orders:write', 'certificates:read');
    expect(await reader.request('POST', path, { password })).toMatchObject({
      status: 403,
      body: { code: 'scope_missing', detail: expect.stringContaining('certificates:export') },
    });
    expect((await exporter.request('POST', path, { password })).status).toBe(200);
    expect((await exporter.request('GET', `/v1/certificates/${rsa.id}`)).status).toBe(403);
  });

  it.each([
    ['no password', {}, ['password request_invalid']],
    ['an empty password', { password: '' }, ['password request_invalid']],
    ['a form that nobody knows', { password, form: 'des' }, ['form request_invalid']],
    ['a field that is not there', { password, passwort: password }, ['passwort request_invalid']],
  ])('is refused with %s', async (_what, body, fields) => {
    const answer = await session.api.request('POST', `/v1/certificates/${rsa.id}/pfx`, body);
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 422, code: 'request_invalid' });
    expect(fieldsOf(answer)).toEqual(fields);
    expect(JSON.stringify(answer.body)).not.toContain(password);
  });

  it('cannot be had by GET, where the password would be in the URL', async () => {
    const answer = await session.api.request('GET', `/v1/certificates/${rsa.id}/pfx?password=x`);
    expect(answer).toMatchObject({ status: 405, body: { code: 'method_not_allowed' } });
  });

  it('is not to be had from an API without a master key, and one with another key does not start', async () => {
    const path = `/v1/certificates/${rsa.id}/pfx`;
    const keyless = createApiClient((await session.startApi({ MASTER_KEY: '' })).url, session.lab.apiKey);
    expect(await keyless.request('POST', path, { password })).toMatchObject({
      status: 503,
      body: { code: 'master_key_missing' },
    });
    expect((await keyless.request('GET', `/v1/certificates/${rsa.id}`)).body).toEqual(rsa);

    const other = Buffer.alloc(32, 1).toString('base64');
    const advice = 'MASTER_KEY: secrets are sealed with master key "lab"';
    await expect(session.startApi({ MASTER_KEY: `lab:${other}` })).rejects.toThrow(
      `${advice}, and this is another key`,
    );
    await expect(session.startApi({ MASTER_KEY: `new:${other}` })).rejects.toThrow(`${advice}, which is missing`);
    // Those that were refused left nothing behind: the right key still starts, and so does a new one beside it.
    await session.startApi({});
    const rotated = `${session.lab.env.MASTER_KEY},new:${other}`;
    const renewed = createApiClient((await session.startApi({ MASTER_KEY: rotated })).url, session.lab.apiKey);
    expect((await renewed.request('POST', path, { password })).status).toBe(200);
  });
});

describe('a certificate that an order replaces', () => {
  const names = ['replaced.example.com', 'new.example.com'];

  /** Orders in place of a certificate; answers the new one, and what the order's history says of its ACME order. */
  async function replace(replaces: unknown): Promise<[Record<string, unknown>, string]> {
    const id = await session.order({ account: old.account, names, replaces, key: { type: 'ec-p256' } });
    const order = await session.until(id, 'complete', ({ complete }) => complete === true);
    expect(order.replaces).toBe(replaces);
    const opened = (await session.store.history(id)).find(({ detail }) => detail?.startsWith('ACME order opened'));
    return [await session.api.send('GET', `/v1/certificates/${order.certificate}`), opened?.detail ?? ''];
  }
  let old: Record<string, unknown>;

  it('is told to the CA, once, and both certificates show it', async () => {
    old = await issue(String(rsa.account), names.slice(0, 1), 'ec-p256');
    const [first, opened] = await replace(old.id);
    expect(opened).toBe(`ACME order opened to replace ${old.id}`);
    // The CA knows it: it takes no other order in place of the same certificate, and certline asks again in place of none.
    const [second, again] = await replace(old.id);
    expect(again).toMatch(`ACME order opened, not to replace ${old.id}: The CA answers newOrder: `);
    expect(again).toMatch('already has a replacement order');
    expect(again).toMatch('HTTP 409');
    expect([first.replaces, second.replaces]).toEqual([old.id, old.id]);
    const { replacedBy } = await session.api.send('GET', `/v1/certificates/${old.id}`);
    expect(replacedBy).toBe(first.id);
  });

  it('has to be there', async () => {
    const body = { account: rsa.account, names, replaces: 'crt_none' };
    const answer = await session.api.request('POST', '/v1/orders', body);
    expect(answer).toMatchObject({ status: 422, body: { code: 'replaces_unfit' } });
    expect(fieldsOf(answer)).toEqual(['replaces replaces_unfit']);
  });
});
