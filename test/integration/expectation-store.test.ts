import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Expectation } from '#libs/model/drift';
import { type Command, connectRedis, type RedisClient } from '#libs/store/redis';
import { createStore, type Store } from '#libs/store/store';
import type { Redis } from '../../services/lab/redis.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** The store of what is expected to last on a target. */
let server: Redis;
let redis: RedisClient;

const target = 'tgt_1';
const toSite = { mode: 'site', site: 1 } as const;

beforeAll(async () => {
  server = await startTestRedis();
  redis = connectRedis(server.url, 'worker', () => {});
});
afterAll(async () => {
  redis?.disconnect();
  await server?.close();
});

const expectation = (place: string, more: Partial<Expectation> = {}): Expectation => ({
  ...{ place, order: 'ord_1', certificate: 'crt_1', thumbprint: 'A', store: 'My', sslFlags: 1, at: 1 },
  ...{ deploy: { ...toSite, target }, ...more },
});

describe('the store of expectations', () => {
  let store: Store;
  const run = async (commands: readonly Command[]) => {
    for (const [name, ...args] of commands) await redis.call(name, ...args);
  };
  const places = async () => (await store.expectations.of(target)).map(({ place, order }) => `${place} ${order}`);
  beforeEach(() => {
    store = createStore(redis, `test-${randomUUID()}`);
  });

  it('keeps one for each place, the last', async () => {
    const { recording, of } = store.expectations;
    await run(recording(target, [expectation('b'), expectation('a')]));
    await run(recording(target, [expectation('a', { order: 'ord_2', store: null })]));
    expect(await of(target)).toEqual([expectation('a', { order: 'ord_2', store: null }), expectation('b')]);
    expect(await of('tgt_2')).toEqual([]);
    expect([recording(target, []), store.expectations.forgetting(target, [])]).toEqual([[], []]);
  });

  it('keeps thousands in one step of a save', async () => {
    const many = Array.from({ length: 6_000 }, (_, at) => expectation(`1|https|*:443:${at}.example.com`));
    const commands = JSON.stringify(store.expectations.recording(target, many));
    expect(await redis.commit(store.keys.order('ord_1'), '', 'write', commands)).toBe(1);
    expect(await store.expectations.of(target)).toHaveLength(6_000);
  });

  it('forgets places, and all of a target', async () => {
    const { recording, forgetting, dropTarget } = store.expectations;
    await run(
      recording(
        target,
        ['a', 'b', 'c'].map((place) => expectation(place)),
      ),
    );
    await run(forgetting(target, ['a', 'no such']));
    expect(await places()).toEqual(['b ord_1', 'c ord_1']);
    await run([dropTarget(target)]);
    expect(await places()).toEqual([]);
  });

  it.each([
    ['order', { order: 'ord_2' }],
    ['certificate', { certificate: 'crt_2' }],
    ['thumbprint', { thumbprint: 'B' }],
    ['store', { store: null }],
    ['time', { at: 2 }],
  ])('forgets what a person has seen, unless a deployment has changed its %s since', async (_, changed) => {
    const { recording, forget, of } = store.expectations;
    await run(recording(target, [expectation('a'), expectation('b')]));
    const seen = await of(target);
    await run(recording(target, [expectation('a', changed)]));
    await forget(target, [...seen, expectation('gone')]);
    expect(await of(target)).toEqual([expectation('a', changed)]);
  });

  it('forgets what another version wrote with more in it, also where nothing is in the store', async () => {
    const more = { ...expectation('a', { store: null }), since: 'another version' };
    await redis.hset(store.keys.expectations(target), 'a', JSON.stringify(more));
    const seen = await store.expectations.of(target);
    expect(seen).toEqual([expectation('a', { store: null })]);
    await store.expectations.forget(target, seen);
    expect(await places()).toEqual([]);
  });

  it('reads all that it can read', async () => {
    await run(store.expectations.recording(target, [expectation('a')]));
    const key = store.keys.expectations(target);
    const odd = { b: '{', c: '{"place":"c"}', d: JSON.stringify(expectation('a')), e: 'null' };
    await redis.hset(key, odd);
    expect(await places()).toEqual(['a ord_1']);
    await store.expectations.forget(target, [expectation('a'), ...Object.keys(odd).map((place) => expectation(place))]);
    expect(Object.keys(await redis.hgetall(key)).sort()).toEqual(['b', 'c', 'd', 'e']);
  });
});
