import type { AcmeOrder } from '#libs/acme/session';
import type { CertlineError } from '#libs/errors';
import type { PendingOrder } from '#libs/model/order';
import type { StageContext } from '#libs/queues/handler';
import type { AccountSession } from '#libs/service/account-sessions';
import type { BudgetGuard } from './budget-guard.ts';
import type { FindReplacement, Replacement } from './replacement.ts';

export interface OpenAcmeOrderDeps {
  /** What the CA allows. */
  budget: Pick<BudgetGuard, 'take' | 'countExempt' | 'refused'>;
  /** What the order replaces. */
  replacementOf: FindReplacement;
}

/** An ACME order that was opened now. */
interface Opened {
  url: string;
  order: AcmeOrder;
  /** Whether the CA took it for a replacement that it holds for no limit. */
  isExempt: boolean;
  /** For the order's history. */
  words: string;
}

/** Asks for an ACME order within what the CA allows. A replacement that the CA does not take for one is an order as any other. */
async function ask(
  order: PendingOrder,
  replacement: Replacement | null,
  { budget }: OpenAcmeOrderDeps,
  session: AccountSession,
  { clock, signal }: StageContext<PendingOrder>,
): Promise<Opened> {
  const { names, profile, replaces } = order.request;
  const take = (): Promise<void> => budget.take(order, session.account, clock.now());
  let isExempt = replacement?.isExempt ?? false;
  let words = `ACME order opened${replacement ? ` to replace ${replaces}` : ''}`;
  const onPlain = async ({ message }: CertlineError): Promise<void> => {
    isExempt = false;
    words = `ACME order opened, not to replace ${replaces}: ${message}`;
    await take();
  };
  if (!isExempt) await take();
  const asProfile = profile === null ? {} : { profile };
  const asReplacement = replacement === null ? {} : { replaces: replacement.id, onPlain };
  try {
    const opened = await session.newOrder({ names, ...asProfile, ...asReplacement }, signal);
    return { ...opened, isExempt, words };
  } catch (thrown) {
    await budget.refused(order, session.account, thrown, clock.now());
    throw thrown;
  }
}

/** Opens the ACME order of an order that has none: its URL is saved before anything else is done with it. */
export async function openAcmeOrder(
  order: PendingOrder,
  deps: OpenAcmeOrderDeps,
  session: AccountSession,
  context: StageContext<PendingOrder>,
): Promise<{ order: PendingOrder; acmeOrder: AcmeOrder }> {
  const { clock, signal } = context;
  const replacement = await deps.replacementOf(order.request, session, clock.now(), signal);
  const { url, order: acmeOrder, isExempt, words } = await ask(order, replacement, deps, session, context);
  const { finalize, expires } = acmeOrder;
  const saved = await context.checkpoint({ acmeOrder: { url, finalize, expires } }, words);
  if (isExempt) await deps.budget.countExempt(order.request, session.account, url);
  return { order: saved, acmeOrder };
}
