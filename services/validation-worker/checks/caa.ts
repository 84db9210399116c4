import type { AcmeSession } from '#libs/acme/session';
import type { CaaChecks } from '#libs/dns/caa-checks';
import { CertlineError } from '#libs/errors';
import type { Account } from '#libs/model/account';
import { methodFor } from '#libs/model/challenge-method';
import type { OrderRequest } from '#libs/model/order';
import { caaFailure, caaWords, heedsCaa } from '../caa-guard.ts';
import type { Looks } from './finding.ts';

export interface CaaLookDeps {
  /** Null where nobody looks (CAA_CHECK). */
  caa: CaaChecks | null;
  openSession(account: string): Promise<AcmeSession>;
}

/** What of the CA the answer depends on; its directory is asked for once. */
async function askerOf(session: Promise<AcmeSession>, signal: AbortSignal) {
  const { accountUrl: accountUri, directory } = await session;
  const { caaIdentities: issuerDomains } = (await directory(signal)).meta;
  return { accountUri, issuerDomains };
}

/** Looks whether CAA lets the CA issue for names of a request. */
export function createCaaLook(
  { caa, openSession }: CaaLookDeps,
  { request, account, looks }: { request: OrderRequest; account: Account | null; looks: Looks },
): (name: string) => Promise<boolean> {
  if (caa === null || (account && !heedsCaa(account))) {
    const why = caa === null ? 'CAA_CHECK is false' : 'the CA is a private one (allowInternalNames of the account)';
    return (name) => looks.look(name, 'caa', () => `not looked at: ${why}`);
  }
  const asker = askerOf(openSession(request.account), looks.signal);
  // It is awaited by the looks, if at all.
  asker.catch(() => {});
  const view = caa.view(request.names, looks.signal);
  return (name) =>
    looks.look(name, 'caa', async () => {
      const { accountUri, issuerDomains } = await asker;
      const method = methodFor(request, name)?.type ?? null;
      const verdict = await view.check(name, { accountUri, issuerDomains, method }).catch((thrown: unknown) => {
        throw thrown instanceof CertlineError ? caaFailure(thrown) : thrown;
      });
      const words = caaWords(name, verdict);
      if (!verdict.allowed) throw new CertlineError('caa_forbids', words);
      return words;
    });
}
