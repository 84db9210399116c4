import { afterEach, beforeEach, expect, test } from 'vitest';
import { type AcmeConnections, createAcmeConnections } from '#libs/acme/connections';
import { generateAccountKey } from '#libs/acme/jws';
import type { Clock } from '#libs/clock';
import { page, refusal } from '../support/ca-faults.ts';
import { type ScriptedCa, startScriptedCa } from '../support/scripted-ca.ts';

/** The directory of a CA, and orders in place of a certificate (RFC 9773). */
const start = Date.UTC(2026, 10, 23, 12);
const accountKeyPem = await generateAccountKey();
let now = start;
const clock: Clock = { now: () => now, sleep: () => Promise.reject(new Error('a session does not sleep')) };
const wanted = { names: ['a.example'] };

let ca: ScriptedCa;
let connections: AcmeConnections;

const open = () =>
  connections.session({
    ...{ directoryUrl: ca.directory, accountKeyPem, caBundle: null },
    accountUrl: `${ca.directory}/account/1`,
  });
const countOf = (operation: string) => ca.seen.filter((one) => one.operation === operation).length;

beforeEach(async () => {
  now = start;
  ca = await startScriptedCa();
  connections = createAcmeConnections({ clock, userAgentVersion: '1.2.3', timeoutMs: 2_000 });
});
afterEach(async () => {
  await connections.close();
  await ca.close();
});

test('one who no longer waits for the directory does not take it from the others', async () => {
  const stopping = new AbortController();
  const first = open().directory(stopping.signal);
  const second = open().directory();
  stopping.abort(new Error('the worker stops'));
  await expect(first).rejects.toThrow('the worker stops');
  expect((await second).newOrder).toBe(ca.url('newOrder'));
  expect(countOf('directory')).toBe(1);
});

test('the directory is asked for once an hour, by all sessions together', async () => {
  await Promise.all(Array.from({ length: 10 }, () => open().directory()));
  now += 3_599_000;
  await open().directory();
  expect(countOf('directory')).toBe(1);
  now += 1_000;
  await open().directory();
  expect(countOf('directory')).toBe(2);
});

test('a directory that could not be had is asked for again', async () => {
  ca.answer('directory', page(503));
  await expect(open().directory()).rejects.toMatchObject({ code: 'ca_unavailable' });
  expect((await open().directory()).newNonce).toBe(ca.url('newNonce'));
});

test('a directory whose addresses lead nowhere is asked for anew', async () => {
  ca.answer('newOrder', { status: 404, body: '' });
  const session = open();
  await expect(session.newOrder(wanted)).rejects.toMatchObject({ code: 'ca_protocol_error' });
  await session.newOrder(wanted);
  expect(countOf('directory')).toBe(2);
});

test('a directory is asked for anew when newNonce leads nowhere', async () => {
  ca.answer('newNonce', page(404));
  const session = open();
  await expect(session.newOrder(wanted)).rejects.toMatchObject({ code: 'ca_protocol_error' });
  await session.newOrder(wanted);
  expect(countOf('directory')).toBe(2);
});

test.each([
  ['that was replaced already', refusal('alreadyReplaced')],
  ['that the CA does not find', refusal('malformed', { status: 404 })],
  ['that is another account’s', refusal('unauthorized')],
])('an order in place of a certificate %s is asked for once more, in place of none', async (_, refused) => {
  ca.answer('newOrder', refused);
  expect((await open().newOrder({ ...wanted, replaces: 'ari-id' })).url).toBe(ca.url('order'));
  const payloads = ca.seen.flatMap(({ operation, payload }) => (operation === 'newOrder' ? [payload] : []));
  const identifiers = [{ type: 'dns', value: 'a.example' }];
  expect(payloads).toEqual([{ identifiers, replaces: 'ari-id' }, { identifiers }]);
});

test('an order in place of a certificate that is refused for another reason is not asked for again', async () => {
  ca.answer('newOrder', refusal('rateLimited'));
  await expect(open().newOrder({ ...wanted, replaces: 'ari-id' })).rejects.toMatchObject({ code: 'ca_rate_limited' });
  expect(countOf('newOrder')).toBe(1);
});
