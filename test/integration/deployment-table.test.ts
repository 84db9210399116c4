import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '#libs/clock';
import { type ErrorCode, errorCodes } from '#libs/error-codes';
import { CertlineError } from '#libs/errors';
import type { HostState, IisHost } from '#libs/iis/iis-host';
import { hostError } from '#libs/iis/problems';
import type { Certificate } from '#libs/model/certificate';
import { paceOf } from '#libs/queues/stages';
import type { Redis } from '../../services/lab/redis.ts';
import { type Deployments, openDeployments, wrapped } from '../support/deployments.ts';
import { startOrderView } from '../support/order-view.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** What can go wrong on the way to a host: whatever it is, the host ends as it was or as it was planned, never between. */
let server: Redis;
let web: Deployments;
let old: Certificate;
let fresh: Certificate;
let before: HostState;

const names = ['www.example.com', 'api.example.com', 'shop.example.com'];
const toSite = { mode: 'site', site: 1 } as const;
const target = 'tgt_1';
type Apply = IisHost['apply'];

const refusal = (hresult: string, message: string) => hostError({ precondition: false, hresult, message });
const lost = (code: ErrorCode = 'target_unreachable') => new CertlineError(code, 'the connection was lost');
const keyUnusable = () => refusal('0x80070520', 'A specified logon session does not exist.');

/** The first commit goes another way: `way` is given the commit of the real host. */
const firstCommit = (way: (apply: Apply, ...args: Parameters<Apply>) => Promise<void>) => {
  let left = 1;
  return (host: IisHost): IisHost =>
    wrapped(host, {
      apply: (...args) => (left-- > 0 ? way((...own) => host.apply(...own), ...args) : host.apply(...args)),
    });
};
/** The connection is refused at first. */
const refused = (code: ErrorCode) => {
  let left = 1;
  return (own: IisHost): IisHost =>
    wrapped(own, {
      read: (signal) => (left-- > 0 ? Promise.reject(new CertlineError(code, 'not let in')) : own.read(signal)),
    });
};
/** A commit that is written to the configuration, and breaks off before http.sys has the certificates. */
const halfWritten = (error: () => Error) =>
  firstCommit(async (apply, changes, signal) => {
    await apply(
      changes.map((change) => ({ ...change, thumbprint: null, store: null })),
      signal,
    );
    throw error();
  });
/** The first read after a commit and all that follow fail, until the host is back. */
const lostAfterCommit = () => {
  let away = false;
  const host = (own: IisHost): IisHost =>
    wrapped(own, {
      async apply(changes, signal) {
        await own.apply(changes, signal);
        away = true;
      },
      async read(signal) {
        if (away) throw lost();
        return own.read(signal);
      },
    });
  return { host, back: () => (away = false) };
};

/** What the host shows when all went as planned. */
const planned = () => [
  `1 *:443:www.example.com 1 ${fresh.thumbprint}`,
  `1 *:443:other.example.com 1 ${old.thumbprint}`,
  `1 *:8443:shop.example.com 1 ${fresh.thumbprint}`,
  `1 *:443:api.example.com 1 ${fresh.thumbprint}`,
];

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  web = await openDeployments(server);
  [old, fresh] = [await web.certificate(['*.example.com']), await web.certificate(names)];
  const https = ['*:443:www.example.com', '*:443:other.example.com', '*:8443:shop.example.com'];
  await web.addSite(1, ['*:80:api.example.com', ...https]);
  for (const binding of https.slice(0, 2)) await web.bind(old, 1, binding);
  before = await web.state();
});
afterEach(() => web.close());

interface Row {
  what: string;
  code: ErrorCode;
  host?: (own: IisHost) => IisHost;
  faults?: object;
  /** What the host is when the attempt has ended. */
  leaves: 'as it was' | 'as planned';
}

const rows: Row[] = [
  {
    what: 'a commit race',
    code: 'commit_conflict',
    host: firstCommit(() => Promise.reject(new CertlineError('commit_conflict', 'the file has changed on disk'))),
    leaves: 'as it was',
  },
  {
    what: 'a key that http.sys cannot use, noticed before anything is written',
    code: 'key_unusable',
    host: firstCommit(() => Promise.reject(keyUnusable())),
    leaves: 'as it was',
  },
  {
    what: 'a key that http.sys cannot use, noticed when the configuration is written',
    code: 'key_unusable',
    host: halfWritten(keyUnusable),
    leaves: 'as it was',
  },
  {
    what: 'an entry that IIS has already',
    code: 'binding_conflict',
    host: firstCommit(() => Promise.reject(refusal('0x800700B7', 'Cannot add duplicate collection entry'))),
    leaves: 'as it was',
  },
  {
    what: 'a denied access',
    code: 'access_denied',
    host: firstCommit(() => Promise.reject(refusal('0x80070005', 'Access is denied.'))),
    leaves: 'as it was',
  },
  {
    what: 'a configuration that another program has open',
    code: 'commit_conflict',
    host: firstCommit(() => Promise.reject(refusal('0x80070020', 'The process cannot access the file.'))),
    leaves: 'as it was',
  },
  {
    what: 'a full disk, as all that has no code of its own,',
    code: 'target_refused',
    host: firstCommit(() => Promise.reject(refusal('0x80070070', 'There is not enough space on the disk.'))),
    leaves: 'as it was',
  },
  {
    what: 'a wrong PFX password',
    code: 'pfx_unreadable',
    host: (own) => wrapped(own, { importPfx: (pfx, signal) => own.importPfx({ ...pfx, password: 'another' }, signal) }),
    leaves: 'as it was',
  },
  {
    what: 'a host that is unreachable',
    code: 'target_unreachable',
    faults: { unreachable: true },
    leaves: 'as it was',
  },
  {
    what: 'a host that refuses the login',
    code: 'ssh_login_refused',
    host: refused('ssh_login_refused'),
    leaves: 'as it was',
  },
  {
    what: 'another host key than the pinned one',
    code: 'host_key_changed',
    host: refused('host_key_changed'),
    leaves: 'as it was',
  },
  {
    what: 'a host that is unreachable just before the commit',
    code: 'target_unreachable',
    host: firstCommit(() => Promise.reject(lost())),
    leaves: 'as it was',
  },
  {
    what: 'a connection lost after the host has committed',
    code: 'target_unreachable',
    host: firstCommit(async (apply, changes, signal) => {
      await apply(changes, signal);
      throw lost();
    }),
    leaves: 'as planned',
  },
  {
    what: 'a verification that sees another certificate',
    code: 'handshake_mismatch',
    faults: { serveOld: true },
    leaves: 'as it was',
  },
];

describe('after', () => {
  it.each(rows)('$what the host is $leaves, and the order says $code', async ({ code, host, faults, leaves }) => {
    if (faults) await web.faults(faults);
    web.start(host);
    const order = await web.deploy(fresh, toSite);
    const permanent = errorCodes[code].plan === 'permanent';
    // Without jitter, and a thousand times as long: none comes by itself.
    const pause = 1_000 * (paceOf('deployment', code)[0] ?? 0);
    const view = await startOrderView(web.pipeline.resources, systemClock);
    expect(await view.read(order.id).finally(view.close)).toMatchObject({
      ...{ status: permanent ? 'failed' : 'issued', attempts: { validation: 0, issuance: 0, deployment: 1 } },
      error: { code, stage: 'deployment', detail: order.error?.detail, advice: errorCodes[code].advice },
      nextAttemptAt: permanent ? null : new Date(order.updatedAt + pause).toISOString(),
    });
    await web.faults({ unreachable: false });
    if (leaves === 'as it was') expect(await web.state()).toEqual(before);
    else expect(await web.bindings()).toEqual(planned());
    if (permanent) return;

    await web.faults({ serveOld: false });
    const commits = await web.commits();
    expect(await web.hurry(order.id)).toMatchObject({ status: 'deployed', error: null });
    expect(await web.bindings()).toEqual(planned());
    expect(await web.commits()).toBe(commits + (leaves === 'as it was' ? 1 : 0));
    expect(await web.undo.get(target)).toBeNull();
  });

  it('a commit that broke off half written, with the connection, the host is put right before it is planned anew', async () => {
    const seen: HostState[] = [];
    const breaking = halfWritten(() => lost('target_timeout'));
    web.start((own) => {
      const host = breaking(own);
      return wrapped(host, {
        async apply(...args) {
          seen.push(await web.state());
          await host.apply(...args);
        },
      });
    });
    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject({ status: 'issued', error: { code: 'target_timeout' } });
    expect((await web.bindings())[0]).toBe('1 *:443:www.example.com 1 null');
    expect(await web.hurry(order.id)).toMatchObject({ status: 'deployed', error: null });
    expect(await web.bindings()).toEqual(planned());
    // The third commit is the planned one: the second has put back what the first left.
    expect(seen).toHaveLength(3);
    expect(seen[2]).toEqual(before);
  });

  it('a connection lost before the verification it is made up for, and nothing is done twice', async () => {
    const { host, back } = lostAfterCommit();
    web.start(host);
    const commits = await web.commits();
    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject({ status: 'issued', error: { code: 'target_unreachable' } });
    expect(await web.undo.get(target)).not.toBeNull();
    expect(await web.hurry(order.id)).toMatchObject({ error: { code: 'target_unreachable' } });
    back();
    expect(await web.hurry(order.id)).toMatchObject({ status: 'deployed', error: null });
    expect(await web.bindings()).toEqual(planned());
    expect(await web.commits()).toBe(commits + 1);
    expect(await web.undo.get(target)).toBeNull();
  });

  it('a put-back that fails for one binding the others are as they were, and the order says which is not', async () => {
    await web.faults({ serveOld: true });
    web.start((own) =>
      wrapped(own, {
        async apply(changes, signal) {
          const refused = changes.some(({ thumbprint }) => thumbprint === old.thumbprint);
          if (refused) throw keyUnusable();
          await own.apply(changes, signal);
        },
      }),
    );
    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject({
      ...{ status: 'issued', error: { code: 'handshake_mismatch' } },
      error: { evidence: { putBack: 2, stuck: [expect.stringMatching(/^\*:443:www\.example\.com: .*0x80070520/)] } },
    });
    expect(await web.bindings()).toEqual([planned()[0], planned()[1], '1 *:8443:shop.example.com 1 null']);
    expect(await web.undo.get(target)).toBeNull();
  });
});

describe('a process that is killed between commit and verification', () => {
  /** Runs until the host has committed, and no further, ever. */
  async function killedAfterCommit(id: string): Promise<void> {
    const committed = Promise.withResolvers<void>();
    let reads = 0;
    const host = (own: IisHost): IisHost =>
      wrapped(own, {
        async apply(changes, signal) {
          await own.apply(changes, signal);
          committed.resolve();
        },
        read: (signal) => (++reads === 1 ? own.read(signal) : new Promise(() => {})),
      });
    void web.run([id], host);
    await committed.promise;
  }

  it('leaves a commit that the next one verifies, and does not do again', async () => {
    const id = await web.order(fresh, toSite);
    await killedAfterCommit(id);
    const commits = await web.commits();
    expect(await web.run([id])).toMatchObject([{ id, deployed: { status: 'deployed' } }]);
    expect(await web.bindings()).toEqual(planned());
    expect(await web.commits()).toBe(commits);
    expect(await web.undo.get(target)).toBeNull();
  });

  it('leaves a commit that the next one takes back where another certificate is served', async () => {
    await web.faults({ serveOld: true });
    const id = await web.order(fresh, toSite);
    await killedAfterCommit(id);
    expect(await web.bindings()).toEqual(planned());
    // No order is left: it was called off meanwhile, for one. The host is put right all the same.
    expect(await web.run([])).toEqual([]);
    expect(await web.state()).toEqual(before);
    expect(await web.undo.get(target)).toBeNull();
  });

  it('never makes what it left the state that is put back', async () => {
    await web.faults({ serveOld: true });
    const id = await web.order(fresh, toSite);
    await killedAfterCommit(id);
    expect(await web.run([id])).toMatchObject([{ id, error: { code: 'handshake_mismatch' } }]);
    expect(await web.state()).toEqual(before);
  });

  it('leaves bindings alone that somebody else has set since', async () => {
    await web.faults({ serveOld: true });
    const id = await web.order(fresh, toSite);
    await killedAfterCommit(id);
    const theirs = await web.certificate(['www.example.com']);
    await web.bind(theirs, 1, '*:443:www.example.com');
    await web.run([]);
    expect(await web.bindings()).toEqual([
      `1 *:443:www.example.com 1 ${theirs.thumbprint}`,
      `1 *:443:other.example.com 1 ${old.thumbprint}`,
      '1 *:8443:shop.example.com 1 null',
    ]);
    expect(await web.undo.get(target)).toBeNull();
  });

  it('before the commit leaves nothing to be made up for', async () => {
    const id = await web.order(fresh, toSite);
    const begun = Promise.withResolvers<void>();
    void web.run([id], (own) =>
      wrapped(own, {
        apply: () => {
          begun.resolve();
          return new Promise(() => {});
        },
      }),
    );
    await begun.promise;
    expect(await web.undo.get(target)).not.toBeNull();
    expect(await web.run([id])).toMatchObject([{ id, deployed: { status: 'deployed' } }]);
    expect(await web.bindings()).toEqual(planned());
  });
});

describe('what a commit is taken back with', () => {
  const record = (id: string) => ({
    ...{ id, savedAt: 1, place: 'web01', parts: [] },
    before: { iisMajor: 10, osBuild: 20_348, sites: [] },
  });

  it('is there before the commit, holds what the commit touches, and is gone after the verification', async () => {
    let held: Awaited<ReturnType<typeof web.undo.get>> = null;
    web.start((own) =>
      wrapped(own, {
        async apply(changes, signal) {
          held = await web.undo.get(target);
          await own.apply(changes, signal);
        },
      }),
    );
    expect(await web.deploy(fresh, toSite)).toMatchObject({ status: 'deployed' });
    expect(held).toMatchObject({
      before: {
        sites: [
          {
            id: 1,
            bindings: [
              { bindingInformation: '*:443:www.example.com', thumbprint: old.thumbprint },
              { bindingInformation: '*:8443:shop.example.com', thumbprint: null },
            ],
          },
        ],
      },
      parts: [{ certificate: { thumbprint: fresh.thumbprint, names }, changes: [{}, {}, {}] }],
    });
    expect(await web.undo.get(target)).toBeNull();
  });

  it('is not replaced by that of another run, nor taken away by it', async () => {
    await web.undo.save(target, record('a'));
    await web.undo.save(target, record('a'));
    await expect(web.undo.save(target, record('b'))).rejects.toMatchObject({ code: 'plan_drifted' });
    await web.undo.remove(target, 'b');
    expect(await web.undo.get(target)).toEqual(record('a'));
    await web.undo.remove(target, 'a');
    expect(await web.undo.get(target)).toBeNull();
  });
});
