import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { visibilityProblem } from '#libs/dns/authoritative';
import { customerZones, type DnsWorld, deadAddress, startDnsWorld, until, zoneText } from '../support/dns-world.ts';

const never = new AbortController().signal;
let dir = '';
let world: DnsWorld;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'certline-dns-'));
  world = await startDnsWorld(dir);
});
afterAll(async () => {
  await world?.close();
  await rm(dir, { recursive: true, force: true });
});

const ns1 = { server: 'ns1.host.test', address: '127.0.0.3' };
const ns2 = { server: 'ns2.host.test', address: '127.0.0.4' };
const question = (zone: string, value: string, label = '_acme-challenge') => ({
  name: `${label}.${zone}`,
  zone,
  value,
});

test('The name servers of a zone are those of its delegation and its own, with all their addresses', async () => {
  const { authoritative } = world;
  const server = (name: string, addresses: string[], delegated = true, listed = true) => ({
    ...{ name: `${name}.host.test`, addresses, delegated, listed },
  });
  expect(await authoritative.nameServers('example.test', never)).toEqual([
    server('ns1', ['127.0.0.3']),
    server('ns2', ['127.0.0.4']),
  ]);
  expect(await authoritative.nameServers('more.test', never)).toEqual([
    server('ns1', ['127.0.0.3']),
    server('ns2', ['127.0.0.4'], false),
  ]);
  expect(await authoritative.nameServers('less.test', never)).toEqual([
    server('ns1', ['127.0.0.3']),
    server('ns2', ['127.0.0.4'], true, false),
  ]);
  expect(await authoritative.nameServers('dead.test', never)).toEqual([
    server('ns1', ['127.0.0.3']),
    server('ns3', [deadAddress]),
  ]);
  expect(await authoritative.nameServers('six.test', never)).toEqual([server('ns4', ['127.0.0.3', '2001:db8::53'])]);
  // Its parent is a zone of the same server.
  expect(await authoritative.nameServers('dev.example.test', never)).toEqual([server('ns1', ['127.0.0.3'])]);
});

test('A value that is everywhere is shown by all, one among several and one made of parts too', async () => {
  for (const value of ['first', 'second']) {
    const asked = question('example.test', value, '_acme-challenge.www');
    const sights = await world.authoritative.showsValue(asked, never);
    expect(sights).toEqual([
      { ...ns1, state: 'shows' },
      { ...ns2, state: 'shows' },
    ]);
    expect(visibilityProblem(asked, sights)).toBeNull();
  }
});

test('A server that lags behind is named with its serial, until it has caught up', async () => {
  const { authoritative, primary, secondary } = world;
  const asked = question('example.test', 'new', '_acme-challenge.fresh');
  const records = [...(customerZones['example.test'] ?? []), '_acme-challenge.fresh TXT "new"'];
  await primary.writeZone('example.test', zoneText('example.test', records, 2));
  const see = () => authoritative.showsValue(asked, never);
  await until('ns1 has loaded it', async () => (await see())[0]?.state === 'shows');
  const sights = await see();
  expect(sights).toEqual([
    { ...ns1, state: 'shows' },
    { ...ns2, state: 'hidden', rcode: 'NXDOMAIN', values: [], serial: 1, alias: null },
  ]);
  expect(visibilityProblem(asked, sights)).toMatchObject({
    code: 'dns_record_not_visible',
    message:
      '_acme-challenge.fresh.example.test (TXT): ns2.host.test (127.0.0.4) has no TXT there (NXDOMAIN, serial 1). The other one shows it.',
    evidence: { zone: 'example.test', sights },
  });
  await secondary.control('retransfer', 'example.test');
  await until('all show it', async () => (await see()).every(({ state }) => state === 'shows'));
});

test('A server with other values is told with them and its serial', async () => {
  const asked = question('challenges.test', 'wanted', 'shop');
  expect(await world.authoritative.showsValue(asked, never)).toEqual([
    { ...ns1, state: 'hidden', rcode: 'NOERROR', values: ['delegated'], serial: 1, alias: null },
  ]);
  const moved = question('example.test', 'wanted', '_acme-challenge.shop');
  const sights = await world.authoritative.showsValue(moved, never);
  expect(sights).toMatchObject([{ alias: 'shop.challenges.test' }, { alias: 'shop.challenges.test' }]);
  expect(visibilityProblem(moved, sights)?.message).toContain('has a CNAME to shop.challenges.test there');
});

test('A server that the zone is delegated to without having it is told as lame', async () => {
  const asked = question('lame.test', 'here');
  const sights = await world.authoritative.showsValue(asked, never);
  expect(sights).toEqual([
    { ...ns1, state: 'shows' },
    { ...ns2, state: 'lame', why: expect.stringMatching(/^answers REFUSED/) },
  ]);
  expect(visibilityProblem(asked, sights)).toMatchObject({
    code: 'dns_delegation_lame',
    message: expect.stringMatching(
      /^The zone lame\.test is delegated to servers without it: ns2\.host\.test \(127\.0\.0\.4\) answers REFUSED.*The other one shows it\.$/,
    ),
  });
});

test('A server that answers for a zone from its parent only is lame, too', async () => {
  // The registry's server refers to others for a customer's zone: it has no authority there.
  const registry = [{ name: 'ns.nic.test', addresses: ['127.0.0.2'], delegated: true, listed: true }];
  expect(await world.authoritative.showsValue(question('lame.test', 'here'), never, registry)).toEqual([
    {
      ...{ server: 'ns.nic.test', address: '127.0.0.2', state: 'lame' },
      why: expect.stringMatching(/^does not have the zone and refers to ns[12]\.host\.test$/),
    },
  ]);
});

test('A server that nobody is at, and one that is silent, do not answer', async () => {
  const dead = question('dead.test', 'here');
  const sights = await world.authoritative.showsValue(dead, never);
  expect(sights).toEqual([
    { ...ns1, state: 'shows' },
    { server: 'ns3.host.test', address: deadAddress, state: 'silent', why: 'refuses the connection (UDP)' },
  ]);
  expect(visibilityProblem(dead, sights)).toMatchObject({
    code: 'dns_record_not_visible',
    message: expect.stringContaining(`ns3.host.test (${deadAddress}) refuses the connection (UDP)`),
  });

  const asked = question('example.test', 'first', '_acme-challenge.www');
  const servers = await world.authoritative.nameServers('example.test', never);
  await world.secondary.signal('SIGSTOP');
  try {
    expect(await world.authoritative.showsValue(asked, never, servers)).toEqual([
      { ...ns1, state: 'shows' },
      { ...ns2, state: 'silent', why: 'does not answer' },
    ]);
  } finally {
    await world.secondary.signal('SIGCONT');
  }
});

test('A large set of values is read whole, over TCP', async () => {
  const last = '79-'.padEnd(120, 'x');
  expect(await world.authoritative.showsValue(question('big.test', last), never)).toEqual([{ ...ns1, state: 'shows' }]);
});

test('A caller who has had enough is obeyed', async () => {
  const caller = new AbortController();
  caller.abort(new Error('the order was cancelled'));
  const asked = question('example.test', 'first', '_acme-challenge.www');
  await expect(world.authoritative.showsValue(asked, caller.signal)).rejects.toThrow('the order was cancelled');
  const servers = await world.authoritative.nameServers('example.test', never);
  await expect(world.authoritative.showsValue(asked, caller.signal, servers)).rejects.toThrow(
    'the order was cancelled',
  );
});
