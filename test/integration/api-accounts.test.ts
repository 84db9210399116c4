import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newId } from '#libs/model/ids';
import { newOrder } from '#libs/model/transitions';
import { type Pebble, startPebble } from '../../services/lab/pebble.ts';
import { freePort } from '../../services/lab/running-program.ts';
import { type ApiSession, anyTime, dumpRedis, fieldsOf, openApiSession } from '../support/api-session.ts';
import { orderRequest } from '../support/sample-orders.ts';

/** Accounts through the API, at a Pebble, and at a second one that wants an external account binding. */
let session: ApiSession;
let strict: Pebble;

const bodyFor = ({ directory, caBundle }: Pebble, email: string, more: Record<string, unknown> = {}) => ({
  ca: directory,
  email,
  termsOfServiceAgreed: true,
  caBundle,
  ...more,
});
const register = (body: unknown) => session.api.request('POST', '/v1/accounts', body);
const emails = async () => {
  const { items } = await session.api.send('GET', '/v1/accounts?limit=200');
  return (items as { email: string }[]).map(({ email }) => email);
};

beforeAll(async () => {
  session = await openApiSession({ workers: false });
  strict = await startPebble({ dir: join(session.lab.dir, 'strict'), httpPort: await freePort(), eabRequired: true });
});
afterAll(async () => {
  await strict?.close();
  await session?.close();
});

describe('an account', () => {
  it('is made once: the same again is the same account, however its address is written', async () => {
    const body = bodyFor(session.lab.pebble, 'First@example.com');
    const made = await register(body);
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe(`/v1/accounts/${made.body.id}`);
    expect(made.body).toEqual({
      id: expect.stringMatching(/^acc_[0-9A-Z]{26}$/),
      ca: session.lab.pebble.directory,
      directory: session.lab.pebble.directory,
      email: 'First@example.com',
      url: expect.stringContaining(new URL(session.lab.pebble.directory).origin),
      allowInternalNames: false,
      eabKid: null,
      parked: null,
      createdAt: expect.stringMatching(anyTime),
    });
    const again = await register(body);
    expect(again).toMatchObject({ status: 200, body: made.body });
    expect(again.headers.get('location')).toBe(`/v1/accounts/${made.body.id}`);
    const lower = await register({ ...body, email: 'first@example.com' });
    expect(lower).toMatchObject({ status: 200, body: { id: made.body.id, url: made.body.url } });
    expect(await session.api.send('GET', `/v1/accounts/${made.body.id}`)).toEqual(lower.body);
    expect((await emails()).filter((email) => /first/i.test(email))).toHaveLength(1);
  });

  it('is one account when it is asked for many times at once', async () => {
    const body = bodyFor(session.lab.pebble, 'at-once@example.com');
    const answers = await Promise.all(Array.from({ length: 5 }, () => register(body)));
    expect(new Set(answers.map((answer) => answer.body.id)).size).toBe(1);
    expect(new Set(answers.map((answer) => answer.body.url)).size).toBe(1);
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect((await emails()).filter((email) => email === 'at-once@example.com')).toHaveLength(1);
  });

  it.each([
    ['a bad address', { email: 'nobody' }, ['email request_invalid']],
    ['no address', { email: undefined }, ['email request_invalid']],
    ['a CA that nobody knows', { ca: 'verisign' }, ['ca request_invalid']],
    ['a CA without TLS', { ca: 'http://127.0.0.1/dir' }, ['ca request_invalid']],
    ['a CA that is no web address', { ca: 'ftp://127.0.0.1/dir' }, ['ca request_invalid']],
    ['no word on the terms', { termsOfServiceAgreed: undefined }, ['termsOfServiceAgreed request_invalid']],
    ['a yes that is not true', { termsOfServiceAgreed: 'yes' }, ['termsOfServiceAgreed request_invalid']],
    ['a field that is not there', { e_mail: 'x' }, ['e_mail request_invalid']],
    ['an HMAC key that is not base64url', { eab: { kid: 'k', hmacKey: 'a b' } }, ['eab.hmacKey request_invalid']],
    ['a binding without its key', { eab: { kid: 'k' } }, ['eab.hmacKey request_invalid']],
    ['a bundle without a certificate', { caBundle: 'x' }, ['caBundle request_invalid']],
    [
      'internal names at a public CA',
      { ca: 'letsencrypt', allowInternalNames: true },
      ['allowInternalNames request_invalid'],
    ],
    ['two wrong fields', { email: 'x', ca: 'x' }, ['ca request_invalid', 'email request_invalid']],
  ])('is not made with %s', async (_what, wrong, fields) => {
    const [before, asked] = [await dumpRedis(session.redis), await session.caRequests()];
    const answer = await register({ ...bodyFor(session.lab.pebble, 'wrong@example.com'), ...wrong });
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 422, code: 'request_invalid' });
    expect(fieldsOf(answer)).toEqual(fields);
    expect(await dumpRedis(session.redis)).toEqual(before);
    expect(await session.caRequests()).toBe(asked);
  });

  it('is not made when the terms of the CA are not agreed to', async () => {
    const asked = await session.caRequests();
    const body = bodyFor(session.lab.pebble, 'disagrees@example.com');
    const answer = await register({ ...body, termsOfServiceAgreed: false });
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 422, code: 'terms_not_agreed' });
    expect(fieldsOf(answer)).toEqual(['termsOfServiceAgreed terms_not_agreed']);
    expect(await session.caRequests()).toBeGreaterThan(asked);
    expect(await emails()).not.toContain('disagrees@example.com');
    expect(await register(body)).toMatchObject({ status: 201 });
  });

  it('is bound to an external account where the CA wants that', async () => {
    const missing = await register(bodyFor(strict, 'bound@example.com'));
    expect({ status: missing.status, code: missing.body.code }).toEqual({ status: 422, code: 'eab_required' });
    expect(fieldsOf(missing)).toEqual(['eab eab_required']);

    const { keyId: kid = '', hmacKey = '' } = strict.eab ?? {};
    const wrongKey = Buffer.alloc(32, 7).toString('base64url');
    for (const eab of [
      { kid, hmacKey: wrongKey },
      { kid: 'nobody', hmacKey },
    ]) {
      const wrong = await register(bodyFor(strict, 'bound@example.com', { eab }));
      expect({ status: wrong.status, code: wrong.body.code }).toEqual({ status: 422, code: 'eab_refused' });
      expect(fieldsOf(wrong)).toEqual(['eab eab_refused']);
      expect(JSON.stringify(wrong.body)).not.toContain(eab.hmacKey);
    }
    expect(await emails()).not.toContain('bound@example.com');

    const right = await register(bodyFor(strict, 'bound@example.com', { eab: { kid, hmacKey } }));
    expect(right).toMatchObject({ status: 201, body: { eabKid: kid } });
    const everything = [...(await dumpRedis(session.redis))].flat().join('\n');
    expect(everything).not.toContain(hmacKey);
    expect(everything).not.toContain(wrongKey);
  });

  it.each([
    ['cannot be reached', async () => ({ ca: `https://127.0.0.1:${await freePort()}/dir` }), 'ca_unreachable'],
    ['is not trusted', async () => ({ ca: strict.directory, caBundle: undefined }), 'ca_untrusted'],
    [
      'has another name on its certificate',
      async () => ({ ca: session.lab.pebble.directory, caBundle: strict.caBundle }),
      'ca_untrusted',
    ],
    ['does not talk ACME', async () => ({ ca: `${strict.managementUrl}/roots/0` }), 'ca_protocol_error'],
  ])('is not made at a CA that %s', async (_what, more, code) => {
    const before = await dumpRedis(session.redis);
    const answer = await register({ ...bodyFor(strict, 'nowhere@example.com'), ...(await more()) });
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 502, code });
    // A sealed key for the next try is all that may be left behind.
    const left = [...(await dumpRedis(session.redis))].filter(([key, content]) => before.get(key) !== content);
    expect(left.map(([key]) => key.replace(/[^.]*$/, ''))).toEqual(['{certline}:secret:account-key.']);
    expect(left[0]?.[1]).toMatch(/^"v1\.lab\./);
    expect(await emails()).not.toContain('nowhere@example.com');
  });

  it('shows neither its key nor the bundle', async () => {
    const { body } = await register(bodyFor(session.lab.pebble, 'quiet@example.com'));
    const listed = await session.api.send('GET', '/v1/accounts');
    const read = await session.api.send('GET', `/v1/accounts/${body.id}`);
    for (const text of [body, listed, read].map((answer) => JSON.stringify(answer))) {
      expect(text).toContain('quiet@example.com');
      expect(text).not.toMatch(/-----BEGIN|caBundle|privateKey|hmac/i);
    }
    const stored = (await session.store.accounts.get(String(body.id)))?.caBundle;
    expect(stored).toBe(session.lab.pebble.caBundle);
  });

  it('keeps the bundle it has when it is sent again without one', async () => {
    const { caBundle: _left, ...body } = bodyFor(session.lab.pebble, 'keeps@example.com');
    const { id } = (await register(bodyFor(session.lab.pebble, 'keeps@example.com'))).body;
    expect(await register(body)).toMatchObject({ status: 200, body: { id } });
  });

  it('that is held is mended by sending it again, and its orders go on', async () => {
    const body = bodyFor(session.lab.pebble, 'parked@example.com');
    const id = String((await register(body)).body.id);
    const now = Date.now();
    await session.store.accounts.update(id, (account) => ({
      ...account,
      parked: { code: 'terms_not_agreed', detail: 'new terms', at: now },
    }));
    const held = { ...newOrder(newId('order', now), orderRequest({ account: id }), now), parkedOn: id };
    const { order } = await session.store.orders.place(held);
    expect(await session.api.send('GET', `/v1/accounts/${id}`)).toMatchObject({
      parked: { code: 'terms_not_agreed', detail: 'new terms', at: new Date(now).toISOString() },
    });

    expect(await register(body)).toMatchObject({ status: 200, body: { parked: null } });
    expect(await session.read(order.id)).toMatchObject({ parkedOn: null, status: 'pending', epoch: 2 });
    expect(await session.redis.exists(`{certline}:validation:${order.id}.validation.2`)).toBe(1);
    expect(await session.store.orders.parked(id)).toEqual([]);
  });

  it('that is not there is 404', async () => {
    expect(await session.api.request('GET', '/v1/accounts/acc_0')).toMatchObject({
      status: 404,
      body: { code: 'not_found' },
    });
  });

  it('cannot be made by an API without a master key', async () => {
    const { url } = await session.startApi({ MASTER_KEY: '' });
    const answer = await fetch(`${url}/v1/accounts`, {
      method: 'POST',
      headers: { authorization: `Bearer ${session.lab.apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify(bodyFor(session.lab.pebble, 'sealed@example.com')),
    });
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ code: 'master_key_missing' });
    expect(await emails()).not.toContain('sealed@example.com');
  });
});
