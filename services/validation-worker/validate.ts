import { isDeepStrictEqual } from 'node:util';
import { pollInPlace } from '#libs/acme/polling';
import { authorizationError } from '#libs/acme/problems';
import type { AcmeOrder, Authorization } from '#libs/acme/session';
import { waitingTogether } from '#libs/challenges/record-awaited';
import type { OpenChallenge, Solver } from '#libs/challenges/solver';
import { CertlineError } from '#libs/errors';
import { type ChallengeMethod, methodFor } from '#libs/model/challenge-method';
import type { PendingOrder, PresentedChallenge } from '#libs/model/order';
import { validated } from '#libs/model/transitions';
import type { StageContext, StageHandler } from '#libs/queues/handler';
import type { AccountSession } from '#libs/service/account-sessions';
import { sideBySide } from '#libs/side-by-side';
import type { BudgetGuard } from './budget-guard.ts';
import type { CaaGuard } from './caa-guard.ts';
import { type OpenAcmeOrderDeps, openAcmeOrder } from './open-acme-order.ts';

export interface ValidateDeps {
  /** Opens a session of the order's account; throws when the account is parked. */
  openSession(account: string): Promise<AccountSession>;
  /** Throws when the names' CAA records keep the CA from issuing. */
  requireCaa: CaaGuard;
  /** What the CA allows. */
  budget: Pick<BudgetGuard, 'failed'> & OpenAcmeOrderDeps['budget'];
  /** What the order replaces. */
  replacementOf: OpenAcmeOrderDeps['replacementOf'];
  /** What meets the challenges of a method. */
  solverOf(method: ChallengeMethod, order: string): Promise<Solver>;
  /** Told after each try to write an answer: the order may have dropped it meanwhile. */
  written(order: string, presented: PresentedChallenge): Promise<void>;
}

type Context = StageContext<PendingOrder>;

/** What one attempt works with. */
interface Attempt {
  session: AccountSession;
  /** Before anything is asked of the CA that counts, once in an attempt. */
  requireCaa(): Promise<void>;
  context: Context;
}

/** Requests about authorizations of one order that are under way together. */
const together = 4;
const week = 7 * 86_400_000;

/** As `sideBySide`, but all come to their end: nothing is written behind the back of an error. Those that wait for time alone are thrown last, as one. */
async function allOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const ends = await sideBySide(items, together, (item) =>
    work(item).then(
      () => null,
      (thrown: unknown) => ({ thrown }),
    ),
  );
  const errors = ends.filter((end) => end !== null).map(({ thrown }) => thrown);
  const waits = (error: unknown): error is CertlineError =>
    error instanceof CertlineError && error.plan.kind === 'wait';
  const [first, ...others] = errors.filter(waits);
  if (errors.length > 0) throw errors.find((error) => !waits(error)) ?? (first && waitingTogether([first, ...others]));
}

/** A challenge that is to be met, by what meets it. */
interface Open {
  presented: PresentedChallenge;
  solver: Solver;
  url: string;
  status: string;
}

/** Where the answer is to be now: a CNAME may be mended while the order waits. */
async function prepared(
  solver: Solver,
  challenge: OpenChallenge,
  earlier: PresentedChallenge | undefined,
  signal: AbortSignal,
): Promise<PresentedChallenge> {
  const found = await solver.prepare(challenge, signal);
  if (!earlier || earlier.type === 'http-01' || found.type === 'http-01') return found;
  return { ...found, since: earlier.record === found.record ? earlier.since : found.since };
}

/** The challenge of an authorization, prepared; one that the CA is looking at as it was by the run that sent it. */
async function openChallenge(
  order: PendingOrder,
  authorization: Authorization,
  session: AccountSession,
  { solverOf }: ValidateDeps,
  { clock, signal }: Context,
): Promise<Open> {
  const { name } = authorization;
  const method = methodFor(order.request, name);
  if (method === null) throw new CertlineError('challenge_unmatched', `no challenge is named for ${name}`);
  const { type } = method;
  const challenge = authorization.challenges.find((offered) => offered.type === type);
  // One without a token is none, but of the kind that has none.
  if (!challenge || (challenge.token === null && type !== 'dns-persist-01')) {
    const offered = authorization.challenges.map((one) => one.type).join(', ');
    throw new CertlineError(
      'challenge_unsupported',
      `the CA offers ${offered || 'no challenge'} for ${name}, not ${type}`,
    );
  }
  const { url, status, token } = challenge;
  const solver = await solverOf(method, order.id);
  const earlier = order.presented.find((one) => one.name === name && one.type === type);
  const asked: OpenChallenge = {
    ...{ name, token: token ?? '', keyAuthorization: token === null ? '' : session.keyAuthorization(token) },
    accountUrl: session.accountUrl ?? '',
    issuerDomains: challenge['issuer-domain-names'] ?? [],
    expires: authorization.expires ?? earlier?.expires ?? clock.now() + week,
  };
  const presented = earlier && status !== 'pending' ? earlier : await prepared(solver, asked, earlier, signal);
  return { presented, solver, url, status };
}

/** Why the CA does not believe, with the identifiers marked. */
async function throwInvalid(
  authorizations: readonly Authorization[],
  order: PendingOrder,
  budget: ValidateDeps['budget'],
  { session, context }: Attempt,
): Promise<never> {
  await budget.failed(order.request, session.account, authorizations);
  const statusOf = new Map(authorizations.map(({ name, status }) => [name, status]));
  const identifiers = order.identifiers.map(({ name }) => {
    const status = statusOf.get(name);
    return {
      name,
      status:
        status === 'valid' ? ('valid' as const) : status === 'invalid' ? ('invalid' as const) : ('pending' as const),
    };
  });
  await context.checkpoint({ identifiers });
  const invalid = authorizations.find(({ status }) => status === 'invalid');
  if (invalid) throw authorizationError(invalid, context.clock.now());
  const gone = authorizations.find(({ status }) => status !== 'valid' && status !== 'pending');
  if (gone) throw new CertlineError('validation_expired', `the authorization of ${gone.name} is ${gone.status}`);
  throw new CertlineError('acme_order_invalid', 'the CA gave the ACME order up without saying why');
}

/** Not every CA calls an ACME order invalid whose time is over (RFC 8555 §7.1.3): it would be looked at until the stage ends. */
function requireTime({ expires }: AcmeOrder, now: number): void {
  if (expires === null || now < expires) return;
  throw new CertlineError('validation_expired', `the ACME order has expired, at ${new Date(expires).toISOString()}`);
}

async function prove(order: PendingOrder, acmeOrder: AcmeOrder, deps: ValidateDeps, attempt: Attempt): Promise<void> {
  const { session, requireCaa, context } = attempt;
  const { signal } = context;
  const authorizations = await sideBySide(acmeOrder.authorizations, together, (url) =>
    session.authorization(url, signal),
  );
  if (authorizations.some(({ status }) => status !== 'valid' && status !== 'pending'))
    await throwInvalid(authorizations, order, deps.budget, attempt);
  const pending = authorizations.filter(({ status }) => status === 'pending');
  const open = await sideBySide(pending, together, (one) => openChallenge(order, one, session, deps, context));
  if (open.length === 0) return;
  const presented = open.map((one) => one.presented);
  if (!isDeepStrictEqual(presented, order.presented)) {
    // Before anything is written: whatever dies afterwards, it is known what is to be taken away.
    const what = open.length === 1 ? 'challenge' : 'challenges';
    await context.checkpoint({ presented }, `${open.length} ${what} presented`);
  }
  // A challenge the CA is already looking at must not be sent again.
  const unanswered = open.filter(({ status }) => status === 'pending');
  await allOf(unanswered, async (one) => {
    try {
      await one.solver.present(one.presented, signal);
    } finally {
      await deps.written(order.id, one.presented);
    }
  });
  await allOf(unanswered, (one) => one.solver.check(one.presented, signal));
  if (unanswered.length > 0) await requireCaa();
  await sideBySide(unanswered, together, async ({ url }) => {
    try {
      await session.answerChallenge(url, signal);
    } catch (error) {
      // The CA has looked at it meanwhile (another run answered it): the ACME order tells how it went.
      if (!(error instanceof CertlineError && error.code === 'acme_order_not_ready')) throw error;
    }
  });
}

/** Validation: every name of the order is proved to the CA. */
export function createValidateHandler(deps: ValidateDeps): StageHandler<'validation'> {
  return {
    async run(taken, context) {
      const session = await deps.openSession(taken.request.account);
      let caa: Promise<void> | null = null;
      const requireCaa = (): Promise<void> => {
        caa ??= deps.requireCaa(taken.request, session, context.signal);
        return caa;
      };
      const attempt = { session, requireCaa, context };
      if (!taken.acmeOrder) await requireCaa();
      const { order, acmeOrder: first } = taken.acmeOrder
        ? { order: taken, acmeOrder: await session.order(taken.acmeOrder.url, context.signal) }
        : await openAcmeOrder(taken, deps, session, context);
      const ref = order.acmeOrder;
      if (!ref) throw new CertlineError('unexpected', 'an open ACME order has no URL');
      let acmeOrder = first;
      if (acmeOrder.status === 'pending') {
        requireTime(acmeOrder, context.clock.now());
        await prove(order, acmeOrder, deps, attempt);
        acmeOrder = await pollInPlace({
          read: () => session.order(ref.url, context.signal),
          busy: ({ status }) => status === 'pending',
          code: 'validation_pending',
          context,
        });
      }
      if (acmeOrder.status === 'invalid') {
        const authorizations = await sideBySide(acmeOrder.authorizations, together, (url) =>
          session.authorization(url, context.signal),
        );
        await throwInvalid(authorizations, order, deps.budget, attempt);
      }
      return validated(context.current(), ref, context.clock.now());
    },
  };
}
