import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import { type Credential, credentialSecretName, type PlainSecret, type SshSecret } from '#libs/model/credential';
import { newId } from '#libs/model/ids';
import type { RecordStore } from '#libs/store/records';
import type { SecretBox } from '#libs/store/secret-box';
import type { SecretStore } from '#libs/store/store';
import { type CredentialUsersDeps, requireUnused } from './credential-users.ts';
import { dnsProviderNames, readDnsCredential } from './dns-credentials.ts';
import { invalid } from './field-problems.ts';
import { type ResumeDeps, resumeOrders } from './resume-orders.ts';
import { type Route, route } from './route.ts';
import { methodOf, readSshSecret, sshSecretFields } from './ssh-secrets.ts';
import { credentialView, pageOf, pageQuery, viewCredential } from './views.ts';

export interface CredentialRoutesDeps extends Omit<CredentialUsersDeps, 'orders'> {
  credentials: RecordStore<Credential>;
  secrets: Pick<SecretStore, 'get' | 'putting' | 'removing'>;
  /** Null in a process without a master key: it can list credentials, not keep secrets. */
  box: SecretBox | null;
  orders: ResumeDeps['orders'] & CredentialUsersDeps['orders'];
  producer: ResumeDeps['producer'];
  clock: Clock;
}

const name = z.string().min(1).max(100);
const line = z.string().regex(/^[^\p{Cc}]+$/u, 'without control characters');
const plainSecret = line.max(1_000).describe('The password of PFX files, or what signs the deliveries to a webhook');

const fields = z.record(z.string(), z.unknown());

const credentialBody = z.discriminatedUnion(
  'kind',
  [
    z
      .strictObject({
        name,
        kind: z.literal('ssh'),
        username: line.max(256).describe('The account to log in with; of a domain: `user@domain`'),
        ...sshSecretFields,
      })
      .describe('A login for hosts'),
    z.strictObject({ name, kind: z.literal('secret'), secret: plainSecret }).describe('What other targets need'),
    z
      .strictObject({
        name,
        kind: z.literal('dns'),
        provider: z.string().describe(dnsProviderNames.join(', ')),
        settings: fields.default({}).describe('What may be shown of it'),
        secret: fields.describe('What is sealed'),
      })
      .describe('What writes TXT records at a DNS provider: the README has the fields of each'),
  ],
  { error: ({ code }) => (code === 'invalid_union' ? 'one of ssh, secret, dns' : undefined) },
);
type CredentialBody = z.output<typeof credentialBody>;

const secretBody = z.strictObject({ ...sshSecretFields, secret: z.union([plainSecret, fields]).optional() });
const deleteQuery = z.strictObject({
  leaveRecords: z.enum(['true', 'false']).optional().describe('`true`: TXT records that it has written may stay'),
});
type SecretBody = z.output<typeof secretBody>;

type Secret = SshSecret | PlainSecret | object;

/** The secret of a request for a credential of a kind. Throws `request_invalid` with the field that is wrong. */
async function readSecret(credential: Credential, { secret, ...login }: SecretBody): Promise<Secret> {
  const { kind } = credential;
  if (kind === 'ssh') {
    if (secret === undefined) return readSshSecret(login);
    throw invalid('secret', 'request_invalid', 'this credential is a login: give a private key or a password');
  }
  const [other] = Object.keys(login);
  if (other !== undefined) throw invalid(other, 'request_invalid', 'this credential is no login: give a secret');
  if (secret === undefined) throw invalid('secret', 'request_invalid', 'give the secret');
  const { provider, settings } = kind === 'dns' ? credential : { provider: null, settings: null };
  if (typeof secret === 'string') {
    if (provider === null) return { secret };
    throw invalid('secret', 'request_invalid', `this credential is for ${provider}: give an object with its fields`);
  }
  if (provider === null) throw invalid('secret', 'request_invalid', 'this credential is a single secret: give a text');
  return (await readDnsCredential(provider, { settings, secret })).secret;
}

/** A record with what can be told of its new secret; one that was held is no more. */
function described(credential: Credential, secret: Secret): Credential {
  if (credential.kind === 'dns') return { ...credential, parked: null };
  return credential.kind === 'secret' ? credential : { ...credential, method: methodOf(secret as SshSecret) };
}

async function newCredential(
  id: string,
  body: CredentialBody,
  now: number,
): Promise<{ wanted: Credential; secret: Secret }> {
  const record = { id, name: body.name, createdAt: now };
  if (body.kind === 'secret') return { wanted: { ...record, kind: body.kind }, secret: { secret: body.secret } };
  if (body.kind === 'dns') {
    const { provider } = body;
    const { settings, secret } = await readDnsCredential(provider, body);
    return { wanted: { ...record, kind: body.kind, provider, settings, parked: null }, secret };
  }
  const { name: _name, kind, username, ...login } = body;
  const secret = readSshSecret(login);
  return { wanted: { ...record, kind, username, method: methodOf(secret) }, secret };
}

/** Whether two credentials are the same but for name and secret. */
const isSameUser = (a: Credential, b: Credential): boolean => {
  if (a.kind === 'ssh' && b.kind === 'ssh') return a.username === b.username;
  if (a.kind === 'dns' && b.kind === 'dns')
    return a.provider === b.provider && isDeepStrictEqual(a.settings, b.settings);
  return a.kind === b.kind;
};

export function credentialRoutes(deps: CredentialRoutesDeps): Route[] {
  const { credentials, secrets, box, orders, producer, clock } = deps;
  const tag = 'Credentials';

  async function find(id: string | undefined): Promise<Credential> {
    const credential = await credentials.get(id ?? '');
    if (credential === null) throw new CertlineError('not_found', `there is no credential ${id}`);
    return credential;
  }
  function openBox(): SecretBox {
    if (!box) throw new CertlineError('master_key_missing', 'without a master key no secret can be sealed');
    return box;
  }
  const seal = (id: string, secret: Secret): string => openBox().seal(credentialSecretName(id), JSON.stringify(secret));

  async function hasSecret(id: string, secret: Secret): Promise<boolean> {
    const name = credentialSecretName(id);
    const sealed = await secrets.get(name);
    return sealed !== null && openBox().open(name, sealed).toString() === JSON.stringify(secret);
  }

  return [
    route({
      method: 'post',
      path: '/v1/credentials',
      scope: 'admin',
      tag,
      summary: 'Keep a login for hosts, or a secret of other targets',
      description: 'The secret is sealed, and never shown again.',
      body: credentialBody,
      answers: {
        201: { description: 'The new credential', schema: credentialView },
        200: { description: 'The same credential was there', schema: credentialView },
      },
      errors: ['name_taken', 'master_key_missing'],
      async handle({ body }) {
        openBox();
        const now = clock.now();
        const id = newId('credential', now);
        const { wanted, secret } = await newCredential(id, body, now);
        const { record, created } = await credentials.create(wanted, [
          secrets.putting(credentialSecretName(id), seal(id, secret)),
        ]);
        if (!created && (!isSameUser(record, wanted) || !(await hasSecret(record.id, secret)))) {
          const differs =
            record.kind === 'dns' && !isSameUser(record, wanted)
              ? 'another provider or other settings, which stay: take another name'
              : `another login or secret; PUT /v1/credentials/${record.id}/secret replaces its secret`;
          const detail = `${record.id} has the name ${body.name} and ${differs}`;
          throw new CertlineError('name_taken', detail, { problems: [{ path: 'name', code: 'name_taken', detail }] });
        }
        return {
          status: created ? 201 : 200,
          json: viewCredential(record),
          headers: { location: `/v1/credentials/${record.id}` },
        };
      },
    }),
    route({
      method: 'get',
      path: '/v1/credentials',
      scope: 'admin',
      tag,
      summary: 'List credentials',
      query: pageQuery,
      answers: { 200: { description: 'A page of credentials', schema: pageOf(credentialView) } },
      async handle({ query }) {
        const { records, cursor } = await credentials.list(query);
        return { status: 200, json: { items: records.map(viewCredential), cursor } };
      },
    }),
    route({
      method: 'get',
      path: '/v1/credentials/:id',
      scope: 'admin',
      tag,
      summary: 'Read a credential, without its secret',
      answers: { 200: { description: 'The credential', schema: credentialView } },
      errors: ['not_found'],
      handle: async ({ params }) => ({ status: 200, json: viewCredential(await find(params.id)) }),
    }),
    route({
      method: 'put',
      path: '/v1/credentials/:id/secret',
      scope: 'admin',
      tag,
      summary: 'Replace the secret of a credential',
      description:
        'By one of the same kind. The targets that use the credential use the new secret from their next deployment on. Orders that were held for it go on; doing it again with the same secret mends one that is parked, too.',
      body: secretBody,
      answers: { 200: { description: 'The credential', schema: credentialView } },
      errors: ['not_found', 'master_key_missing'],
      async handle({ params, body }) {
        const credential = await find(params.id);
        const { id } = credential;
        openBox();
        const secret = await readSecret(credential, body);
        const replaced = await credentials.update(id, (current) => described(current, secret), [
          secrets.putting(credentialSecretName(id), seal(id, secret)),
        ]);
        await resumeOrders(id, { orders, producer, clock });
        return { status: 200, json: viewCredential(replaced ?? (await find(id))) };
      },
    }),
    route({
      method: 'delete',
      path: '/v1/credentials/:id',
      scope: 'admin',
      tag,
      summary: 'Delete a credential that nothing uses',
      description:
        'Refused while a target uses it, an unfinished order needs it for a challenge, or TXT records are to be taken away with it.',
      query: deleteQuery,
      answers: { 200: { description: 'The credential as it was', schema: credentialView } },
      errors: ['not_found', 'record_in_use'],
      async handle({ params, query }) {
        const credential = await find(params.id);
        await requireUnused(credential.id, query.leaveRecords === 'true', deps);
        await credentials.remove(credential.id, [secrets.removing(credentialSecretName(credential.id))]);
        return { status: 200, json: viewCredential(credential) };
      },
    }),
  ];
}
