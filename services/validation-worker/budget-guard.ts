import type { Authorization } from '#libs/acme/session';
import { CertlineError } from '#libs/errors';
import type { Account } from '#libs/model/account';
import { type CaLimits, type Claim, claimsOf, type OrderLimitName, refusedClaims } from '#libs/model/ca-limits';
import type { OrderRequest, PendingOrder } from '#libs/model/order';
import { stages } from '#libs/queues/stages';
import type { Shortage } from '#libs/store/ca-budget';
import type { Store } from '#libs/store/store';

export interface BudgetGuardDeps {
  store: Pick<Store, 'caBudget'> & {
    certificates: Pick<Store['certificates'], 'hasIssued'>;
  };
  /** By directory URL. */
  limits: ReadonlyMap<string, CaLimits>;
}

/** Keeps orders inside what their CA allows, so that they wait here and are not refused there. */
export interface BudgetGuard {
  /**
   * Takes what a new ACME order of `order` counts for. Throws `ca_budget_spent`, or `ca_rate_limited` while the CA itself has told another order to
   * wait: with a plan of `wait`, or `permanent` when that were longer than the order may.
   */
  take(order: PendingOrder, account: Account, now: number): Promise<void>;
  /** What `take` would throw now; null when nothing. */
  look(request: OrderRequest, account: Account, now: number): Promise<CertlineError | null>;
  /** Counts the certificate of an ACME order, given by its URL, that the CA held for no limit: it counts for others all the same. */
  countExempt(request: OrderRequest, account: Account, url: string): Promise<void>;
  /**
   * Notes that the CA refused a new ACME order: it does not count then. If it did so for a limit, other orders that count for the same need not ask, and it
   * is told of.
   */
  refused(order: PendingOrder, account: Account, error: unknown, now: number): Promise<void>;
  /** Counts the validations that failed. */
  failed(request: OrderRequest, account: Account, authorizations: readonly Authorization[]): Promise<void>;
}

/** Left of the stage after a wait, to prove the names in. */
const reserveMs = 3_600_000;

const limitWords: Record<OrderLimitName, string> = {
  orders_per_account: 'new orders per account',
  certificates_per_domain: 'certificates per registered domain',
  certificates_per_name_set: 'certificates for one set of names',
  failed_validations_per_name: 'failed validations per name and account',
};

/** As `50 in 7 days`. */
function rateWords(text: string): string {
  const [, count, length, unit = ''] = /^(\d+)\/(\d+)(\w)$/.exec(text) ?? [];
  const units: Record<string, string> = { s: 'second', m: 'minute', h: 'hour', d: 'day' };
  return `${count} in ${length} ${units[unit]}${length === '1' ? '' : 's'}`;
}

/** Whether the CA has answered that it does not do it; one that failed itself may have done it all the same. */
function isRefusal({ evidence }: CertlineError): boolean {
  const status = Number(evidence?.status);
  return status >= 400 && status < 500;
}

function shortageError(
  account: Account,
  { claim, waitMs, words }: Shortage,
  now: number,
  latest: number,
): CertlineError {
  const { limit, about, rate } = claim;
  const until = now + waitMs;
  const time = new Date(until).toISOString();
  const what = `${limitWords[limit]}${rate ? `: ${rateWords(rate.text)}` : ''} for ${about} at ${account.ca}`;
  const why = words === null ? `used up (${what})` : `held, for the CA has told another order so: ${words} (${what})`;
  const isLate = until > latest;
  const then = isLate
    ? `This order would have to wait until ${time}, longer than the ${stages.validation.deadline / 86_400_000} days that it may take.`
    : `This order goes on at ${time}.`;
  return new CertlineError(
    words === null ? 'ca_budget_spent' : 'ca_rate_limited',
    `A limit of the CA is ${why}. ${then}`,
    {
      // A turn in line is the order's own; what the CA said, it said for many.
      plan: isLate ? { kind: 'permanent' } : { kind: 'wait', until, ...(words === null ? { exact: true } : {}) },
      evidence: { limit, for: about, ca: account.ca, until },
    },
  );
}

export function createBudgetGuard({ store, limits }: BudgetGuardDeps): BudgetGuard {
  const { caBudget, certificates } = store;

  async function claimsBy(request: OrderRequest, account: Account): Promise<Claim[]> {
    const ofCa = limits.get(account.directory) ?? {};
    const isRenewal = ofCa.renewals_exempt === true && (await certificates.hasIssued(request.names));
    return claimsOf(request, ofCa, isRenewal);
  }

  return {
    async take({ id, epoch, request, stageSince }, account, now) {
      const claims = await claimsBy(request, account);
      const isLimited = claims.some(({ rate }) => rate !== null);
      // Most CAs have no limits that are known, and say nothing.
      if (!isLimited && !(await caBudget.hasHolds(account.directory))) return;
      const latest = stageSince + stages.validation.deadline - reserveMs;
      const asked = { directory: account.directory, claims, order: id, epoch };
      const shortage = await caBudget.take(asked, latest - now);
      if (shortage) throw shortageError(account, shortage, now, latest);
    },

    async look(request, account, now) {
      const claims = await claimsBy(request, account);
      const shortage = await caBudget.look({ directory: account.directory, claims });
      return shortage && shortageError(account, shortage, now, now + stages.validation.deadline - reserveMs);
    },

    async countExempt(request, account, url) {
      const claims = await claimsBy(request, account);
      const ofCertificate = claims.filter(({ limit }) => limit.startsWith('certificates_'));
      await Promise.all(ofCertificate.map((claim) => caBudget.count(account.directory, claim, url)));
    },

    async refused({ id, request }, account, error, now) {
      if (!(error instanceof CertlineError)) return;
      const { message, plan, code, evidence } = error;
      if (isRefusal(error) && limits.has(account.directory)) await caBudget.giveBackOrder(id);
      if (code !== 'ca_rate_limited' || plan.kind !== 'wait') return;
      // Without a time it is one refusal, by a proxy perhaps, and no limit that other orders are held for.
      if (evidence?.retryAfter === undefined) return;
      const claims = await claimsBy(request, account);
      await Promise.all(
        refusedClaims(claims, message).map((claim) =>
          caBudget.hold(account.directory, claim, plan.until - now, message, {
            ...{ id: `${account.id}-${now}`, on: account.id, at: now, type: 'account_limited', code },
            detail: `${limitWords[claim.limit]} for ${claim.about}: held until ${new Date(plan.until).toISOString()}. ${message}`,
          }),
        ),
      );
    },

    async failed(request, account, authorizations) {
      const invalid = authorizations.filter(({ status }) => status === 'invalid');
      if (invalid.length === 0) return;
      const claims = await claimsBy(request, account);
      for (const { identifier, challenges } of invalid) {
        // The challenge that failed is the authorization's own: a CA may give a pending one to several ACME orders.
        const url = challenges.find(({ status }) => status === 'invalid')?.url;
        const claim = claims.find(
          ({ limit, about }) => limit === 'failed_validations_per_name' && about === identifier.value,
        );
        if (claim && url !== undefined) await caBudget.count(account.directory, claim, url);
      }
    },
  };
}
