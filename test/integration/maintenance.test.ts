import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import type { IisHost } from '#libs/iis/iis-host';
import { createLogger } from '#libs/logging';
import type { Certificate } from '#libs/model/certificate';
import type { MaintenanceWindow } from '#libs/model/maintenance-window';
import type { IssuedOrder } from '#libs/model/order';
import { deployed } from '#libs/model/transitions';
import type { TargetHandler, TargetOutcome } from '#libs/queues/handler';
import { releaseWaiting } from '../../services/api/waiting-orders.ts';
import { keepWindows, type MaintenanceDeps } from '../../services/deployment-worker/maintenance.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { type Deployments, openDeployments, wrapped } from '../support/deployments.ts';
import { startTestRedis } from '../support/pipeline.ts';

const day = 86_400_000;
let server: Redis;
let deployments: Deployments;
/** The orders of each run that was let through. */
let through: string[][];

const midnights = { days: ['sat'], from: '00:00', to: '00:00', timeZone: 'UTC' } satisfies MaintenanceWindow;
const dayOf = (at: number) =>
  (['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const)[new Date(at).getUTCDay()] ?? 'sun';
/** A Saturday, a Wednesday, and the Saturday after it. */
const [open, shut, opening] = [Date.UTC(2026, 10, 21, 12), Date.UTC(2026, 10, 25, 12), Date.UTC(2026, 10, 28)];

const letThrough: TargetHandler['run'] = async (_target, orders, { clock }) => {
  through.push(orders.map(({ id }) => id));
  return orders.map((order) => ({ id: order.id, deployed: deployed(order, clock.now()) }));
};
const deps = (changes: Partial<MaintenanceDeps> = {}): MaintenanceDeps => ({
  findTarget: deployments.pipeline.store.targets.get,
  openHost: () => deployments.host,
  certificates: deployments.pipeline.store.certificates,
  undo: deployments.undo,
  ...changes,
});
const setWindows = (...windows: MaintenanceWindow[]) =>
  deployments.pipeline.store.targets.update('tgt_1', (target) => ({ ...target, windows }));

/** What becomes of orders at a time: `deployed`, or the error's code with what is done about it. */
async function outcomesAt(
  now: number,
  ids: string[],
  changes: Partial<MaintenanceDeps> = {},
  run: TargetHandler['run'] = letThrough,
): Promise<string[]> {
  const orders = (await Promise.all(ids.map(deployments.pipeline.read))) as IssuedOrder[];
  const context = {
    clock: { ...systemClock, now: () => now },
    log: createLogger('test', 'silent'),
    signal: new AbortController().signal,
  };
  const outcomes = await keepWindows({ run }, deps(changes)).run('tgt_1', orders, context);
  const words = (outcome: TargetOutcome): string => {
    if ('deployed' in outcome) return 'deployed';
    const { code, plan } = outcome.error;
    return `${code} ${plan.kind}${plan.kind === 'wait' ? ` ${new Date(plan.until).toISOString()}` : ''}`;
  };
  return ids.map((id) => words(outcomes.find((outcome) => outcome.id === id) ?? expect.fail(`${id} is forgotten`)));
}
const waits = (until = opening): string => `outside_window wait ${new Date(until).toISOString()}`;
/** An order that gives the site another certificate than it has. */
async function renewal(): Promise<{ id: string; old: Certificate }> {
  const old = await deployments.certificate(['www.example.com']);
  await deployments.addSite(1, ['*:443:www.example.com']);
  await deployments.bind(old, 1, '*:443:www.example.com');
  const id = await deployments.order(await deployments.certificate(['www.example.com']), { mode: 'auto' });
  return { id, old };
}
/** Certificates of certline that end at a time. */
const ending = (notAfter: number): MaintenanceDeps['certificates'] => {
  const { certificates } = deployments.pipeline.store;
  const findByThumbprint = async (thumbprint: string) => {
    const found = await certificates.findByThumbprint(thumbprint);
    return found && { ...found, notAfter };
  };
  return { ...certificates, findByThumbprint };
};

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  deployments = await openDeployments(server);
  through = [];
  await setWindows(midnights);
});
afterEach(() => deployments.close());

describe('an order whose target has maintenance windows', () => {
  it('goes on in them, and at any time when there are none', async () => {
    const { id } = await renewal();
    expect(await outcomesAt(open, [id])).toEqual(['deployed']);
    await setWindows();
    expect(await outcomesAt(shut, [id])).toEqual(['deployed']);
  });

  it('waits outside them until the next one opens', async () => {
    const { id } = await renewal();
    expect(await outcomesAt(shut, [id], { certificates: ending(opening + day) })).toEqual([waits()]);
    expect(through).toEqual([]);
  });

  it('does not wait when the certificate in place ends before that, and takes no other with it', async () => {
    const { id } = await renewal();
    await deployments.addSite(2, ['*:443:new.example.com']);
    const patient = await deployments.order(await deployments.certificate(['new.example.com']), { mode: 'auto' });
    const certificates = ending(opening - 1);
    expect(await outcomesAt(shut, [patient, id], { certificates })).toEqual([waits(), 'deployed']);
    expect(through).toEqual([[id]]);
  });

  it('looks itself when a certificate ends that certline does not know', async () => {
    const { id, old } = await renewal();
    const { certificates } = deployments.pipeline.store;
    const foreign = { ...certificates, findByThumbprint: async () => null };
    const endDay = Math.floor(old.notAfter / day) * day;
    const seen = async (windowDay: number) => {
      await setWindows({ ...midnights, days: [dayOf(windowDay)] });
      return outcomesAt(endDay - 3 * day, [id], { certificates: foreign });
    };
    expect(await seen(endDay + day)).toEqual(['deployed']);
    expect(await seen(endDay - day)).toEqual([waits(endDay - day)]);
  });

  it('is looked at again within the hour when the host cannot be read', async () => {
    const { id } = await renewal();
    const read = async () => {
      throw new CertlineError('target_unreachable', 'no route to host');
    };
    const openHost = (): IisHost => wrapped(deployments.host, { read });
    expect(await outcomesAt(shut, [id], { openHost })).toEqual([waits(shut + 3_600_000)]);
    expect(await outcomesAt(opening - 60_000, [id], { openHost })).toEqual([waits()]);
  });

  it('is told at once what no window will mend', async () => {
    await deployments.addSite(1, ['*:443:other.example.com']);
    const id = await deployments.order(await deployments.certificate(['www.example.com']), { mode: 'auto' });
    expect(await outcomesAt(shut, [id])).toEqual(['nothing_to_bind permanent']);
  });

  it('sets right at once what a worker that was killed left on the host', async () => {
    const { id } = await renewal();
    const state = await deployments.host.read(new AbortController().signal);
    await deployments.undo.save('tgt_1', { id: 'cut-off', savedAt: open, place: 'web01', before: state, parts: [] });
    expect(await outcomesAt(shut, [id], { certificates: ending(opening + day) })).toEqual([waits()]);
    expect(through).toEqual([[]]);
  });

  it('waits without an attempt when that cannot be done yet', async () => {
    const { id } = await renewal();
    const state = await deployments.host.read(new AbortController().signal);
    await deployments.undo.save('tgt_1', { id: 'cut-off', savedAt: open, place: 'web01', before: state, parts: [] });
    const away = () => Promise.reject(new CertlineError('target_unreachable', 'no route to host'));
    expect(await outcomesAt(shut, [id], { certificates: ending(opening + day) }, away)).toEqual([waits()]);
  });

  it('closes the host it looked at', async () => {
    const { id } = await renewal();
    let closed = 0;
    const close = async () => {
      closed += 1;
    };
    await outcomesAt(shut, [id], { openHost: () => wrapped(deployments.host, { close }) });
    expect(closed).toBe(1);
  });

  it('waits in its queue without using an attempt, and says until when', async () => {
    const next = Math.floor(Date.now() / day) * day + 2 * day;
    await setWindows({ ...midnights, days: [dayOf(next)] });
    const { id } = await renewal();
    const { pipeline } = deployments;
    pipeline.startTargets(keepWindows({ run: letThrough }, deps()).run);
    const order = await pipeline.until(id, ({ nextAttemptAt }) => nextAttemptAt !== null);
    expect(order).toMatchObject({
      ...{ status: 'issued', nextAttemptAt: next, attempts: { deployment: 0 } },
      error: { code: 'outside_window', detail: `web01 may be changed from ${new Date(next).toISOString()} on` },
    });
    const values = (await pipeline.metrics.deployments.get()).values.map(({ labels }) => labels);
    expect(values).toEqual([expect.objectContaining({ outcome: 'wait', code: 'outside_window' })]);
  });

  it('is looked at at once when the windows are changed', async () => {
    await setWindows({ ...midnights, days: [dayOf(Date.now() + 2 * day)] });
    const { id } = await renewal();
    const { pipeline } = deployments;
    pipeline.startTargets(keepWindows({ run: letThrough }, deps()).run);
    await pipeline.until(id, ({ nextAttemptAt }) => nextAttemptAt !== null);
    await setWindows();
    await releaseWaiting(pipeline.store.orders, 'tgt_1', Date.now());
    await pipeline.producer.wakeTarget('tgt_1');
    expect(await pipeline.until(id, ({ status }) => status === 'deployed')).toMatchObject({ error: null });
  });

  it('is left alone by that when it waits for something else', async () => {
    const { pipeline } = deployments;
    const until = Date.now() + day;
    pipeline.startTargets(async (_target, orders) =>
      orders.map(({ id }) => ({
        id,
        error: new CertlineError('target_unreachable', 'no route', { plan: { kind: 'wait', until } }),
      })),
    );
    const { id } = await renewal();
    const waiting = await pipeline.until(id, ({ nextAttemptAt }) => nextAttemptAt !== null);
    await releaseWaiting(pipeline.store.orders, 'tgt_1', Date.now());
    expect(await pipeline.read(id)).toEqual(waiting);
  });
});
