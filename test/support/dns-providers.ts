import { Resolver } from 'node:dns/promises';
import { systemClock } from '#libs/clock';
import type { ProviderDeps } from '#libs/dns/dns-provider';
import { CertlineError } from '#libs/errors';

/** What tests of providers with servers of their own begin with. */
export const never = new AbortController().signal;
export const providerDeps: ProviderDeps = {
  ...{ clock: systemClock, ttlSeconds: 60, allowPrivate: true, allowPrograms: false },
};

/** The error that the work ends with. */
export async function refusalOf(work: Promise<unknown>): Promise<CertlineError> {
  const thrown = await work.then(
    () => null,
    (error: unknown) => error,
  );
  if (!(thrown instanceof CertlineError)) throw new Error(`no CertlineError: ${thrown}`, { cause: thrown });
  return thrown;
}

/** All that an error could show to a person or a log. */
export const shownOf = ({ message, evidence, problems }: CertlineError): string =>
  JSON.stringify([message, evidence, problems]);

/** The TXT values that a name server shows at a name, sorted; none where the name does not exist. */
export async function txtAt(address: string, name: string): Promise<string[]> {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  resolver.setServers([address]);
  const missing = new Set(['ENODATA', 'ENOTFOUND']);
  const found = await resolver.resolveTxt(name).catch((error: NodeJS.ErrnoException) => {
    if (missing.has(error.code ?? '')) return [];
    throw error;
  });
  return found.map((strings) => strings.join('')).sort();
}

/** The serial of a zone at a name server. */
export async function serialAt(address: string, zone: string): Promise<number> {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  resolver.setServers([address]);
  return (await resolver.resolveSoa(zone)).serial;
}
