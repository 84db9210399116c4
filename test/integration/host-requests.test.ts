import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { systemClock as clock } from '#libs/clock';
import { asCertlineError, CertlineError } from '#libs/errors';
import type { HostState, TestStep } from '#libs/iis/iis-host';
import type { PendingOrder } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import { issued, validated } from '#libs/model/transitions';
import {
  createHostRequests,
  type HostAsker,
  type HostRequests,
  startHostRequestWorker,
} from '#libs/queues/host-requests';
import { stages } from '#libs/queues/stages';
import type { RunningWorker } from '#libs/queues/worker';
import type { Redis } from '../../services/lab/redis.ts';
import { difference, finding } from '../support/drift-findings.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { acmeOrder } from '../support/sample-orders.ts';

let server: Redis;
let pipeline: Pipeline;
let requests: HostRequests;
let target: Target;
let workers: RunningWorker[];
const { signal: forever } = new AbortController();

const state: HostState = { iisMajor: 10, osBuild: 20_348, sites: [] };
const steps: TestStep[] = [
  { step: 'connect', ok: true, detail: 'web01:22' },
  { step: 'rights', ok: false, detail: 'no administrator' },
];
const answering: HostAsker = async ({ question }) => (question === 'read' ? state : steps);

function open(limitMs?: number): HostRequests {
  const { redis, settings } = pipeline;
  const limit = limitMs === undefined ? {} : { limitMs };
  return createHostRequests({ redis, prefix: settings.prefix, clock, onError: () => {}, ...limit });
}
function start(askHost: HostAsker, pool = 'default'): RunningWorker {
  const worker = startHostRequestWorker(askHost, pipeline.settings, pool);
  workers.push(worker);
  return worker;
}
/** What a worker leaves that has just died: it is believed to be there for a while. */
const startAndStop = (pool?: string): Promise<void> => start(answering, pool).stop(0);
/** A worker whose hosts do not answer before the test says so. */
function startHolding() {
  const held: { target: string; signal: AbortSignal; answer: (state: HostState) => void }[] = [];
  const worker = start((_question, id, signal) => {
    const { promise, resolve, reject } = Promise.withResolvers<HostState>();
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    held.push({ target: id, signal, answer: resolve });
    return promise;
  });
  return { worker, held, begun: (count: number) => vi.waitUntil(() => held.length === count, { timeout: 10_000 }) };
}
const refusal = (asked: Promise<unknown>): Promise<CertlineError> =>
  asked.then(() => expect.fail('there was an answer'), asCertlineError);
/** What is left of requests in Redis, jobs apart that BullMQ keeps of its own. */
async function left(pool = 'default'): Promise<string[]> {
  const jobs = await pipeline.queue(pool === 'default' ? 'host-requests' : `host-requests-${pool}`).getJobs();
  const keys = await pipeline.redis.keys(`${pipeline.settings.prefix}:request:*`);
  return [...jobs.map(({ name }) => `job ${name}`), ...keys];
}
const nothingIsLeft = (pool?: string) => vi.waitUntil(async () => (await left(pool)).length === 0, { timeout: 10_000 });

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  pipeline = openPipeline(server);
  requests = open();
  workers = [];
  target = await pipeline.putTarget('tgt_1', 'default');
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.stop(0)));
  await requests.close();
  await pipeline.close();
});

describe('a host that another process opens', () => {
  it('is read and tested, and nothing of that stays in Redis', async () => {
    const asked: string[] = [];
    start((question, id, signal) => {
      asked.push(`${question.question} ${id}`);
      return answering(question, id, signal);
    });
    expect(await requests.read(target, forever)).toEqual(state);
    expect(await requests.test(target, forever)).toEqual(steps);
    expect(asked).toEqual(['read tgt_1', 'test tgt_1']);
    await nothingIsLeft();
  });

  it('is looked at for drift, and what a worker answers that does not know the question is no report', async () => {
    const report = { ...finding('tgt_1', [difference('a')]), since: 5 };
    const worker = start(async ({ question }) => (question === 'drift' ? report : state));
    expect(await requests.drift(target, forever)).toEqual(report);
    await worker.stop(1_000);
    start(async () => state);
    expect(await refusal(requests.drift(target, forever))).toMatchObject({
      code: 'target_unreachable',
      message: 'a worker of pool default is of an older version',
    });
  });

  it('may have very many sites', async () => {
    const binding = { protocol: 'https', sslFlags: 1, thumbprint: 'A'.repeat(40), store: 'My' };
    const sites = Array.from({ length: 4_000 }, (_, id) => ({
      ...{ id, name: `site ${id}`, state: 'Started' as const, ftp: null },
      bindings: Array.from({ length: 5 }, (__, n) => ({
        ...binding,
        bindingInformation: `*:443:w${n}.s${id}.example.com`,
      })),
    }));
    start(async () => ({ ...state, sites }));
    const read = await requests.read(target, forever);
    expect(read.sites.length).toBe(4_000);
    expect(read.sites.at(-1)).toEqual(sites.at(-1));
  });

  it('is asked by a worker of its pool, and by no other', async () => {
    const moved = await pipeline.putTarget('tgt_2', 'dmz');
    await requests.close();
    requests = open(1_000);
    await startAndStop('default');
    const asked: string[] = [];
    start(async (_question, id) => {
      asked.push(id);
      return state;
    }, 'dmz');
    const elsewhere = refusal(requests.read(target, forever));
    expect(await requests.read(moved, forever)).toEqual(state);
    expect(await elsewhere).toMatchObject({ code: 'target_unreachable' });
    expect(asked).toEqual(['tgt_2']);
  });

  it('is read while as many deployments run as the worker takes at a time', async () => {
    let running = 0;
    pipeline.startTargets(async (_target, _orders, { signal }) => {
      running += 1;
      await clock.sleep(60_000, signal);
      return [];
    });
    start(answering);
    const toIssued = (order: PendingOrder) => issued(validated(order, acmeOrder, Date.now()), 'crt_1', Date.now());
    for (let n = 1; n <= stages.deployment.concurrency + 1; n += 1)
      await pipeline.enqueue({ deploy: { mode: 'site', target: `tgt_${n}`, site: 1 } }, toIssued);
    await vi.waitUntil(() => running === stages.deployment.concurrency, { timeout: 10_000 });
    expect(await requests.read(target, forever)).toEqual(state);
  });

  it('tells its error as it was', async () => {
    const plan = { kind: 'retryable', attempts: 3, notBefore: 5 } as const;
    const evidence = { pinned: 'SHA256:a', seen: 'SHA256:b' };
    start(async () => {
      throw new CertlineError('host_key_changed', 'web01 shows another key', { plan, evidence });
    });
    const error = await refusal(requests.read(target, forever));
    expect(error).toBeInstanceOf(CertlineError);
    expect(error).toMatchObject({ code: 'host_key_changed', message: 'web01 shows another key', plan, evidence });
    await nothingIsLeft();
  });

  it('is unexpectedly broken where the worker is', async () => {
    start(async () => {
      throw new TypeError('x is not a function');
    });
    expect(await refusal(requests.test(target, forever))).toMatchObject({ code: 'unexpected' });
  });
});

describe('a request to a host', () => {
  it('is refused at once while the pool has no worker, and leaves nothing for one that comes later', async () => {
    const asked: string[] = [];
    const askHost: HostAsker = async (_question, id) => {
      asked.push(id);
      return state;
    };
    // It serves another pool, and has been doing so.
    start(askHost);
    const lonely = await pipeline.putTarget('tgt_2', 'dmz');
    const error = await refusal(requests.read(lonely, forever));
    expect(error).toMatchObject({ code: 'pool_unserved', message: expect.stringContaining('pool dmz') });
    expect(await left('dmz')).toEqual([]);
    start(askHost, 'dmz');
    expect(await requests.read(lonely, forever)).toEqual(state);
    expect(asked).toEqual(['tgt_2']);
  });

  it('is given up when no worker of the pool is there any more, and not carried out later', async () => {
    await requests.close();
    requests = open(400);
    await startAndStop('dmz');
    const lonely = await pipeline.putTarget('tgt_2', 'dmz');
    const error = await refusal(requests.read(lonely, forever));
    expect(error).toMatchObject({
      code: 'target_unreachable',
      message: 'no deployment worker of pool dmz answers',
    });
    expect(await left('dmz')).toEqual([]);
  });

  it('is not carried out when it has become too old, though its asker died', async () => {
    const asked: string[] = [];
    // What an asker leaves that was killed: a job, and a request whose life is over.
    const queue = pipeline.queue('host-requests');
    await queue.add('read', { id: 'old', target: 'tgt_old' }, { jobId: 'old', removeOnComplete: true });
    start(async (_question, id) => {
      asked.push(id);
      return state;
    });
    expect(await requests.read(target, forever)).toEqual(state);
    await nothingIsLeft();
    expect(asked).toEqual(['tgt_1']);
  });

  it('names the host when a worker has it and the host does not answer', async () => {
    await requests.close();
    requests = open(700);
    const { held, begun } = startHolding();
    const asked = refusal(requests.read(target, forever));
    await begun(1);
    expect(await asked).toMatchObject({ code: 'target_timeout', message: 'tgt_1 did not answer in 0.7 s' });
    await vi.waitUntil(() => held[0]?.signal.aborted, { timeout: 10_000 });
    await nothingIsLeft();
  });

  it('is dropped when its asker goes away before a worker takes it', async () => {
    await startAndStop();
    const asker = new AbortController();
    const asked = requests.read(target, asker.signal);
    await vi.waitUntil(async () => (await left()).length === 2);
    const gone = new Error('the client has gone');
    asker.abort(gone);
    await expect(asked).rejects.toThrow();
    await nothingIsLeft();
    const seen: string[] = [];
    start(async ({ question }) => {
      seen.push(question);
      return question === 'read' ? state : steps;
    });
    await requests.test(target, forever);
    expect(seen).toEqual(['test']);
  });

  it('is broken off at the worker when its asker goes away meanwhile', async () => {
    const { held, begun } = startHolding();
    const asker = new AbortController();
    const asked = requests.read(target, asker.signal);
    await begun(1);
    asker.abort();
    await expect(asked).rejects.toThrow();
    await vi.waitUntil(() => held[0]?.signal.aborted, { timeout: 10_000 });
    await nothingIsLeft();
  });

  it('is not made by an asker that has gone already', async () => {
    await expect(requests.read(target, AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
    expect(await left()).toEqual([]);
  });

  it('is answered by another worker when the first one is stopped', async () => {
    const { worker, begun } = startHolding();
    const asked = requests.read(target, forever);
    await begun(1);
    await worker.stop(0);
    start(answering);
    expect(await asked).toEqual(state);
  });
});
