import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Difference } from '#libs/model/drift';
import type { Target } from '#libs/model/target';
import { createDriftLooks } from '#libs/queues/drift-looks';
import { deploymentLease } from '#libs/queues/stages';
import type { Redis } from '../../services/lab/redis.ts';
import { difference, finding } from '../support/drift-findings.ts';
import { type DriftTarget, openDriftTarget } from '../support/drift-target.ts';
import { type Pipeline, startTestRedis } from '../support/pipeline.ts';

/** Looks at a target: what is kept and told of them, and what a deployment at the same time makes of them. */
const { signal: forever } = new AbortController();

let server: Redis;
let drift: DriftTarget;
let pipeline: Pipeline;
let warnings: DriftTarget['warnings'];
let target: Target;
/** What the target is found to be. */
let found: Difference[];

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  drift = await openDriftTarget(server, () => found);
  ({ pipeline, warnings, target } = drift);
  found = [];
});
afterEach(() => pipeline.close());

describe('a look', () => {
  it('tells a person once what differs, and once that it does no longer', async () => {
    found = [difference('1|https|*:443:a')];
    expect(await drift.looks().look(target, forever)).toMatchObject({ state: 'drifted', differences: found });
    await drift.looks().look(target, forever);
    expect(warnings).toMatchObject([
      { msg: 'tgt_1 is not as it should be', target: 'tgt_1', places: ['1|https|*:443:a: the binding is gone'] },
    ]);
    found = [];
    expect(await drift.looks().look(target, forever)).toMatchObject({ state: 'in_sync' });
    expect(warnings).toHaveLength(1);
  });

  it('does not take a deployment under way for drift: differences are looked at again when it is over', async () => {
    const first = Promise.withResolvers<void>();
    const over = Promise.withResolvers<void>();
    const deployment = pipeline.store.leases.hold(deploymentLease('tgt_1'), 5_000, async () => {
      await over.promise;
      found = [];
    });
    found = [difference('a')];
    const looked = createDriftLooks({
      ...{ ...pipeline.store, ...pipeline.settings, undo: drift.undo, log: drift.log },
      async check() {
        first.resolve();
        return finding('tgt_1', found);
      },
    }).look(target, forever);
    await first.promise;
    over.resolve();
    await deployment;
    expect(await looked).toMatchObject({ state: 'in_sync', differences: [] });
    expect(await pipeline.store.driftReports.get('tgt_1')).toMatchObject({ state: 'in_sync' });
  });

  it('that meets a deployment which goes on says so, and reports nothing', async () => {
    const over = Promise.withResolvers<void>();
    const deployment = pipeline.store.leases.hold(deploymentLease('tgt_1'), 5_000, () => over.promise);
    found = [difference('a')];
    await expect(drift.looks().look(target, forever)).rejects.toMatchObject({ code: 'deployment_under_way' });
    over.resolve();
    await deployment;
    expect(await pipeline.store.driftReports.get('tgt_1')).toBeNull();
    expect(await drift.looks().look(target, forever)).toMatchObject({ state: 'drifted' });
  });

  it('does not judge what a dead worker left in the middle of a commit', async () => {
    const before = { iisMajor: 10, osBuild: 20_348, sites: [] };
    await drift.undo.save('tgt_1', { id: 'cut-off', savedAt: 1, place: 'web01', before, parts: [] });
    found = [difference('a')];
    await expect(drift.looks().look(target, forever)).rejects.toMatchObject({ code: 'deployment_under_way' });
    await drift.undo.remove('tgt_1', 'cut-off');
    expect(await drift.looks().look(target, forever)).toMatchObject({ state: 'drifted' });
  });

  it('holds up no deployment where nothing differs', async () => {
    const over = Promise.withResolvers<void>();
    const deployment = pipeline.store.leases.hold(deploymentLease('tgt_1'), 5_000, () => over.promise);
    expect(await drift.looks().look(target, forever)).toMatchObject({ state: 'in_sync' });
    over.resolve();
    await deployment;
  });

  it('that breaks is a state, with the reason', async () => {
    const broken = drift.looks(async () => {
      throw new TypeError('x is not a function');
    });
    expect(await broken.look(target, forever)).toMatchObject({
      state: 'unknown',
      error: { code: 'unexpected', detail: 'x is not a function' },
    });
  });

  it('of a target that was deleted meanwhile leaves nothing behind', async () => {
    await pipeline.store.targets.remove('tgt_1');
    await expect(drift.looks().look(target, forever)).rejects.toMatchObject({ code: 'target_unknown' });
    expect(await pipeline.store.driftReports.countAll()).toBe(0);
  });
});

describe('looks at one target at the same time', () => {
  /** Looks whose comparisons each wait for the test, or are given up with their signal. */
  function held() {
    const checks: { signal: AbortSignal; finish(): void }[] = [];
    const own = drift.looks(
      (_target, signal) =>
        new Promise((resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason), { once: true });
          checks.push({ signal, finish: () => resolve(finding('tgt_1', found)) });
        }),
    );
    const begun = (count: number) => vi.waitUntil(() => checks.length === count, { timeout: 10_000, interval: 10 });
    return { own, checks, begun };
  }

  it('are one, of which all are told the same; a later one is a look of its own', async () => {
    const { own, checks, begun } = held();
    const all = [1, 2, 3].map(() => own.look(target, forever));
    await begun(1);
    checks[0]?.finish();
    const [first, ...others] = await Promise.all(all);
    expect(first).toMatchObject({ state: 'in_sync' });
    for (const report of others) expect(report).toBe(first);
    expect(checks).toHaveLength(1);
    const later = own.look(target, forever);
    await begun(2);
    checks[1]?.finish();
    expect(await later).not.toBe(first);
  });

  it('go on as one when who asked first has given up', async () => {
    const { own, checks, begun } = held();
    const impatient = new AbortController();
    const given = own.look(target, impatient.signal);
    const others = [1, 2, 3].map(() => own.look(target, forever));
    await begun(1);
    impatient.abort(new Error('gone'));
    await expect(given).rejects.toThrow('gone');
    await begun(2);
    checks[1]?.finish();
    const [first, ...rest] = await Promise.all(others);
    for (const report of rest) expect(report).toBe(first);
    expect(checks).toHaveLength(2);
  });

  it('of one that gives up while it waits for another is given up', async () => {
    const { own, checks, begun } = held();
    const first = own.look(target, forever);
    await begun(1);
    const impatient = new AbortController();
    const second = own.look(target, impatient.signal);
    impatient.abort(new Error('gone'));
    await expect(second).rejects.toThrow('gone');
    checks[0]?.finish();
    expect(await first).toMatchObject({ state: 'in_sync' });
  });

  it('are all told why it is not possible', async () => {
    await pipeline.store.targets.remove('tgt_1');
    const { own, checks, begun } = held();
    const all = Promise.allSettled([1, 2].map(() => own.look(target, forever)));
    await begun(1);
    checks[0]?.finish();
    for (const one of await all) expect(one).toMatchObject({ status: 'rejected', reason: { code: 'target_unknown' } });
    expect(checks).toHaveLength(1);
  });
});
