import { z } from 'zod';
import { webhookSettingsSchema } from '../../model/target-kinds.ts';
import { type DnsProvider, defineProvider, type ProviderDeps } from '../dns-provider.ts';
import { createOwnServerApi } from '../own-server.ts';
import { pathBelow, serverUrlField } from '../server-fields.ts';
import { plainName } from '../zone-names.ts';

const title = 'acme-dns';

const settings = z.strictObject({
  url: serverUrlField.describe('Address of the API, such as `https://auth.example.org`.'),
  subdomain: z
    .string()
    .regex(/^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/, 'one label, as /register answered it')
    .describe('`subdomain` of the answer of `/register`.'),
  fulldomain: z
    .string()
    .max(253)
    .regex(/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+\.?$/, 'a domain name')
    .describe('`fulldomain` of that answer: where the CNAME of `_acme-challenge` leads to.'),
  caBundle: webhookSettingsSchema.shape.caBundle,
});
const secret = z.strictObject({
  username: z.uuid('is not the username of an account, a UUID').describe('`username` of that answer.'),
  password: z.string().length(40, 'has 40 characters').describe('`password` of that answer.'),
});

/**
 * acme-dns (https://github.com/joohoi/acme-dns#update-endpoint): a name server for challenges alone, that `_acme-challenge` is a CNAME to. It has the
 * two newest values of an account, enough for a name and its wildcard; a third one drops the oldest. So an account is for one name, and nothing
 * can be taken away: the next value replaces it.
 */
export async function openAcmeDns(
  { url, subdomain, fulldomain, caBundle }: z.infer<typeof settings>,
  { username, password }: z.infer<typeof secret>,
  { clock, allowPrivate }: ProviderDeps,
): Promise<DnsProvider> {
  const api = createOwnServerApi({
    ...{ title, baseUrl: url, clock, caBundle, allowPrivate, plain: 'private' },
    authorize: async () => ({ 'x-api-user': username, 'x-api-key': password }),
    read: ({ status, text }) =>
      status === 401
        ? {
            words: `${text} (a wrong username or password, another account’s subdomain, or an address that is not in allowfrom)`,
          }
        : undefined,
  });
  return {
    async present({ value }, signal) {
      await api.send({ method: 'POST', path: pathBelow(url, 'update'), body: { subdomain, txt: value } }, signal);
    },
    cleanUp: async () => {},
    zones: async () => null,
    delegatedName: () => plainName(fulldomain),
  };
}

export const acmeDns = defineProvider({
  ...{ name: 'acme-dns', title: 'acme-dns' },
  rights:
    'An account of its own for each name, from `POST /register`; the validation workers in its `allowfrom`, if it has one.',
  ...{ settings, secret, open: openAcmeDns },
});
