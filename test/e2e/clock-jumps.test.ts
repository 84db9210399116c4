import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import { createFalseClock, type FalseClock } from '../support/false-clock.ts';
import { type LabSession, openLabSession } from '../support/lab-session.ts';

const hour = 3_600;

/** The clock of the services, or that of Redis, is set while they have an order in hand. */
describe('a clock that jumps', () => {
  let clock: FalseClock;
  let session: LabSession;
  let redis: RedisClient;
  let account: string;

  beforeAll(async () => {
    clock = await createFalseClock();
    session = await openLabSession();
    redis = connectRedis(session.lab.redis.url, 'worker', () => {});
    await session.lab.startService('standalone', clock.env);
    account = await session.registerAccount();
  });
  afterAll(async () => {
    redis?.disconnect();
    await session?.close();
    await clock?.close();
  });

  /** What a jump does to Redis: whatever ends at a time ends sooner, or later. libfaketime and Redis' allocator do not go together. */
  async function shiftEnds(seconds: number): Promise<void> {
    for (const key of await redis.keys('*')) {
      const left = await redis.pttl(key);
      if (left >= 0) await redis.pexpire(key, left - seconds * 1000);
    }
  }

  async function issued(id: string): Promise<void> {
    const order = await session.until(id, 'it is issued', ({ complete }) => complete === true, 25_000);
    expect(order).toMatchObject({ status: 'issued', attempts: { validation: 0, issuance: 0 }, error: null });
  }

  it.each<[whose: string, where: string, jump: () => Promise<void>]>([
    ['the services', 'forward', () => clock.set(hour)],
    ['the services', 'back', () => clock.set(-hour)],
    ['Redis', 'forward', () => shiftEnds(hour)],
    ['Redis', 'back', () => shiftEnds(-hour)],
  ])('of %s an hour %s holds no order up, and makes nothing twice', async (whose, where, jump) => {
    const before = session.lab.pebble.issued().length;
    const name = `${whose.split(' ').at(-1)}-${where}.example.com`.toLowerCase();
    const request = { account, challenge: { type: 'http-01' }, key: { type: 'ec-p256' } };
    await session.lab.pebble.signal('SIGSTOP');
    const id = await session.order({ ...request, names: [name] });
    await session.event(id, ({ type }) => type === 'stage_started');
    await jump();
    onTestFinished(() => clock.set(0));
    await session.lab.pebble.signal('SIGCONT');
    await issued(id);
    // Another one by the clock as it is now, from its beginning.
    await issued(await session.order({ ...request, names: [`next.${name}`] }));
    expect(session.lab.pebble.issued()).toHaveLength(before + 2);
  });
});
