import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DriftFinding } from '#libs/model/drift';
import { createEventFeed, type EventFeed, type StreamEvent } from '#libs/store/order-events';
import { connectRedis } from '#libs/store/redis';
import { targetEvent } from '#libs/store/target-events';
import type { Redis } from '../../services/lab/redis.ts';
import { difference, finding, unknown } from '../support/drift-findings.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';

let server: Redis;
let pipeline: Pipeline;
let feed: EventFeed;
let events: StreamEvent[];
let unreadable: number;

const reports = () => pipeline.store.driftReports;
const save = async (one: DriftFinding) => {
  const saved = await reports().save(one);
  return saved && { state: saved.report.state, since: saved.report.since, news: saved.news };
};
/** What was told so far: whatever is read before the marker that comes last. */
async function told(): Promise<string[]> {
  await pipeline.place();
  await vi.waitUntil(() => events.some((event) => 'order' in event), { timeout: 10_000 });
  return events.flatMap((event) => ('target' in event ? `${event.type} ${event.differences} ${event.detail}` : []));
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  pipeline = openPipeline(server);
  await pipeline.putTarget('tgt_1', 'default');
  unreadable = 0;
  events = [];
  feed = createEventFeed(
    connectRedis(server.url, 'worker', () => {}),
    pipeline.store.keys,
    () => {
      unreadable += 1;
    },
  );
  feed.subscribe((event) => events.push(event));
  await feed.ready();
});
afterEach(async () => {
  await feed.close();
  await pipeline.close();
});

describe('the report of a target', () => {
  it('says since when the target is in its state, and is news when that changes', async () => {
    const gone = difference('1|https|*:443:a');
    expect(await save(finding('tgt_1'))).toEqual({ state: 'in_sync', since: 1_000, news: false });
    expect(await save(finding('tgt_1', [gone], { checkedAt: 2_000 }))).toMatchObject({ since: 2_000, news: true });
    expect(await save(finding('tgt_1', [gone], { checkedAt: 3_000 }))).toMatchObject({ since: 2_000, news: false });
    expect(await save(unknown('tgt_1', 4_000))).toMatchObject({ since: 4_000, news: true });
    expect(await save(unknown('tgt_1', 5_000))).toMatchObject({ since: 4_000, news: false });
    expect(await save(finding('tgt_1', [], { checkedAt: 6_000 }))).toMatchObject({ since: 6_000, news: true });
    expect(await save(finding('tgt_1', [], { checkedAt: 7_000, state: 'nothing' }))).toMatchObject({ news: false });
    expect(await told()).toEqual([
      'target_drifted 1 1|https|*:443:a: the binding is gone',
      'target_unknown 0 target_unreachable: no answer',
      'target_in_sync 0 every place is as it should be',
    ]);
    expect(await reports().get('tgt_1')).toEqual({
      ...finding('tgt_1', [], { checkedAt: 7_000, state: 'nothing' }),
      since: 7_000,
    });
  });

  it('is news, too, when another place differs, and not when one of them is as it should be again', async () => {
    const [a, b] = [difference('a'), difference('b')];
    expect(await save(finding('tgt_1', [a]))).toMatchObject({ news: true });
    expect(await save(finding('tgt_1', [a, b], { checkedAt: 2_000 }))).toMatchObject({ news: true, since: 1_000 });
    expect(await save(finding('tgt_1', [b], { checkedAt: 3_000 }))).toMatchObject({ news: false });
    expect(await save(finding('tgt_1', [a], { checkedAt: 4_000 }))).toMatchObject({ news: true });
  });

  it('is counted and listed by its state, the newest state first', async () => {
    for (let n = 2; n <= 6; n += 1) await pipeline.putTarget(`tgt_${n}`, 'default');
    const drifted = (id: string, at: number, ...places: string[]) =>
      save(
        finding(
          id,
          places.map((place) => difference(place)),
          { checkedAt: at },
        ),
      );
    await drifted('tgt_1', 10, 'a', 'b');
    await drifted('tgt_2', 30, 'a');
    await drifted('tgt_3', 20, 'a');
    await save(finding('tgt_4'));
    await save(unknown('tgt_5', 40));
    // Seen again later: the state is as old as it was.
    await drifted('tgt_1', 50, 'a', 'b');
    const count = async () => [
      await reports().count('drifted'),
      await reports().countAll(),
      await reports().countPlaces(),
    ];
    expect(await count()).toEqual([3, 5, 4]);
    const first = await reports().list({ state: 'drifted', limit: 2 });
    expect(first.reports.map(({ target }) => target)).toEqual(['tgt_2', 'tgt_3']);
    const rest = await reports().list({ state: 'drifted', limit: 2, cursor: first.cursor ?? '' });
    expect({ ...rest, reports: rest.reports.map(({ target }) => target) }).toEqual({
      reports: ['tgt_1'],
      cursor: null,
    });
    const all = await reports().list({ limit: 10 });
    expect(all.reports.map(({ target }) => target)).toEqual(['tgt_4', 'tgt_5', 'tgt_2', 'tgt_3', 'tgt_1']);
    await save(finding('tgt_1', [], { checkedAt: 60 }));
    expect(await count()).toEqual([2, 5, 2]);
  });

  it('goes with its target, and does not come back when a look ends later', async () => {
    await save(finding('tgt_1', [difference('a')]));
    await reports().addRepair('tgt_1', ['a'], 1_000, 60_000);
    await pipeline.store.driftSchedule.add([{ target: 'tgt_1', at: 0 }]);
    await pipeline.store.targets.remove('tgt_1', reports().removing('tgt_1'));
    expect(await save(finding('tgt_1', [difference('a')]))).toBeNull();
    expect(await reports().get('tgt_1')).toBeNull();
    expect([await reports().countAll(), await reports().count('drifted'), await reports().countPlaces()]).toEqual([
      ...[0, 0, 0],
    ]);
    expect(await reports().list({ limit: 10 })).toEqual({ reports: [], cursor: null });
    expect((await pipeline.redis.keys(`${pipeline.store.keys.tag}:drift*`)).sort()).toEqual([]);
  });
});

describe('the stream of events', () => {
  it('hides no event behind one that cannot be read', async () => {
    const { keys } = pipeline.store;
    const lines = ['{ "type": "moon_rose", "id": "1" }', '{', JSON.stringify(targetEvent(finding('tgt_1')))];
    const together = pipeline.redis.multi();
    for (const line of lines) together.xadd(keys.events, '*', 'event', line);
    await together.exec();
    expect(await told()).toEqual(['target_in_sync 0 every place is as it should be']);
    expect(unreadable).toBe(2);
  });
});
