import type { z } from 'zod';
import { systemClock } from '#libs/clock';
import type { ProviderDeps } from '#libs/dns/dns-provider';
import { dnsProviders } from '#libs/dns/providers';
import { CertlineError, type Problem } from '#libs/errors';
import { invalid, refusal } from './field-problems.ts';
import { problemsOf } from './problem-json.ts';

/** Names of the providers, for descriptions and errors. */
export const dnsProviderNames = dnsProviders.map(({ name }) => name);

function under(path: string, error: z.ZodError): Problem[] {
  return problemsOf(error).map((problem) => ({
    ...problem,
    path: problem.path === '' ? path : `${path}.${problem.path}`,
  }));
}

/** Only to see whether a provider can be opened: what a validation worker may do is its own affair. */
const openingDeps: ProviderDeps = { clock: systemClock, ttlSeconds: 60, allowPrivate: true, allowPrograms: true };

/** Settings and secret as the provider defines them, each and together. Throws `request_invalid` with each field that is wrong. */
export async function readDnsCredential(
  provider: string,
  given: { settings: unknown; secret: unknown },
): Promise<{ settings: Record<string, unknown>; secret: object }> {
  const definition = dnsProviders.find(({ name }) => name === provider);
  if (definition === undefined)
    throw invalid('provider', 'request_invalid', `${provider} is not known; use one of ${dnsProviderNames.join(', ')}`);
  const settings = definition.settings.safeParse(given.settings);
  const secret = definition.secret.safeParse(given.secret);
  const problems = [
    ...(settings.success ? [] : under('settings', settings.error)),
    ...(secret.success ? [] : under('secret', secret.error)),
  ];
  if (problems.length > 0) throw refusal(problems);
  await definition.open(settings.data, secret.data, openingDeps).catch((thrown: unknown) => {
    if (!(thrown instanceof CertlineError)) throw thrown;
    const { message: detail } = thrown;
    throw refusal(thrown.problems ?? [{ path: 'secret', code: 'request_invalid', detail }]);
  });
  return { settings: settings.data as Record<string, unknown>, secret: secret.data as object };
}
