import { describe, expect, it } from 'vitest';
import { CertlineError, type ErrorCode, type Plan } from '#libs/errors';
import type { Order, StageName } from '#libs/model/order';
import { stageOf } from '#libs/model/order';
import { afterFailure } from '#libs/queues/outcome';
import { restartPolicy, stages } from '#libs/queues/stages';
import { acmeOrder, issuedOrder, pendingOrder, placedAt, validatedOrder } from '../../support/sample-orders.ts';

const now = placedAt + 60_000;
const hour = 3_600_000;
const time = { now, random: 0.5, scale: 1 };

/** What becomes of an order that met an error with this plan. */
function outcome(
  order: Order,
  plan: Plan | undefined,
  more: Partial<typeof time> = {},
  code: ErrorCode = 'unexpected',
) {
  const error = new CertlineError(code, 'words', plan ? { plan } : {});
  return afterFailure(order, stageOf(order) ?? 'validation', error, { ...time, ...more });
}
const used = (validation: number) => ({ validation, issuance: 0, deployment: 0 });
const recorded = (stage: StageName) => ({ code: 'unexpected', detail: 'words', stage, at: now });

describe('an error whose plan is permanent', () => {
  it('fails the order at once, at the stage that met it', () => {
    expect(outcome(pendingOrder({ acmeOrder }), { kind: 'permanent' })).toMatchObject({
      kind: 'failed',
      order: {
        status: 'failed',
        stage: 'validation',
        error: recorded('validation'),
        attempts: used(1),
        nextAttemptAt: null,
        acmeOrder,
      },
    });
  });
});

describe('an error whose plan is retryable', () => {
  const plan = { kind: 'retryable' } as const;

  it('uses an attempt and waits for the backoff of the stage', () => {
    expect(outcome(pendingOrder(), plan)).toMatchObject({
      kind: 'retry',
      order: {
        status: 'pending',
        attempts: used(1),
        error: recorded('validation'),
        nextAttemptAt: now + 5_000,
        epoch: 1,
      },
    });
    expect(outcome(pendingOrder({ attempts: used(3) }), plan).order.nextAttemptAt).toBe(now + 40_000);
  });

  it('counts for its own stage alone', () => {
    const order = issuedOrder(undefined, { attempts: { validation: 19, issuance: 19, deployment: 0 } });
    expect(outcome(order, plan)).toMatchObject({
      kind: 'retry',
      order: { attempts: { validation: 19, issuance: 19, deployment: 1 } },
    });
  });

  it('has the pace of its code', () => {
    const next = (code: ErrorCode) => outcome(pendingOrder({ attempts: used(1) }), plan, {}, code).order.nextAttemptAt;
    expect([next('ca_unreachable'), next('ca_unavailable')]).toEqual([now + 4_000, now + 60_000]);
  });

  it('is tried shortly after the time that the plan names, never before', () => {
    const named = (random: number) =>
      outcome(pendingOrder(), { ...plan, notBefore: now + hour }, { random }).order.nextAttemptAt;
    expect([named(0), named(0.5)]).toEqual([now + hour, now + hour + 30_000]);
    expect(outcome(pendingOrder(), { ...plan, notBefore: now - hour }).order.nextAttemptAt).toBe(now + 5_000);
  });

  it('is tried sooner in a lab, but never before the time that the plan names', () => {
    expect(outcome(pendingOrder(), plan, { scale: 0.01 }).order.nextAttemptAt).toBe(now + 50);
    const named = outcome(pendingOrder(), { ...plan, notBefore: now + hour }, { scale: 0.01, random: 0 });
    expect(named.order.nextAttemptAt).toBe(now + hour);
  });

  it.each(Object.values(stages))('fails the order with the last attempt of $name', ({ name, retry }) => {
    const order = { validation: pendingOrder(), issuance: validatedOrder(), deployment: issuedOrder() }[name];
    const at = (attempts: number) =>
      outcome({ ...order, attempts: { ...order.attempts, [name]: attempts } }, plan).kind;
    expect([at(retry.attempts - 2), at(retry.attempts - 1)]).toEqual(['retry', 'failed']);
  });

  it('fails the order sooner when the plan gives fewer attempts, never later', () => {
    const last = stages.validation.retry.attempts - 1;
    const five = { ...plan, attempts: 5 };
    expect(outcome(pendingOrder({ attempts: used(3) }), five).kind).toBe('retry');
    expect(outcome(pendingOrder({ attempts: used(4) }), five)).toMatchObject({
      kind: 'failed',
      order: { attempts: used(5) },
    });
    expect(outcome(pendingOrder({ attempts: used(last) }), { ...plan, attempts: 100 }).kind).toBe('failed');
  });

  it('is not put off past the end of the stage, however long a server wants us to stay away', () => {
    const named = { ...plan, notBefore: now + 30 * 24 * hour };
    expect(outcome(pendingOrder(), named).order.nextAttemptAt).toBe(placedAt + stages.validation.deadline - 60_000);
  });

  it('is what an error that nobody translated has', () => {
    expect(outcome(pendingOrder(), undefined).kind).toBe('retry');
  });
});

describe('an error whose plan is wait', () => {
  it('gives the slot back until then and uses no attempt', () => {
    expect(outcome(pendingOrder({ attempts: used(19) }), { kind: 'wait', until: now + hour })).toMatchObject({
      kind: 'wait',
      order: {
        status: 'pending',
        attempts: used(19),
        nextAttemptAt: now + hour + 30_000,
        error: recorded('validation'),
      },
    });
  });

  it('ends at its very time when that is its own, or one that all are to meet at', () => {
    const plan = { kind: 'wait', until: now + hour, exact: true } as const;
    expect(outcome(issuedOrder(), plan).order.nextAttemptAt).toBe(now + hour);
  });

  it('forgets what failed before when it is for a record that is not there yet: an order looks for days', () => {
    const attempts = { validation: 19, issuance: 2, deployment: 0 };
    for (const code of ['dns_record_awaited', 'dns_record_not_visible'] as const) {
      const { order } = outcome(pendingOrder({ attempts }), { kind: 'wait', until: now + hour }, {}, code);
      expect(order.attempts).toEqual({ ...attempts, validation: 0 });
    }
  });

  it('ends with a last look a minute before the deadline of the stage, and then fails', () => {
    const until = now + 365 * 24 * hour;
    const lastLook = placedAt + stages.validation.deadline - 60_000;
    expect(outcome(pendingOrder(), { kind: 'wait', until }).order.nextAttemptAt).toBe(lastLook);
    expect(outcome(pendingOrder(), { kind: 'wait', until }, { now: lastLook + 5 }).kind).toBe('failed');
  });

  it('is the last, whatever it says, in the minute before the deadline: nobody is asked again and again without a pause', () => {
    const lastLook = placedAt + stages.validation.deadline - 60_000;
    const notBefore = lastLook + hour;
    for (const plan of [
      { kind: 'retryable', notBefore },
      { kind: 'restart', notBefore },
      { kind: 'restart', free: true },
    ] as const)
      expect(outcome(pendingOrder(), plan, { now: lastLook + 5 }).kind).toBe('failed');
  });

  it('is not shortened in a lab, and never ends in the past', () => {
    const inLab = outcome(pendingOrder(), { kind: 'wait', until: now + hour }, { scale: 0.01, random: 0 });
    expect(inLab.order.nextAttemptAt).toBe(now + hour);
    expect(outcome(pendingOrder(), { kind: 'wait', until: now - hour }).order.nextAttemptAt).toBe(now);
  });
});

describe('an error whose plan is restart', () => {
  const plan = { kind: 'restart' } as const;

  it.each([
    ['validation', pendingOrder({ acmeOrder })],
    ['issuance', validatedOrder()],
  ] as const)('sends the order from %s back to validation with a new epoch and ACME order', (stage, order) => {
    expect(outcome(order, plan)).toMatchObject({
      kind: 'restart',
      order: {
        status: 'pending',
        epoch: 2,
        restarts: 1,
        acmeOrder: null,
        attempts: { ...used(0), [stage]: 1 },
        error: recorded(stage),
        nextAttemptAt: now + 60_000,
        stageSince: placedAt,
      },
    });
  });

  it('waits longer each time, and not less than the plan says', () => {
    expect(outcome(pendingOrder({ restarts: 2 }), plan).order.nextAttemptAt).toBe(now + 100 * 60_000);
    const named = outcome(pendingOrder(), { ...plan, notBefore: now + hour }, { random: 0 });
    expect(named.order.nextAttemptAt).toBe(now + hour);
    expect(outcome(pendingOrder(), plan, { scale: 0.01 }).order.nextAttemptAt).toBe(now + 600);
  });

  it('fails the order when its ACME orders are used up', () => {
    expect(outcome(pendingOrder({ restarts: restartPolicy.attempts - 2 }), plan).kind).toBe('restart');
    expect(outcome(pendingOrder({ restarts: restartPolicy.attempts - 1, attempts: used(5) }), plan)).toMatchObject({
      kind: 'failed',
      order: { error: recorded('validation'), attempts: used(6), epoch: 1 },
    });
  });

  it('fails it sooner when the plan gives fewer ACME orders, never later', () => {
    expect(outcome(pendingOrder({ restarts: 0 }), { ...plan, attempts: 2 }).kind).toBe('restart');
    expect(outcome(pendingOrder({ restarts: 1 }), { ...plan, attempts: 2 }).kind).toBe('failed');
    expect(outcome(pendingOrder({ restarts: 5 }), { ...plan, attempts: 100 }).kind).toBe('failed');
  });

  it('is another attempt where there is no ACME order to abandon', () => {
    expect(outcome(issuedOrder(), plan)).toMatchObject({ kind: 'retry', order: { status: 'issued', epoch: 1 } });
  });
});

describe('an error whose plan is park', () => {
  it('holds the order until its account is mended, without using an attempt', () => {
    expect(outcome(pendingOrder({ nextAttemptAt: now }), { kind: 'park' })).toMatchObject({
      kind: 'parked',
      order: {
        status: 'pending',
        parkedOn: 'acc_1',
        nextAttemptAt: null,
        attempts: used(0),
        error: recorded('validation'),
      },
    });
  });
});

describe('whatever the outcome', () => {
  const plans: Plan[] = [
    { kind: 'permanent' },
    { kind: 'retryable' },
    { kind: 'wait', until: now + 1 },
    { kind: 'restart' },
    { kind: 'park' },
  ];
  it.each(plans)('of $kind, the order it came from is left as it is', (plan) => {
    const order = pendingOrder({ acmeOrder });
    const before = structuredClone(order);
    const { order: after } = outcome(order, plan);
    expect(order).toEqual(before);
    expect(after).toMatchObject({ id: order.id, version: order.version, updatedAt: now });
  });
});
