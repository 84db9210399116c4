import { randomBytes } from 'node:crypto';
import { generateAccountKey } from '#libs/acme/jws';
import type { Solver } from '#libs/challenges/solver';
import { asCertlineError } from '#libs/errors';
import type { Account } from '#libs/model/account';
import { isFinal, type Order, type OrderRequest, stageOf } from '#libs/model/order';
import type { Leaves, StageHandler, Takes } from '#libs/queues/handler';
import { createOrderRunner, type OrderRunner } from '#libs/queues/order-runner';
import { type AccountSessions, accountKeyName, createAccountSessions } from '#libs/service/account-sessions';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import { createIssueHandler } from '../../services/issuance-worker/issue.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { createValidateHandler } from '../../services/validation-worker/validate.ts';
import { type FakeClock, fakeClock } from './fake-clock.ts';
import { type IssuingCa, startIssuingCa } from './issuing-ca.ts';
import { openPipeline, type Pipeline } from './pipeline.ts';

/**
 * Orders driven through validation and issuance by hand: handlers, runner, sessions, store and CA are the real ones, over HTTP and Redis; only
 * the queue is left out, and time passes at once.
 */
export interface OrderDriver {
  ca: IssuingCa;
  clock: FakeClock;
  pipeline: Pipeline;
  sessions: AccountSessions;
  account: Account;
  place(request?: Partial<OrderRequest>): Promise<string>;
  /**
   * Runs the order's stages, each attempt at its time, until the order rests or `attempts` are made. Answers how each attempt ended:
   * `validation retry ca_unavailable in 5 s`.
   */
  drive(id: string, attempts?: number): Promise<string[]>;
  read(id: string): Promise<Order>;
  close(): Promise<void>;
}

function spell(ms: number): string {
  if (ms < 120_000) return `${ms / 1000} s`;
  return ms < 86_400_000 ? `${ms / 60_000} min` : `${ms / 3_600_000} h`;
}

export async function openOrderDriver(server: Redis, directory?: string): Promise<OrderDriver> {
  const ca = await startIssuingCa();
  const clock = fakeClock(Date.now());
  const pipeline = openPipeline(server, { clock, retryDelayScale: 1 });
  const { store } = pipeline;
  const box = createSecretBox(parseMasterKeys(`test:${randomBytes(32).toString('base64')}`));
  const privateKeys = createPrivateKeys(store.secrets, box);
  const sessions = createAccountSessions({ ...pipeline.resources, clock }, box);
  const account: Account = {
    ...{ id: 'acc_1', ca: ca.directory, directory: directory ?? ca.directory, email: 'ops@example.com' },
    ...{ url: `${ca.url('account')}/1`, caBundle: null, allowInternalNames: false, eabKid: null, parked: null },
    createdAt: clock.now(),
  };
  await store.accounts.create(account);
  await privateKeys.obtain(accountKeyName(account), generateAccountKey);

  const solver: Solver<'http-01'> = {
    prepare: async (challenge) => ({ ...challenge, type: 'http-01' }),
    present: async () => {},
    check: async () => {},
  };
  const deps = { openSession: sessions.open, privateKeys, certificates: store.certificates };
  const validation = createValidateHandler({
    openSession: sessions.open,
    solverOf: async () => solver as Solver,
    written: async () => {},
  });
  const issuance = createIssueHandler(deps);
  const runners = {
    validation: createOrderRunner('validation', pipeline.settings),
    issuance: createOrderRunner('issuance', pipeline.settings),
  };

  async function attempt<S extends 'validation' | 'issuance'>(
    id: string,
    runner: OrderRunner<S>,
    handler: StageHandler<S>,
  ): Promise<string> {
    const begun = await runner.begin(id, { crashes: 0 });
    if (begun.kind !== 'run') return begun.kind;
    const { run } = begun;
    const context = {
      ...{ clock, log: run.log, signal: new AbortController().signal, checkpoint: run.checkpoint },
      current: (): Takes<S> => run.order,
    };
    let next: Leaves<S>;
    try {
      next = await handler.run(run.order, context);
    } catch (thrown) {
      const outcome = await runner.fail(run, thrown);
      const at = outcome?.order.nextAttemptAt ?? null;
      const when = at === null ? '' : ` in ${spell(at - clock.now())}`;
      return `${outcome?.kind ?? 'stale'} ${asCertlineError(thrown).code}${when}`;
    }
    await runner.succeed(run, next);
    return 'completed';
  }

  return {
    ca,
    clock,
    pipeline,
    sessions,
    account,
    read: pipeline.read,
    async place(request) {
      const now = clock.now();
      const { id } = await pipeline.place({ keyType: 'ec-p256', deploy: { mode: 'none' }, ...request }, (order) => ({
        ...order,
        ...{ createdAt: now, updatedAt: now, stageSince: now },
      }));
      return id;
    },
    async drive(id, attempts = 60) {
      const ends: string[] = [];
      while (ends.length < attempts) {
        const order = await pipeline.read(id);
        const stage = stageOf(order);
        if (isFinal(order) || order.parkedOn !== null) break;
        clock.advance(Math.max(0, (order.nextAttemptAt ?? 0) - clock.now()));
        const end =
          stage === 'validation'
            ? await attempt(id, runners.validation, validation)
            : await attempt(id, runners.issuance, issuance);
        ends.push(`${stage} ${end}`);
      }
      return ends;
    },
    async close() {
      await sessions.close();
      await ca.close();
      await pipeline.close();
    },
  };
}
