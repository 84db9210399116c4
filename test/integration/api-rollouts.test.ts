import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LabHost } from '../../services/lab/lab.ts';
import { type ApiSession, fieldsOf, openApiSession } from '../support/api-session.ts';
import { eventually } from '../support/lab-session.ts';
import { addSite } from '../support/lab-sites.ts';

type Json = Record<string, unknown>;
interface Part {
  target: string;
  wave: number;
  order: string | null;
  status: string;
}
interface Binding {
  protocol: string;
  bindingInformation: string;
  thumbprint: string | null;
}

/** One certificate for a farm of three simulated hosts, wave after wave, with all workers. */
let session: ApiSession;
let account: string;
let hosts: LabHost[];
let farm: string[];

const request = (method: string, path: string, body?: Json) => session.api.request(method, path, body);
const cancel = (id: unknown) => request('POST', `/v1/orders/${id}/cancel`);
const retry = (id: unknown, body?: Json) => request('POST', `/v1/orders/${id}/retry`, body);
const read = async (id: unknown) => session.read(String(id));
const partsOf = ({ deployments }: Json): Part[] => deployments as Part[];
const statusesOf = (order: Json): string[] => partsOf(order).map(({ wave, status }) => `${wave} ${status}`);
const status = (id: string, wanted: string) => session.until(id, wanted, (now) => now.status === wanted, 60_000);
const certificateIs = async (id: unknown): Promise<string> =>
  String((await session.api.send('GET', `/v1/certificates/${id}`)).thumbprint);

async function setUnreachable(host: LabHost, unreachable: boolean): Promise<void> {
  const body = JSON.stringify({ unreachable });
  const headers = { 'content-type': 'application/json' };
  expect((await fetch(`${host.url}/faults`, { method: 'PUT', body, headers })).status).toBe(200);
}
/** What a site of a host serves by https, as the host says itself. */
async function served(at: number, site: number): Promise<(string | null)[]> {
  const { sites } = (await (await fetch(`${hosts[at]?.url}/state`)).json()) as {
    sites: { id: number; bindings: Binding[] }[];
  };
  const bindings = sites.find(({ id }) => id === site)?.bindings ?? [];
  return bindings.filter(({ protocol }) => protocol === 'https').map(({ thumbprint }) => thumbprint);
}
const commits = async (at: number): Promise<number> =>
  ((await (await fetch(`${hosts[at]?.url}/log`)).json()) as unknown[]).length;

beforeAll(async () => {
  session = await openApiSession({ workers: true });
  [hosts, account] = await Promise.all([
    Promise.all(['web01', 'web02', 'web03'].map((name) => session.lab.startHost(name))),
    session.account(),
  ]);
  const made = hosts.map(({ url }, at) =>
    session.api.send('POST', '/v1/targets', { name: `web0${at + 1}`, kind: 'iis', transport: { kind: 'lab', url } }),
  );
  farm = (await Promise.all(made)).map(({ id }) => String(id));
});
afterAll(() => session?.close());

describe('an order for a farm', () => {
  it('is previewed, and goes to one host first and to the others when that one has it', async () => {
    const name = 'farm.example.com';
    const [first, second, third] = farm;
    for (const [at, site] of [1, 3, 1].entries()) await addSite(hosts[at]?.url ?? '', site, [`*:80:${name}`]);
    const targets = [first, { target: second, site: 3 }, third];
    const body = { account, names: [name], key: { type: 'ec-p256' }, deploy: { site: 1, targets, waves: [1, 'rest'] } };

    const previewed = await request('POST', '/v1/orders/preview', body);
    expect(previewed.body.errors).toBeUndefined();
    const shown = previewed.body.deployments as Json[];
    expect(shown).toMatchObject([
      { target: { id: first, name: 'web01' }, wave: 1, site: 1, error: null, opensAt: null },
      { target: { id: second }, wave: 2, site: 3, error: null },
      { target: { id: third }, wave: 2, site: 1, error: null },
    ]);
    const held = { ...body.deploy, targets: farm.map((target, at) => ({ target, planHash: shown[at]?.planHash })) };
    Object.assign(held.targets[1] ?? {}, { site: 3 });

    const placed = await request('POST', '/v1/orders', { ...body, deploy: held });
    expect(placed).toMatchObject({
      status: 202,
      body: {
        deploy: { mode: 'rollout', waves: [[{ target: first }], [{ target: second }, { target: third }]] },
        deployments: [
          { target: first, wave: 1, order: null, status: 'waiting' },
          { target: second, wave: 2, order: null, status: 'waiting' },
          { target: third, wave: 2, order: null, status: 'waiting' },
        ],
        partOf: null,
      },
    });
    const id = String(placed.body.id);
    const done = await status(id, 'deployed');
    expect(done).toMatchObject({ complete: true, stage: null, error: null });
    expect(statusesOf(done)).toEqual(['1 deployed', '2 deployed', '2 deployed']);
    const thumbprint = await certificateIs(done.certificate);
    for (const [at, site] of [1, 3, 1].entries()) expect(await served(at, site)).toEqual([thumbprint]);

    // Each target has an order of its own, which is read by its id and is in no list.
    const parts = await Promise.all(partsOf(done).map(({ order }) => read(order)));
    for (const [at, part] of parts.entries())
      expect(part).toMatchObject({
        ...{ partOf: id, status: 'deployed', deployments: [], certificate: done.certificate },
        deploy: { mode: 'site', target: farm[at] },
      });
    const { items } = await session.api.send('GET', `/v1/orders?name=${name}`);
    expect((items as Json[]).map((one) => one.id)).toEqual([id]);
    const began = parts.map((part) => Date.parse(String(part.createdAt)));
    expect(Math.min(...began.slice(1))).toBeGreaterThanOrEqual(Date.parse(String(parts[0]?.updatedAt)));
  });

  it('stops at a wave that fails; a retry goes on from there, with the same certificate', async () => {
    const name = 'stops.example.com';
    await addSite(hosts[0]?.url ?? '', 5, [`*:80:${name}`]);
    await addSite(hosts[2]?.url ?? '', 5, [`*:80:${name}`]);
    const body = {
      ...{ account, names: [name], key: { type: 'ec-p256' } },
      deploy: { site: 5, targets: farm, waves: [1, 1, 'rest'] },
    };
    // While the host answers, an order that must fail there is refused before it costs a certificate.
    const refused = await request('POST', '/v1/orders', body);
    expect({ status: refused.status, fields: fieldsOf(refused) }).toEqual({
      ...{ status: 422, fields: ['deploy.targets[1].site site_not_found'] },
    });
    await setUnreachable(hosts[1] as LabHost, true);
    const id = await session.order(body);
    await setUnreachable(hosts[1] as LabHost, false);
    const untouched = await commits(2);

    const failed = await status(id, 'failed');
    expect(statusesOf(failed)).toEqual(['1 deployed', '2 failed', '3 waiting']);
    expect(failed).toMatchObject({
      ...{ complete: false, stage: 'deployment', certificate: expect.any(String) },
      error: { code: 'site_not_found', stage: 'deployment', detail: expect.stringContaining('wave 2') },
    });
    expect(failed.deployments).toMatchObject([{ error: null }, { error: { code: 'site_not_found' } }, { error: null }]);
    expect(await commits(2)).toBe(untouched);
    const [first, second] = partsOf(failed);

    // It goes on as a whole: its parts alone cannot.
    const detail = `${second?.order} is a part of ${id}: retry that one`;
    expect(await retry(second?.order)).toMatchObject({ status: 409, body: { code: 'order_state_conflict', detail } });
    expect(await retry(id, { from: 'issuance' })).toMatchObject({ status: 409 });
    const issued = session.lab.pebble.issued().length;
    await addSite(hosts[1]?.url ?? '', 5, [`*:80:${name}`]);
    const again = await retry(id);
    expect(again).toMatchObject({ status: 202, body: { status: 'issued', epoch: 2 } });
    const done = await status(id, 'deployed');
    expect(statusesOf(done)).toEqual(['1 deployed', '2 deployed', '3 deployed']);
    expect(partsOf(done)[0]?.order).toBe(first?.order);
    expect(partsOf(done)[1]?.order).not.toBe(second?.order);
    expect(done.certificate).toBe(failed.certificate);
    expect(session.lab.pebble.issued()).toHaveLength(issued);
    const thumbprint = await certificateIs(done.certificate);
    for (const at of [0, 1, 2]) expect(await served(at, 5)).toEqual([thumbprint]);
  });

  it('is called off with the parts that have not begun', async () => {
    const name = 'called-off.example.com';
    for (const { url } of hosts) await addSite(url, 6, [`*:80:${name}`]);
    // Its window opens in three days: nothing but the call itself ends the part that waits for it.
    const day = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'][(new Date().getUTCDay() + 3) % 7];
    const window = { days: [day], from: '10:00', to: '11:00', timeZone: 'UTC' };
    await session.api.send('PATCH', `/v1/targets/${farm[0]}`, { windows: [window] });
    const body = {
      ...{ account, names: [name], key: { type: 'ec-p256' } },
      deploy: { site: 6, targets: farm, waves: [1, 'rest'] },
    };
    const seen = (await session.api.send('POST', '/v1/orders/preview', body)).deployments as Json[];
    expect(seen.map(({ opensAt }) => opensAt)).toEqual([expect.stringContaining('T10:00:00.000Z'), null, null]);
    const id = await session.order(body);
    const begun = await session.until(id, 'begun', (now) => statusesOf(now)[0] === '1 under way');
    const [{ order: part } = { order: null }] = partsOf(begun);
    const waiting = await session.until(String(part), 'waiting', ({ error }) => error !== null);
    expect(waiting).toMatchObject({ error: { code: 'outside_window' }, nextAttemptAt: seen[0]?.opensAt });
    // The rollout says itself what holds it up; lists do not.
    const nothing = { error: null, nextAttemptAt: null };
    const held = { error: { code: 'outside_window', detail: expect.any(String) }, nextAttemptAt: seen[0]?.opensAt };
    expect((await read(id)).deployments).toMatchObject([held, nothing, nothing]);
    const { items } = await session.api.send('GET', `/v1/orders?name=${name}`);
    expect((items as Json[])[0]?.deployments).toMatchObject([nothing, nothing, nothing]);

    const detail = `${part} is a part of ${id}: cancel that one`;
    expect(await cancel(part)).toMatchObject({ status: 409, body: { code: 'order_state_conflict', detail } });
    expect((await read(part)).status).toBe('issued');
    const answer = await cancel(id);
    expect(answer).toMatchObject({ status: 200, body: { id, status: 'cancelled', certificate: expect.any(String) } });
    await status(String(part), 'cancelled');
    await session.api.send('PATCH', `/v1/targets/${farm[0]}`, { windows: [] });
    expect(await cancel(id)).toMatchObject({ status: 200, body: { status: 'cancelled' } });
    for (const at of [0, 1, 2]) expect(await served(at, 6)).toEqual([]);
    const told = await session.until(id, 'settled', (now) => statusesOf(now)[0] === '1 cancelled');
    expect(partsOf(told).map(({ order }) => order)).toEqual([part, null, null]);
    // Nothing is left to do on any of them.
    await eventually('no order is unfinished there', 10_000, async () => {
      const open = await Promise.all(farm.map((target) => session.store.orders.unfinishedAt(target)));
      return open.flat().length === 0;
    });
  });
});

describe('a certificate that is there', () => {
  it('is deployed to several targets, whatever their kind', async () => {
    const { items } = await session.api.send('GET', '/v1/certificates');
    const certificate = (items as Json[])[0]?.id;
    const path = `/v1/certificates/${certificate}/deployments`;
    const folder = { name: 'files', kind: 'folder', path: session.lab.dir };
    const files = String((await session.api.send('POST', '/v1/targets', folder)).id);
    const deploy = { mode: 'store', store: 'WebHosting', targets: [farm[0], files], waves: [1, 1] };
    await setUnreachable(hosts[0] as LabHost, true);
    const seen = await request('POST', `${path}/preview`, { deploy });
    await setUnreachable(hosts[0] as LabHost, false);
    expect(seen).toMatchObject({
      status: 200,
      body: {
        deployments: [
          { wave: 1, store: 'WebHosting', error: { code: 'target_unreachable' }, planHash: null },
          { wave: 2, store: null, error: null, writes: expect.arrayContaining([expect.stringContaining('cert.pem')]) },
        ],
      },
    });
    const placed = await request('POST', path, { deploy });
    expect(placed).toMatchObject({
      status: 202,
      body: {
        ...{ status: 'issued', certificate },
        deploy: {
          mode: 'rollout',
          waves: [[{ mode: 'store', target: farm[0], store: 'WebHosting' }], [{ mode: 'store', target: files }]],
        },
      },
    });
    expect(statusesOf(await status(String(placed.body.id), 'deployed'))).toEqual(['1 deployed', '2 deployed']);

    const wrong = { deploy: { ...deploy, port: 444, targets: ['tgt_0', farm[0], farm[0]], waves: [1] } };
    for (const what of ['', '/preview'])
      expect(fieldsOf(await request('POST', `${path}${what}`, wrong))).toEqual([
        'deploy.waves request_invalid',
        'deploy.port request_invalid',
        'deploy.targets[0] target_unknown',
        'deploy.targets[2] request_invalid',
      ]);
  });
});

describe('a farm of which nothing is right', () => {
  it('is refused with a hundred of the reasons, and how many more there are', async () => {
    const targets = Array.from({ length: 150 }, (_, at) => `tgt_${at}`);
    const body = { account, names: ['none.example.com'], deploy: { site: 1, targets } };
    const refused = await request('POST', '/v1/orders', body);
    expect(refused).toMatchObject({
      status: 422,
      body: { code: 'target_unknown', detail: expect.stringContaining('and 149 more') },
    });
    const fields = fieldsOf(refused);
    expect(fields).toHaveLength(100);
    expect(fields[0]).toBe('deploy.targets[0] target_unknown');
  });
});
