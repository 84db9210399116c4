import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { probeThumbprint } from '#libs/iis/handshake';
import { createLabHost } from '#libs/iis/lab-host';
import { driftStates } from '#libs/model/drift';
import type { LabHost } from '../../services/lab/lab.ts';
import { type ApiSession, anyTime, fieldsOf, openApiSession } from '../support/api-session.ts';
import { eventually } from '../support/lab-session.ts';
import { addSite } from '../support/lab-sites.ts';

type Json = Record<string, unknown>;

/** Drift from the API to the host and back, with all workers; the hosts are changed by hand, behind certline's back. */
let session: ApiSession;
let host: LabHost;
let account: string;
let target: string;
/** A certificate that is in the store of the host and bound nowhere. */
let other: string;
let count = 0;
const { signal } = new AbortController();

interface Site {
  id: number;
  name: string;
  place: string;
  binding: string;
  order: string;
  certificate: string;
  thumbprint: string;
}

const drift = async (query = ''): Promise<Json> => session.api.send('GET', `/v1/targets/${target}/drift${query}`);
const post = (what: string, body?: unknown) => session.api.request('POST', `/v1/targets/${target}/drift/${what}`, body);
const thumbprintOf = async (certificate: string): Promise<string> =>
  String((await session.api.send('GET', `/v1/certificates/${certificate}`)).thumbprint);
async function ended(order: string): Promise<Json> {
  return session.until(order, 'it has ended', ({ status }) => status === 'deployed' || status === 'failed', 30_000);
}

/** A site of its own whose https binding certline has made. */
async function deployedSite(): Promise<Site> {
  count += 1;
  const [id, name] = [count, `www${count}.example.com`];
  await addSite(host.url, id, [`*:80:${name}`]);
  const order = await session.order({ account, source: { target, site: id }, key: { type: 'ec-p256' } });
  const { status, certificate } = await ended(order);
  expect(status).toBe('deployed');
  const binding = `*:443:${name}`;
  const rest = { certificate: String(certificate), thumbprint: await thumbprintOf(String(certificate)) };
  return { id, name, place: `${id}|https|${binding}`, binding, order, ...rest };
}
/** Somebody gives a binding another certificate, or takes it away. */
async function byHand({ id, binding, thumbprint }: Site, now: string | null): Promise<void> {
  const change = { siteId: id, protocol: 'https', bindingInformation: binding, sslFlags: 1, store: 'My' } as const;
  const expected = { thumbprint, sslFlags: 1 };
  await createLabHost({ kind: 'lab', url: host.url }).apply(
    [{ ...change, op: now === null ? 'remove' : 'update', thumbprint: now, expect: expected }],
    signal,
  );
}
async function served({ name }: Site): Promise<string> {
  const opened = createLabHost({ kind: 'lab', url: host.url });
  await opened.read(signal);
  return (await probeThumbprint(opened.endpoint('*', 443), name, 5_000, signal)).thumbprint;
}
const faults = (body: object) => fetch(`${host.url}/faults`, { method: 'PUT', body: JSON.stringify(body) });
/** What was told of the target so far. */
async function told(): Promise<string[]> {
  const entries = await session.redis.xrange(session.store.keys.events, '-', '+');
  const events = entries.map(([, fields]) => JSON.parse(fields[1] ?? '{}') as Json);
  return events.flatMap((event) => (event.target === target ? [`${event.type} ${event.differences}`] : []));
}
async function gauges(): Promise<Json> {
  const lines = (await session.metrics()).split('\n').filter((line) => /^certline_(targets|drift)/.test(line));
  return Object.fromEntries(
    lines.map((line) => [line.replace(/,?service="\w+",?/, '').replace(/ .*/, ''), Number(line.split(' ').at(-1))]),
  );
}

beforeAll(async () => {
  session = await openApiSession({ workers: true, env: { RECONCILE_INTERVAL_MS: '100' } });
  host = await session.lab.startHost('web01');
  account = await session.account();
  const seed = String(
    (
      await session.api.send('POST', '/v1/targets', {
        name: 'seed',
        kind: 'iis',
        transport: { kind: 'lab', url: host.url },
      })
    ).id,
  );
  const id = await session.order({ account, names: ['other.example.com'], deploy: { mode: 'store', target: seed } });
  other = await thumbprintOf(String((await ended(id)).certificate));
});
afterAll(() => session?.close());
beforeEach(async () => {
  // A target of its own for each test, on the same host.
  const body = { name: `web ${count}-${Date.now()}`, kind: 'iis', transport: { kind: 'lab', url: host.url } };
  target = String((await session.api.send('POST', '/v1/targets', body)).id);
});

describe('the drift of a target', () => {
  it('is nothing before something was deployed, then in sync', async () => {
    expect(await drift()).toMatchObject({ target, state: 'nothing', places: 0, differences: [], error: null });
    await deployedSite();
    const report = await drift();
    expect(report).toMatchObject({ target, state: 'in_sync', places: 1, differences: [], error: null });
    expect(report.checkedAt).toMatch(anyTime);
    expect(report.since).toMatch(anyTime);
    expect(await told()).toEqual([]);
  });

  it('shows what was changed by hand, is told once, and a repair puts it back and serves it', async () => {
    const [moved, gone, kept] = [await deployedSite(), await deployedSite(), await deployedSite()];
    await byHand(moved, other);
    await byHand(gone, null);
    expect(await served(moved)).toBe(other);
    const report = await drift();
    expect(report).toMatchObject({ state: 'drifted', places: 3 });
    const differences = report.differences as Json[];
    expect(differences.map(({ place }) => place).sort()).toEqual([moved.place, gone.place].sort());
    expect(differences.find(({ place }) => place === moved.place)).toMatchObject({
      ...{ site: `site${moved.id}`, order: moved.order, certificate: moved.certificate, unrepairable: null },
      expected: { thumbprint: moved.thumbprint, store: 'My' },
      actual: { thumbprint: other, store: 'My' },
      detail: expect.stringMatching(/./),
    });
    expect(differences.find(({ place }) => place === gone.place)).toMatchObject({ actual: null });
    const again = await drift();
    expect({ ...again, checkedAt: '' }).toEqual({ ...report, checkedAt: '' });
    expect(await drift('?last=true')).toEqual(again);
    expect(await told()).toEqual(['target_drifted 2']);

    const { status, body } = await post('repair');
    expect({ status, left: body.left }).toEqual({ status: 202, left: [] });
    const orders = body.orders as { id: string; certificate: string; deploy: Json }[];
    expect(orders.map((order) => [order.certificate, order.deploy.only]).sort()).toEqual(
      [moved, gone].map(({ certificate, place }) => [certificate, [place]]).sort(),
    );
    for (const { id } of orders) expect(await ended(id)).toMatchObject({ status: 'deployed' });
    for (const site of [moved, gone, kept]) expect(await served(site)).toBe(site.thumbprint);
    expect(await drift()).toMatchObject({ state: 'in_sync', places: 3, differences: [] });
    expect(await told()).toEqual(['target_drifted 2', 'target_in_sync 0']);
    expect((await post('repair')).body).toEqual({ orders: [], left: [] });
  });

  it('is accepted for some places, or all, and is expected no longer', async () => {
    const [one, two] = [await deployedSite(), await deployedSite()];
    await byHand(one, other);
    await byHand(two, null);
    const expected = () => session.redis.hgetall(session.store.keys.expectations(target));
    const before = await expected();
    const wrong = await post('accept', { places: [one.place, '99|https|*:443:nowhere'] });
    expect(wrong).toMatchObject({ status: 422, body: { code: 'request_invalid' } });
    expect(fieldsOf(wrong)).toEqual(['places[1] request_invalid']);
    expect(Object.keys(before)).toHaveLength(2);
    expect(await expected()).toEqual(before);
    const accepted = await post('accept', { places: [one.place] });
    expect(accepted).toMatchObject({
      status: 200,
      body: { state: 'drifted', places: 1, differences: [{ place: two.place }] },
    });
    expect(await post('accept')).toMatchObject({ status: 200, body: { state: 'nothing', places: 0, differences: [] } });
    expect(await served(one)).toBe(other);
    expect((await post('repair')).body).toEqual({ orders: [], left: [] });
    // A later deployment is expected again.
    const { id } = await session.api.send('POST', `/v1/certificates/${one.certificate}/deployments`, {
      deploy: { target, site: one.id },
    });
    expect(await ended(String(id))).toMatchObject({ status: 'deployed' });
    expect(await drift()).toMatchObject({ state: 'in_sync', places: 1 });
  });

  it('is unknown while the host is down, with the reason, and known again when it is back', async () => {
    await deployedSite();
    expect(await drift()).toMatchObject({ state: 'in_sync' });
    await faults({ unreachable: true });
    try {
      expect(await drift()).toMatchObject({
        state: 'unknown',
        error: { code: 'target_unreachable', advice: expect.stringMatching(/./) },
      });
      for (const what of ['repair', 'accept'])
        expect(await post(what)).toMatchObject({ status: 502, body: { code: 'target_unreachable' } });
    } finally {
      await faults({ unreachable: false });
    }
    expect(await drift()).toMatchObject({ state: 'in_sync', error: null });
    expect(await told()).toEqual(['target_unknown 0', 'target_in_sync 0']);
  });

  it('is repaired by itself where the target allows it, by the schedule', async () => {
    const site = await deployedSite();
    expect(await session.api.send('GET', `/v1/targets/${target}`)).toMatchObject({ drift: 'report' });
    expect(await session.api.send('PATCH', `/v1/targets/${target}`, { drift: 'repair' })).toMatchObject({
      drift: 'repair',
    });
    const scheduled = async (): Promise<void> => {
      await session.store.driftSchedule.add([{ target, at: 0 }]);
      await session.store.driftSchedule.put(target, 0);
    };
    await byHand(site, other);
    await scheduled();
    await eventually('it is repaired', 20_000, async () => (await served(site)) === site.thumbprint);
    await eventually('nothing is under way', 20_000, async () => {
      return (await session.store.orders.unfinishedAt(target)).length === 0;
    });
    await scheduled();
    await eventually('it is in sync', 20_000, async () => (await drift('?last=true')).state === 'in_sync');
    expect(await told()).toEqual(['target_drifted 1', 'target_in_sync 0']);
    const counted = await gauges();
    expect(counted['certline_drift_repairs_total{}']).toBeGreaterThan(0);
    expect(counted['certline_drift_checks_total{outcome="drifted"}']).toBeGreaterThan(0);
    expect(counted['certline_targets{drift="in_sync"}']).toBeGreaterThan(0);
  });

  it('of a target that is deleted is forgotten with it', async () => {
    const site = await deployedSite();
    await byHand(site, other);
    await drift();
    await session.store.driftSchedule.add([{ target, at: Date.now() + 3_600_000 }]);
    expect(await session.api.send('DELETE', `/v1/targets/${target}`)).toMatchObject({ id: target });
    const { redis, store } = session;
    const { keys } = store;
    const records = [keys.expectations(target), keys.drift(target), keys.driftRepairs(target), keys.target(target)];
    expect(await redis.exists(...records)).toBe(0);
    const indexes = [keys.targets, keys.drifts, keys.driftSchedule, ...driftStates.map(keys.driftsByState)];
    expect(await Promise.all(indexes.map((index) => redis.zscore(index, target)))).toEqual(indexes.map(() => null));
    expect(await redis.hget(keys.driftPlaces, target)).toBeNull();
    for (const path of ['', '?last=true'])
      expect(await session.api.request('GET', `/v1/targets/${target}/drift${path}`)).toMatchObject({ status: 404 });
  });

  it('of a target that is pointed at another host is what that one lacks', async () => {
    const site = await deployedSite();
    const second = await session.lab.startHost('web02');
    await addSite(second.url, site.id, [`*:80:${site.name}`]);
    await session.api.send('PATCH', `/v1/targets/${target}`, { transport: { kind: 'lab', url: second.url } });
    expect(await drift()).toMatchObject({ state: 'drifted', differences: [{ place: site.place, actual: null }] });
  });
});

describe('the last reports', () => {
  it('are listed by their state, page by page', async () => {
    const states: string[] = [];
    let cursor = '';
    for (let page = 0; page < 50; page += 1) {
      const answer = await session.api.send('GET', `/v1/drift?limit=2${cursor && `&cursor=${cursor}`}`);
      states.push(...(answer.items as { state: string }[]).map(({ state }) => state));
      if (answer.cursor === null) break;
      cursor = String(answer.cursor);
    }
    const drifted = await session.api.send('GET', '/v1/drift?state=drifted');
    const listed = (drifted.items as { state: string }[]).map(({ state }) => state);
    expect(listed.length).toBeGreaterThan(0);
    expect(new Set(listed)).toEqual(new Set(['drifted']));
    expect(states.filter((state) => state === 'drifted')).toHaveLength(listed.length);
    expect(new Set(states).size).toBeGreaterThan(1);
    const wrong = await session.api.request('GET', '/v1/drift?state=lost');
    expect(fieldsOf(wrong)).toEqual(['state request_invalid']);
  });

  it('say what to do when there is none yet', async () => {
    expect(await session.api.request('GET', `/v1/targets/${target}/drift?last=true`)).toMatchObject({
      status: 404,
      body: { code: 'not_found', detail: expect.stringContaining('leave out `last`') },
    });
  });

  it('need the right to read, and a change the right to write', async () => {
    const reader = await session.clientWith('orders:read');
    expect(await reader.request('GET', '/v1/drift')).toMatchObject({ status: 200 });
    expect(await reader.request('GET', `/v1/targets/${target}/drift`)).toMatchObject({ status: 200 });
    for (const what of ['repair', 'accept']) {
      const answer = await reader.request('POST', `/v1/targets/${target}/drift/${what}`);
      expect(answer).toMatchObject({ status: 403, body: { code: 'scope_missing' } });
    }
    const writer = await session.clientWith('orders:write');
    expect(await writer.request('POST', `/v1/targets/${target}/drift/repair`)).toMatchObject({ status: 202 });
  });
});
