import { z } from 'zod';
import { type DriftFinding, type DriftReport, driftReportSchema, type driftStates } from '../model/drift.ts';
import type { Keys } from './keys.ts';
import { streamLength } from './order-events.ts';
import { pageOf } from './paging.ts';
import type { Command, RedisClient } from './redis.ts';
import { targetEvent } from './target-events.ts';

type DriftState = (typeof driftStates)[number];

export interface DriftPage {
  reports: DriftReport[];
  cursor: string | null;
}

/** What the last look at each target found. */
export interface DriftReports {
  /**
   * Keeps a finding as the report of its target, in one step with the indexes. `news`: the target drifted, or another place of it did;
   * it cannot be looked at; or it is in order again. That is then an event, too. Null when the target is gone: nothing is kept.
   */
  save(finding: DriftFinding): Promise<{ report: DriftReport; news: boolean } | null>;
  get(target: string): Promise<DriftReport | null>;
  /** Those whose state is the newest first. */
  list(page: { state?: DriftState | undefined; cursor?: string | undefined; limit: number }): Promise<DriftPage>;
  /** Targets that are in a state. */
  count(state: DriftState): Promise<number>;
  /** Targets that were looked at. */
  countAll(): Promise<number>;
  /** Places that are not as they should be, of all targets. */
  countPlaces(): Promise<number>;
  /** When places of a target were repaired by themselves, ms since the epoch; only those after `since`. */
  repairs(target: string, since: number): Promise<Map<string, number[]>>;
  /** Adds a repair to those of some places. */
  addRepair(target: string, places: readonly string[], at: number, lifeMs: number): Promise<void>;
  /** The commands that take away all that is known of a target: in one step with its record. */
  removing(target: string): Command[];
}

const findingSchema = driftReportSchema.omit({ since: true });
const timesSchema = z.array(z.number());
const states: readonly DriftState[] = driftReportSchema.shape.state.options;

export function createDriftReports(redis: RedisClient, keys: Keys): DriftReports {
  async function get(target: string): Promise<DriftReport | null> {
    const [document, since] = await redis.hmget(keys.drift(target), 'document', 'since');
    if (!document) return null;
    return { ...findingSchema.parse(JSON.parse(document)), since: Number(since) };
  }

  return {
    get,

    async save(finding) {
      const { target, state, checkedAt, differences } = finding;
      const places = JSON.stringify(differences.map(({ place }) => place));
      const answer = await redis.saveDrift(
        ...([keys.drift(target), target, keys.target(target), state, String(checkedAt), places] as const),
        ...([JSON.stringify(finding), keys.drifts, keys.driftsByState(''), keys.driftPlaces] as const),
        ...([keys.events, String(streamLength), JSON.stringify(targetEvent(finding))] as const),
      );
      if (answer === null) return null;
      const [since, news] = answer;
      return { report: { ...finding, since: Number(since) }, news: news === 1 };
    },

    async list({ state, cursor, limit }) {
      const page = await pageOf(redis, state ? keys.driftsByState(state) : keys.drifts, cursor, limit);
      const reports = await Promise.all(page.ids.map(get));
      return {
        reports: reports.filter((report) => report !== null && (state === undefined || report.state === state)),
        cursor: page.cursor,
      } as DriftPage;
    },

    count: (state) => redis.zcard(keys.driftsByState(state)),
    countAll: () => redis.zcard(keys.drifts),
    async countPlaces() {
      const counts = await redis.hvals(keys.driftPlaces);
      return counts.reduce((sum, count) => sum + Number(count), 0);
    },

    async repairs(target, since) {
      const all = Object.entries(await redis.hgetall(keys.driftRepairs(target)));
      return new Map(
        all.map(([place, times]) => [place, timesSchema.parse(JSON.parse(times)).filter((at) => at > since)]),
      );
    },
    async addRepair(target, places, at, lifeMs) {
      const before = await this.repairs(target, at - lifeMs);
      const fields = places.flatMap((place) => [place, JSON.stringify([...(before.get(place) ?? []), at])]);
      if (fields.length === 0) return;
      await redis
        .multi()
        .hset(keys.driftRepairs(target), ...fields)
        .pexpire(keys.driftRepairs(target), lifeMs)
        .exec();
    },

    removing: (target) => [
      ['DEL', keys.drift(target), keys.driftRepairs(target)],
      ['ZREM', keys.drifts, target],
      ...states.map((state): Command => ['ZREM', keys.driftsByState(state), target]),
      ['HDEL', keys.driftPlaces, target],
      ['ZREM', keys.driftSchedule, target],
    ],
  };
}
