import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ErrorCode } from '#libs/error-codes';
import { CertlineError } from '#libs/errors';
import type { HostState, IisHost } from '#libs/iis/iis-host';
import type { Certificate } from '#libs/model/certificate';
import type { Target } from '#libs/model/target';
import { startTargetWorker } from '#libs/queues/target-worker';
import { byKind } from '../../services/deployment-worker/by-kind.ts';
import { createDeployHandler } from '../../services/deployment-worker/deploy.ts';
import { keepWindows } from '../../services/deployment-worker/maintenance.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { type Deployments, openDeployments, wrapped } from '../support/deployments.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** Commits that could not be settled at the first try: what they are taken back with stays until the host is right. */
let server: Redis;
let web: Deployments;
let old: Certificate;
let fresh: Certificate;
let before: HostState;

const target = 'tgt_1';
const hour = 3_600_000;
const planned = () => [
  `1 *:443:www.example.com 1 ${fresh.thumbprint}`,
  `1 *:443:api.example.com 1 ${fresh.thumbprint}`,
];
const order = () => web.order(fresh, { mode: 'site', site: 1 });
const retryable = (code: ErrorCode) => ({ code, plan: { kind: 'retryable' } });

/** The host, on which somebody holds the configuration whenever certificates are put back, until it is let go of. */
function held(code: ErrorCode) {
  let isHeld = true;
  const host = (own: IisHost): IisHost =>
    wrapped(own, {
      async apply(changes, signal) {
        const putsBack = changes.some(({ op, thumbprint }) => op === 'remove' || thumbprint === old.thumbprint);
        if (isHeld && putsBack) throw new CertlineError(code, 'somebody else holds the file');
        await own.apply(changes, signal);
      },
    });
  return { host, letGo: () => (isHeld = false) };
}
/** The host with ports on which nobody listens. */
const silent = (own: IisHost): IisHost => wrapped(own, { endpoint: () => ({ host: '127.0.0.1', port: 1 }) });

/** A run that ends with the commit: its process is killed. */
async function killedAfterCommit(): Promise<string> {
  const id = await order();
  const committed = Promise.withResolvers<void>();
  let reads = 0;
  void web.run([id], (own) =>
    wrapped(own, {
      async apply(changes, signal) {
        await own.apply(changes, signal);
        committed.resolve();
      },
      read: (signal) => (++reads === 1 ? own.read(signal) : new Promise(() => {})),
    }),
  );
  await committed.promise;
  return id;
}
async function makeOlder(ms: number): Promise<void> {
  const record = (await web.undo.get(target)) ?? expect.fail('there is no record');
  await web.undo.remove(target, record.id);
  await web.undo.save(target, { ...record, savedAt: record.savedAt - ms });
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  web = await openDeployments(server);
  [old, fresh] = [
    await web.certificate(['*.example.com']),
    await web.certificate(['www.example.com', 'api.example.com']),
  ];
  await web.addSite(1, ['*:443:www.example.com', '*:80:api.example.com']);
  await web.bind(old, 1, '*:443:www.example.com');
  before = await web.state();
});
afterEach(() => web.close());

describe.each(['commit_conflict', 'plan_drifted', 'access_denied'] as const)('a put-back that meets %s', (code) => {
  it('after the verification is made up for by the next run', async () => {
    await web.faults({ serveOld: true });
    const { host, letGo } = held(code);
    const id = await order();
    web.start(host);
    expect(await web.settled(id)).toMatchObject({ status: 'issued', nextAttemptAt: expect.any(Number) });
    expect(await web.bindings()).toEqual(planned());
    expect(await web.undo.get(target)).not.toBeNull();
    letGo();
    await web.run([]);
    expect(await web.state()).toEqual(before);
    expect(await web.undo.get(target)).toBeNull();
  });

  it('after a refusal is made up for by the next run, and the order is tried again', async () => {
    const { host, letGo } = held(code);
    let commits = 0;
    const breaking = (own: IisHost): IisHost =>
      wrapped(own, {
        async apply(changes, signal) {
          commits += 1;
          await own.apply(
            commits === 1 ? changes.map((one) => ({ ...one, thumbprint: null, store: null })) : changes,
            signal,
          );
          if (commits === 1) throw new CertlineError('key_unusable', 'A specified logon session does not exist.');
        },
      });
    const id = await order();
    expect(await web.run([id], (own) => host(breaking(own)))).toMatchObject([{ id, error: retryable(code) }]);
    expect(await web.undo.get(target)).not.toBeNull();
    letGo();
    await web.run([]);
    expect(await web.state()).toEqual(before);
    expect(await web.undo.get(target)).toBeNull();
  });

  it('when a cut-off run is settled is made up for by the one after', async () => {
    await web.faults({ serveOld: true });
    await killedAfterCommit();
    const { host, letGo } = held(code);
    await expect(web.run([], host)).rejects.toMatchObject(retryable(code));
    expect(await web.undo.get(target)).not.toBeNull();
    letGo();
    await web.run([], host);
    expect(await web.state()).toEqual(before);
    expect(await web.undo.get(target)).toBeNull();
  });
});

describe('a commit that was cut off', () => {
  it('is settled when its target is woken, though its order has ended', async () => {
    await web.faults({ serveOld: true });
    const id = await killedAfterCommit();
    const { store, producer, settings } = web.pipeline;
    const ended = await web.pipeline.read(id);
    await store.orders.save(
      ended,
      { ...ended, status: 'cancelled', nextAttemptAt: null, updatedAt: Date.now() } as never,
      [],
    );
    const openHost = vi.fn((_target: Target) => web.host);
    const hosts = { findTarget: store.targets.get, openHost };
    const openCertificate = () => expect.fail('no order is left');
    const deploy = createDeployHandler({ ...store, ...hosts, openCertificate, undo: web.undo });
    const iis = keepWindows(deploy, { ...hosts, certificates: store.certificates, undo: web.undo });
    const worker = startTargetWorker(byKind(store.targets.get, { iis, delivery: iis }), settings, 'default');
    const jobs = web.pipeline.queue('deployment');
    await producer.wakeTarget(target);
    await vi.waitUntil(async () => (await web.undo.get(target)) === null, { timeout: 15_000 });
    expect(await web.state()).toEqual(before);
    // And when there is nothing to settle, no host is opened.
    await vi.waitUntil(async () => (await jobs.getActiveCount()) === 0 && (await jobs.getWaitingCount()) === 0);
    openHost.mockClear();
    const count = await jobs.getCompletedCount();
    await producer.wakeTarget(target);
    await vi.waitUntil(async () => (await jobs.getCompletedCount()) > count);
    expect(openHost).not.toHaveBeenCalled();
    await worker.stop(0);
  });

  it('is not asked for any more when its target is gone', async () => {
    await killedAfterCommit();
    const { store } = web.pipeline;
    const never = () => expect.fail('nothing is opened');
    const hosts = { findTarget: store.targets.get, openHost: never };
    const deploy = createDeployHandler({ ...store, ...hosts, openCertificate: never, undo: web.undo });
    expect(await deploy.unsettled?.(target)).toBe(true);
    await store.targets.remove(target);
    expect(await deploy.unsettled?.(target)).toBe(false);
  });

  it('is not made up for on another host that the target was pointed at meanwhile', async () => {
    await web.faults({ serveOld: true });
    await killedAfterCommit();
    const was = (await web.undo.get(target))?.place ?? '';
    const url = 'http://127.0.0.1:9';
    await web.pipeline.store.targets.update(target, (one) => ({ ...one, transport: { kind: 'lab', url } }) as Target);
    const never = () => expect.fail('the other host is left alone');
    expect(await web.run([], (own) => wrapped(own, { read: never, apply: never }))).toEqual([]);
    expect(await web.undo.get(target)).toBeNull();
    expect(was).toMatch(/^http:/);
    expect(web.warnings).toEqual([expect.stringContaining(`was pointed from ${was} to ${url} before`)]);
    expect(await web.bindings()).toEqual(planned());
  });

  it('is not taken back from a host whose ports do not answer for a while', async () => {
    await killedAfterCommit();
    await makeOlder(hour - 60_000);
    await expect(web.run([], silent)).rejects.toMatchObject(retryable('target_unreachable'));
    expect(await web.bindings()).toEqual(planned());
    expect(await web.undo.get(target)).not.toBeNull();
    await web.run([]);
    expect(await web.bindings()).toEqual(planned());
    expect(await web.undo.get(target)).toBeNull();
  });

  it('is taken back from one whose ports do not answer for an hour', async () => {
    await killedAfterCommit();
    await makeOlder(hour);
    await web.run([], silent);
    expect(await web.state()).toEqual(before);
    expect(await web.undo.get(target)).toBeNull();
  });
});
