import { pollInPlace } from '#libs/acme/polling';
import { authorizationError } from '#libs/acme/problems';
import type { AcmeOrder, AcmeSession, Authorization } from '#libs/acme/session';
import type { Solver } from '#libs/challenges/solver';
import { CertlineError } from '#libs/errors';
import type { PendingOrder, PresentedChallenge } from '#libs/model/order';
import { validated } from '#libs/model/transitions';
import type { StageContext, StageHandler } from '#libs/queues/handler';

export interface ValidateDeps {
  /** Opens a session of the order's account; throws when the account is parked. */
  openSession(account: string): Promise<AcmeSession>;
  solvers: Record<PendingOrder['request']['challenge']['type'], Solver>;
}

type Context = StageContext<PendingOrder>;

/** Requests about authorizations of one order that are under way together. */
const together = 4;
const week = 7 * 86_400_000;

async function eachOf<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let i = 0; i < items.length; i += together)
    results.push(...(await Promise.all(items.slice(i, i + together).map(work))));
  return results;
}

/** Opens the ACME order, or takes up the one that is open: its URL is saved before anything else is done with it. */
async function openAcmeOrder(
  order: PendingOrder,
  session: AcmeSession,
  context: Context,
): Promise<{ order: PendingOrder; acmeOrder: AcmeOrder }> {
  if (order.acmeOrder) return { order, acmeOrder: await session.order(order.acmeOrder.url, context.signal) };
  const { names, profile } = order.request;
  const { url, order: acmeOrder } = await session.newOrder(
    { names, ...(profile === null ? {} : { profile }) },
    context.signal,
  );
  const { finalize, expires } = acmeOrder;
  const saved = await context.checkpoint({ acmeOrder: { url, finalize, expires } }, 'ACME order opened');
  return { order: saved, acmeOrder };
}

function challengeOf(
  order: PendingOrder,
  authorization: Authorization,
  session: AcmeSession,
  now: number,
): { presented: PresentedChallenge; url: string; status: string } {
  const { type } = order.request.challenge;
  const { name } = authorization;
  const challenge = authorization.challenges.find((offered) => offered.type === type);
  if (!challenge?.token) {
    const offered = authorization.challenges.map((one) => one.type).join(', ');
    throw new CertlineError(
      'challenge_unsupported',
      `the CA offers ${offered || 'no challenge'} for ${name}, not ${type}`,
    );
  }
  const { token, url, status } = challenge;
  const expires = authorization.expires ?? now + week;
  const keyAuthorization = session.keyAuthorization(token);
  return { presented: { type, name, token, keyAuthorization, expires }, url, status };
}

/** Why the CA does not believe, with the identifiers marked. */
async function throwInvalid(
  authorizations: readonly Authorization[],
  order: PendingOrder,
  context: Context,
): Promise<never> {
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

async function prove(
  order: PendingOrder,
  acmeOrder: AcmeOrder,
  session: AcmeSession,
  { solvers }: ValidateDeps,
  context: Context,
): Promise<void> {
  const { signal, clock } = context;
  const authorizations = await eachOf(acmeOrder.authorizations, (url) => session.authorization(url, signal));
  if (authorizations.some(({ status }) => status !== 'valid' && status !== 'pending'))
    await throwInvalid(authorizations, order, context);
  const open = authorizations
    .filter(({ status }) => status === 'pending')
    .map((one) => challengeOf(order, one, session, clock.now()));
  if (open.length === 0) return;
  const presented = open.map((one) => one.presented);
  await context.checkpoint({ presented }, `${open.length} ${open.length === 1 ? 'challenge' : 'challenges'} presented`);
  // A challenge the CA is already looking at must not be sent again.
  const unanswered = open.filter(({ status }) => status === 'pending');
  await eachOf(unanswered, (one) => solvers[one.presented.type].check(one.presented, signal));
  await eachOf(unanswered, async ({ url }) => {
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
      const { order, acmeOrder: first } = await openAcmeOrder(taken, session, context);
      const ref = order.acmeOrder;
      if (!ref) throw new CertlineError('unexpected', 'an open ACME order has no URL');
      let acmeOrder = first;
      if (acmeOrder.status === 'pending') {
        await prove(order, acmeOrder, session, deps, context);
        acmeOrder = await pollInPlace({
          read: () => session.order(ref.url, context.signal),
          busy: ({ status }) => status === 'pending',
          code: 'validation_pending',
          context,
        });
      }
      if (acmeOrder.status === 'invalid') {
        const authorizations = await eachOf(acmeOrder.authorizations, (url) =>
          session.authorization(url, context.signal),
        );
        await throwInvalid(authorizations, order, context);
      }
      return validated(context.current(), ref, context.clock.now());
    },
  };
}
