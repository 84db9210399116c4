import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import { type Credential, credentialSecretName, type PlainSecret, type SshSecret } from '#libs/model/credential';
import { newId } from '#libs/model/ids';
import type { Target } from '#libs/model/target';
import type { RecordStore } from '#libs/store/records';
import type { SecretBox } from '#libs/store/secret-box';
import type { SecretStore } from '#libs/store/store';
import { invalid } from './field-problems.ts';
import { type Route, route } from './route.ts';
import { methodOf, readSshSecret, sshSecretFields } from './ssh-secrets.ts';
import { credentialsOf } from './target-bodies.ts';
import { credentialView, pageOf, pageQuery, viewCredential } from './views.ts';

export interface CredentialRoutesDeps {
  credentials: RecordStore<Credential>;
  targets: Pick<RecordStore<Target>, 'list'>;
  secrets: Pick<SecretStore, 'get' | 'putting' | 'removing'>;
  /** Null in a process without a master key: it can list credentials, not keep secrets. */
  box: SecretBox | null;
  clock: Clock;
}

const name = z.string().min(1).max(100);
const line = z.string().regex(/^[^\p{Cc}]+$/u, 'without control characters');
const plainSecret = line.max(1_000).describe('The password of PFX files, or what signs the deliveries to a webhook');

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
  ],
  { error: ({ code }) => (code === 'invalid_union' ? 'one of ssh, secret' : undefined) },
);
type CredentialBody = z.output<typeof credentialBody>;

const secretBody = z.strictObject({ ...sshSecretFields, secret: plainSecret.optional() });
type SecretBody = z.output<typeof secretBody>;

type Secret = SshSecret | PlainSecret;

/** The secret of a request for a credential of a kind. Throws `request_invalid` with the field that is wrong. */
function readSecret(kind: Credential['kind'], { secret, ...login }: SecretBody): Secret {
  if (kind === 'ssh') {
    if (secret === undefined) return readSshSecret(login);
    throw invalid('secret', 'request_invalid', 'this credential is a login: give a private key or a password');
  }
  const [other] = Object.keys(login);
  if (other !== undefined) throw invalid(other, 'request_invalid', 'this credential is no login: give a secret');
  if (secret === undefined) throw invalid('secret', 'request_invalid', 'give the secret');
  return { secret };
}

/** A record with what can be told of its secret. */
function described(credential: Credential, secret: Secret): Credential {
  return credential.kind === 'secret' || 'secret' in secret ? credential : { ...credential, method: methodOf(secret) };
}

function newCredential(id: string, body: CredentialBody, now: number): { wanted: Credential; secret: Secret } {
  const record = { id, name: body.name, createdAt: now };
  if (body.kind === 'secret') return { wanted: { ...record, kind: body.kind }, secret: { secret: body.secret } };
  const { name: _name, kind, username, ...login } = body;
  const secret = readSshSecret(login);
  return { wanted: { ...record, kind, username, method: methodOf(secret) }, secret };
}

/** Whether two credentials log in as the same user, if they log in at all. */
const isSameUser = (a: Credential, b: Credential): boolean =>
  a.kind === 'ssh' && b.kind === 'ssh' ? a.username === b.username : a.kind === b.kind;

/** Targets that are named where a credential cannot be deleted. */
const namedTargets = 5;

export function credentialRoutes({ credentials, targets, secrets, box, clock }: CredentialRoutesDeps): Route[] {
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

  /** Names of the targets that use a credential. */
  async function usersOf(id: string): Promise<string[]> {
    const users: string[] = [];
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page = await targets.list({ limit: 200, cursor });
      for (const target of page.records) {
        if (credentialsOf(target).some(({ credential }) => credential === id))
          users.push(`${target.name} (${target.id})`);
      }
      cursor = page.cursor;
    }
    return users;
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
        const { wanted, secret } = newCredential(id, body, now);
        const { record, created } = await credentials.create(wanted, [
          secrets.putting(credentialSecretName(id), seal(id, secret)),
        ]);
        if (!created && (!isSameUser(record, wanted) || !(await hasSecret(record.id, secret)))) {
          const detail = `${record.id} has the name ${body.name} and another login or secret; PUT /v1/credentials/${record.id}/secret replaces its secret`;
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
        'By one of the same kind. The targets that use the credential use the new secret from their next deployment on.',
      body: secretBody,
      answers: { 200: { description: 'The credential', schema: credentialView } },
      errors: ['not_found', 'master_key_missing'],
      async handle({ params, body }) {
        const { id, kind } = await find(params.id);
        openBox();
        const secret = readSecret(kind, body);
        const replaced = await credentials.update(id, (current) => described(current, secret), [
          secrets.putting(credentialSecretName(id), seal(id, secret)),
        ]);
        return { status: 200, json: viewCredential(replaced ?? (await find(id))) };
      },
    }),
    route({
      method: 'delete',
      path: '/v1/credentials/:id',
      scope: 'admin',
      tag,
      summary: 'Delete a credential that no target uses',
      answers: { 200: { description: 'The credential as it was', schema: credentialView } },
      errors: ['not_found', 'record_in_use'],
      async handle({ params }) {
        const credential = await find(params.id);
        const users = await usersOf(credential.id);
        if (users.length > 0) {
          const more = users.length > namedTargets ? ` and ${users.length - namedTargets} more` : '';
          throw new CertlineError('record_in_use', `used by ${users.slice(0, namedTargets).join(', ')}${more}`);
        }
        await credentials.remove(credential.id, [secrets.removing(credentialSecretName(credential.id))]);
        return { status: 200, json: viewCredential(credential) };
      },
    }),
  ];
}
