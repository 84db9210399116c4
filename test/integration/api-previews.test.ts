import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LabHost } from '../../services/lab/lab.ts';
import { type ApiSession, dumpRedis, fieldsOf, openApiSession } from '../support/api-session.ts';
import { addSite } from '../support/lab-sites.ts';

type Json = Record<string, unknown>;
interface Row {
  siteId: number;
  bindingInformation: string;
  before: { thumbprint: string | null; store: string | null } | null;
  after: { thumbprint: string | null; store: string | null } | null;
  reason: string;
}
interface Deployment {
  target: { id: string; name: string };
  bindings: Row[];
  skipped: { siteId: number; bindingInformation: string; reason: string }[];
  warnings: string[];
  shared: { record: string; siteIds: number[] }[];
  unbound: string[];
  planHash: string;
}

/** What an order or a deployment would do, and deployments of a certificate that is there, with all workers at a simulated host. */
let session: ApiSession;
let host: LabHost;
let target: string;
let account: string;
let certificate: Json;
const noThumbprint = '0'.repeat(40);
const placeOf = ({ siteId, bindingInformation, before, after }: Row): string =>
  `${siteId} ${bindingInformation} ${before?.thumbprint ?? null} → ${after?.thumbprint ?? null}`;
const preview = (body: Json) => session.api.request('POST', '/v1/orders/preview', { account, ...body });
const onCertificate = (what: string, deploy: Json, headers: Record<string, string> = {}) =>
  session.api.request('POST', `/v1/certificates/${certificate.id}/${what}`, { deploy }, headers);
const deploymentsOf = ({ body }: { body: Json }): Deployment[] => {
  expect(body.errors).toBeUndefined();
  return body.deployments as Deployment[];
};
async function bindingsOf(
  site: number,
): Promise<{ protocol: string; bindingInformation: string; thumbprint: string }[]> {
  const { items } = await session.api.send('GET', `/v1/targets/${target}/sites`);
  const found = (items as { id: number; bindings: [] }[]).find(({ id }) => id === site);
  return found?.bindings ?? [];
}

beforeAll(async () => {
  session = await openApiSession({ workers: true });
  [host, account] = await Promise.all([session.lab.startHost('web01'), session.account()]);
  await addSite(host.url, 1, ['*:80:www.example.com', '*:80:example.com', '*:80:srvdevapp01']);
  await addSite(host.url, 2, ['*:80:www.example.com', '*:80:other.example.com']);
  await addSite(host.url, 3, ['*:80:free.example.com']);
  const transport = { kind: 'lab', url: host.url };
  target = String((await session.api.send('POST', '/v1/targets', { name: 'web01', kind: 'iis', transport })).id);
  const id = await session.order({ account, names: ['www.example.com', 'example.com'], key: { type: 'ec-p256' } });
  const { certificate: made } = await session.until(id, 'complete', ({ complete }) => complete === true, 60_000);
  certificate = await session.api.send('GET', `/v1/certificates/${made}`);
});
afterAll(() => session?.close());

describe('the preview of an order', () => {
  it('shows names, challenges and each binding before and after; stores nothing and asks no CA', async () => {
    const [before, asked] = [await dumpRedis(session.redis), await session.caRequests()];
    const answer = await preview({ source: { target, site: 1 } });
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({
      names: ['www.example.com', 'example.com'],
      source: { target, site: 1, skipped: [{ host: 'srvdevapp01', code: 'name_not_public' }] },
      challenges: [
        { name: 'www.example.com', type: 'http-01' },
        { name: 'example.com', type: 'http-01' },
      ],
      deploy: { mode: 'site', target, site: 1 },
    });
    const [deployment, ...others] = deploymentsOf(answer);
    expect(others).toEqual([]);
    expect(deployment).toMatchObject({ target: { id: target, name: 'web01' }, mode: 'site', site: 1, store: 'My' });
    expect(deployment?.bindings.map(placeOf)).toEqual([
      `1 *:443:example.com null → ${noThumbprint}`,
      `1 *:443:www.example.com null → ${noThumbprint}`,
    ]);
    expect(deployment?.bindings[0]?.reason).toContain('*:80:example.com');
    expect(await dumpRedis(session.redis)).toEqual(before);
    expect(await session.caRequests()).toBe(asked);
  });

  it('of one that is deployed nowhere shows no deployment', async () => {
    const { body } = await preview({ names: ['www.example.com'] });
    expect(body).toMatchObject({ source: null, deploy: { mode: 'none' }, deployments: [] });
  });

  it.each<[string, () => Json, number, string[]]>([
    ['a name that no public CA validates', () => ({ names: ['srv.local'] }), 422, ['names[0] name_not_public']],
    [
      'an account that is not there',
      () => ({ account: 'acc_0', names: ['a.example.com'] }),
      422,
      ['account account_unknown'],
    ],
    [
      'a site that nothing fits on',
      () => ({ names: ['a.example.com'], deploy: { target, site: 3 } }),
      422,
      ['deploy nothing_to_bind'],
    ],
    [
      'a site that is not there',
      () => ({ names: ['a.example.com'], deploy: { target, site: 9 } }),
      422,
      ['deploy.site site_not_found'],
    ],
  ])('is refused as the order would be with %s', async (_what, body, status, fields) => {
    const [seen, placed] = [
      await preview(body()),
      await session.api.request('POST', '/v1/orders', { account, ...body() }),
    ];
    expect({ status: seen.status, fields: fieldsOf(seen) }).toEqual({ status, fields });
    expect(placed).toMatchObject({ status, body: seen.body });
  });

  it('may be had with the right to read orders alone', async () => {
    const reader = await session.clientWith('orders:read');
    const body = { account, names: ['www.example.com'] };
    expect((await reader.request('POST', '/v1/orders/preview', body)).status).toBe(200);
    expect((await reader.request('POST', '/v1/orders', body)).status).toBe(403);
    const deploy = { deploy: { target, mode: 'auto' } };
    const path = `/v1/certificates/${certificate.id}/deployments`;
    expect((await reader.request('POST', `${path}/preview`, deploy)).status).toBe(200);
    expect((await reader.request('POST', path, deploy)).status).toBe(403);
  });
});

describe('a certificate that is there', () => {
  it('is not deployed where nothing fits, before it is bound anywhere', async () => {
    for (const what of ['deployments', 'deployments/preview']) {
      const answer = await onCertificate(what, { target, site: 3 });
      expect({ status: answer.status, fields: fieldsOf(answer) }).toEqual({
        ...{ status: 422, fields: ['deploy nothing_to_bind'] },
      });
    }
  });

  it('is deployed by an order of its own, as it was previewed, and no CA is asked', async () => {
    const deploy = { mode: 'site', target, site: 1 };
    const [seen] = deploymentsOf(await onCertificate('deployments/preview', deploy));
    expect(seen?.bindings.map(placeOf)).toEqual([
      `1 *:443:example.com null → ${certificate.thumbprint}`,
      `1 *:443:www.example.com null → ${certificate.thumbprint}`,
    ]);
    // The hash is the same before the certificate is there.
    const names = ['www.example.com', 'example.com'];
    expect(deploymentsOf(await preview({ names, deploy }))[0]?.planHash).toBe(seen?.planHash);

    const asked = await session.caRequests();
    const placed = await onCertificate('deployments', { ...deploy, planHash: seen?.planHash });
    expect(placed).toMatchObject({
      status: 202,
      body: {
        ...{ status: 'issued', stage: 'deployment', certificate: certificate.id, account, names, source: null },
        ...{
          key: { type: 'ec-p256' },
          challenge: { type: 'http-01' },
          deploy: { ...deploy, planHash: seen?.planHash },
        },
        identifiers: names.map((name) => ({ name, status: 'valid' })),
      },
    });
    const { id } = placed.body;
    expect(placed.headers.get('location')).toBe(`/v1/orders/${id}`);
    await session.until(String(id), 'deployed', ({ status }) => status === 'deployed');
    expect(await session.caRequests()).toBe(asked);
    const served = (await bindingsOf(1)).filter(({ protocol }) => protocol === 'https');
    expect(served.map(({ bindingInformation, thumbprint }) => `${bindingInformation} ${thumbprint}`).sort()).toEqual([
      `*:443:example.com ${certificate.thumbprint}`,
      `*:443:www.example.com ${certificate.thumbprint}`,
    ]);
    const { items } = await session.api.send('GET', '/v1/orders?name=example.com&status=deployed');
    expect((items as Json[]).map((order) => order.id)).toEqual([id]);
  });

  it('that is there already is nothing to change, and says so', async () => {
    const [seen] = deploymentsOf(await onCertificate('deployments/preview', { target, site: 1 }));
    for (const { before, after, reason } of seen?.bindings ?? []) {
      expect(after).toEqual(before);
      expect(reason).toContain('already has this certificate');
    }
    expect(seen?.skipped.filter(({ reason }) => reason === 'already has this certificate')).toHaveLength(2);
  });

  it('shows what a deployment would share with other sites, and what is skipped', async () => {
    // Site 2 has the same host: the http.sys record of its name is one.
    const [seen] = deploymentsOf(await onCertificate('deployments/preview', { mode: 'auto', target, port: 443 }));
    expect(seen?.skipped).toContainEqual(
      expect.objectContaining({
        siteId: 2,
        bindingInformation: '*:443:www.example.com',
        reason: expect.stringContaining('site 1'),
      }),
    );
  });

  it('replaces only certificates of certline when told so', async () => {
    const order = await session.order({ account, names: ['www.example.com'] });
    const { certificate: other } = await session.until(order, 'complete', ({ complete }) => complete === true);
    const deploy = { target, site: 1, updateOnly: true, replace: 'ours' };
    const answer = await session.api.request('POST', `/v1/certificates/${other}/deployments/preview`, { deploy });
    const changed = deploymentsOf(answer)[0]?.bindings.filter(
      ({ before, after }) => before?.thumbprint !== after?.thumbprint,
    );
    expect(changed?.map(({ bindingInformation }) => bindingInformation)).toEqual(['*:443:www.example.com']);
    // What somebody else put there is none of ours: certline has forgotten the certificate.
    await session.redis.hdel(session.store.keys.certificateByThumbprint, String(certificate.thumbprint));
    try {
      const refused = await session.api.request('POST', `/v1/certificates/${other}/deployments/preview`, { deploy });
      expect(fieldsOf(refused)).toEqual(['deploy nothing_to_bind']);
    } finally {
      await session.redis.hset(
        session.store.keys.certificateByThumbprint,
        String(certificate.thumbprint),
        String(certificate.id),
      );
    }
  });

  it('is deployed once per Idempotency-Key', async () => {
    const deploy = { mode: 'store', target };
    const headers = { 'idempotency-key': 'once' };
    const [first, second] = [
      await onCertificate('deployments', deploy, headers),
      await onCertificate('deployments', deploy, headers),
    ];
    expect(first.status).toBe(202);
    expect(second).toMatchObject({ status: 202, body: { id: first.body.id } });
    const reused = { status: 422, body: { code: 'idempotency_key_reused' } };
    expect(await onCertificate('deployments', { mode: 'auto', target }, headers)).toMatchObject(reused);
    const path = '/v1/certificates/crt_0/deployments';
    expect(await session.api.request('POST', path, { deploy }, headers)).toMatchObject(reused);
  });

  it.each<[string, () => Json, number, string[]]>([
    ['nowhere', () => ({ mode: 'none' }), 422, ['deploy.mode request_invalid']],
    ['no target', () => ({ mode: 'auto' }), 422, ['deploy.target request_invalid']],
    ['a target that is not there', () => ({ mode: 'auto', target: 'tgt_0' }), 422, ['deploy.target target_unknown']],
    ['no site', () => ({ target }), 422, ['deploy.site request_invalid']],
    ['a site that is not there', () => ({ target, site: 9 }), 422, ['deploy.site site_not_found']],
    [
      'a reader that is no account',
      () => ({ target, site: 1, readers: ['a:F'] }),
      422,
      ['deploy.readers[0] request_invalid'],
    ],
  ])('is not deployed with %s', async (_what, deploy, status, fields) => {
    const before = await session.store.orders.list({ limit: 1 });
    for (const what of ['deployments', 'deployments/preview']) {
      const answer = await onCertificate(what, deploy());
      expect({ status: answer.status, fields: fieldsOf(answer) }).toEqual({ status, fields });
    }
    const [newest] = (await session.store.orders.list({ limit: 1 })).orders;
    expect(newest?.id).toBe(before.orders[0]?.id);
  });

  it('that is not there is 404, and one that expired is deployed no more', async () => {
    const body = { deploy: { mode: 'store', target } };
    for (const what of ['deployments', 'deployments/preview']) {
      const answer = await session.api.request('POST', `/v1/certificates/crt_0/${what}`, body);
      expect(answer).toMatchObject({ status: 404, body: { code: 'not_found' } });
    }
    const record = await session.store.certificates.get(String(certificate.id));
    if (record === null) throw new Error('no certificate');
    await session.store.certificates.create(
      { ...record, id: 'crt_old', thumbprint: 'F'.repeat(40), notAfter: 1 },
      'chain',
    );
    const answer = await session.api.request('POST', '/v1/certificates/crt_old/deployments', body);
    expect({ status: answer.status, fields: fieldsOf(answer) }).toEqual({
      status: 422,
      fields: ['id request_invalid'],
    });
    expect(answer.body.detail).toContain('expired at 1970-01-01');
  });
});

describe('a plan that was looked at', () => {
  it('holds an order: when the host has another one by then, the order is refused at `deploy.planHash`', async () => {
    await addSite(host.url, 5, ['*:80:five.example.com', '*:80:moved.example.com']);
    const body = { source: { target, site: 5 } };
    const planHash = deploymentsOf(await preview(body))[0]?.planHash ?? '';
    await addSite(host.url, 6, [], {
      bindings: [{ protocol: 'https', bindingInformation: '*:443:moved.example.com', sslFlags: 1 }],
    });
    const before = await session.api.send('GET', '/v1/orders');
    const held = { ...body, deploy: { planHash } };
    const answer = await session.api.request('POST', '/v1/orders', { account, ...held });
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 409, code: 'plan_drifted' });
    expect(fieldsOf(answer)).toEqual(['deploy.planHash plan_drifted']);
    expect(answer.body).toMatchObject({
      advice: expect.stringContaining('preview again, and send the request again'),
      detail: expect.stringMatching(/^\S+ has changed since the preview/),
    });
    expect(await session.api.send('GET', '/v1/orders')).toEqual(before);

    // A new look shows the new plan, says that it is another, and that one holds.
    const [now] = deploymentsOf(await preview(held));
    expect(now).toMatchObject({ planHash: expect.not.stringMatching(planHash), planHashFits: false });
    expect(answer.body.detail).toContain(now?.planHash);
    const fitting = { ...body, deploy: { planHash: now?.planHash } };
    expect(deploymentsOf(await preview(fitting))[0]).toMatchObject({ planHashFits: true });
    expect(deploymentsOf(await preview(body))[0]).toMatchObject({ planHashFits: null });
  });

  it('holds a deployment too', async () => {
    const answer = await onCertificate('deployments', { target, site: 1, planHash: 'a'.repeat(64) });
    expect({ status: answer.status, fields: fieldsOf(answer) }).toEqual({
      ...{ status: 409, fields: ['deploy.planHash plan_drifted'] },
    });
  });
});
