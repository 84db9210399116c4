import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { CertlineError, type ErrorCode, type Plan } from '#libs/errors';
import type { PendingOrder } from '#libs/model/order';
import { validated } from '#libs/model/transitions';
import { poisonLimit, stages } from '#libs/queues/stages';
import type { Redis } from '../../services/lab/redis.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { acmeOrder } from '../support/sample-orders.ts';

let server: Redis;
let pipeline: Pipeline;
/** What the handler was called with, and when. */
let runs: { order: PendingOrder; at: number }[];

const fail = (plan: Plan, code: ErrorCode = 'ca_unavailable') => new CertlineError(code, 'as the test says', { plan });
const done = (order: PendingOrder) => validated(order, acmeOrder, Date.now());

/** Starts the stage; its runs throw these one after the other, and succeed after that. */
function startThrowing(...thrown: unknown[]): void {
  pipeline.startStage('validation', async (_, context) => {
    runs.push({ order: context.current(), at: Date.now() });
    if (thrown.length > 0) throw thrown.shift();
    return done(context.current());
  });
}

const isValidated = ({ status }: { status: string }) => status === 'validated';
const isFailed = ({ status }: { status: string }) => status === 'failed';
const historyOf = async (id: string) => (await pipeline.store.history(id)).map(({ type, code }) => code ?? type);

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(() => {
  pipeline = openPipeline(server);
  runs = [];
});
afterEach(() => pipeline.close());

describe('a stage that succeeds', () => {
  it('passes the order on to the next stage', async () => {
    const { id } = await pipeline.enqueue();
    startThrowing();
    expect(await pipeline.until(id, isValidated)).toMatchObject({
      acmeOrder,
      error: null,
      attempts: { validation: 0 },
    });
    await pipeline.jobIn(id, 'issuance', 1, 'waiting');
    expect(await historyOf(id)).toEqual(['order_placed', 'stage_started', 'stage_completed']);
    expect(await pipeline.counted('validation')).toEqual({ 'completed none': 1 });
    const success = await pipeline.metrics.lastSuccess.get();
    expect(success.values[0]?.value).toBeGreaterThan(Date.now() / 1000 - 60);
  });

  it('leaves nothing in the queues but the ids of orders', async () => {
    const { id } = await pipeline.enqueue();
    startThrowing(fail({ kind: 'retryable' }));
    await pipeline.until(id, isValidated);
    const { data } = await pipeline.jobIn(id, 'validation', 1, 'completed');
    expect(data).toEqual({ order: id });
    expect((await pipeline.jobIn(id, 'issuance', 1, 'waiting')).data).toEqual({ order: id });
    for (const key of await pipeline.redis.keys(`${pipeline.settings.prefix}:validation:${id}*`)) {
      expect(JSON.stringify(await pipeline.redis.hgetall(key))).not.toMatch(/example\.com|acc_1|ca\.test/);
    }
  });
});

describe('an order that waits', () => {
  it('gives its slot to others', async () => {
    const slots = stages.validation.concurrency;
    pipeline.startStage('validation', async (order, { clock }) => {
      if (order.request.names[0] === 'waits.example.com')
        throw fail({ kind: 'wait', until: clock.now() + 3_600_000 }, 'validation_pending');
      return done(order);
    });
    const waiting = await Promise.all(
      Array.from({ length: slots }, () => pipeline.enqueue({ names: ['waits.example.com'] })),
    );
    for (const { id } of waiting) await pipeline.jobIn(id, 'validation', 1, 'delayed');
    const other = await pipeline.enqueue();
    await pipeline.until(other.id, isValidated);
    expect(await pipeline.counted('validation')).toEqual({ 'completed none': 1, 'wait validation_pending': slots });
  });

  it('comes back at its time and has used no attempt', async () => {
    const until = Date.now() + 600;
    const { id } = await pipeline.enqueue();
    startThrowing(fail({ kind: 'wait', until, exact: true }, 'validation_pending'));
    await pipeline.until(id, isValidated);
    expect(runs).toHaveLength(2);
    expect(runs[1]?.at).toBeGreaterThanOrEqual(until - 50);
    expect(runs[1]?.order).toMatchObject({ attempts: { validation: 0 }, error: { code: 'validation_pending' } });
    const waits = (await pipeline.store.history(id)).filter(({ type }) => type === 'stage_waiting');
    expect(waits).toMatchObject([{ code: 'validation_pending', nextAttemptAt: until }]);
  });

  it('has one line in its history for each thing that it waits for, however often it is looked at', async () => {
    const { id } = await pipeline.enqueue();
    const soon = { kind: 'wait', until: 0 } as const;
    const record = () => fail(soon, 'dns_record_awaited');
    startThrowing(record(), record(), record(), fail(soon, 'validation_pending'), fail(soon, 'validation_pending'));
    await pipeline.until(id, isValidated);
    expect(runs).toHaveLength(6);
    const waited = ['dns_record_awaited', 'validation_pending'];
    expect(await historyOf(id)).toEqual(['order_placed', 'stage_started', ...waited, 'stage_completed']);
  });
});

describe('a failure that is retryable', () => {
  it('uses an attempt and comes back after the backoff', async () => {
    const { id } = await pipeline.enqueue();
    startThrowing(fail({ kind: 'retryable' }), fail({ kind: 'retryable' }));
    expect(await pipeline.until(id, isValidated)).toMatchObject({ attempts: { validation: 2 } });
    const failures = (await pipeline.store.history(id)).filter(({ type }) => type === 'attempt_failed');
    expect(failures.map(({ at, nextAttemptAt = 0 }) => nextAttemptAt - at)).toEqual([300, 600]);
    for (const [index, { nextAttemptAt = 0 }] of failures.entries())
      expect(runs[index + 1]?.at).toBeGreaterThanOrEqual(nextAttemptAt - 50);
    expect(await pipeline.counted('validation')).toEqual({ 'retry ca_unavailable': 2, 'completed none': 1 });
  });

  it('does not come back before the time that the CA named', async () => {
    const notBefore = Date.now() + 600;
    const { id } = await pipeline.enqueue();
    startThrowing(fail({ kind: 'retryable', notBefore }));
    const error = await pipeline.until(id, ({ nextAttemptAt }) => nextAttemptAt !== null);
    expect(error).toMatchObject({ error: { code: 'ca_unavailable', stage: 'validation' } });
    expect(error.nextAttemptAt).toBeGreaterThanOrEqual(notBefore);
    await pipeline.until(id, isValidated);
    expect(runs[1]?.at).toBeGreaterThanOrEqual(notBefore - 50);
  });

  it('fails the order with its code after the last attempt', async () => {
    await pipeline.close();
    pipeline = openPipeline(server, { retryDelayScale: 1e-6 });
    const { attempts } = stages.validation.retry;
    const { id } = await pipeline.enqueue();
    startThrowing(...Array.from({ length: attempts + 1 }, () => fail({ kind: 'retryable' })));
    const order = await pipeline.until(id, isFailed);
    expect(order).toMatchObject({ stage: 'validation', error: { code: 'ca_unavailable' }, nextAttemptAt: null });
    expect(order.attempts.validation).toBe(attempts);
    const { failedReason } = await pipeline.jobIn(id, 'validation', 1, 'failed');
    expect(failedReason).toBe('ca_unavailable: as the test says');
    expect(runs).toHaveLength(attempts);
    expect(await pipeline.counted('validation')).toEqual({
      'retry ca_unavailable': attempts - 1,
      'failed ca_unavailable': 1,
    });
  });

  it('fails it sooner where the error allows fewer attempts', async () => {
    const { id } = await pipeline.enqueue();
    startThrowing(...Array.from({ length: 5 }, () => fail({ kind: 'retryable', attempts: 2 }, 'caa_forbids')));
    expect(await pipeline.until(id, isFailed)).toMatchObject({ error: { code: 'caa_forbids' } });
    expect(runs).toHaveLength(2);
  });

  it('is what every error is that nobody foresaw', async () => {
    const { id } = await pipeline.enqueue();
    startThrowing(new TypeError('x is not a function'), 'a string');
    await pipeline.until(id, isValidated);
    expect(runs[1]?.order.error).toMatchObject({ code: 'unexpected', detail: 'x is not a function' });
    expect(runs[2]?.order.error).toMatchObject({ code: 'unexpected', detail: 'a string' });
    expect(await pipeline.counted('validation')).toMatchObject({ 'retry unexpected': 2 });
  });
});

describe('a failure that is permanent', () => {
  it('fails the order at once', async () => {
    const { id } = await pipeline.enqueue();
    startThrowing(fail({ kind: 'permanent' }, 'identifier_rejected'));
    expect(await pipeline.until(id, isFailed)).toMatchObject({
      ...{ stage: 'validation', attempts: { validation: 1 }, epoch: 1 },
      error: { code: 'identifier_rejected', detail: 'as the test says', stage: 'validation' },
    });
    await pipeline.jobIn(id, 'validation', 1, 'failed');
    expect(runs).toHaveLength(1);
    expect(await pipeline.counted('validation')).toEqual({ 'failed identifier_rejected': 1 });
    expect(await historyOf(id)).toEqual(['order_placed', 'stage_started', 'identifier_rejected']);
  });
});

describe('a failure that asks for a restart', () => {
  it('begins a new epoch with a job of its own', async () => {
    const { id } = await pipeline.enqueue({}, (order) => ({ ...order, acmeOrder }));
    startThrowing(fail({ kind: 'restart' }, 'acme_order_gone'));
    const order = await pipeline.until(id, isValidated);
    expect(order).toMatchObject({ epoch: 2, restarts: 1 });
    expect(runs[1]?.order).toMatchObject({ epoch: 2, acmeOrder: null, error: { code: 'acme_order_gone' } });
    expect((await pipeline.jobIn(id, 'validation', 1, 'completed')).returnvalue).toBe('restart');
    await pipeline.jobIn(id, 'validation', 2, 'completed');
    await pipeline.jobIn(id, 'issuance', 2, 'waiting');
    expect(await historyOf(id)).toContain('acme_order_gone');
    expect(await pipeline.counted('validation')).toMatchObject({ 'restart acme_order_gone': 1 });
  });

  it('comes from the issuance stage back to validation', async () => {
    const { id } = await pipeline.enqueue({}, (order) => validated(order, acmeOrder, Date.now()));
    pipeline.startStage('issuance', async () => {
      throw fail({ kind: 'restart' }, 'acme_order_invalid');
    });
    await pipeline.jobIn(id, 'validation', 2, 'delayed', 'waiting');
    expect(await pipeline.read(id)).toMatchObject({ status: 'pending', epoch: 2, attempts: { issuance: 1 } });
  });
});

describe('a failure that parks the order', () => {
  it('holds it without a job until its account is mended', async () => {
    const { id } = await pipeline.enqueue();
    startThrowing(fail({ kind: 'park' }, 'account_unauthorized'));
    const parked = await pipeline.until(id, ({ parkedOn }) => parkedOn !== null);
    expect(parked).toMatchObject({ parkedOn: 'acc_1', attempts: { validation: 0 }, nextAttemptAt: null });
    await pipeline.jobIn(id, 'validation', 1, 'completed');
    expect(await pipeline.store.orders.parked('acc_1')).toEqual([id]);

    await pipeline.producer.enqueue(parked);
    expect(await pipeline.producer.ensureJob(parked)).toBe(false);
    const stray = await pipeline
      .queue('validation')
      .add('validation', { order: id }, { jobId: `${id}.validation.1.x` });
    await vi.waitUntil(async () => (await stray.getState()) === 'completed');
    expect(await pipeline.read(id)).toEqual(parked);
    expect(runs).toHaveLength(1);

    const resumed = { ...parked, parkedOn: null, epoch: 2 };
    const saved = await pipeline.store.orders.save(parked, resumed, [{ type: 'order_resumed', at: Date.now() }]);
    if (saved) await pipeline.producer.enqueue(saved);
    expect(await pipeline.until(id, isValidated)).toMatchObject({ epoch: 2, attempts: { validation: 0 } });
    expect(runs).toHaveLength(2);
  });
});

describe('an order that a stage gives up before it begins', () => {
  it('has been in the stage for longer than its deadline', async () => {
    const stageSince = Date.now() - stages.validation.deadline - 1;
    const error = { code: 'ca_unavailable', detail: 'busy', stage: 'validation', at: stageSince } as const;
    const { id } = await pipeline.enqueue({}, (order) => ({ ...order, stageSince, error }));
    startThrowing();
    expect(await pipeline.until(id, isFailed)).toMatchObject({
      error: { code: 'deadline_passed', detail: expect.stringContaining('ca_unavailable: busy') },
    });
    await pipeline.jobIn(id, 'validation', 1, 'failed');
    expect(runs).toHaveLength(0);
  });

  it.each([
    ['is run', poisonLimit, 'validated', 1],
    ['is given up', poisonLimit + 1, 'failed', 0],
  ])('%s when %i workers died on it', async (_, crashes, status, handled) => {
    const { id } = await pipeline.enqueue();
    // Where BullMQ counts how often a job stalled.
    await pipeline.redis.hset(`${pipeline.settings.prefix}:validation:${id}.validation.1`, 'stc', crashes);
    startThrowing();
    const order = await pipeline.until(id, (one) => one.status === status);
    expect(order.error?.code).toBe(handled === 1 ? undefined : 'worker_crashed_repeatedly');
    expect(runs).toHaveLength(handled);
  });
});
