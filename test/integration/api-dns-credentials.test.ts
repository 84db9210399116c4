import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import { createDnsAccess } from '#libs/service/dns-access';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import { type ApiSession, anyTime, dumpRedis, fieldsOf, openApiSession } from '../support/api-session.ts';
import { never, providerDeps } from '../support/dns-providers.ts';
import { startDnsReceiver } from '../support/dns-receiver.ts';

type Json = Record<string, unknown>;

/** Credentials of DNS providers. */
let session: ApiSession;
const key = Buffer.alloc(32, 7).toString('base64');
const otherKey = Buffer.alloc(32, 8).toString('base64');
const settings = { server: 'ns1.example.org:53', keyName: 'certline.key' };
const rfc2136 = (more: Json = {}): Json => ({
  ...{ name: 'BIND', kind: 'dns', provider: 'rfc2136', settings, secret: { key } },
  ...more,
});
const make = (body: unknown) => session.api.request('POST', '/v1/credentials', body);

beforeAll(async () => {
  session = await openApiSession({ workers: false });
});
afterAll(() => session?.close());

describe('a credential of a DNS provider', () => {
  it('shows its settings, never its secret; the same again is the same one', async () => {
    const made = await make(rfc2136());
    expect(made).toMatchObject({ status: 201 });
    const { id } = made.body;
    expect(made.body).toEqual({
      ...{ id, name: 'BIND', kind: 'dns', provider: 'rfc2136', parked: null },
      settings: { ...settings, algorithm: 'hmac-sha256' },
      createdAt: expect.stringMatching(anyTime),
    });
    expect(await make(rfc2136())).toMatchObject({ status: 200, body: made.body });
    expect(await session.api.send('GET', `/v1/credentials/${id}`)).toEqual(made.body);
    expect([...(await dumpRedis(session.redis))].flat().join('\n')).not.toContain(key);
  });

  it('with a name that is taken is refused, and the answer says what can be done', async () => {
    const { id } = (await make(rfc2136({ name: 'taken' }))).body;
    const before = await dumpRedis(session.redis);
    const secret = await make(rfc2136({ name: 'TAKEN', secret: { key: otherKey } }));
    expect(secret).toMatchObject({ status: 409, body: { code: 'name_taken' } });
    expect(secret.body.detail).toContain(`PUT /v1/credentials/${id}/secret`);
    const other = await make(rfc2136({ name: 'taken', settings: { ...settings, server: 'ns2.example.org' } }));
    expect(other).toMatchObject({ status: 409, body: { code: 'name_taken' } });
    expect(other.body.detail).toContain('take another name');
    expect(fieldsOf(other)).toEqual(['name name_taken']);
    const settled = { provider: 'cloudflare', settings: {}, secret: { apiToken: 'a'.repeat(40) } };
    const provider = await make(rfc2136({ name: 'taken', ...settled }));
    expect(provider.body).toMatchObject({ code: 'name_taken', detail: expect.stringMatching(/is for rfc2136: take /) });
    expect(await dumpRedis(session.redis)).toEqual(before);
  });

  it.each<[string, Json, string[]]>([
    ['an unknown provider', { provider: 'bind' }, ['provider request_invalid']],
    [
      'wrong settings and a wrong secret',
      { settings: { server: 'a b', keyname: 'x' }, secret: { key: 'no base64!' } },
      ['settings.server request_invalid', 'settings.keyname request_invalid', 'secret.key request_invalid'],
    ],
    ['settings that are missing', { settings: undefined }, ['settings.server request_invalid']],
    ['a secret that is missing', { secret: undefined }, ['secret request_invalid']],
    ['a key without its name', { settings: { server: 'ns1.example.org' } }, ['settings.keyName request_invalid']],
    ['the name of a key without the key', { secret: {} }, ['secret.key request_invalid']],
    [
      'half of what belongs together',
      { provider: 'route53', settings: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE' }, secret: {} },
      ['secret request_invalid'],
    ],
  ])('is refused with %s, field by field, and nothing is stored', async (_what, more, fields) => {
    const before = await dumpRedis(session.redis);
    const answer = await make(rfc2136({ name: 'wrong', ...more }));
    expect(answer.status).toBe(422);
    expect(fieldsOf(answer).sort()).toEqual([...fields].sort());
    expect(JSON.stringify(answer.body)).not.toContain('no base64!');
    expect(JSON.stringify(answer.body)).not.toContain(key);
    expect(await dumpRedis(session.redis)).toEqual(before);
  });

  it('takes another secret of its provider, and nothing else', async () => {
    const { id } = (await make(rfc2136({ name: 'changing' }))).body;
    const put = (body: unknown) => session.api.request('PUT', `/v1/credentials/${id}/secret`, body);
    expect(await put({ secret: { key: otherKey } })).toMatchObject({ status: 200, body: { id, parked: null } });
    expect(fieldsOf(await put({ secret: 'text' }))).toEqual(['secret request_invalid']);
    expect(fieldsOf(await put({ password: 'x' }))).toEqual(['password request_invalid']);
    expect(fieldsOf(await put({ secret: { apiKey: 'x' } }))).toEqual(['secret.apiKey request_invalid']);
    expect(fieldsOf(await put({ secret: {} }))).toEqual(['secret.key request_invalid']);
  });

  describe('is changed', () => {
    const patch = (id: unknown, body: unknown) => session.api.request('PATCH', `/v1/credentials/${id}`, body);
    const sealedOf = (id: unknown) => session.store.secrets.get(`credential.${id}`);
    const parked = { code: 'dns_credential_refused', detail: 'its words', at: 0 } as const;

    it('field by field: what is left out stays, null takes a setting away, the secret stays sealed as it was', async () => {
      const { id } = (await make(rfc2136({ name: 'patched' }))).body;
      const sealed = await sealedOf(id);
      const moved = { server: 'ns2.example.org', algorithm: 'hmac-sha512' };
      const answer = await patch(id, { name: 'moved', settings: moved });
      expect(answer).toMatchObject({ status: 200, body: { id, name: 'moved', settings: { ...settings, ...moved } } });
      expect(await session.api.send('GET', `/v1/credentials/${id}`)).toEqual(answer.body);
      expect((await patch(id, { settings: { algorithm: null } })).body.settings).toEqual({
        ...{ ...settings, server: 'ns2.example.org', algorithm: 'hmac-sha256' },
      });
      expect(await patch(id, {})).toMatchObject({ status: 200, body: { name: 'moved' } });
      expect(await sealedOf(id)).toBe(sealed);
      expect(await make(rfc2136({ name: 'patched' }))).toMatchObject({ status: 201 });
    });

    it('only to what its provider takes, together with the secret that it has', async () => {
      const { id } = (await make(rfc2136({ name: 'checked' }))).body;
      const before = await dumpRedis(session.redis);
      expect(fieldsOf(await patch(id, { settings: { server: 'a b', keyname: 'x' } }))).toEqual([
        ...['settings.server request_invalid', 'settings.keyname request_invalid'],
      ]);
      // The key is still there.
      expect(fieldsOf(await patch(id, { settings: { keyName: null } }))).toEqual(['settings.keyName request_invalid']);
      expect(fieldsOf(await patch(id, { username: 'x', provider: 'godaddy' }))).toEqual(['provider request_invalid']);
      expect(fieldsOf(await patch(id, { username: 'x' }))).toEqual(['username request_invalid']);
      expect(fieldsOf(await patch(id, { secret: { key: 'no base64!' } }))).toEqual(['secret.key request_invalid']);
      expect(await dumpRedis(session.redis)).toEqual(before);
      // Where neither fits without the other, both are given.
      const open = await patch(id, { settings: { keyName: null }, secret: {} });
      expect(open.body.settings).not.toHaveProperty('keyName');
      expect(await patch(id, { settings, secret: { key: otherKey } })).toMatchObject({ status: 200 });
    });

    it('and its orders that were held go on, as often as it is sent; another name alone mends nothing', async () => {
      const { id } = (await make(rfc2136({ name: 'held' }))).body;
      const account = await session.account();
      const challenge = { type: 'dns-01', credential: id };
      const order = await session.order({ names: ['held.example.org'], account, challenge });
      await session.store.credentials.update(String(id), (one) => (one.kind === 'dns' ? { ...one, parked } : one));
      const hold = async (): Promise<void> => {
        const stored = await session.store.orders.get(order);
        if (stored === null) throw new Error('no order');
        await session.store.orders.save(stored, { ...stored, parkedOn: String(id) }, []);
      };
      await hold();
      expect(await patch(id, { name: 'still held' })).toMatchObject({
        status: 200,
        body: { parked: { detail: 'its words' } },
      });
      expect(await session.read(order)).toMatchObject({ parkedOn: id });
      expect(await patch(id, { settings: { server: 'ns3.example.org' } })).toMatchObject({ body: { parked: null } });
      expect(await session.read(order)).toMatchObject({ parkedOn: null });
      await hold();
      await patch(id, { settings: { server: 'ns3.example.org' } });
      expect(await session.read(order)).toMatchObject({ parkedOn: null });
      await session.api.send('POST', `/v1/orders/${order}/cancel`);
    });

    it('on top of what others change at the same time', async () => {
      const { id } = (await make(rfc2136({ name: 'raced' }))).body;
      const servers = Array.from({ length: 5 }, (_, n) => `ns${n}.example.net`);
      const changes = [
        ...servers.map((server) => ({ settings: { server } })),
        { settings: { algorithm: 'hmac-sha384' } },
      ];
      const answers = await Promise.all(changes.map((body) => patch(id, body)));
      expect(answers.map(({ status }) => status)).toEqual(changes.map(() => 200));
      const { settings: now } = (await session.api.send('GET', `/v1/credentials/${id}`)) as { settings: Json };
      expect(now).toMatchObject({ keyName: 'certline.key', algorithm: 'hmac-sha384' });
      expect(servers).toContain(now.server);
    });

    it('to no name that is taken', async () => {
      const { id } = (await make(rfc2136({ name: 'one name' }))).body;
      const other = (await make(rfc2136({ name: 'other name' }))).body.id;
      const answer = await patch(id, { name: 'OTHER name' });
      expect(answer).toMatchObject({
        status: 409,
        body: { code: 'name_taken', detail: expect.stringContaining(`${other}`) },
      });
      expect(fieldsOf(answer)).toEqual(['name name_taken']);
      expect(await patch('cred_0', { name: 'x' })).toMatchObject({ status: 404 });
    });
  });

  it('is tested by a validation worker: without one the answer says so', async () => {
    const { id } = (await make(rfc2136({ name: 'untested' }))).body;
    expect(await session.api.request('POST', `/v1/credentials/${id}/test`)).toMatchObject({
      ...{ status: 503, body: { code: 'validation_unserved', detail: 'no validation worker is running' } },
    });
  });

  it('does not show what may be a token in the address of a receiver', async () => {
    const receiver = await startDnsReceiver((response) => response.end());
    const { body } = await make(receiver.body);
    expect(body.settings).toMatchObject({ url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/…$/) });
    expect(await make(receiver.body)).toMatchObject({ status: 200 });
    await receiver.close();
  });

  it('that an unfinished order needs is not deleted, and the answer names the order; afterwards its secret goes too', async () => {
    const { id } = (await make(rfc2136({ name: 'used' }))).body;
    const account = await session.account();
    const challenges = [{ match: '*.example.org', type: 'dns-01', credential: id }];
    const order = await session.order({ names: ['*.example.org'], account, challenges });
    const remove = (query = '') => session.api.request('DELETE', `/v1/credentials/${id}${query}`);
    expect(await remove()).toMatchObject({
      status: 409,
      body: { code: 'record_in_use', detail: `unfinished orders need it: ${order}; cancel them first` },
    });
    await session.api.send('POST', `/v1/orders/${order}/cancel`);
    const left = {
      kind: 'dns' as const,
      order,
      credential: String(id),
      zone: 'example.org',
      record: 'r',
      value: 'v',
      at: 0,
    };
    await session.store.cleanUps.addUnlessWanted(left);
    expect(await remove('?leaveRecords=false')).toMatchObject({ status: 409, body: { code: 'record_in_use' } });
    expect(await remove('?leaveRecords=maybe')).toMatchObject({ status: 422 });
    await session.store.cleanUps.done(left);
    expect(await remove()).toMatchObject({ status: 200, body: { id } });
    expect(await session.store.secrets.get(`credential.${id}`)).toBeNull();
  });

  it('is in the preview of an order, name by name', async () => {
    const { id } = (await make(rfc2136({ name: 'previewed' }))).body;
    const account = await session.account();
    const challenges = [{ match: '*.example.org', type: 'dns-01', credential: id }];
    const body = { names: ['*.example.org', 'example.org'], account, challenges, challenge: { type: 'http-01' } };
    expect(await session.api.send('POST', '/v1/orders/preview', body)).toMatchObject({
      challenges: [
        { name: '*.example.org', type: 'dns-01', credential: id },
        { name: 'example.org', type: 'http-01' },
      ],
    });
  });
});

describe('a refusal of a DNS provider', () => {
  const record = { zone: 'example.org', name: '_acme-challenge.example.org', value: 'v' };
  const open = async (id: string) => {
    const box = createSecretBox(parseMasterKeys(session.lab.env.MASTER_KEY ?? ''));
    return createDnsAccess({ ...providerDeps, store: session.store, box }).open(id);
  };
  const refusalOf = async (work: Promise<unknown>): Promise<CertlineError> => {
    const error: unknown = await work.catch((thrown: unknown) => thrown);
    if (!(error instanceof CertlineError)) throw new Error(`not refused: ${error}`);
    return error;
  };

  it('holds the credential; but when its secret or its settings were replaced while it was asked, it is asked again', async () => {
    let before = async (): Promise<void> => {};
    const receiver = await startDnsReceiver(async (response) => {
      await before();
      response.writeHead(401).end();
    });
    const id = String((await make({ ...receiver.body, name: 'refusing' })).body.id);
    const { code, plan } = await refusalOf((await open(id)).present(record, never));
    expect({ code, plan }).toEqual({ code: 'dns_credential_refused', plan: { kind: 'park', on: id } });
    before = async () => {
      await session.api.send('PUT', `/v1/credentials/${id}/secret`, { secret: { secret: 'y'.repeat(32) } });
    };
    expect((await refusalOf((await open(id)).present(record, never))).plan).toEqual({ kind: 'retryable' });
    before = async () => {
      await session.api.send('PATCH', `/v1/credentials/${id}`, { settings: { url: `${receiver.url}&again` } });
    };
    expect((await refusalOf((await open(id)).present(record, never))).plan).toEqual({ kind: 'retryable' });
    await receiver.close();
  });

  it('is remembered: a parked credential is not opened, and says why', async () => {
    const id = String((await make(rfc2136({ name: 'parked' }))).body.id);
    const parked = { code: 'dns_credential_refused', detail: 'its words', at: 0 } as const;
    await session.store.credentials.update(id, (one) => (one.kind === 'dns' ? { ...one, parked } : one));
    const { message, plan } = await refusalOf(open(id));
    expect({ message, plan }).toEqual({ message: 'its words', plan: { kind: 'park', on: id } });
    expect((await session.api.send('GET', `/v1/credentials/${id}`)).parked).toMatchObject({ detail: 'its words' });
  });
});
