import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { planDeployment } from '#libs/iis/deployment-plan';
import type { IisHost, PfxImport } from '#libs/iis/iis-host';
import { hostError } from '#libs/iis/problems';
import type { Certificate } from '#libs/model/certificate';
import type { Redis } from '../../services/lab/redis.ts';
import { type Deployments, openDeployments, wrapped } from '../support/deployments.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** What an order may ask of its deployment, and what the orders of one run are to each other. */
let server: Redis;
let web: Deployments;
let old: Certificate;
let fresh: Certificate;
/** What came to the host's store. */
let imports: Omit<PfxImport, 'pfx' | 'password'>[];

const names = ['www.example.com', 'api.example.com'];
const toSite = { mode: 'site', site: 1 } as const;
const isDeployed = { status: 'deployed', error: null };
const served = async () => (await web.bindings()).map((line) => line.split(' ').at(-1));

/** The host, which tells what is imported; an import of `refuse` fails as one with a wrong password. */
const watched =
  (refuse?: string) =>
  (own: IisHost): IisHost =>
    wrapped(own, {
      async importPfx(certificate, signal) {
        const { pfx: _pfx, password, ...rest } = certificate;
        imports.push(rest);
        const wrong = certificate.thumbprint === refuse ? { password: `${password}?` } : {};
        await own.importPfx({ ...certificate, ...wrong }, signal);
      },
    });

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  imports = [];
  web = await openDeployments(server);
  [old, fresh] = [await web.certificate(['*.example.com']), await web.certificate(names)];
});
afterEach(() => web.close());

describe('the hash of a plan', () => {
  /** As a preview makes it, before there is a certificate. */
  async function preview(): Promise<string> {
    const blank = { names, thumbprint: '0'.repeat(40) };
    return planDeployment(await web.state(), blank, { ...toSite, target: 'tgt_1' }).hash;
  }

  beforeEach(async () => {
    await web.addSite(1, ['*:80:www.example.com', '*:443:api.example.com']);
    await web.bind(old, 1, '*:443:api.example.com');
  });

  it('that a person has seen is that of the plan that is carried out', async () => {
    const planHash = await preview();
    web.start();
    expect(await web.deploy(fresh, { ...toSite, planHash })).toMatchObject(isDeployed);
    expect(await served()).toEqual([fresh.thumbprint, fresh.thumbprint]);
  });

  it('is another one when the host was changed since: nothing is imported or changed', async () => {
    const planHash = await preview();
    await web.bind(await web.certificate(['api.example.com']), 1, '*:443:api.example.com');
    const [state, commits] = [await web.state(), await web.commits()];
    web.start(watched());
    const order = await web.deploy(fresh, { ...toSite, planHash });
    expect(order).toMatchObject({ status: 'failed', error: { code: 'plan_drifted' }, attempts: { deployment: 1 } });
    expect(order.error?.evidence).toMatchObject({ planHash: await preview(), changes: [{}, {}] });
    expect(await web.state()).toEqual(state);
    expect(imports).toEqual([]);
    expect(await web.commits()).toBe(commits);
  });

  it('is also that of what becomes of the key, and of where it goes', async () => {
    const planHash = await preview();
    web.start(watched());
    const others = [{ exportable: true }, { readers: ['S-1-5-20'] }, { store: 'WebHosting' } as const];
    for (const other of others) {
      const order = await web.deploy(fresh, { ...toSite, ...other, planHash });
      expect(order).toMatchObject({ status: 'failed', error: { code: 'plan_drifted' } });
    }
    const stored = await web.deploy(fresh, { mode: 'store', planHash: 'of another target' });
    expect(stored).toMatchObject({ status: 'failed', error: { code: 'plan_drifted' } });
    expect(imports).toEqual([]);
  });

  it('holds up no other order', async () => {
    const ids = [await web.order(fresh, { ...toSite, planHash: 'no such' }), await web.order(fresh, toSite)];
    web.start();
    expect(await web.settled(ids[0] ?? '')).toMatchObject({ status: 'failed', error: { code: 'plan_drifted' } });
    expect(await web.settled(ids[1] ?? '')).toMatchObject(isDeployed);
  });

  it('is no matter when an earlier run of the order has done it all', async () => {
    const planHash = await preview();
    const id = await web.order(fresh, { ...toSite, planHash });
    // A process that dies before it saves what it did: the order is as it was.
    expect(await web.run([id])).toMatchObject([{ deployed: { status: 'deployed' } }]);
    const commits = await web.commits();
    expect(await web.run([id])).toMatchObject([{ id, deployed: { status: 'deployed' } }]);
    expect(await web.commits()).toBe(commits);
  });

  it('is the same again after bindings were put back', async () => {
    const planHash = await preview();
    await web.faults({ serveOld: true });
    web.start();
    const { id } = await web.deploy(fresh, { ...toSite, planHash });
    expect(await web.pipeline.read(id)).toMatchObject({ status: 'issued', error: { code: 'handshake_mismatch' } });
    await web.faults({ serveOld: false });
    expect(await web.hurry(id)).toMatchObject(isDeployed);
  });
});

describe('a certificate that expired while its deployment waited', () => {
  it('takes the place of no other', async () => {
    await web.addSite(1, ['*:80:www.example.com', '*:443:api.example.com']);
    await web.bind(old, 1, '*:443:api.example.com');
    const { redis, store } = web.pipeline;
    const expired = JSON.stringify({ ...fresh, notAfter: Date.now() - 1_000 });
    await redis.hset(store.keys.certificate(fresh.id), 'document', expired);
    const state = await web.state();
    web.start(watched());
    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject({ status: 'failed', error: { code: 'deadline_passed' }, attempts: { deployment: 1 } });
    expect(await web.state()).toEqual(state);
    expect(imports).toEqual([]);
  });
});

describe('a key', () => {
  beforeEach(() => web.addSite(1, ['*:80:www.example.com']));

  it('stays on its host, and is for IIS alone', async () => {
    web.start(watched());
    expect(await web.deploy(fresh, toSite)).toMatchObject(isDeployed);
    expect(imports).toMatchObject([{ thumbprint: fresh.thumbprint, exportable: false, readers: [] }]);
  });

  it('may be exported and read by others where the order says so', async () => {
    const readers = ['S-1-5-20', 'CONTOSO\\mail'];
    web.start(watched());
    expect(await web.deploy(fresh, { ...toSite, exportable: true, readers })).toMatchObject(isDeployed);
    expect(imports).toMatchObject([{ exportable: true, readers }]);
  });

  it('is not imported again when every binding has its certificate', async () => {
    web.start(watched());
    for (let i = 0; i < 2; i += 1) expect(await web.deploy(fresh, toSite)).toMatchObject(isDeployed);
    expect(imports).toHaveLength(1);
  });

  it('is imported again for a store, whatever the bindings have', async () => {
    web.start(watched());
    for (const mode of [toSite, { mode: 'store' } as const])
      expect(await web.deploy(fresh, mode)).toMatchObject(isDeployed);
    expect(imports).toHaveLength(2);
  });
});

describe('replace ours', () => {
  it('leaves bindings alone whose certificate is not of certline', async () => {
    await web.addSite(1, ['*:443:www.example.com', '*:443:api.example.com']);
    const theirs = await web.certificate(['www.example.com']);
    await web.bind(theirs, 1, '*:443:www.example.com');
    await web.bind(old, 1, '*:443:api.example.com');
    // Of certline are those that its store knows.
    const { redis, store } = web.pipeline;
    await redis.hdel(store.keys.certificateByThumbprint, theirs.thumbprint);
    web.start();
    expect(await web.deploy(fresh, { ...toSite, replace: 'ours' })).toMatchObject(isDeployed);
    expect(await served()).toEqual([theirs.thumbprint, fresh.thumbprint]);
  });
});

describe('one of many orders', () => {
  const count = 8;
  const host = (at: number) => `host${at}.example.org`;
  let certificates: Certificate[];
  let ids: string[];

  beforeEach(async () => {
    certificates = [];
    for (let at = 0; at < count; at += 1) certificates.push(await web.certificate([host(at)]));
    await web.addSite(
      1,
      [...certificates.keys()].map((at) => `*:80:${host(at)}`),
    );
    ids = [];
    for (const certificate of certificates) ids.push(await web.order(certificate, toSite));
  });
  /** The orders at the end of their first attempt. */
  const all = async () => Promise.all(ids.map((id) => web.settled(id)));

  it('whose PFX the host cannot read takes no other with it, nor a commit more', async () => {
    web.start(watched(certificates[3]?.thumbprint));
    const orders = await all();
    expect(orders[3]).toMatchObject({ status: 'failed', error: { code: 'pfx_unreadable' } });
    for (const order of orders.toSpliced(3, 1)) expect(order).toMatchObject(isDeployed);
    expect(await web.commits()).toBe(1);
  });

  it('that the host refuses is found in halves, not one by one', async () => {
    const bad = certificates[5]?.thumbprint;
    let tries = 0;
    web.start((own) =>
      wrapped(own, {
        async apply(changes, signal) {
          tries += 1;
          if (changes.some(({ thumbprint }) => thumbprint === bad))
            throw hostError({ precondition: false, hresult: '0x80070520', message: 'no such logon session' });
          await own.apply(changes, signal);
        },
      }),
    );
    const orders = await all();
    expect(orders[5]).toMatchObject({ status: 'issued', error: { code: 'key_unusable' } });
    for (const order of orders.toSpliced(5, 1)) expect(order).toMatchObject(isDeployed);
    // 8 are refused, 4 go, 4 are refused, 2 (the bad one is the second) are refused, 1 goes, 1 is refused, 2 go.
    expect([tries, await web.commits()]).toEqual([7, 3]);
  });

  it('on a host that denies access is one of as many that wait, after one try', async () => {
    let tries = 0;
    web.start((own) =>
      wrapped(own, {
        async apply() {
          tries += 1;
          throw hostError({ precondition: false, hresult: '0x80070005', message: 'Access is denied.' });
        },
      }),
    );
    for (const order of await all())
      expect(order).toMatchObject({ status: 'issued', error: { code: 'access_denied' } });
    expect(tries).toBe(1);
  });

  it('that is lost with the host on the way keeps what the others have reached', async () => {
    const bad = certificates[7]?.thumbprint;
    let refused = false;
    let reads = 0;
    web.start((own) =>
      wrapped(own, {
        async apply(changes, signal) {
          if (changes.some(({ thumbprint }) => thumbprint === bad)) {
            refused = true;
            throw hostError({ precondition: false, hresult: '0x80070520', message: 'no such logon session' });
          }
          await own.apply(changes, signal);
        },
        async read(signal) {
          reads += refused ? 1 : 0;
          // After the refusal: once for what it may have left, twice for the first half, then the host is gone.
          if (reads > 3) throw hostError({ precondition: false, hresult: '0x80070005', message: 'Access is denied.' });
          return own.read(signal);
        },
      }),
    );
    const orders = await all();
    for (const order of orders.slice(0, 4)) expect(order).toMatchObject(isDeployed);
    for (const order of orders.slice(4)) expect(order).toMatchObject({ error: { code: 'access_denied' } });
  });
});
