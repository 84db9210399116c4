import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LabHost } from '../../services/lab/lab.ts';
import { freePort } from '../../services/lab/running-program.ts';
import { type ApiSession, anyTime, dumpRedis, fieldsOf, openApiSession } from '../support/api-session.ts';
import { addSite } from '../support/lab-sites.ts';

/** Targets, and orders that read their names from the bindings of a site, at a simulated IIS host. */
let session: ApiSession;
let host: LabHost;
let target: string;
let account: string;

const create = (body: unknown) => session.api.request('POST', '/v1/targets', body);
const place = (body: Record<string, unknown>) => session.api.request('POST', '/v1/orders', { account, ...body });
const web01 = () => ({ name: 'web01', kind: 'iis', transport: { kind: 'lab', url: host.url } });
const putFaults = async (faults: Record<string, unknown>) => {
  const answer = await fetch(`${host.url}/faults`, { method: 'PUT', body: JSON.stringify(faults) });
  expect(answer.status).toBe(200);
};

beforeAll(async () => {
  session = await openApiSession({ workers: false });
  [host, account] = await Promise.all([session.lab.startHost('web01'), session.account()]);
  await addSite(host.url, 1, ['*:80:www.example.com', '*:80:EXAMPLE.com', '*:8080:www.example.com', '*:80:']);
  await addSite(host.url, 2, ['*:80:shop.example.com', '*:80:srvdevapp01', '*:80:intra.local', '*:80:10.0.0.7']);
  await addSite(host.url, 3, ['*:80:srvdevapp01', '*:8443:']);
  await addSite(host.url, 4, ['*:80:stopped.example.com'], { state: 'Stopped' });
  target = String((await session.api.send('POST', '/v1/targets', web01())).id);
});
afterAll(() => session?.close());

describe('a target', () => {
  it('is made once: the same again is the same target', async () => {
    const body = { name: 'Web02', kind: 'iis', transport: { kind: 'lab', url: 'http://127.0.0.1:1' } };
    const made = await create(body);
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe(`/v1/targets/${made.body.id}`);
    const id = expect.stringMatching(/^tgt_[0-9A-Z]{26}$/);
    const rest = { pool: 'default', windows: [], drift: 'report', createdAt: expect.stringMatching(anyTime) };
    expect(made.body).toEqual({ id, ...body, ...rest });
    expect(await create(body)).toMatchObject({ status: 200, body: made.body });
    expect(await session.api.send('GET', `/v1/targets/${made.body.id}`)).toEqual(made.body);
    const { items, cursor } = await session.api.send('GET', '/v1/targets');
    expect(items).toMatchObject([{ name: 'Web02' }, { name: 'web01', id: target }]);
    expect(cursor).toBeNull();
  });

  it('of a name that another transport has is refused, whatever the case of its letters', async () => {
    for (const name of ['web01', 'WEB01']) {
      const before = await dumpRedis(session.redis);
      const answer = await create({ ...web01(), name, transport: { kind: 'lab', url: 'http://127.0.0.1:2' } });
      expect(answer).toMatchObject({
        status: 409,
        body: { code: 'name_taken', detail: expect.stringContaining(`PATCH /v1/targets/${target}`) },
      });
      expect(fieldsOf(answer)).toEqual(['name name_taken']);
      expect(await create({ ...web01(), pool: 'dmz' })).toMatchObject({ status: 409, body: { code: 'name_taken' } });
      expect(await dumpRedis(session.redis)).toEqual(before);
    }
  });

  it.each([
    ['no name', { name: '' }, ['name request_invalid']],
    ['a kind that nobody knows', { kind: 'nginx' }, ['kind request_invalid']],
    ['a transport that nobody knows', { transport: { kind: 'telnet' } }, ['transport.kind request_invalid']],
    ['a bad address', { transport: { kind: 'lab', url: 'ftp://x' } }, ['transport.url request_invalid']],
    ['a field that is not there', { site: 1 }, ['site request_invalid']],
    ['a pool that is no name', { pool: 'Web Servers' }, ['pool request_invalid']],
    [
      'a window at a time that no clock shows',
      { windows: [{ days: ['sat'], from: '25:00', to: '04:00', timeZone: 'Europe/Berlin' }] },
      ['windows[0].from request_invalid'],
    ],
    [
      'a host key that is no fingerprint',
      { transport: { kind: 'ssh', host: 'web01', credential: 'cred_0', hostKey: 'aa:bb' } },
      ['transport.hostKey request_invalid'],
    ],
    [
      'a host that is an option of a command',
      { transport: { kind: 'ssh', host: '-oProxyCommand=x', credential: 'cred_0' } },
      ['transport.host request_invalid'],
    ],
    [
      'a field that its transport does not have',
      { transport: { kind: 'lab', url: 'http://127.0.0.1:1', password: 'x' } },
      ['transport.password request_invalid'],
    ],
  ])('is not made with %s', async (_what, wrong, fields) => {
    const before = await dumpRedis(session.redis);
    const answer = await create({ ...web01(), name: 'web03', ...wrong });
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 422, code: 'request_invalid' });
    expect(fieldsOf(answer)).toEqual(fields);
    expect(await dumpRedis(session.redis)).toEqual(before);
  });

  it('shows its sites, their bindings and the names an order would ask for', async () => {
    const { items } = await session.api.send('GET', `/v1/targets/${target}/sites`);
    expect(items).toHaveLength(4);
    expect((items as unknown[])[0]).toEqual({
      ...{ id: 1, name: 'site1', state: 'Started', ftp: null },
      names: ['www.example.com', 'example.com'].map((host) => ({ host, usable: true, code: null, detail: null })),
      bindings: ['*:80:www.example.com', '*:80:EXAMPLE.com', '*:8080:www.example.com', '*:80:'].map(
        (bindingInformation) => ({ protocol: 'http', bindingInformation, sslFlags: 0, thumbprint: null, store: null }),
      ),
    });
    expect(items).toMatchObject([{ id: 1 }, { id: 2 }, { id: 3 }, { id: 4, state: 'Stopped' }]);
  });

  it('shows why no certificate could be ordered for the other names of a site, as the CA of an account has it', async () => {
    const judge = async (query: string) => {
      const { items } = await session.api.send('GET', `/v1/targets/${target}/sites${query}`);
      const [, site] = items as { names: { host: string; usable: boolean; code: string; detail: string }[] }[];
      return site?.names ?? [];
    };
    const names = await judge('');
    expect(names.map(({ host, usable, code }) => `${host} ${usable} ${code}`)).toEqual([
      ...['shop.example.com true null', 'srvdevapp01 false name_not_public', 'intra.local false name_not_public'],
      '10.0.0.7 false name_is_ip_address',
    ]);
    expect(names[1]?.detail).toContain('a public CA validates public domain names only');
    expect(await judge(`?account=${account}`)).toEqual(names);
    const internal = await session.account({ email: 'judge@example.com', allowInternalNames: true });
    expect((await judge(`?account=${internal}`)).map(({ usable }) => usable)).toEqual([true, true, true, false]);
    const nobody = await session.api.request('GET', `/v1/targets/${target}/sites?account=acc_0`);
    expect({ status: nobody.status, fields: fieldsOf(nobody) }).toEqual({
      ...{ status: 422, fields: ['account account_unknown'] },
    });
  });

  it('that does not answer is 502, until it answers again', async () => {
    const away = { name: 'away', kind: 'iis', transport: { kind: 'lab', url: `http://127.0.0.1:${await freePort()}` } };
    const { id } = (await create(away)).body;
    const unreachable = { status: 502, body: { code: 'target_unreachable' } };
    expect(await session.api.request('GET', `/v1/targets/${id}/sites`)).toMatchObject(unreachable);

    await putFaults({ unreachable: true });
    const before = await dumpRedis(session.redis);
    expect(await session.api.request('GET', `/v1/targets/${target}/sites`)).toMatchObject(unreachable);
    expect(await place({ source: { target, site: 1 } })).toMatchObject(unreachable);
    expect(await dumpRedis(session.redis)).toEqual(before);
    await putFaults({ unreachable: false });
    expect(await session.api.request('GET', `/v1/targets/${target}/sites`)).toMatchObject({ status: 200 });
  });

  it('that is not there is 404', async () => {
    const missing = { status: 404, body: { code: 'not_found', detail: expect.stringContaining('tgt_0') } };
    expect(await session.api.request('GET', '/v1/targets/tgt_0')).toMatchObject(missing);
    expect(await session.api.request('GET', '/v1/targets/tgt_0/sites')).toMatchObject(missing);
  });
});

describe('an order from a site', () => {
  it('asks for the names of its bindings, each once, and deploys to it', async () => {
    const { status, body } = await place({ source: { target, site: 1 } });
    expect(status).toBe(202);
    expect(body).toMatchObject({
      names: ['www.example.com', 'example.com'],
      source: { target, site: 1, skipped: [] },
      deploy: { mode: 'site', target, site: 1 },
    });
  });

  it('leaves out the hosts that no public CA validates, and says so', async () => {
    const { body } = await place({ source: { target, site: 2 } });
    expect(body.names).toEqual(['shop.example.com']);
    expect(body.source).toEqual({
      target,
      site: 2,
      skipped: [
        { host: 'srvdevapp01', code: 'name_not_public' },
        { host: 'intra.local', code: 'name_not_public' },
        { host: '10.0.0.7', code: 'name_is_ip_address' },
      ],
    });
  });

  it('asks for internal hosts too at a CA that may issue for them', async () => {
    const internal = await session.account({ email: 'internal@example.com', allowInternalNames: true });
    const { body } = await place({ account: internal, source: { target, site: 2 } });
    expect(body.names).toEqual(['shop.example.com', 'srvdevapp01', 'intra.local']);
    expect(body.source).toMatchObject({ skipped: [{ host: '10.0.0.7' }] });
  });

  it('deploys where it is told to instead', async () => {
    const source = { target, site: 1 };
    expect((await place({ source, deploy: { mode: 'none' } })).body.deploy).toEqual({ mode: 'none' });
    expect((await place({ source, deploy: { store: 'WebHosting' } })).body.deploy).toEqual({
      ...{ mode: 'site', target, site: 1, store: 'WebHosting' },
    });
    expect((await place({ source, deploy: { mode: 'site', site: 2, addMissing: true } })).body.deploy).toEqual({
      ...{ mode: 'site', target, site: 2, addMissing: true },
    });
    expect(await place({ source, deploy: { mode: 'site', site: 9 } })).toMatchObject({
      status: 422,
      body: { code: 'site_not_found', errors: [{ path: 'deploy.site' }] },
    });
    expect((await place({ source, deploy: { mode: 'auto', updateOnly: false } })).body.deploy).toEqual({
      ...{ mode: 'auto', target, updateOnly: false },
    });
  });

  it.each([
    ['a site that is not there', () => ({ source: { target, site: 99 } }), 'site_not_found', []],
    ['a site without public names', () => ({ source: { target, site: 3 } }), 'site_has_no_names', []],
    [
      'a target that is not there',
      () => ({ source: { target: 'tgt_0', site: 1 } }),
      'target_unknown',
      ['source.target target_unknown'],
    ],
    [
      'names as well',
      () => ({ names: ['www.example.com'], source: { target, site: 1 } }),
      'request_invalid',
      ['source request_invalid'],
    ],
    ['no site', () => ({ source: { target } }), 'request_invalid', ['source.site request_invalid']],
    [
      'another target to deploy to, but no site there',
      () => ({ source: { target, site: 1 }, deploy: { target: 'tgt_0' } }),
      'target_unknown',
      ['deploy.target target_unknown'],
    ],
  ])('is refused with %s', async (_what, body, code, fields) => {
    const before = await dumpRedis(session.redis);
    const answer = await place(body());
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 422, code });
    expect(fieldsOf(answer)).toEqual(fields);
    expect(await dumpRedis(session.redis)).toEqual(before);
  });
});
