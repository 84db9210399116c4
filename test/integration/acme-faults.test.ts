import { createServer } from 'node:net';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { AcmeConnections } from '#libs/acme/connections';
import { createAcmeConnections, createAcmeSession } from '#libs/acme/connections';
import { generateAccountKey } from '#libs/acme/jws';
import type { Clock } from '#libs/clock';
import { page, redirect, refusal, times } from '../support/ca-faults.ts';
import { type ScriptedCa, startScriptedCa } from '../support/scripted-ca.ts';

const start = Date.UTC(2026, 10, 23, 12);
const accountKeyPem = await generateAccountKey();
let now = start;
const clock: Clock = { now: () => now, sleep: () => Promise.reject(new Error('a session does not sleep')) };
const observed: [string, number][] = [];

let ca: ScriptedCa;
let connections: AcmeConnections;

const open = (accountUrl: string | null = `${ca.directory}/account/1`) =>
  connections.session({ directoryUrl: ca.directory, accountKeyPem, accountUrl, caBundle: null });
const countOf = (operation: string) => ca.seen.filter((one) => one.operation === operation).length;
const wanted = { names: ['a.example'] };

beforeEach(async () => {
  now = start;
  observed.length = 0;
  ca = await startScriptedCa();
  connections = createAcmeConnections({
    clock,
    userAgentVersion: '1.2.3',
    timeoutMs: 2_000,
    observe: (_directory, operation, status) => observed.push([operation, status]),
  });
});
afterEach(async () => {
  await connections.close();
  await ca.close();
});

test('a rate limit is waited for as many seconds as the CA says', async () => {
  ca.answer('newOrder', refusal('rateLimited', { retryAfter: '120' }));
  await expect(open().newOrder(wanted)).rejects.toMatchObject({
    code: 'ca_rate_limited',
    plan: { kind: 'wait', until: start + 120_000 },
  });
});

test('a rate limit is waited for until the date the CA says', async () => {
  const headers = { date: 'Mon, 23 Nov 2026 12:30:00 GMT' };
  ca.answer('newOrder', refusal('rateLimited', { retryAfter: 'Mon, 23 Nov 2026 15:00:00 GMT', headers }));
  await expect(open().newOrder(wanted)).rejects.toMatchObject({ plan: { kind: 'wait', until: start + 9_000_000 } });
});

test('a page of the load balancer is waited for, or tried again when it does not say how long', async () => {
  ca.answer('order', page(503, '7'), page(503));
  const waits = { code: 'ca_unavailable', plan: { kind: 'wait', until: start + 7_000 } };
  await expect(open().order(ca.url('order'))).rejects.toMatchObject(waits);
  await expect(open().order(ca.url('order'))).rejects.toMatchObject({ plan: { kind: 'retryable' } });
});

test('the nonce of a refused request is used for the next one', async () => {
  ca.answer('newOrder', refusal('serverInternal'));
  const session = open();
  await expect(session.newOrder(wanted)).rejects.toMatchObject({ code: 'ca_unavailable' });
  await session.newOrder(wanted);
  expect(countOf('newNonce')).toBe(1);
});

test('nonces that the CA has forgotten are replaced on the spot', async () => {
  const session = open();
  await session.newOrder(wanted);
  ca.answer('order', ...times(2, refusal('badNonce')));
  const order = await session.order(ca.url('order'));
  expect(order.status).toBe('ready');
  expect(countOf('order')).toBe(3);
  expect(countOf('newNonce')).toBe(1);
});

test('a CA that refuses every nonce is given up after eight more', async () => {
  ca.answer('newOrder', ...times(20, refusal('badNonce')));
  await expect(open().newOrder(wanted)).rejects.toMatchObject({ code: 'ca_bad_nonce', plan: { kind: 'retryable' } });
  expect(countOf('newOrder')).toBe(9);
});

test('a nonce older than ten minutes is not tried', async () => {
  const session = open();
  await session.newOrder(wanted);
  now += 600_000;
  await session.order(ca.url('order'));
  expect(countOf('newNonce')).toBe(2);
});

test.each(['hang', 'stall'] as const)(
  'a CA that takes the request and then %ss is left after the timeout',
  async (fault) => {
    ca.answer('order', fault);
    const session = createAcmeSession({
      ...{ directoryUrl: ca.directory, accountKeyPem, accountUrl: 'https://x.example/1', caBundle: null },
      ...{ clock, userAgentVersion: '0', timeoutMs: 500 },
    });
    await expect(session.order(ca.url('order'))).rejects.toMatchObject({
      code: 'ca_unreachable',
      plan: { kind: 'retryable' },
      message: expect.stringContaining('no answer within 0.5 s'),
    });
    expect((await session.order(ca.url('order'))).status).toBe('ready');
    await session.close();
  },
);

test('a newOrder on a kept connection that is reset is not sent again', async () => {
  const session = open();
  await session.newOrder(wanted);
  ca.answer('newOrder', 'reset');
  await expect(session.newOrder(wanted)).rejects.toMatchObject({
    code: 'ca_unreachable',
    plan: { kind: 'retryable' },
    evidence: { code: 'ECONNRESET', reusedSocket: true },
  });
  expect(countOf('newOrder')).toBe(2);
  expect((await session.newOrder(wanted)).url).toBe(ca.url('order'));
});

test('a newNonce on a kept connection that is reset is sent again', async () => {
  const session = open();
  await session.directory();
  ca.answer('newNonce', 'reset');
  await session.newOrder(wanted);
  expect(countOf('newNonce')).toBe(2);
});

test('a body without end is cut off', async () => {
  ca.answer('order', 'flood');
  await expect(open().order(ca.url('order'))).rejects.toMatchObject({
    code: 'ca_protocol_error',
    message: expect.stringContaining('1048576 bytes'),
  });
});

test.each([
  ['a page', { status: 200, body: '<html>Welcome to the hotel' }],
  ['an order without its identifiers', { status: 200, body: { status: 'ready' } }],
  ['an order of an unknown status', { status: 200, body: { status: 'sleeping' } }],
  ['a redirect', redirect('https://x.example/')],
])('%s where an order should be is no ACME', async (_what, answer) => {
  ca.answer('order', answer);
  await expect(open().order(ca.url('order'))).rejects.toMatchObject({
    code: 'ca_protocol_error',
    plan: { kind: 'retryable' },
  });
});

test('a new order without a Location is no ACME', async () => {
  const body = { status: 'pending', identifiers: [], authorizations: [], finalize: ca.url('finalize') };
  ca.answer('newOrder', { status: 201, body });
  await expect(open().newOrder(wanted)).rejects.toMatchObject({ code: 'ca_protocol_error' });
});

test('an abort ends a request under way with its reason, and is no failure of the CA', async () => {
  ca.answer('order', 'hang');
  const session = open();
  await session.directory();
  const stopping = new AbortController();
  const reading = session.order(ca.url('order'), stopping.signal);
  await vi.waitUntil(() => countOf('order') === 1);
  stopping.abort(new Error('the worker stops'));
  await expect(reading).rejects.toThrow('the worker stops');
  expect(observed).not.toContainEqual(['order', 0]);
});

test('a request that waits for a connection ends with its abort, and leaves the connection to the next', async () => {
  const few = createAcmeConnections({ clock, userAgentVersion: '0', timeoutMs: 400, maxSockets: 1 });
  const where = { directoryUrl: ca.directory, accountKeyPem, accountUrl: 'https://x.example/1', caBundle: null };
  const session = few.session(where);
  await Promise.all([session.order(ca.url('order')), session.order(ca.url('order'))]);
  ca.answer('order', 'hang');
  const stopping = new AbortController();
  const holding = session.order(ca.url('order'));
  const waiting = session.order(ca.url('order'), stopping.signal);
  stopping.abort(new Error('the worker stops'));
  await expect(waiting).rejects.toThrow('the worker stops');
  await expect(holding).rejects.toMatchObject({ code: 'ca_unreachable' });
  expect((await session.order(ca.url('order'))).status).toBe('ready');
  await few.close();
});

test('a session that does not know its account looks it up by the key', async () => {
  const session = open(null);
  await session.newOrder(wanted);
  expect(ca.seen.find(({ operation }) => operation === 'newAccount')?.payload).toEqual({ onlyReturnExisting: true });
  expect(session.accountUrl).toMatch(/\/account\/1$/);
});

test('an account that the CA does not know parks its orders', async () => {
  ca.answer('newAccount', ...times(2, refusal('accountDoesNotExist')));
  expect(await open(null).findAccount()).toBeNull();
  await expect(open(null).newOrder(wanted)).rejects.toMatchObject({
    code: 'account_missing_at_ca',
    plan: { kind: 'park' },
  });
});

test('every request says who asks, and is observed with its status', async () => {
  await open().newOrder(wanted);
  expect(new Set(ca.seen.map(({ headers }) => headers['user-agent']))).toEqual(new Set(['certline/1.2.3']));
  expect(observed).toEqual([
    ['directory', 200],
    ['newNonce', 200],
    ['newOrder', 201],
  ]);
  ca.answer('order', 'reset');
  await expect(open().order(ca.url('order'))).rejects.toMatchObject({ code: 'ca_unreachable' });
  expect(observed.at(-1)).toEqual(['order', 0]);
});

test('twenty orders in flight share eight connections and the nonces they were given', async () => {
  const sessions = Array.from({ length: 20 }, () => open());
  const everyone = () => Promise.all(sessions.map((session) => session.order(ca.url('order'))));
  await everyone();
  const nonces = countOf('newNonce');
  expect(nonces).toBeLessThanOrEqual(20);
  await everyone();
  const connected = ca.connections();
  for (let round = 0; round < 10; round++) await everyone();
  expect(countOf('newNonce')).toBe(nonces);
  expect(ca.connections()).toBe(connected);
  // node gives up the connection of a HEAD without a length
  expect(connected).toBeLessThanOrEqual(8 + nonces);
});

test('a CA that is not there is unreachable', async () => {
  await ca.close();
  await expect(open().directory()).rejects.toMatchObject({
    code: 'ca_unreachable',
    evidence: { code: 'ECONNREFUSED' },
  });
});

test('what does not speak HTTP is no ACME', async () => {
  const server = createServer((socket) => socket.resume().end('SSH-2.0-OpenSSH_9.2\r\n'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : 0;
  const where = { caBundle: null, directoryUrl: `http://127.0.0.1:${port}/` };
  await expect(connections.ca(where).directory()).rejects.toMatchObject({ code: 'ca_protocol_error' });
  await new Promise((resolve) => server.close(resolve));
});

test('plain HTTP is for CAs on this machine only', async () => {
  const where = { directoryUrl: 'http://ca.example/directory', caBundle: null };
  await expect(connections.ca(where).directory()).rejects.toMatchObject({
    code: 'ca_protocol_error',
    message: expect.stringContaining('https'),
  });
});

test('a bundle that holds no certificates is refused at once', () => {
  const where = {
    directoryUrl: 'https://ca.example/',
    caBundle: '-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----',
  };
  expect(() => connections.ca(where)).toThrow(expect.objectContaining({ code: 'ca_untrusted' }));
});
