import { randomBytes } from 'node:crypto';
import { expect } from 'vitest';
import { generateAccountKey } from '#libs/acme/jws';
import type { Solver } from '#libs/challenges/solver';
import { errorCodes } from '#libs/error-codes';
import { asCertlineError, type CertlineError } from '#libs/errors';
import type { Account } from '#libs/model/account';
import { caLimitChangesSchema, caLimitTable } from '#libs/model/ca-limits';
import { isFinal, type Order, type OrderRequest, type PresentedHttp, stageOf } from '#libs/model/order';
import type { Leaves, StageHandler, Takes } from '#libs/queues/handler';
import { createOrderRunner, type OrderRunner } from '#libs/queues/order-runner';
import type { OutcomeKind } from '#libs/queues/outcome';
import { type AccountSessions, accountKeyName, createAccountSessions } from '#libs/service/account-sessions';
import { type CaBudget, createCaBudget } from '#libs/store/ca-budget';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import { createIssueHandler } from '../../services/issuance-worker/issue.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { createBudgetGuard } from '../../services/validation-worker/budget-guard.ts';
import { createReplacementFinder } from '../../services/validation-worker/replacement.ts';
import { createValidateHandler } from '../../services/validation-worker/validate.ts';
import { type FakeClock, fakeClock } from './fake-clock.ts';
import { type IssuingCa, startIssuingCa } from './issuing-ca.ts';
import { startOrderView } from './order-view.ts';
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
  addAccount(account: Account): Promise<void>;
  /** On the driver's clock. */
  budget: CaBudget;
  place(request?: Partial<OrderRequest>): Promise<string>;
  /**
   * Runs the order's stages, each attempt at its time, until the order rests or `attempts` are made. Answers how each attempt ended, as the API
   * shows it: `validation retry ca_unavailable in 5 s`. Whatever else the API shows of an attempt that failed is held against what it met.
   */
  drive(id: string, attempts?: number): Promise<string[]>;
  read(id: string): Promise<Order>;
  /** The order as `GET /v1/orders/:id` shows it. */
  shown(id: string): Promise<Record<string, unknown>>;
  close(): Promise<void>;
}

function spell(ms: number): string {
  if (ms < 120_000) return `${ms / 1000} s`;
  return ms < 86_400_000 ? `${ms / 60_000} min` : `${ms / 3_600_000} h`;
}

/** What the API has to show of an order after an attempt that met `error`. */
function expectedOf(before: Order, stage: 'validation' | 'issuance', kind: OutcomeKind, error: CertlineError): object {
  const { plan, code, message: detail, evidence } = error;
  const used = kind === 'retry' || kind === 'failed' || (plan.kind === 'restart' && !plan.free) ? 1 : 0;
  const rests = kind === 'parked' || kind === 'failed';
  return {
    status: kind === 'failed' ? 'failed' : kind === 'restart' ? 'pending' : before.status,
    stage: kind === 'restart' ? 'validation' : stage,
    epoch: before.epoch + (kind === 'restart' ? 1 : 0),
    attempts: { ...before.attempts, [stage]: before.attempts[stage] + used },
    error: {
      ...{ code, detail, stage, advice: errorCodes[code].advice },
      ...(evidence === undefined ? {} : { evidence: JSON.parse(JSON.stringify(evidence)) }),
    },
    nextAttemptAt: rests ? null : expect.any(String),
    parkedOn: kind === 'parked' ? before.request.account : null,
  };
}

/** @param limits of the CA; without, it has none */
export async function openOrderDriver(
  server: Redis,
  directory?: string,
  limits: Record<string, string | boolean> = {},
): Promise<OrderDriver> {
  const ca = await startIssuingCa();
  const clock = fakeClock(Date.now());
  const pipeline = openPipeline(server, { clock, retryDelayScale: 1 });
  const { store } = pipeline;
  const box = createSecretBox(parseMasterKeys(`test:${randomBytes(32).toString('base64')}`));
  const privateKeys = createPrivateKeys(store.secrets, box);
  const account: Account = {
    ...{ id: 'acc_1', ca: ca.directory, directory: directory ?? ca.directory, email: 'ops@example.com' },
    ...{ url: `${ca.url('account')}/1`, caBundle: null, allowInternalNames: false, eabKid: null, parked: null },
    createdAt: clock.now(),
  };
  // A CA of a test has no TLS, which those in a configuration need.
  const changes = caLimitChangesSchema.parse(JSON.stringify({ letsencrypt: limits }));
  const caLimits = caLimitTable({ [account.directory]: changes.letsencrypt ?? {} });
  const sessions = createAccountSessions({ ...pipeline.resources, clock }, box, caLimits);
  async function addAccount(one: Account): Promise<void> {
    await store.accounts.create(one);
    await privateKeys.obtain(accountKeyName(one), generateAccountKey);
  }
  await addAccount(account);

  const view = await startOrderView(pipeline.resources, clock);
  const solver: Solver<PresentedHttp<'responder'>> = {
    prepare: async ({ name, token, keyAuthorization, expires }) => ({
      ...{ type: 'http-01', via: 'responder', name, token, keyAuthorization, expires },
    }),
    present: async () => {},
    check: async () => {},
  };
  const budget = createCaBudget(pipeline.redis, store.keys, async () => clock.now());
  const deps = { openSession: sessions.open, privateKeys, certificates: store.certificates };
  const validation = createValidateHandler({
    openSession: sessions.open,
    requireCaa: async () => {},
    budget: createBudgetGuard({
      store: { ...store, caBudget: budget },
      limits: caLimits,
    }),
    replacementOf: createReplacementFinder({ certificates: store.certificates, limits: caLimits }),
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
      const before = run.order;
      const kind = (await runner.fail(run, thrown))?.kind;
      const error = asCertlineError(thrown);
      if (kind === undefined) return `stale ${error.code}`;
      const shown = await view.read(id);
      expect(shown).toMatchObject(expectedOf(before, run.stage, kind, error));
      const at = typeof shown.nextAttemptAt === 'string' ? Date.parse(shown.nextAttemptAt) : null;
      return `${kind} ${error.code}${at === null ? '' : ` in ${spell(at - clock.now())}`}`;
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
    addAccount,
    budget,
    read: pipeline.read,
    shown: view.read,
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
      await view.close();
      await sessions.close();
      await ca.close();
      await pipeline.close();
    },
  };
}
