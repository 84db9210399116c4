import { z } from 'zod';
import { readChain } from '#libs/acme/chains';
import { generateAccountKey } from '#libs/acme/jws';
import type { Clock } from '#libs/clock';
import { CertlineError, type ErrorCode } from '#libs/errors';
import { type Account, directoryOf, knownCas } from '#libs/model/account';
import { newId } from '#libs/model/ids';
import type { Producer } from '#libs/queues/producer';
import { resumeOrders } from '#libs/queues/resume-orders';
import { type AccountSessions, accountKeyName } from '#libs/service/account-sessions';
import type { OrderStore } from '#libs/store/orders';
import type { PrivateKeys } from '#libs/store/private-keys';
import type { RecordStore } from '#libs/store/records';
import { type Route, route } from './route.ts';
import { accountView, pageOf, pageQuery, viewAccount } from './views.ts';

export interface AccountRoutesDeps {
  accounts: Omit<RecordStore<Account>, 'put'>;
  orders: Pick<OrderStore, 'parked' | 'get' | 'save'>;
  producer: Pick<Producer, 'enqueue'>;
  /** Null in a process without a master key: it can list accounts, not register them. */
  registrar: { sessions: AccountSessions; privateKeys: PrivateKeys } | null;
  clock: Clock;
}

const caNames = Object.keys(knownCas);

const accountBody = z.strictObject({
  ca: z
    .union([z.enum(caNames), z.url({ protocol: /^https$/ })], {
      error: `give ${caNames.join(', ')} or the https URL of an ACME directory`,
    })
    .describe(`${caNames.join(', ')} or the URL of an ACME directory`),
  email: z.email().describe('A real address: the CA writes to it when something is wrong with a certificate'),
  termsOfServiceAgreed: z.boolean(),
  eab: z
    .strictObject({
      kid: z.string().min(1),
      hmacKey: z.string().regex(/^[A-Za-z0-9_-]+=*$/, 'base64url, as the CA shows it'),
    })
    .optional()
    .describe('External account binding, if the CA wants one'),
  caBundle: z
    .string()
    .includes('-----BEGIN CERTIFICATE-----', { abort: true })
    .max(100_000)
    .refine((pem) => readChain(pem).length > 0, 'no certificate in it can be read')
    .optional()
    .describe('PEM certificates to trust the CA’s own TLS by, besides the usual ones'),
  allowInternalNames: z
    .boolean()
    .optional()
    .describe('For a private CA: do not refuse names that no public CA validates'),
});

/** Fields that the CA's refusals are about. */
const refusedFields: Partial<Record<ErrorCode, string>> = {
  terms_not_agreed: 'termsOfServiceAgreed',
  eab_required: 'eab',
  eab_refused: 'eab',
  contact_refused: 'email',
};

/** Throws a refusal of the CA with the field it is about. */
function refuse(thrown: unknown): never {
  const path = thrown instanceof CertlineError ? refusedFields[thrown.code] : undefined;
  if (!(thrown instanceof CertlineError) || path === undefined) throw thrown;
  const { code, message: detail } = thrown;
  throw new CertlineError(code, detail, { problems: [{ path, code, detail }], cause: thrown });
}

export function accountRoutes({ accounts, orders, producer, registrar, clock }: AccountRoutesDeps): Route[] {
  return [
    route({
      method: 'post',
      path: '/v1/accounts',
      scope: 'admin',
      tag: 'Accounts',
      summary: 'Register with a CA',
      description:
        'Registers a contact address with the CA and keeps the account. Doing it again answers the same account; it mends one that is parked, and its orders go on.',
      body: accountBody,
      answers: {
        201: { description: 'The new account', schema: accountView },
        200: { description: 'The account was there', schema: accountView },
      },
      errors: [
        'request_invalid',
        'terms_not_agreed',
        'eab_required',
        'eab_refused',
        'contact_refused',
        'ca_unreachable',
        'ca_untrusted',
        'master_key_missing',
      ],
      async handle({ body, signal }) {
        const { ca, email, eab, termsOfServiceAgreed, allowInternalNames, caBundle } = body;
        if (allowInternalNames && ca in knownCas) {
          const detail = `${ca} validates public names only`;
          throw new CertlineError('request_invalid', detail, {
            problems: [{ path: 'allowInternalNames', code: 'request_invalid', detail }],
          });
        }
        if (!registrar)
          throw new CertlineError('master_key_missing', 'without a master key no account key can be sealed');
        const directory = directoryOf(ca);
        const existing = await accounts.findByName(`${directory} ${email.toLowerCase()}`);
        const wanted: Account = {
          ...(existing ?? { id: newId('account', clock.now()), createdAt: clock.now(), url: null, eabKid: null }),
          ...{
            ca,
            directory,
            email,
            allowInternalNames: allowInternalNames ?? existing?.allowInternalNames ?? false,
            caBundle: caBundle ?? existing?.caBundle ?? null,
            parked: null,
          },
        };
        // The key is sealed before the CA hears of it: a registration that was cut off goes on with the same key.
        await registrar.privateKeys.obtain(accountKeyName(wanted), generateAccountKey);
        const session = await registrar.sessions.of({ ...wanted, url: null });
        const { url } = await session
          .register({ email, termsOfServiceAgreed, ...(eab ? { eab } : {}) }, signal)
          .catch(refuse);
        const registered: Account = { ...wanted, url, eabKid: eab?.kid ?? wanted.eabKid };
        const { record, created } = existing
          ? { record: registered, created: false }
          : await accounts.create(registered);
        if (existing) await accounts.update(existing.id, () => registered);
        await resumeOrders(record.id, { orders, producer, clock });
        return {
          status: created ? 201 : 200,
          json: viewAccount(record),
          headers: { location: `/v1/accounts/${record.id}` },
        };
      },
    }),
    route({
      method: 'get',
      path: '/v1/accounts',
      scope: 'orders:read',
      tag: 'Accounts',
      summary: 'List accounts',
      query: pageQuery,
      answers: { 200: { description: 'A page of accounts', schema: pageOf(accountView) } },
      async handle({ query }) {
        const { records, cursor } = await accounts.list(query);
        return { status: 200, json: { items: records.map(viewAccount), cursor } };
      },
    }),
    route({
      method: 'get',
      path: '/v1/accounts/:id',
      scope: 'orders:read',
      tag: 'Accounts',
      summary: 'Read an account',
      answers: { 200: { description: 'The account', schema: accountView } },
      errors: ['not_found'],
      async handle({ params }) {
        const account = await accounts.get(params.id ?? '');
        if (account === null) throw new CertlineError('not_found', `there is no account ${params.id}`);
        return { status: 200, json: viewAccount(account) };
      },
    }),
  ];
}
