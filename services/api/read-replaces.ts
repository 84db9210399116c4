import type { Account } from '#libs/model/account';
import type { Certificate } from '#libs/model/certificate';
import { invalid } from './field-problems.ts';

export interface ReplacesDeps {
  findAccount(id: string): Promise<Account | null>;
  findCertificate(id: string): Promise<Certificate | null>;
}

/** The certificate that an order of `account` is to replace. Throws `replaces_unfit` when there is none, or it is another CA's. */
export async function readReplaces(
  id: string,
  account: Account,
  { findAccount, findCertificate }: ReplacesDeps,
): Promise<Certificate> {
  const certificate = await findCertificate(id);
  if (certificate === null) throw invalid('replaces', 'replaces_unfit', `there is no certificate ${id}`);
  const issuer = certificate.account === account.id ? account : await findAccount(certificate.account);
  if (issuer?.directory === account.directory) return certificate;
  const whose = issuer ? `of ${issuer.ca}` : `of an account that is gone (${certificate.account})`;
  throw invalid('replaces', 'replaces_unfit', `${id} is ${whose}, and ${account.id} is at ${account.ca}`);
}

/** Throws `replaces_unfit` when a certificate shares no name with the order that is to replace it. */
export function requireSharedName({ id, names }: Certificate, ordered: readonly string[]): void {
  if (ordered.some((name) => names.includes(name))) return;
  throw invalid('replaces', 'replaces_unfit', `${id} is for ${names.join(', ')}: none of that is ordered`);
}
