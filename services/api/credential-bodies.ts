import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { Problem } from '#libs/errors';
import type { Credential, PlainSecret, SshSecret } from '#libs/model/credential';
import { dnsProviderNames, readDnsCredential } from './dns-credentials.ts';
import { invalid, refusal } from './field-problems.ts';
import { methodOf, readSshSecret, sshSecretFields } from './ssh-secrets.ts';

const name = z.string().min(1).max(100);
const line = z.string().regex(/^[^\p{Cc}]+$/u, 'without control characters');
const username = line.max(256).describe('The account to log in with; of a domain: `user@domain`');
const plainSecret = line.max(1_000).describe('The password of PFX files, or what signs the deliveries to a webhook');

const fields = z.record(z.string(), z.unknown());

export const credentialBody = z.discriminatedUnion(
  'kind',
  [
    z
      .strictObject({
        name,
        kind: z.literal('ssh'),
        username,
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
export type CredentialBody = z.output<typeof credentialBody>;

export const secretBody = z.strictObject({ ...sshSecretFields, secret: z.union([plainSecret, fields]).optional() });
export type SecretBody = z.output<typeof secretBody>;

/** What is sealed. */
export type Secret = SshSecret | PlainSecret | object;

/** The secret of a request for a credential of a kind. Throws `request_invalid` with the field that is wrong. */
export async function readSecret(credential: Credential, { secret, ...login }: SecretBody): Promise<Secret> {
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
export function described(credential: Credential, secret: Secret): Credential {
  if (credential.kind === 'dns') return { ...credential, parked: null };
  return credential.kind === 'secret' ? credential : { ...credential, method: methodOf(secret as SshSecret) };
}

/** A credential as a request asks for it. Throws `request_invalid` with the fields that are wrong. */
export async function newCredential(
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
export const isSameUser = (a: Credential, b: Credential): boolean => {
  if (a.kind === 'ssh' && b.kind === 'ssh') return a.username === b.username;
  if (a.kind === 'dns' && b.kind === 'dns')
    return a.provider === b.provider && isDeepStrictEqual(a.settings, b.settings);
  return a.kind === b.kind;
};

/** Fields of a credential that are to be other ones: only those of its kind. */
export const credentialChange = z.strictObject({
  name: name.optional(),
  username: username.optional().describe('Of `ssh`'),
  settings: fields.optional().describe('Of `dns`: the fields to change; null takes one away'),
  secret: fields
    .optional()
    .describe('Of `dns`, as a whole: where the settings need another one. For any kind there is `PUT …/secret`'),
});
export type CredentialChange = z.output<typeof credentialChange>;

/** What can be changed, by kind. */
const changeable: Record<Credential['kind'], readonly (keyof CredentialChange)[]> = {
  ssh: ['name', 'username'],
  secret: ['name'],
  dns: ['name', 'settings', 'secret'],
};

/**
 * A credential with some of its fields changed, and its new secret if there is one. Settings are checked together with the secret, which
 * `openSecret` answers; with others a credential that was held is no more. Throws `request_invalid` with the fields that are wrong.
 */
export async function changedCredential(
  credential: Credential,
  change: CredentialChange,
  openSecret: () => Promise<unknown>,
): Promise<{ wanted: Credential; secret: Secret | null }> {
  const { kind } = credential;
  const given = Object.keys(change) as (keyof CredentialChange)[];
  const problems = given
    .filter((field) => !changeable[kind].includes(field))
    .map((path): Problem => {
      const how = path === 'secret' ? `: PUT /v1/credentials/${credential.id}/secret` : '';
      const detail = `a credential of kind ${kind} has no ${path} that is changed so${how}`;
      return { path, code: 'request_invalid', detail };
    });
  if (problems.length > 0) throw refusal(problems);
  const { settings, secret, ...plain } = change;
  if (kind !== 'dns') return { wanted: { ...credential, ...plain } as Credential, secret: null };
  const named = { ...credential, name: plain.name ?? credential.name };
  if (settings === undefined && secret === undefined) return { wanted: named, secret: null };
  const merged = Object.entries({ ...credential.settings, ...settings }).filter(([, value]) => value !== null);
  const read = await readDnsCredential(credential.provider, {
    settings: Object.fromEntries(merged),
    secret: secret ?? (await openSecret()),
  });
  return {
    wanted: { ...named, settings: read.settings, parked: null },
    secret: secret === undefined ? null : read.secret,
  };
}
