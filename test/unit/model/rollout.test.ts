import { describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import { type IssuedOrder, isInHand, type Order, type OrderError } from '#libs/model/order';
import { afterRollout, nextOfRollout } from '#libs/model/rollout';
import { cancelled, deployed, failed, orderError, partOfRollout, retried } from '#libs/model/transitions';
import { afterFailure } from '#libs/queues/outcome';
import { issuedOrder, placedAt } from '../../support/sample-orders.ts';

const later = placedAt + 60_000;
const to = (target: string) => ({ mode: 'site', target, site: 1 }) as const;
/** A rollout over targets named by letters, before its first wave. */
function rollout(...waves: string[]): IssuedOrder {
  const deploy = { mode: 'rollout' as const, waves: waves.map((wave) => [...wave].map(to)) };
  const deployments = waves.flatMap((wave, at) =>
    [...wave].map((target) => ({ target, wave: at + 1, order: null, status: 'waiting' as const })),
  );
  return issuedOrder(deploy, { id: 'ord_whole', deployments });
}

/** The error of a part that failed. */
const broken = (code: 'nothing_to_bind' | 'target_unreachable' = 'nothing_to_bind'): OrderError =>
  orderError(new CertlineError(code, 'no binding'), 'deployment', later);
/** A part with what is to become of it, by its letter. */
const part = (whole: IssuedOrder, target: string, change: (order: IssuedOrder) => Order = (order) => order): Order =>
  change({ ...partOfRollout(whole, to(target), `ord_${target}`, later), version: 1 });
const succeeded = (order: IssuedOrder): Order => deployed(order, later);
const gaveUp = (order: IssuedOrder): Order => failed(order, 'deployment', broken(), later);
const called = (order: IssuedOrder): Order => cancelled({ ...order, error: broken('target_unreachable') }, later);

/** One look: parts get the ids `ord_<target>`, in the order in which they are asked for. */
function look(whole: IssuedOrder, parts: readonly Order[] = []) {
  const free = whole.deployments.filter(({ status }) => status === 'waiting').map(({ target }) => `ord_${target}`);
  return nextOfRollout(whole, new Map(parts.map((one) => [one.id, one])), later, () => free.shift() ?? '?');
}
/** The rollout after its first wave began, and each next one with these ends of the parts before. */
function began(whole: IssuedOrder): IssuedOrder {
  const { order } = look(whole);
  if (order.status !== 'issued') throw new Error(`it is ${order.status}`);
  return order;
}
const states = ({ deployments }: Order) => deployments.map(({ target, status }) => `${target} ${status}`);

describe('a rollout', () => {
  it('begins with its first wave alone', () => {
    const { order, progress } = look(rollout('ab', 'c'));
    expect(order.deployments).toEqual([
      { target: 'a', wave: 1, order: 'ord_a', status: 'under way' },
      { target: 'b', wave: 1, order: 'ord_b', status: 'under way' },
      { target: 'c', wave: 2, order: null, status: 'waiting' },
    ]);
    expect(order).toMatchObject({ status: 'issued', updatedAt: later, error: null });
    expect(progress).toEqual(['wave 1 of 2 begins: 2 targets']);
  });

  it('is left as it is while nothing is new', () => {
    const whole = began(rollout('ab', 'c'));
    const parts = [part(whole, 'a'), part(whole, 'b')];
    expect(look(whole, parts).order).toBe(whole);
    expect(look(whole, parts).progress).toEqual([]);
    // A part that is still to be placed is under way too.
    expect(look(whole, []).order).toBe(whole);
  });

  it('begins the next wave when the last target of the one before is deployed, and not earlier', () => {
    const whole = began(rollout('ab', 'c'));
    const half = look(whole, [part(whole, 'a', succeeded), part(whole, 'b')]);
    expect(states(half.order)).toEqual(['a deployed', 'b under way', 'c waiting']);
    expect(half.progress).toEqual(['wave 1: a deployed']);
    const full = look(half.order as IssuedOrder, [part(whole, 'b', succeeded)]);
    expect(states(full.order)).toEqual(['a deployed', 'b deployed', 'c under way']);
    expect(full.progress).toEqual(['wave 1: b deployed', 'wave 2 of 2 begins: 1 target']);
  });

  it('is deployed when every target is', () => {
    const whole = began(rollout('ab'));
    const { order, progress } = look(whole, [part(whole, 'a', succeeded), part(whole, 'b', succeeded)]);
    expect(order).toMatchObject({ status: 'deployed', certificate: 'crt_1', error: null });
    expect(states(order)).toEqual(['a deployed', 'b deployed']);
    expect(progress).toEqual(['wave 1: a deployed', 'wave 1: b deployed']);
  });

  it('keeps what was put to it by another error only until it goes on', () => {
    const whole = { ...began(rollout('a', 'b')), error: broken() };
    expect(look(whole, [part(whole, 'a', succeeded)]).order.error).toBeNull();
  });
});

describe('a target that failed', () => {
  const whole = began(rollout('abc', 'de'));

  it('is told at once, while the others of its wave come to their end', () => {
    const parts = [part(whole, 'a', succeeded), part(whole, 'b', gaveUp), part(whole, 'c')];
    const { order, progress } = look(whole, parts);
    expect(states(order)).toEqual(['a deployed', 'b failed', 'c under way', 'd waiting', 'e waiting']);
    expect(order).toMatchObject({ status: 'issued', error: { code: 'nothing_to_bind', stage: 'deployment' } });
    expect(order.error?.detail).toBe(
      'wave 1: b failed (ord_b, nothing_to_bind: no binding); 1 of 5 targets have the certificate, 1 still under way, 2 not begun',
    );
    expect(progress).toEqual(['wave 1: a deployed', 'wave 1: b failed (ord_b, nothing_to_bind)']);
    expect(look(order as IssuedOrder, parts.slice(1)).order).toBe(order);
  });

  it('ends the rollout with its wave: the next one is never begun', () => {
    const parts = [part(whole, 'a', succeeded), part(whole, 'b', gaveUp), part(whole, 'c', succeeded)];
    const { order } = look(whole, parts);
    expect(order).toMatchObject({ status: 'failed', stage: 'deployment', certificate: 'crt_1' });
    expect(order.error).toEqual({
      ...{ code: 'nothing_to_bind', stage: 'deployment', at: later, evidence: { wave: 1, orders: ['ord_b'] } },
      detail: 'wave 1: b failed (ord_b, nothing_to_bind: no binding); 2 of 5 targets have the certificate, 2 not begun',
    });
    expect(states(order)).toEqual(['a deployed', 'b failed', 'c deployed', 'd waiting', 'e waiting']);
  });

  it('can be taken up again by itself while its wave goes on', () => {
    const stopped = look(whole, [part(whole, 'a', succeeded), part(whole, 'b', gaveUp), part(whole, 'c')]).order;
    const again = look(stopped as IssuedOrder, [part(whole, 'b'), part(whole, 'c')]);
    expect(again.progress).toEqual(['wave 1: b is taken up again']);
    expect(again.order).toMatchObject({ status: 'issued', error: null });
    const through = look(again.order as IssuedOrder, [part(whole, 'b', succeeded), part(whole, 'c', succeeded)]);
    expect(states(through.order)).toEqual([
      ...['a deployed', 'b deployed', 'c deployed', 'd under way', 'e under way'],
    ]);
  });

  it('is named with a few others when there are many, in few words however many there are', () => {
    const large = began(rollout('abcdefgh'));
    const { error } = look(
      large,
      large.deployments.map(({ target }) => part(large, target, gaveUp)),
    ).order;
    expect(error?.detail).toContain('; e failed (ord_e, nothing_to_bind: no binding) and 3 more; 0 of 8 targets');
    expect(error?.evidence).toEqual({ wave: 1, orders: ['ord_a', 'ord_b', 'ord_c', 'ord_d', 'ord_e'] });
  });
});

describe('a part that a person called off', () => {
  it('stops the rollout, with the failure of another target before its own', () => {
    const whole = began(rollout('ab', 'c'));
    const off = look(whole, [part(whole, 'a', called), part(whole, 'b', succeeded)]).order;
    expect(off).toMatchObject({ status: 'failed', error: { code: 'rollout_stopped' } });
    expect(off.error?.detail).toMatch(/^wave 1: a cancelled \(ord_a\); 1 of 3/);
    const both = look(whole, [part(whole, 'a', called), part(whole, 'b', gaveUp)]).order;
    expect(both.error).toMatchObject({ code: 'nothing_to_bind' });
    expect(both.error?.detail).toContain('a cancelled (ord_a); b failed (ord_b, nothing_to_bind: no binding)');
  });
});

describe('a rollout that is taken up again', () => {
  const whole = began(rollout('abc', 'd'));
  const parts = [part(whole, 'a', succeeded), part(whole, 'b', gaveUp), part(whole, 'c', called)];
  const stopped = look(whole, parts).order;
  if (stopped.status !== 'failed') throw new Error('it goes on');

  it('gives new orders to what is not deployed, and none to what is', () => {
    const again = retried(stopped, 'deployment', later) as IssuedOrder;
    expect(states(again)).toEqual(['a deployed', 'b waiting', 'c waiting', 'd waiting']);
    const { order, progress } = nextOfRollout(again, new Map(), later, () => 'ord_new');
    expect(order.deployments.map(({ order: id }) => id)).toEqual(['ord_a', 'ord_new', 'ord_new', null]);
    expect(progress).toEqual(['wave 1 of 2 begins: 2 targets']);
  });

  it('does not give one to a target either that was taken up by itself after the rollout had stopped', () => {
    const settled = afterRollout(stopped, new Map([['ord_b', part(whole, 'b', succeeded)]]), later);
    expect(settled.progress).toEqual(['wave 1: b deployed']);
    expect(settled.order).toMatchObject({ status: 'failed', error: stopped.error });
    expect(states(retried(settled.order, 'deployment', later))).toEqual([
      ...['a deployed', 'b deployed', 'c waiting', 'd waiting'],
    ]);
  });
});

describe('a rollout that was called off', () => {
  const whole = cancelled(began(rollout('abc', 'd')), later);
  const parts = (...all: Order[]) => new Map(all.map((one) => [one.id, one]));
  const source = began(rollout('abc', 'd'));

  it('says what became of the parts that had begun, and of one that was never placed', () => {
    const { order, progress } = afterRollout(
      whole,
      parts(part(source, 'a', succeeded), part(source, 'b', called)),
      later,
    );
    expect(order.status).toBe('cancelled');
    expect(order.deployments).toEqual([
      { target: 'a', wave: 1, order: 'ord_a', status: 'deployed' },
      { target: 'b', wave: 1, order: 'ord_b', status: 'cancelled' },
      { target: 'c', wave: 1, order: null, status: 'cancelled' },
      { target: 'd', wave: 2, order: null, status: 'cancelled' },
    ]);
    expect(progress).toEqual(['wave 1: a deployed', 'wave 1: b cancelled', 'wave 1: c cancelled']);
    const ended = parts(part(source, 'b', called));
    expect(afterRollout(order, ended, later)).toEqual({ order, progress: [] });
  });

  it('waits for a part that is under way', () => {
    const all = parts(part(source, 'a'), part(source, 'b'), part(source, 'c'));
    expect(afterRollout(whole, all, later).order).toBe(whole);
  });
});

describe('a part', () => {
  it('is in the hands of a worker from its beginning until its attempt ends', () => {
    const whole = began(rollout('a'));
    const placed = part(whole, 'a');
    const begun = { ...placed, startedAt: later };
    expect(isInHand(placed)).toBe(false);
    expect(isInHand(begun)).toBe(true);
    for (const plan of [{ kind: 'retryable' }, { kind: 'wait', until: later }, { kind: 'park' }] as const) {
      const error = new CertlineError('target_unreachable', 'away', { plan });
      expect(isInHand(afterFailure(begun, 'deployment', error, { now: later, random: 0, scale: 1 }).order)).toBe(false);
    }
    expect(isInHand({ ...part(whole, 'a', succeeded), startedAt: later })).toBe(false);
    expect(deployed(begun as IssuedOrder, later).startedAt).toBeNull();
  });
});
