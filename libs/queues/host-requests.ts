import { z } from 'zod';
import { CertlineError } from '../errors.ts';
import type { HostState, WebConfig } from '../iis/iis-host.ts';
import { type DriftReport, driftReportSchema } from '../model/drift.ts';
import type { Target } from '../model/target.ts';
import type { TestStep } from '../targets/certificate-target.ts';
import { createRequests, type RequestsOptions, startRequestWorker } from './requests.ts';
import { hostRequestQueue } from './stages.ts';
import type { RunningWorker, WorkerConnection } from './worker.ts';

/** The answers to http-01 that a listener of a host is to give for an order. */
export const listenerSchema = z.object({
  order: z.string(),
  port: z.number().int(),
  /** Key authorizations by token. */
  answers: z.record(z.string(), z.string()),
});
export type ChallengeListener = z.infer<typeof listenerSchema>;

/** The web.config beside a challenge file: IIS serves no file without an extension unless one says so; which works depends on the site. */
export const webConfigs = [
  'none',
  'mime',
  'mime-handlers',
  'any',
  'any-handlers',
  'full',
] as const satisfies WebConfig[];

/** A file with the answer to http-01 in the folder of a site. */
export const challengeFileSchema = z.object({
  site: z.number().int(),
  token: z.string(),
  keyAuthorization: z.string(),
  webConfig: z.enum(webConfigs),
});
export type ChallengeFile = z.infer<typeof challengeFileSchema>;

/** What a host is asked, with what is needed for it besides the target. */
const askedSchema = z.discriminatedUnion('question', [
  z.object({ question: z.enum(['read', 'test', 'drift']) }),
  z.object({ question: z.literal('listen'), listener: listenerSchema }),
  z.object({ question: z.literal('write-challenge'), file: challengeFileSchema }),
  z.object({ question: z.literal('remove-challenge'), file: challengeFileSchema.pick({ site: true, token: true }) }),
]);
export type HostAsked = z.infer<typeof askedSchema>;

/** Hosts that this process does not open itself: a deployment worker of their pool does it for it. */
export interface HostRequests {
  /**
   * The host as `IisHost.read` has it. Throws what that throws; `pool_unserved` at once when the pool has no worker, `target_unreachable`
   * when none takes the request.
   */
  read(target: Target, signal: AbortSignal): Promise<HostState>;
  /** What works, as the test of the target has it. Throws as `read` does. */
  test(target: Target, signal: AbortSignal): Promise<TestStep[]>;
  /** Whether the target is as it should be now: the report is kept, too. Throws as `read` does, and `deployment_under_way`. */
  drift(target: Target, signal: AbortSignal): Promise<DriftReport>;
  /**
   * Has the host answer challenges by a listener until the order drops them (`keys.challengeListener` is gone); answers when it listens, or
   * when it did already. Throws as `read` does, and when the port cannot be listened on.
   */
  listen(target: Target, listener: ChallengeListener, signal: AbortSignal): Promise<void>;
  /** Writes the file; doing it again changes nothing. Throws as `read` does. */
  writeChallenge(target: Target, file: ChallengeFile, signal: AbortSignal): Promise<void>;
  /** Takes file, web.config and folders away, unless somebody else's; fine when nothing is there. Throws as `read` does. */
  removeChallenge(target: Target, file: Pick<ChallengeFile, 'site' | 'token'>, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export interface HostRequestsOptions extends RequestsOptions {
  /** How long an answer is waited for, ms. */
  limitMs?: number;
}

const standardLimitMs = 30_000;
const concurrency = 10;

/** Asks deployment workers, through Redis. */
export function createHostRequests(options: HostRequestsOptions): HostRequests {
  const { limitMs = standardLimitMs } = options;
  const requests = createRequests(options);

  function ask({ question, ...more }: HostAsked, target: Target, signal: AbortSignal): Promise<unknown> {
    const { id, name, pool } = target;
    const failures = {
      unserved: () => new CertlineError('pool_unserved', `no deployment worker serves pool ${pool} (DEPLOYMENT_POOLS)`),
      untaken: () => new CertlineError('target_unreachable', `no deployment worker of pool ${pool} answers`),
      unanswered: () => new CertlineError('target_timeout', `${name} did not answer in ${limitMs / 1000} s`),
    };
    const about = { target: id, ...more };
    return requests.ask({ queue: hostRequestQueue(pool), question, about, limitMs, failures }, signal);
  }

  return {
    // What a worker's host gave was checked there.
    read: async (target, signal) => (await ask({ question: 'read' }, target, signal)) as HostState,
    test: async (target, signal) => (await ask({ question: 'test' }, target, signal)) as TestStep[],
    async drift(target, signal) {
      const report = driftReportSchema.safeParse(await ask({ question: 'drift' }, target, signal));
      if (report.success) return report.data;
      throw new CertlineError('target_unreachable', `a worker of pool ${target.pool} is of an older version`);
    },
    async listen(target, listener, signal) {
      await ask({ question: 'listen', listener }, target, signal);
    },
    async writeChallenge(target, file, signal) {
      await ask({ question: 'write-challenge', file }, target, signal);
    },
    async removeChallenge(target, file, signal) {
      await ask({ question: 'remove-challenge', file }, target, signal);
    },
    close: requests.close,
  };
}

/** Asks the host of a target. */
export type HostAsker = (asked: HostAsked, target: string, signal: AbortSignal) => Promise<unknown>;

const aboutSchema = z.looseObject({ target: z.string() });

/** Answers the requests to the hosts of a pool. */
export function startHostRequestWorker(askHost: HostAsker, settings: WorkerConnection, pool: string): RunningWorker {
  return startRequestWorker(
    {
      ...{ queue: hostRequestQueue(pool), concurrency },
      answer(question, about, signal) {
        const { target, ...more } = aboutSchema.parse(about);
        const asked = askedSchema.safeParse({ question, ...more });
        if (asked.success) return askHost(asked.data, target, signal);
        throw new CertlineError(
          'target_unreachable',
          `the worker is of another version, and does not know ${question}`,
        );
      },
    },
    settings,
  );
}
