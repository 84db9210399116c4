import { renewalInfoId } from '#libs/crypto/renewal-info-id';
import { CertlineError } from '#libs/errors';
import type { CaLimits } from '#libs/model/ca-limits';
import type { OrderRequest } from '#libs/model/order';
import type { AccountSession } from '#libs/service/account-sessions';
import type { CertificateStore } from '#libs/store/store';

/** What a new ACME order says of the certificate that it is to replace (RFC 9773 §5). */
export interface Replacement {
  /** Of the certificate, at its CA. */
  id: string;
  /** Whether the CA suggests to replace it now, and holds an order that does so for no limit. */
  isExempt: boolean;
}

export interface ReplacementDeps {
  certificates: Pick<CertificateStore, 'get'>;
  /** By directory URL. */
  limits: ReadonlyMap<string, CaLimits>;
}

/** What an order replaces; null when nothing, and where the CA knows nothing of it (no ARI). */
export type FindReplacement = (
  request: Pick<OrderRequest, 'replaces'>,
  session: AccountSession,
  now: number,
  signal: AbortSignal,
) => Promise<Replacement | null>;

/**
 * Whether the CA suggests to replace a certificate by now. Let's Encrypt exempts an order from then on by its documentation (Boulder: until the suggested
 * time has passed). A CA that does not tell suggests nothing: the order then waits for the limits as any other.
 */
async function isSuggested(id: string, session: AccountSession, now: number, signal: AbortSignal): Promise<boolean> {
  try {
    const info = await session.renewalInfo(id, signal);
    return info !== null && info.suggestedWindow.start <= now;
  } catch (thrown) {
    if (thrown instanceof CertlineError) return false;
    throw thrown;
  }
}

export function createReplacementFinder({ certificates, limits }: ReplacementDeps): FindReplacement {
  return async ({ replaces }, session, now, signal) => {
    if (replaces === undefined || (await session.directory(signal)).renewalInfo === undefined) return null;
    const certificate = await certificates.get(replaces);
    const id = certificate && renewalInfoId(certificate.leaf);
    if (id === null) return null;
    const isExemptible = limits.get(session.account.directory)?.ari_exempt === true;
    return { id, isExempt: isExemptible && (await isSuggested(id, session, now, signal)) };
  };
}
