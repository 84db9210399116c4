import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createAcmeConnections } from '#libs/acme/connections';
import { systemClock } from '#libs/clock';
import { type CaLimits, caLimitChangesSchema, caLimitTable } from '#libs/model/ca-limits';
import { createKeys, type Keys } from '#libs/store/keys';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import { createRequestPermits, type RequestPermit } from '#libs/store/request-permits';
import type { Redis as LabRedis } from '../../services/lab/redis.ts';
import { openOrderDriver } from '../support/order-driver.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { startScriptedCa } from '../support/scripted-ca.ts';

/** Permits for requests to a CA, in a real Redis: limits of hours, whose waits are noted instead of waited for. */
let server: LabRedis;
let redis: RedisClient;
let other: RedisClient;
let keys: Keys;
let taken: number;
let waits: number[];
let told: string[];
const directory = 'https://ca.example/directory';
const minute = 60_000;

beforeAll(async () => {
  server = await startTestRedis();
  redis = connectRedis(server.url, 'worker', () => {});
  other = connectRedis(server.url, 'worker', () => {});
});
afterAll(async () => {
  redis.disconnect();
  other.disconnect();
  await server.close();
});
beforeEach(() => {
  keys = createKeys(`test-${randomUUID()}`);
  [taken, waits, told] = [0, [], []];
});

const limitsOf = (limits: Record<string, string>): ReadonlyMap<string, CaLimits> =>
  caLimitTable(caLimitChangesSchema.parse(JSON.stringify({ [directory]: limits })));

/** As a process has it. Only the time that it is patient with Redis passes. */
function openProcess(
  limits: Record<string, string>,
  on = redis,
  sleep: (ms: number) => Promise<void> = async (ms) => void waits.push(ms),
) {
  let now = 0;
  const counting = new Proxy(on, {
    get(target, name) {
      if (name === 'takePermits') taken += 1;
      const member: unknown = Reflect.get(target, name);
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
  const permit = createRequestPermits({
    ...{ redis: counting, keys, limits: limitsOf(limits) },
    clock: { now: () => now, sleep: (ms, signal) => (signal ? systemClock.sleep(ms, signal) : sleep(ms)) },
    waited: (_, limit) => told.push(limit),
  });
  return {
    permit,
    advance: (ms: number) => {
      now += ms;
    },
  };
}
const ask = async (permit: RequestPermit, times: number, operation = 'order'): Promise<void> => {
  for (let i = 0; i < times; i += 1) await permit(directory, operation);
};

describe('a request to a CA', () => {
  it('asks Redis for nothing where the CA has no limit for it', async () => {
    const { permit } = openProcess({ requests_new_order: '1/1h' });
    await ask(permit, 100);
    await permit('https://other.example/directory', 'newOrder');
    expect(taken).toBe(0);
  });

  it('asks Redis once in ten, of a limit that is large', async () => {
    await ask(openProcess({ requests: '100/100m' }).permit, 40);
    expect(taken).toBe(4);
    expect(told).toHaveLength(4);
  });

  it('waits when all processes together have used what the CA takes at once, less what they may hold unused', async () => {
    const limits = { requests: '100/100m' };
    const processes = [openProcess(limits), openProcess(limits, other)];
    await Promise.all(processes.map(({ permit }) => ask(permit, 30)));
    const [longest = 0, ...others] = waits.toSorted((a, b) => b - a);
    expect(others).toEqual([0, 0, 0, 0, 0]);
    expect(longest).toBeGreaterThan(9 * minute);
    expect(longest).toBeLessThanOrEqual(10 * minute);
  });

  it('waits behind those that asked before, whatever process they are of', async () => {
    const limits = { requests_new_nonce: '1/1h' };
    for (const on of [redis, other, redis, other]) await ask(openProcess(limits, on).permit, 1, 'newNonce');
    expect(waits.map((ms) => Math.round(ms / 3_600_000))).toEqual([0, 1, 2, 3]);
  });

  it('has a limit of its own by what it asks for', async () => {
    const { permit } = openProcess({ requests_new_order: '1/1h', requests: '1/1h', requests_directory: '1/1h' });
    for (const operation of ['newOrder', 'directory', 'finalize']) await ask(permit, 1, operation);
    expect(waits).toEqual([0, 0, 0]);
    await ask(permit, 1, 'certificate');
    expect(waits.at(-1)).toBeGreaterThan(0);
  });

  it('uses no permit that was taken long ago', async () => {
    const { permit, advance } = openProcess({ requests: '100/100m' });
    await ask(permit, 2);
    expect(taken).toBe(1);
    advance(1_000);
    await ask(permit, 1);
    expect(taken).toBe(2);
  });

  it('is let go of when it is aborted, and the others get their turn', async () => {
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { permit } = openProcess({ requests: '100/100m' }, redis, () => gate);
    const abort = new AbortController();
    const first = permit(directory, 'order', abort.signal);
    const second = permit(directory, 'order');
    abort.abort(new Error('called off'));
    await expect(first).rejects.toThrow('called off');
    await expect(permit(directory, 'order', abort.signal)).rejects.toThrow('called off');
    release();
    await second;
    expect(taken).toBe(1);
  });

  it('goes on when Redis does not answer', async () => {
    const away = connectRedis('redis://127.0.0.1:1', 'worker', () => {});
    const refusing = connectRedis('redis://127.0.0.1:1', 'api', () => {});
    try {
      for (const on of [away, refusing]) await ask(openProcess({ requests: '100/100m' }, on).permit, 10);
      expect(waits).toEqual([0, 0]);
    } finally {
      away.disconnect();
      refusing.disconnect();
    }
  });

  it('does not wait for a clock that was wrong', async () => {
    await redis.zadd(`${keys.caBudget(directory)}:requests`, Date.now() + 3_650 * 86_400_000, 'all');
    await ask(openProcess({ requests: '10/10m' }).permit, 1);
    expect(waits).toEqual([0]);
  });

  it('leaves nothing behind in Redis', async () => {
    await ask(openProcess({ requests: '100/100m' }).permit, 1);
    const [key = ''] = await redis.keys(`${keys.tag}*`);
    expect(key.startsWith(`${keys.tag}:`)).toBe(true);
    expect(await redis.pttl(key)).toBeGreaterThan(0);
  });
});

describe('the connections to a CA', () => {
  it('send nothing without a permit, and say what it is for', async () => {
    const ca = await startScriptedCa();
    const asked: string[] = [];
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const connections = createAcmeConnections({
      ...{ clock: systemClock, userAgentVersion: 'test' },
      permit(url, operation) {
        expect(url).toBe(ca.directory);
        asked.push(operation);
        return gate;
      },
    });
    try {
      const reading = connections.ca({ directoryUrl: ca.directory, caBundle: null }).directory();
      expect(asked).toEqual(['directory']);
      expect(ca.seen).toEqual([]);
      release();
      await reading;
      expect(ca.seen).toHaveLength(1);
    } finally {
      await connections.close();
      await ca.close();
    }
  });

  it('of the workers take their permits from Redis', async () => {
    const driver = await openOrderDriver(server, undefined, { requests: '1000/1h' });
    try {
      await driver.drive(await driver.place({ names: ['a.example'] }));
      const bucket = `${driver.pipeline.store.keys.caBudget(driver.account.directory)}:requests`;
      expect(await driver.pipeline.redis.zcard(bucket)).toBe(1);
      expect(await driver.pipeline.metrics.registry.metrics()).toContain('ca="custom",limit="requests"');
    } finally {
      await driver.close();
    }
  });
});
