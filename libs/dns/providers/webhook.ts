import { z } from 'zod';
import { webhookSettingsSchema } from '../../model/target-kinds.ts';
import { signatureOf } from '../../outgoing/signature.ts';
import { type DnsProvider, defineProvider, type ProviderDeps, type TxtRecord } from '../dns-provider.ts';
import type { ApiAnswer, ApiProblem } from '../http-api.ts';
import { createOwnServerApi } from '../own-server.ts';

const title = 'webhook';

const settings = z.strictObject({
  url: webhookSettingsSchema.shape.url.describe(
    'Where the changes are posted to: https, or http to this machine itself.',
  ),
  caBundle: webhookSettingsSchema.shape.caBundle,
});
const secret = z.strictObject({
  secret: z.string().min(16).max(1000).describe('Signs the requests; the receiver has it too.'),
});

function readProblem({ status, headers, text }: ApiAnswer): ApiProblem | undefined {
  if (status === 404)
    return {
      code: 'dns_zone_not_managed',
      words: `the receiver does not have the zone, or settings.url is wrong: ${text}`,
    };
  if (status < 300 || status > 399) return undefined;
  return {
    words: `redirects are not followed, give the URL that it leads to (${headers.get('location') ?? 'it does not say'})`,
  };
}

/**
 * A receiver of somebody's own. Each change is a POST of `{action, zone, name, value, ttl}` with `action` `present` or `cleanUp`, and
 * `certline-signature: t=<seconds>,v1=<HMAC-SHA256 of "<t>.<body>", hexadecimal>`, as deliveries of certificates have it. It answers 2xx when it is
 * done, 401 or 403 when the signature does not hold, 404 for a zone that it does not have, 429 or 503 with Retry-After to be asked later. Either may
 * come more than once: what is there already, or gone already, is fine. Other values at the name stay.
 */
export async function openWebhook(
  { url, caBundle }: z.infer<typeof settings>,
  { secret: key }: z.infer<typeof secret>,
  { clock, ttlSeconds, allowPrivate }: ProviderDeps,
): Promise<DnsProvider> {
  const api = createOwnServerApi({
    ...{ title, baseUrl: url, clock, caBundle, allowPrivate, plain: 'loopback', hidePath: true, read: readProblem },
    authorize: async ({ body }) => ({ 'certline-signature': signatureOf(key, String(body), clock.now()) }),
  });

  async function tell(
    action: 'present' | 'cleanUp',
    { zone, name, value }: TxtRecord,
    signal: AbortSignal,
  ): Promise<void> {
    // As a string: the signature is of these very bytes.
    const body = JSON.stringify({ action, zone, name, value, ttl: ttlSeconds });
    const headers = {
      ...{ 'content-type': 'application/json', 'user-agent': 'certline', 'certline-event': `dns.${action}` },
    };
    await api.send({ method: 'POST', path: url, headers, body }, signal);
  }

  return {
    present: (record, signal) => tell('present', record, signal),
    cleanUp: (record, signal) => tell('cleanUp', record, signal),
    zones: async () => null,
  };
}

export const webhook = defineProvider({
  ...{ name: 'webhook', title: 'A receiver of your own, over HTTPS' },
  rights: 'The receiver checks the signature; it has the rights itself.',
  ...{ settings, secret, open: openWebhook },
});
