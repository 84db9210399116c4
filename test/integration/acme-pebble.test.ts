import { randomUUID, X509Certificate } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createAcmeConnections } from '#libs/acme/connections';
import { generateAccountKey } from '#libs/acme/jws';
import type { AcmeOperation } from '#libs/acme/operations';
import { authorizationError } from '#libs/acme/problems';
import type { AcmeSession } from '#libs/acme/session';
import { systemClock } from '#libs/clock';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { renewalInfoId } from '#libs/crypto/renewal-info-id';
import { createSigningRequest } from '#libs/crypto/signing-request';
import { CertlineError } from '#libs/errors';
import { type Pebble, startPebble } from '../../services/lab/pebble.ts';

const answers = new Map<string, string>();
const challengeServer = createServer((request, response) => {
  const token = request.url?.replace('/.well-known/acme-challenge/', '') ?? '';
  const answer = answers.get(token);
  response.writeHead(answer === undefined ? 404 : 200).end(answer);
});

let seen: [AcmeOperation, number][] = [];
const connections = createAcmeConnections({
  clock: systemClock,
  userAgentVersion: 'test',
  timeoutMs: 10_000,
  observe: (_directory, operation, status) => seen.push([operation, status]),
});
const accountKeyPem = await generateAccountKey();
let folder: string;
let pebble: Pebble;
let session: AcmeSession;

const open = (at: Pebble, key = accountKeyPem) =>
  connections.session({ directoryUrl: at.directory, caBundle: at.caBundle, accountKeyPem: key, accountUrl: null });
const newName = () => `${randomUUID()}.example.com`;

beforeAll(async () => {
  await new Promise<void>((resolve) => challengeServer.listen(0, '127.0.0.1', resolve));
  const httpPort = (challengeServer.address() as AddressInfo).port;
  folder = await mkdtemp(join(tmpdir(), 'acme-pebble-'));
  pebble = await startPebble({
    dir: join(folder, 'pebble'),
    httpPort,
    profiles: ['default', 'shortlived'],
    retryAfter: { authz: 0, order: 0 },
    env: { PEBBLE_ALTERNATE_ROOTS: '2', PEBBLE_WFE_NONCEREJECT: '5' },
  });
  session = open(pebble);
  await session.register({ email: 'ops@example.com', termsOfServiceAgreed: true });
}, 60_000);

afterAll(async () => {
  await connections.close();
  await pebble?.close();
  await new Promise((resolve) => challengeServer.close(resolve));
  await rm(folder, { recursive: true, force: true });
});

/** Reads until it is as wanted: real time, for the CA is another process. */
async function until<T>(read: () => Promise<T>, done: (value: T) => boolean): Promise<T> {
  for (let left = 200; left > 0; left--) {
    const value = await read();
    if (done(value)) return value;
    await systemClock.sleep(20);
  }
  throw new Error('the CA did not decide');
}

/** Publishes and answers the http-01 challenge of each authorization of an order. */
async function prove(order: { authorizations: string[] }, answer = (token: string) => session.keyAuthorization(token)) {
  for (const url of order.authorizations) {
    const { challenges } = await session.authorization(url);
    const challenge = challenges.find(({ type }) => type === 'http-01');
    if (!challenge?.token) throw new Error('no http-01 offered');
    answers.set(challenge.token, answer(challenge.token));
    await session.answerChallenge(challenge.url);
  }
}

async function issue(names: string[], more: { profile?: string } = {}) {
  const { url, order } = await session.newOrder({ names, ...more });
  await prove(order);
  await until(
    () => session.order(url),
    ({ status }) => status === 'ready',
  );
  const csr = await createSigningRequest(await generatePrivateKey('ec-p256'), names);
  await session.finalize(order.finalize, csr);
  const valid = await until(
    () => session.order(url),
    ({ status }) => status === 'valid',
  );
  if (valid.certificate === null) throw new Error('a valid order has no certificate');
  return { url, order: valid, certificate: valid.certificate };
}

test('a key that is registered again gets the same account back, and is found by itself', async () => {
  const registration = { email: 'ops@example.com', termsOfServiceAgreed: true };
  const again = await open(pebble).register(registration);
  expect(again).toEqual({ url: session.accountUrl, status: 'valid' });
  expect(await open(pebble).findAccount()).toEqual(again);
  expect(await session.updateContact('other@example.com')).toEqual(again);
  expect(await open(pebble, await generateAccountKey()).findAccount()).toBeNull();
});

test('the directory tells the terms and the profiles', async () => {
  const { meta, renewalInfo } = await session.directory();
  expect(Object.keys(meta.profiles).sort()).toEqual(['default', 'shortlived']);
  expect(meta.termsOfService).toMatch(/^data:|^http/);
  expect(renewalInfo).toMatch(/^https:/);
});

test('an account whose terms were not agreed to is told so', async () => {
  const other = open(pebble, await generateAccountKey());
  const error = await other.register({ email: null, termsOfServiceAgreed: false }).catch((thrown) => thrown);
  expect(error).toMatchObject({ code: 'terms_not_agreed', plan: { kind: 'park' } });
});

test('an order of two names becomes a certificate for both', async () => {
  const names = [newName(), newName()];
  const { order, certificate } = await issue(names, { profile: 'default' });
  expect(order).toMatchObject({ status: 'valid', error: null, profile: 'default' });
  expect(order.expires).toBeGreaterThan(Date.now());
  const pem = await session.certificate(certificate);
  const leaf = new X509Certificate(pem);
  expect(leaf.subjectAltName?.split(', ').sort()).toEqual(names.map((name) => `DNS:${name}`).sort());
  expect(pem.match(/BEGIN CERTIFICATE/g)?.length).toBeGreaterThanOrEqual(2);
});

test('an order of one name takes seven requests, besides refused nonces and looking again', async () => {
  await issue([newName()], { profile: 'default' }); // fills the pool of nonces
  seen = [];
  const { certificate } = await issue([newName()], { profile: 'default' });
  await session.certificate(certificate);
  const answered = seen.filter(([, status]) => status !== 400).map(([operation]) => operation);
  const steps = ['newOrder', 'authorization', 'challenge', 'order', 'finalize', 'order', 'certificate'];
  expect(answered.filter((operation, index) => operation !== answered[index - 1])).toEqual(steps);
});

test('a nonce that the CA refuses at random (1 of 20) stops no order', async () => {
  const { url } = await session.newOrder({ names: [newName()], profile: 'default' });
  seen = [];
  const refused = () => seen.some(([, status]) => status === 400);
  for (let left = 1_000; left > 0 && !refused(); left--) await session.order(url);
  expect(seen.slice(-2)).toEqual([
    ['order', 400],
    ['order', 200],
  ]);
});

test('the chain of another root is taken when it is asked for, and the default when there is none', async () => {
  const { certificate } = await issue([newName()], { profile: 'default' });
  const chain = await session.certificate(certificate);
  const rootOf = async (number: number) => {
    const call = { operation: 'certificate', url: `${pebble.managementUrl}/roots/${number}` } as const;
    const where = { directoryUrl: pebble.directory, caBundle: pebble.caBundle };
    const { body } = await connections.ca(where).get(call);
    return new X509Certificate(body).subject.replace('CN=', '');
  };
  const top = (pem: string) =>
    new X509Certificate(pem.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g)?.at(-1) ?? '');
  const roots = await Promise.all([0, 1, 2].map(rootOf));
  expect(new Set(roots).size).toBe(3);
  for (const root of roots) expect(top(await session.certificate(certificate, root)).issuer).toBe(`CN=${root}`);
  seen = [];
  expect(await session.certificate(certificate, roots[0])).toBe(chain);
  expect(seen.filter(([, status]) => status === 200)).toHaveLength(1);
  expect(await session.certificate(certificate, 'No Such Root')).toBe(chain);
});

test('the profile decides how long the certificate lives', async () => {
  const { certificate } = await issue([newName()], { profile: 'shortlived' });
  const { validFromDate, validToDate } = new X509Certificate(await session.certificate(certificate));
  expect((validToDate.getTime() - validFromDate.getTime()) / 86_400_000).toBeCloseTo(6, 0);
});

test('a profile that the CA does not have fails the order', async () => {
  await expect(session.newOrder({ names: [newName()], profile: 'gold' })).rejects.toMatchObject({
    code: 'profile_invalid',
    plan: { kind: 'permanent' },
  });
});

test('a name that the CA does not issue for fails the order', async () => {
  await expect(session.newOrder({ names: ['www.blocked-domain.example'] })).rejects.toMatchObject({
    code: 'identifier_rejected',
    message: expect.stringContaining('blocked-domain.example'),
  });
});

test('a wrong answer at the challenge URL is told with the name and the words of the CA', async () => {
  const name = newName();
  const { url, order } = await session.newOrder({ names: [name], profile: 'default' });
  await prove(order, () => 'something else');
  await until(
    () => session.order(url),
    ({ status }) => status === 'invalid',
  );
  const error = authorizationError(await session.authorization(order.authorizations[0] ?? ''), Date.now());
  expect(error).toMatchObject({ code: 'ca_wrong_answer', plan: { kind: 'restart' } });
  expect(error.message).toContain(name);
  expect((await session.order(url)).error).toMatchObject({ plan: { kind: 'restart' } });
});

test('finalizing before the names are proved says that the order is not ready', async () => {
  const names = [newName()];
  const { order } = await session.newOrder({ names, profile: 'default' });
  const csr = await createSigningRequest(await generatePrivateKey('ec-p256'), names);
  await expect(session.finalize(order.finalize, csr)).rejects.toMatchObject({ code: 'acme_order_not_ready' });
});

test('a request for other names than the order is refused as such', async () => {
  const { url, order } = await session.newOrder({ names: [newName()], profile: 'default' });
  await prove(order);
  await until(
    () => session.order(url),
    ({ status }) => status === 'ready',
  );
  const csr = await createSigningRequest(await generatePrivateKey('ec-p256'), [newName()]);
  await expect(session.finalize(order.finalize, csr)).rejects.toMatchObject({ code: 'csr_rejected' });
});

test('an order, an authorization or a challenge that the CA does not know asks for a new order', async () => {
  const { url, order } = await session.newOrder({ names: [newName()], profile: 'default' });
  const gone = { code: 'acme_order_gone', plan: { kind: 'restart' } };
  await expect(session.order(`${url}x`)).rejects.toMatchObject(gone);
  await expect(session.authorization(`${order.authorizations[0]}x`)).rejects.toMatchObject(gone);
  await expect(session.answerChallenge(`${order.authorizations[0]?.replace('authZ', 'chalZ')}x`)).rejects.toMatchObject(
    gone,
  );
});

test('a challenge that is answered twice is to be read again, not given up', async () => {
  const { url, order } = await session.newOrder({ names: [newName()], profile: 'default' });
  await prove(order);
  await until(
    () => session.order(url),
    ({ status }) => status === 'ready',
  );
  await expect(prove(order)).rejects.toMatchObject({ code: 'acme_order_not_ready', plan: { kind: 'retryable' } });
});

test('a certificate is revoked once, and the second time is told', async () => {
  const { certificate } = await issue([newName()], { profile: 'default' });
  const { raw } = new X509Certificate(await session.certificate(certificate));
  await session.revoke(raw, 1);
  await expect(session.revoke(raw, 1)).rejects.toMatchObject({ code: 'already_revoked' });
});

test('when a certificate is to be renewed is told by the id that it has at the CA', async () => {
  const { certificate } = await issue([newName()], { profile: 'default' });
  const pem = await session.certificate(certificate);
  const { validFromDate, validToDate } = new X509Certificate(pem);
  const info = await session.renewalInfo(renewalInfoId(pem) ?? '');
  expect(info?.suggestedWindow.start).toBeGreaterThan(validFromDate.getTime());
  expect(info?.suggestedWindow.end).toBeGreaterThan(info?.suggestedWindow.start ?? 0);
  expect(info?.suggestedWindow.end).toBeLessThan(validToDate.getTime());
  expect(info?.retryAfter).toBeGreaterThan(Date.now());
  await expect(session.renewalInfo('aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE')).rejects.toBeInstanceOf(CertlineError);
});

test('a CA whose certificate is not trusted is not spoken to', async () => {
  const where = { directoryUrl: pebble.directory, caBundle: null };
  await expect(connections.ca(where).directory()).rejects.toMatchObject({
    code: 'ca_untrusted',
    plan: { kind: 'permanent' },
  });
});

test('a CA that wants external accounts takes the binding, and says so without one', async () => {
  const strict = await startPebble({ dir: join(folder, 'eab'), httpPort: 1, eabRequired: true });
  try {
    const registration = { email: 'ops@example.com', termsOfServiceAgreed: true };
    const bound = open(strict);
    await expect(bound.register(registration)).rejects.toMatchObject({ code: 'eab_required', plan: { kind: 'park' } });
    const eab = { kid: strict.eab?.keyId ?? '', hmacKey: strict.eab?.hmacKey ?? '' };
    const wrong = { ...eab, hmacKey: Buffer.from('another key of the same kind').toString('base64url') };
    await expect(bound.register({ ...registration, eab: wrong })).rejects.toMatchObject({ code: 'eab_refused' });
    expect(await bound.register({ ...registration, eab })).toMatchObject({ status: 'valid' });
  } finally {
    await strict.close();
  }
}, 60_000);
