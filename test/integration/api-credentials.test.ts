import { generateKeyPairSync } from 'node:crypto';
import ssh2 from 'ssh2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { credentialSecretName, sshSecretSchema } from '#libs/model/credential';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import { createApiClient } from '../../services/lab/api-client.ts';
import { type ApiSession, anyTime, dumpRedis, fieldsOf, openApiSession } from '../support/api-session.ts';

const passphrase = 'Pass-phräse "7" & more';
const password = 'Log-in-Pässwort "42" & more';

/** Logins for hosts. */
let session: ApiSession;

/** In the form that OpenSSH writes by itself. */
const { private: plain, public: publicKey } = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'certline' });
const { private: locked } = ssh2.utils.generateKeyPairSync('ed25519', { passphrase, cipher: 'aes256-ctr', rounds: 4 });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
const rsaPem = rsa.export({ type: 'pkcs1', format: 'pem' }).toString();
const rsaLocked = rsa.export({ type: 'pkcs1', format: 'pem', cipher: 'aes-128-cbc', passphrase }).toString();

const make = (body: unknown) => session.api.request('POST', '/v1/credentials', body);
const web = (more: object): Record<string, unknown> => ({
  name: 'web servers',
  kind: 'ssh',
  username: 'CORP\\svc',
  ...more,
});
/** What a deployment worker would log in with. */
async function secretOf(id: unknown): Promise<unknown> {
  const name = credentialSecretName(String(id));
  const sealed = await session.store.secrets.get(name);
  if (sealed === null) return null;
  const box = createSecretBox(parseMasterKeys(session.lab.env.MASTER_KEY ?? ''));
  return sshSecretSchema.parse(JSON.parse(box.open(name, sealed).toString()));
}
/** Pieces of a secret that nothing may show. */
const piecesOf = (secret: string): string[] =>
  secret.includes('-----BEGIN') ? secret.split('\n').filter((line) => /^[A-Za-z0-9+/=]{30,}$/.test(line)) : [secret];

beforeAll(async () => {
  session = await openApiSession({ workers: false });
});
afterAll(() => session?.close());

describe('a credential', () => {
  it('is made once, and shows everything but its secret: the same again is the same credential', async () => {
    const body = web({ privateKey: locked, passphrase });
    const made = await make(body);
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe(`/v1/credentials/${made.body.id}`);
    const { id } = made.body;
    expect(made.body).toEqual({
      id: expect.stringMatching(/^cred_[0-9A-Z]{26}$/),
      ...{ name: 'web servers', kind: 'ssh', username: 'CORP\\svc', method: 'private-key' },
      createdAt: expect.stringMatching(anyTime),
    });
    expect(await make(body)).toMatchObject({ status: 200, body: made.body });
    expect(await session.api.send('GET', `/v1/credentials/${id}`)).toEqual(made.body);
    expect(await session.api.send('GET', '/v1/credentials')).toEqual({ items: [made.body], cursor: null });
    expect(await secretOf(id)).toEqual({ privateKey: locked, passphrase });
  });

  it('of a name that another login has is refused, and the answer names what replaces a secret', async () => {
    const { id } = (await make(web({ name: 'taken', password }))).body;
    const before = await dumpRedis(session.redis);
    for (const other of [{ password: 'another' }, { privateKey: plain }, { password, username: 'somebody' }]) {
      const answer = await make(web({ name: 'TAKEN', ...other }));
      expect(answer).toMatchObject({ status: 409, body: { code: 'name_taken' } });
      expect(answer.body.detail).toContain(`PUT /v1/credentials/${id}/secret`);
      expect(fieldsOf(answer)).toEqual(['name name_taken']);
    }
    expect(await dumpRedis(session.redis)).toEqual(before);
  });

  it('takes another name and another user; the secret stays', async () => {
    const { id } = (await make(web({ name: 'renamed', password }))).body;
    const patch = (body: unknown) => session.api.request('PATCH', `/v1/credentials/${id}`, body);
    expect(await patch({ name: 'new name', username: 'CORP\\other' })).toMatchObject({
      ...{ status: 200, body: { id, name: 'new name', username: 'CORP\\other', method: 'password' } },
    });
    expect(await secretOf(id)).toEqual({ password });
    const before = await dumpRedis(session.redis);
    expect(fieldsOf(await patch({ username: 'a\nb' }))).toEqual(['username request_invalid']);
    const wrong = await patch({ settings: {}, secret: {} });
    expect(fieldsOf(wrong)).toEqual(['settings request_invalid', 'secret request_invalid']);
    expect((wrong.body.errors as { detail: string }[])[1]?.detail).toContain(`PUT /v1/credentials/${id}/secret`);
    expect(await dumpRedis(session.redis)).toEqual(before);
  });

  it.each<[string, { privateKey: string; passphrase?: string }]>([
    ['RSA in PEM', { privateKey: rsaPem }],
    ['RSA in PEM, encrypted', { privateKey: rsaLocked, passphrase }],
    ['ECDSA in PEM', { privateKey: ec.export({ type: 'sec1', format: 'pem' }).toString() }],
    ['Ed25519 with the line ends of Windows', { privateKey: plain.replaceAll('\n', '\r\n') }],
  ])('takes a private key in another form too: %s', async (what, secret) => {
    const answer = await make(web({ name: what, ...secret }));
    expect({ status: answer.status, errors: answer.body.errors }).toEqual({ status: 201, errors: undefined });
    expect(await secretOf(answer.body.id)).toEqual(secret);
  });

  it('takes a password instead, and gives it up for a key, or another password', async () => {
    const { id } = (await make(web({ name: 'changing', password }))).body;
    expect(await secretOf(id)).toEqual({ password });
    const put = (body: unknown) => session.api.request('PUT', `/v1/credentials/${id}/secret`, body);
    expect(await put({ privateKey: plain })).toMatchObject({ status: 200, body: { id, method: 'private-key' } });
    expect(await secretOf(id)).toEqual({ privateKey: plain });
    expect(await put({ password: 'next' })).toMatchObject({ status: 200, body: { id, method: 'password' } });
    expect(await secretOf(id)).toEqual({ password: 'next' });
    expect(await session.api.send('GET', `/v1/credentials/${id}`)).toMatchObject({ method: 'password' });

    const before = await dumpRedis(session.redis);
    expect(fieldsOf(await put({}))).toEqual(['privateKey request_invalid']);
    expect(fieldsOf(await put({ privateKey: locked }))).toEqual(['passphrase request_invalid']);
    expect(fieldsOf(await put({ password, username: 'x' }))).toEqual(['username request_invalid']);
    expect(await dumpRedis(session.redis)).toEqual(before);
  });

  it.each<[string, object, string, RegExp]>([
    ['no secret at all', {}, 'privateKey', /private key or a password/],
    ['both kinds of secret', { privateKey: plain, password }, 'password', /not both/],
    ['a passphrase for a password', { password, passphrase }, 'passphrase', /belongs to a private key/],
    ['an encrypted key without its passphrase', { privateKey: locked }, 'passphrase', /give its passphrase/],
    [
      'a wrong passphrase',
      { privateKey: locked, passphrase: `${passphrase}x` },
      'passphrase',
      /does not open the private key/,
    ],
    [
      'a wrong passphrase for a key in PEM',
      { privateKey: rsaLocked, passphrase: `${passphrase}x` },
      'passphrase',
      /does not open the private key/,
    ],
    ['a public key', { privateKey: publicKey }, 'privateKey', /this is a public key/],
    [
      'a key of PuTTY',
      { privateKey: 'PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: c\n' },
      'privateKey',
      /PuTTY: export it with/,
    ],
    [
      'a key in PKCS#8',
      { privateKey: ec.export({ type: 'pkcs8', format: 'pem' }).toString() },
      'privateKey',
      /PKCS#8.*ssh-keygen -p/,
    ],
    ['half a key', { privateKey: plain.slice(0, 200) }, 'privateKey', /BEGIN and END/],
    ['text that is no key', { privateKey: 'hunter2' }, 'privateKey', /no private key/],
  ])('is not made with %s', async (_what, wrong, path, words) => {
    const before = await dumpRedis(session.redis);
    const body = web({ name: 'wrong', ...wrong });
    const answer = await make(body);
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 422, code: 'request_invalid' });
    expect(fieldsOf(answer)).toEqual([`${path} request_invalid`]);
    expect(answer.body.detail).toMatch(words);
    for (const secret of [body.privateKey, body.passphrase, body.password]) {
      for (const piece of typeof secret === 'string' ? piecesOf(secret) : [])
        expect(JSON.stringify(answer.body)).not.toContain(piece);
    }
    expect(await dumpRedis(session.redis)).toEqual(before);
  });

  it.each([
    ['no name', { name: '' }, ['name request_invalid']],
    ['a kind that nobody knows', { kind: 'telnet' }, ['kind request_invalid']],
    ['no user', { username: undefined }, ['username request_invalid']],
    ['a user on two lines', { username: 'a\nb' }, ['username request_invalid']],
    ['a password that is none', { password: 5 }, ['password request_invalid']],
    ['a field that is not there', { pasword: password }, ['pasword request_invalid']],
  ])('is not made with %s', async (_what, wrong, fields) => {
    const answer = await make({ ...web({ name: 'wrong', password }), ...wrong });
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 422, code: 'request_invalid' });
    expect(fieldsOf(answer)).toEqual(fields);
    expect(JSON.stringify(answer.body)).not.toContain(password);
  });

  it('is not quoted back where its body is no JSON', async () => {
    const answer = await fetch(`${session.url}/v1/credentials`, {
      method: 'POST',
      headers: { authorization: `Bearer ${session.lab.apiKey}`, 'content-type': 'application/json' },
      body: '{"name":"x","password": hunter2-hunter2-hunter2}',
    });
    expect(answer.status).toBe(400);
    const text = await answer.text();
    expect(JSON.parse(text)).toMatchObject({ code: 'json_invalid' });
    expect(text).not.toContain('hunter');
  });

  it('that a target uses is not deleted, and the answer names the target; without it its secret goes too', async () => {
    const { id } = (await make(web({ name: 'used', password }))).body;
    const transport = { kind: 'ssh', host: 'web07.corp.example', credential: id };
    const target = await session.api.send('POST', '/v1/targets', { name: 'web07', kind: 'iis', transport });
    const remove = () => session.api.request('DELETE', `/v1/credentials/${id}`);
    expect(await remove()).toMatchObject({
      status: 409,
      body: { code: 'record_in_use', detail: expect.stringContaining(`web07 (${target.id})`) },
    });
    expect(await secretOf(id)).toEqual({ password });
    await session.api.send('DELETE', `/v1/targets/${target.id}`);
    expect(await remove()).toMatchObject({ status: 200, body: { id, name: 'used' } });
    expect(await secretOf(id)).toBeNull();
    expect(await session.api.request('GET', `/v1/credentials/${id}`)).toMatchObject({ status: 404 });
    const everything = [...(await dumpRedis(session.redis))].flat().join('\n');
    expect(everything).not.toContain(String(id));
  });

  it('is in Redis with its secret sealed', async () => {
    const everything = [...(await dumpRedis(session.redis))].flat().join('\n');
    expect(everything).toContain('"method":"private-key"'.replaceAll('"', '\\"'));
    for (const secret of [plain, locked, passphrase, password]) {
      for (const piece of piecesOf(secret)) {
        expect(piece.length).toBeGreaterThan(15);
        expect(everything.includes(piece) || everything.includes(JSON.stringify(piece).slice(1, -1)), piece).toBe(
          false,
        );
      }
    }
  });

  it('is listed, but neither made nor changed, by an API without a master key', async () => {
    const { id } = (await make(web({ name: 'sealed', password }))).body;
    const keyless = createApiClient((await session.startApi({ MASTER_KEY: '' })).url, session.lab.apiKey);
    const refused = { status: 503, body: { code: 'master_key_missing' } };
    expect(await keyless.request('POST', '/v1/credentials', web({ name: 'other', password }))).toMatchObject(refused);
    expect(await keyless.request('PUT', `/v1/credentials/${id}/secret`, { password })).toMatchObject(refused);
    expect(await keyless.request('GET', `/v1/credentials/${id}`)).toMatchObject({ status: 200, body: { id } });
    expect(await keyless.request('PATCH', `/v1/credentials/${id}`, { username: 'x' })).toMatchObject({ status: 200 });
    expect(await secretOf(id)).toEqual({ password });
  });

  it('that is not there is 404', async () => {
    const missing = { status: 404, body: { code: 'not_found', detail: 'there is no credential cred_0' } };
    for (const [method, path, body] of [
      ['GET', '/v1/credentials/cred_0'],
      ['DELETE', '/v1/credentials/cred_0'],
      ['PUT', '/v1/credentials/cred_0/secret', { password }],
    ] as const) {
      expect(await session.api.request(method, path, body)).toMatchObject(missing);
    }
  });
});
