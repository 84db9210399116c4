import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { retriedByHand } from '#libs/model/retry-by-hand';
import type { Redis } from '../../services/lab/redis.ts';
import { fieldsOf } from '../support/api-session.ts';
import { type BareApi, placeAllFailed, placeFailed, startBareApi } from '../support/failed-orders.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** Finding the orders that have failed. */
let server: Redis;
let api: BareApi;
const day = 86_400_000;
const monday = Date.UTC(2026, 0, 5);
const iso = (ms: number): string => new Date(ms).toISOString();
const toShop = { mode: 'site', target: 'tgt_shop', site: 1 } as const;

async function list(query: string): Promise<string[]> {
  const { items } = await api.client.send('GET', `/v1/orders?${query}`);
  return (items as { id: string }[]).map(({ id }) => id);
}

beforeAll(async () => {
  server = await startTestRedis();
  api = await startBareApi(server.url);
});
afterAll(async () => {
  await api?.close();
  await server?.close();
});

describe('failed orders', () => {
  let ids: string[];
  /** By their place in the list. */
  const those = (...places: number[]) => places.map((place) => ids[place]);

  beforeAll(async () => {
    ids = await placeAllFailed(api.resources.store, [
      { at: monday, request: { names: ['old.example.com'] } },
      { at: monday + day, request: { account: 'acc_2' } },
      { at: monday + 2 * day, code: 'target_unreachable', issued: true, request: { deploy: toShop } },
      { at: monday + 3 * day, code: 'target_unreachable', issued: true, request: { account: 'acc_2', deploy: toShop } },
    ]);
    // One that waits after the same error, which is not failed.
    const placed = await placeFailed(api.resources.store, { at: monday });
    if (placed) await api.resources.store.orders.save(placed, retriedByHand(placed, undefined, monday), []);
  });

  it('are found by the code of their error', async () => {
    expect(await list('code=http01_unreachable')).toEqual(those(2, 3));
    expect(await list('status=failed&code=target_unreachable')).toEqual(those(0, 1));
    expect(await list('code=caa_forbids')).toEqual([]);
  });

  it('are found by account, target and name, and by all of these together', async () => {
    expect(await list('status=failed&account=acc_2')).toEqual(those(0, 2));
    expect(await list('status=failed&target=tgt_shop')).toEqual(those(0, 1));
    expect(await list('status=failed&name=OLD.example.com')).toEqual(those(3));
    expect(await list('code=target_unreachable&account=acc_2&target=tgt_shop')).toEqual(those(0));
    expect(await list('code=http01_unreachable&name=a.example.com')).toEqual(those(2));
  });

  it('are found by when they were placed: from `since` on, before `until`', async () => {
    const between = `since=${iso(monday + day)}&until=${iso(monday + 3 * day)}`;
    expect(await list(`status=failed&${between}`)).toEqual(those(1, 2));
    expect(await list(`code=target_unreachable&${between}`)).toEqual(those(1));
    expect(await list(`status=failed&until=${encodeURIComponent('2026-01-05T01:00:00+01:00')}`)).toEqual([]);
    expect(await list(between)).toEqual(those(1, 2));
  });

  it.each([
    ['code=nonsense', ['code request_invalid']],
    ['status=pending&code=caa_forbids', ['code request_invalid']],
    ['account=acc_1&target=tgt_1', ['account request_invalid', 'target request_invalid']],
    ['status=issued&account=acc_1', ['account request_invalid']],
    ['since=yesterday', ['since request_invalid']],
    [`status=failed&since=${iso(monday)}&until=${iso(monday)}`, ['until request_invalid']],
    ['reason=caa', ['reason request_invalid']],
  ])('are not looked for by %s: the field is named', async (query, fields) => {
    const answer = await api.client.request('GET', `/v1/orders?${query}`);
    expect(answer.status).toBe(422);
    expect(fieldsOf(answer)).toEqual(fields);
  });

  it('are in no list of failed orders once they were taken up again', async () => {
    const { store } = api.resources;
    const placed = await placeFailed(store, { code: 'secret_unreadable', issued: true, request: { deploy: toShop } });
    expect(await list('code=secret_unreadable&target=tgt_shop')).toEqual([placed?.id]);
    await api.client.send('POST', `/v1/orders/${placed?.id}/retry`, { from: 'validation' });
    expect(await list('code=secret_unreadable')).toEqual([]);
    expect(await list('status=failed&target=tgt_shop')).not.toContain(placed?.id);
  });
});

describe('a page of failed orders', () => {
  it('follows on the one before, also where few of many match and many were placed at once', async () => {
    const { store } = api.resources;
    const at = monday + 30 * day;
    const many = Array.from({ length: 40 }, (_, n) => ({
      ...{ at: at + Math.floor(n / 10), code: 'dns_zone_not_found' as const },
      request: { account: n % 3 === 0 ? 'acc_few' : 'acc_many' },
    }));
    const before = await placeAllFailed(store, many);
    const found: string[] = [];
    let pages = 0;
    for (let cursor: unknown = ''; cursor !== null; pages += 1) {
      const next = cursor === '' ? '' : `&cursor=${cursor}`;
      const query = `code=dns_zone_not_found&account=acc_few&limit=5${next}`;
      const page = await api.client.send('GET', `/v1/orders?${query}`);
      found.push(...(page.items as { id: string }[]).map(({ id }) => id));
      cursor = page.cursor;
    }
    expect(found.toSorted()).toEqual(before.filter((_, place) => (39 - place) % 3 === 0).toSorted());
    expect(pages).toBe(3);
  });

  it('ends after so many looks though it is not full, and the next one goes on from there', async () => {
    const { redis, store } = api.resources;
    const { keys } = store;
    const placed = await placeFailed(store, {
      at: monday + 40 * day,
      code: 'dnssec_bogus',
      request: { account: 'acc_rare' },
    });
    // As many others of that code, and of that account with another code, as no page looks at.
    const rows = (what: string) =>
      Array.from({ length: 6_000 }, (_, n) => [monday + 50 * day + n, `ord_${what}${n}`]).flat();
    await redis.zadd(keys.failedByCode('dnssec_bogus'), ...rows('a'));
    await redis.zadd(keys.failedByAccount('acc_rare'), ...rows('b'));
    const query = 'code=dnssec_bogus&account=acc_rare';
    const first = await api.client.send('GET', `/v1/orders?${query}`);
    expect(first).toMatchObject({ items: [], cursor: expect.any(String) });
    const second = await api.client.send('GET', `/v1/orders?${query}&cursor=${first.cursor}`);
    expect(second).toMatchObject({ items: [{ id: placed?.id }], cursor: null });
  });
});
