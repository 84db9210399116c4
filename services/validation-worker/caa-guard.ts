import type { CaaVerdict } from '#libs/dns/caa';
import type { CaaChecks } from '#libs/dns/caa-checks';
import type { CaaSet } from '#libs/dns/caa-lookup';
import { CertlineError } from '#libs/errors';
import type { Account } from '#libs/model/account';
import { methodFor } from '#libs/model/challenge-method';
import type { OrderRequest } from '#libs/model/order';
import type { AccountSession } from '#libs/service/account-sessions';
import { sideBySide } from '#libs/side-by-side';

export interface CaaGuardDeps {
  caa: CaaChecks;
}

/** Throws when CAA lets the CA not issue for a name of an order: `caa_forbids` with all such names, or what a look-up throws. */
export type CaaGuard = (request: OrderRequest, session: AccountSession, signal: AbortSignal) => Promise<void>;

/** Attempts, over about three minutes, after which the order fails: what was just mended may not be seen everywhere, the rest is for a person. */
const attempts = 6;
/** Names looked at together. */
const together = 4;
/** Of the forbidden names, those that are told in words; all are in the evidence. */
const mostTold = 5;

/** What CAA says of a name, for a person. */
export function caaWords(name: string, { reason, at }: CaaVerdict & CaaSet): string {
  const bare = name.replace(/^\*\./, '');
  return at === null || at === bare ? reason : `${reason} (found at ${at})`;
}

/** Whether CAA counts: a CA that validates internal names is a private one, and what it asks is for its owners to know. */
export const heedsCaa = ({ allowInternalNames }: Account): boolean => !allowInternalNames;

/** A failed look-up, with what that means here. */
export function caaFailure(error: CertlineError): CertlineError {
  const { code, message, plan, evidence } = error;
  if (code !== 'dns_lookup_failed') return error;
  const advice = 'A CA that gets no answer for CAA does not issue; CAA_CHECK=false leaves that to the CA.';
  const options = { plan, ...(evidence ? { evidence } : {}), cause: error };
  return new CertlineError(code, `${message} ${advice}`, options);
}

interface Forbidden {
  name: string;
  words: string;
  /** Where the records are. */
  at: string | null;
}

function forbids(names: readonly Forbidden[]): CertlineError {
  const told = names.slice(0, mostTold).map(({ name, words }) => `${name}: ${words}`);
  const others = names.length - told.length;
  if (others > 0) told.push(`${others} more`);
  const evidence = Object.fromEntries(names.map(({ name, words, at }) => [name, { at, reason: words }]));
  return new CertlineError('caa_forbids', `CAA forbids it. ${told.join('; ')}`, {
    plan: { kind: 'retryable', attempts },
    evidence,
  });
}

export function createCaaGuard({ caa }: CaaGuardDeps): CaaGuard {
  return async (request, session, signal) => {
    const { names } = request;
    if (!heedsCaa(session.account)) return;
    const { caaIdentities: issuerDomains } = (await session.directory(signal)).meta;
    const { accountUrl: accountUri } = session;
    const view = caa.view(names, signal);
    const failures: CertlineError[] = [];
    const looks = await sideBySide(names, together, async (name): Promise<Forbidden[]> => {
      // One that cannot be looked up is enough: a resolver that is down would keep all of them waiting.
      if (failures.length > 0) return [];
      try {
        const method = methodFor(request, name)?.type ?? null;
        const verdict = await view.check(name, { issuerDomains, accountUri, method });
        return verdict.allowed ? [] : [{ name, words: caaWords(name, verdict), at: verdict.at }];
      } catch (thrown) {
        if (!(thrown instanceof CertlineError)) throw thrown;
        failures.push(caaFailure(thrown));
        return [];
      }
    });
    const forbidden = looks.flat();
    const [failure] = failures;
    if (forbidden.length > 0) throw forbids(forbidden);
    if (failure) throw failure;
  };
}
