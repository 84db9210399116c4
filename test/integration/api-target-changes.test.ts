import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { errorCodes } from '#libs/error-codes';
import { CertlineError } from '#libs/errors';
import { createLabHost } from '#libs/iis/lab-host';
import { createLogger } from '#libs/logging';
import { type HostAsker, startHostRequestWorker } from '#libs/queues/host-requests';
import { deploymentQueue, hostRequestQueue } from '#libs/queues/stages';
import type { RunningWorker } from '#libs/queues/worker';
import { createUndoRecords } from '#libs/store/undo-records';
import type { LabHost } from '../../services/lab/lab.ts';
import { freePort } from '../../services/lab/running-program.ts';
import { type ApiSession, anyTime, dumpRedis, fieldsOf, openApiSession } from '../support/api-session.ts';
import { addSite } from '../support/lab-sites.ts';

/** Targets on real hosts: how they are reached, changed, tried and deleted. No worker runs here. */
let session: ApiSession;
let host: LabHost;
let credential: string;
const key = `SHA256:${'a'.repeat(43)}`;
let count = 0;

const create = (body: object) => session.api.request('POST', '/v1/targets', { kind: 'iis', ...body });
const ssh = (more: object = {}) => ({ kind: 'ssh', host: 'web01.corp.example', credential, ...more });
async function makeTarget(transport: object, more: object = {}): Promise<string> {
  count += 1;
  const { status, body } = await create({ name: `web-${count}`, transport, ...more });
  expect(body.errors).toBeUndefined();
  expect(status).toBe(201);
  return String(body.id);
}
/** A worker of a pool that answers for its hosts. */
function startHostWorker(pool: string, ask: HostAsker = async () => []): RunningWorker {
  const settings = { redis: session.redis, prefix: session.store.keys.tag, log: createLogger('test', 'silent') };
  return startHostRequestWorker(ask, { ...settings, lockDuration: 5_000, stalledInterval: 5_000 }, pool);
}
const patch = (id: string, body: unknown) => session.api.request('PATCH', `/v1/targets/${id}`, body);

beforeAll(async () => {
  session = await openApiSession({ workers: false });
  host = await session.lab.startHost('web01');
  await addSite(host.url, 1, ['*:80:www.example.com']);
  const login = { name: 'web', kind: 'ssh', username: 'svc-certline', password: 'a long password' };
  credential = String((await session.api.send('POST', '/v1/credentials', login)).id);
});
afterAll(() => session?.close());

describe('a target on a real host', () => {
  it('is reached over ssh with a credential, or by a worker on the host itself', async () => {
    const transport = ssh();
    const made = await create({ name: 'real', transport });
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({ transport: { ...transport, port: 22, hostKey: null }, pool: 'default' });
    const windows = [{ days: ['sat'], from: '22:00', to: '04:00', timeZone: 'Europe/Berlin' }];
    const local = { name: 'local', transport: { kind: 'local' }, pool: 'web01', windows };
    expect(await create(local)).toMatchObject({ status: 201, body: local });
    expect(await create(local)).toMatchObject({ status: 200, body: local });
  });

  it('is still the same when its host key was pinned since', async () => {
    const body = { name: 'pinned', transport: ssh() };
    const { id } = (await create(body)).body;
    await session.store.targets.update(String(id), (one) => ({
      ...one,
      transport: { ...ssh(), port: 22, hostKey: key } as never,
    }));
    expect(await create(body)).toMatchObject({ status: 200, body: { id, transport: { hostKey: key } } });
    const other = { ...body, transport: ssh({ hostKey: key.replace('aa', 'bb') }) };
    expect(await create(other)).toMatchObject({ status: 409, body: { code: 'name_taken' } });
  });

  it('needs a credential that is there', async () => {
    const before = await dumpRedis(session.redis);
    const answer = await create({ name: 'nobody', transport: ssh({ credential: 'cred_0' }) });
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 422, code: 'credential_unknown' });
    expect(fieldsOf(answer)).toEqual(['transport.credential credential_unknown']);
    expect(answer.body.advice).toContain('POST /v1/credentials');
    expect(await dumpRedis(session.redis)).toEqual(before);
  });

  it('is read and tried by a worker of its pool, whose errors are told as they are', async () => {
    const id = await makeTarget(ssh(), { pool: 'dmz' });
    const steps = [{ step: 'host key', ok: false, detail: 'another key' }] as const;
    const state = await createLabHost({ kind: 'lab', url: host.url }).read(new AbortController().signal);
    const asked: string[] = [];
    let refusal: CertlineError | null = null;
    const ask: HostAsker = async ({ question }, target) => {
      asked.push(`${question} ${target}`);
      if (refusal) throw refusal;
      return question === 'test' ? [...steps] : state;
    };
    const worker = startHostWorker('dmz', ask);
    try {
      const { items } = await session.api.send('GET', `/v1/targets/${id}/sites`);
      expect(items).toMatchObject([{ id: 1, names: [{ host: 'www.example.com', usable: true }] }]);
      expect(await session.api.send('POST', `/v1/targets/${id}/test`)).toEqual({ ok: false, steps });
      expect(asked).toEqual([`read ${id}`, `test ${id}`]);
      refusal = new CertlineError('host_key_changed', 'the host shows another key');
      expect(await session.api.request('GET', `/v1/targets/${id}/sites`)).toMatchObject({
        status: 502,
        body: { code: 'host_key_changed', detail: 'the host shows another key' },
      });
      const tried = [{ step: 'connect', ok: false, detail: 'host_key_changed: the host shows another key' }];
      expect(await session.api.send('POST', `/v1/targets/${id}/test`)).toEqual({ ok: false, steps: tried });
    } finally {
      await worker.stop(1_000);
    }
  });

  it('whose pool has no worker is told at once, with the pool and what to do', async () => {
    const id = await makeTarget(ssh(), { pool: 'empty' });
    const body = { names: ['www.example.com'], account: await session.account(), deploy: { target: id, site: 1 } };
    const [read, tried, shown] = await Promise.all([
      session.api.request('GET', `/v1/targets/${id}/sites`),
      session.api.request('POST', `/v1/targets/${id}/test`),
      session.api.request('POST', '/v1/orders/preview', body),
    ]);
    const detail = 'no deployment worker serves pool empty (DEPLOYMENT_POOLS)';
    const unserved = { status: 502, body: { code: 'pool_unserved', detail, advice: errorCodes.pool_unserved.advice } };
    expect(read).toMatchObject(unserved);
    expect(shown).toMatchObject(unserved);
    const steps = [{ step: 'connect', ok: false, detail: `pool_unserved: ${detail}` }];
    expect(tried).toMatchObject({ status: 200, body: { ok: false, steps } });
    expect(await session.redis.keys('*:request:*')).toEqual([]);
  });

  it('whose pool has lost its worker is unreachable, and the answer names the pool', async () => {
    const id = await makeTarget(ssh(), { pool: 'nobody' });
    await startHostWorker('nobody').stop(0);
    const headers = { authorization: `Bearer ${session.lab.apiKey}` };
    const impatient = fetch(`${session.url}/v1/targets/${id}/sites`, { headers, signal: AbortSignal.timeout(1_500) });
    const [read, tried, hungUp] = await Promise.all([
      session.api.request('GET', `/v1/targets/${id}/sites`),
      session.api.request('POST', `/v1/targets/${id}/test`),
      impatient.then(
        () => false,
        () => true,
      ),
    ]);
    const detail = 'no deployment worker of pool nobody answers';
    expect(read).toMatchObject({ status: 502, body: { code: 'target_unreachable', detail } });
    const steps = [{ step: 'connect', ok: false, detail: `target_unreachable: ${detail}` }];
    expect(tried).toMatchObject({ status: 200, body: { ok: false, steps } });
    // Nor is there anything left for a worker that comes later.
    expect(hungUp).toBe(true);
    expect(await session.redis.keys('*:request:*')).toEqual([]);
    expect(await session.redis.llen(`${session.store.keys.tag}:${hostRequestQueue('nobody')}:wait`)).toBe(0);
  }, 60_000);
});

describe('a changed target', () => {
  it('keeps what is not named', async () => {
    const id = await makeTarget(ssh({ hostKey: key, port: 2222 }), { pool: 'dmz' });
    const before = await session.api.send('GET', `/v1/targets/${id}`);
    expect(await patch(id, {})).toMatchObject({ status: 200, body: before });
    const renamed = await patch(id, { name: 'renamed' });
    expect(renamed.body).toEqual({ ...before, name: 'renamed', createdAt: expect.stringMatching(anyTime) });
    const windows = [{ days: ['sun'], from: '01:00', to: '05:00', timeZone: 'UTC' }];
    expect((await patch(id, { pool: 'inner', windows })).body).toEqual({ ...renamed.body, pool: 'inner', windows });
    expect(await session.api.send('GET', `/v1/targets/${id}`)).toEqual({ ...renamed.body, pool: 'inner', windows });
    expect((await patch(id, { windows: [] })).body.windows).toEqual([]);
    // The name is free again, and the new one taken.
    expect(await create({ name: String(before.name), transport: { kind: 'local' } })).toMatchObject({ status: 201 });
    expect(await create({ name: 'RENAMED', transport: { kind: 'local' } })).toMatchObject({ status: 409 });
  });

  it('forgets the pinned key with the host it was pinned for, and keeps it with everything else', async () => {
    const id = await makeTarget(ssh({ hostKey: key }));
    const transportOf = async (transport: object) => (await patch(id, { transport })).body.transport;
    expect(await transportOf({ port: 2222 })).toEqual({ ...ssh(), port: 2222, hostKey: key });
    expect(await transportOf({ host: 'web02.corp.example' })).toMatchObject({
      host: 'web02.corp.example',
      hostKey: null,
    });
    expect(await transportOf({ hostKey: key })).toMatchObject({ host: 'web02.corp.example', hostKey: key });
    expect(await transportOf({ host: 'web03.corp.example', hostKey: key })).toMatchObject({ hostKey: key });
    expect(await transportOf({ hostKey: null })).toMatchObject({ host: 'web03.corp.example', hostKey: null });
    expect(await transportOf({ kind: 'local' })).toEqual({ kind: 'local' });
  });

  it.each<[string, () => object, string[]]>([
    ['a name that is taken', () => ({ name: 'Taken' }), ['name name_taken']],
    [
      'a credential that is not there',
      () => ({ transport: { credential: 'cred_0' } }),
      ['transport.credential credential_unknown'],
    ],
    ['a field of another transport', () => ({ transport: { url: host.url } }), ['transport.url request_invalid']],
    ['half a transport', () => ({ transport: { kind: 'lab' } }), ['transport.url request_invalid']],
    ['another kind of target', () => ({ kind: 'iis' }), ['kind request_invalid']],
    ['a pool that is no name', () => ({ pool: '' }), ['pool request_invalid']],
  ])('is not changed to %s', async (_what, change, fields) => {
    const id = await makeTarget(ssh({ hostKey: key }));
    await create({ name: 'taken', transport: { kind: 'local' } });
    const before = await dumpRedis(session.redis);
    const answer = await patch(id, change());
    expect(fieldsOf(answer)).toEqual(fields);
    expect(answer.status).toBe(fields[0]?.endsWith('name_taken') ? 409 : 422);
    expect(await dumpRedis(session.redis)).toEqual(before);
  });

  it('is looked at by the workers of its new pool', async () => {
    const id = await makeTarget({ kind: 'local' });
    const waiting = `${session.store.keys.tag}:${deploymentQueue('inner')}:wait`;
    const before = await session.redis.llen(waiting);
    await patch(id, { pool: 'inner' });
    expect(await session.redis.llen(waiting)).toBe(before + 1);
  });
});

describe('the test of a target', () => {
  const test = (id: string) => session.api.request('POST', `/v1/targets/${id}/test`);

  it('says step by step what works', async () => {
    const id = await makeTarget({ kind: 'lab', url: host.url });
    const { status, body } = await test(id);
    expect(status).toBe(200);
    expect(body.ok).toBe(true);
    expect(body.steps).toContainEqual({ step: 'connect', ok: true, detail: expect.stringContaining(host.url) });
  });

  it('says what does not work, and is no error of the API', async () => {
    const id = await makeTarget({ kind: 'lab', url: `http://127.0.0.1:${await freePort()}` });
    expect(await test(id)).toMatchObject({
      status: 200,
      body: { ok: false, steps: [{ step: 'connect', ok: false, detail: expect.stringContaining('ECONNREFUSED') }] },
    });
  });
});

describe('a deleted target', () => {
  const remove = (id: string) => session.api.request('DELETE', `/v1/targets/${id}`);

  it('is gone, and its name is free', async () => {
    const id = await makeTarget({ kind: 'local' });
    const { name } = await session.api.send('GET', `/v1/targets/${id}`);
    expect(await remove(id)).toMatchObject({ status: 200, body: { id, name } });
    expect(await session.api.request('GET', `/v1/targets/${id}`)).toMatchObject({ status: 404 });
    expect(await remove(id)).toMatchObject({ status: 404, body: { code: 'not_found' } });
    expect(await create({ name, transport: { kind: 'local' } })).toMatchObject({ status: 201 });
  });

  it('has no unfinished orders: it stays as long as one is to be deployed there, in whatever stage', async () => {
    const id = await makeTarget({ kind: 'lab', url: host.url });
    const account = await session.account();
    const order = await session.order({ account, source: { target: id, site: 1 } });
    const before = await dumpRedis(session.redis);
    const answer = await remove(id);
    expect(answer).toMatchObject({ status: 409, body: { code: 'record_in_use' } });
    expect(answer.body.detail).toContain(order);
    expect(await dumpRedis(session.redis)).toEqual(before);
    await session.api.send('POST', `/v1/orders/${order}/cancel`);
    expect(await remove(id)).toMatchObject({ status: 200 });
  });

  it('answers no challenges of an unfinished order', async () => {
    const id = await makeTarget({ kind: 'local' });
    const account = await session.account();
    const challenge = { type: 'http-01', via: 'target', target: id };
    const order = await session.order({ account, names: ['www.example.com'], challenge });
    const detail = `unfinished orders have their challenges answered by its host: ${order}`;
    expect(await remove(id)).toMatchObject({ status: 409, body: { code: 'record_in_use', detail } });
    await session.api.send('POST', `/v1/orders/${order}/cancel`);
    expect(await remove(id)).toMatchObject({ status: 200 });
  });

  it('has no commit that is not verified yet: it stays until that is settled', async () => {
    const id = await makeTarget({ kind: 'local' });
    const undo = createUndoRecords(session.redis, session.store.keys);
    const before = { iisMajor: 10, osBuild: 20_348, sites: [] };
    await undo.save(id, { id: 'cut-off', savedAt: 1, place: 'web01', before, parts: [] });
    expect(await remove(id)).toMatchObject({ status: 409, body: { code: 'record_in_use' } });
    await undo.remove(id, 'cut-off');
    expect(await remove(id)).toMatchObject({ status: 200 });
  });
});
