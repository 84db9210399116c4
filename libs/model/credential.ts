import { z } from 'zod';
import { errorCodeSchema } from './order.ts';

const record = { id: z.string(), name: z.string(), createdAt: z.number() };

/** A named secret: a login for hosts, or what targets need besides. The secret itself is sealed under `credentialSecretName`; the record can be shown. */
export const credentialSchema = z.discriminatedUnion('kind', [
  z.object({
    ...record,
    kind: z.literal('ssh'),
    username: z.string(),
    /** What the secret is. */
    method: z.enum(['private-key', 'password']),
  }),
  /** The password of PFX files, or what signs the deliveries to a webhook. */
  z.object({ ...record, kind: z.literal('secret') }),
  /** What writes TXT records at a DNS provider. */
  z.object({
    ...record,
    kind: z.literal('dns'),
    provider: z.string(),
    /** What may be shown of it, as the provider defines it. */
    settings: z.record(z.string(), z.unknown()),
    /** Why its orders are held; null when they are not. */
    parked: z.object({ code: errorCodeSchema, detail: z.string(), at: z.number() }).nullable(),
  }),
]);
export type Credential = z.infer<typeof credentialSchema>;
export type CredentialKind = Credential['kind'];
export type DnsCredential = Extract<Credential, { kind: 'dns' }>;
export type SshCredential = Extract<Credential, { kind: 'ssh' }>;

/** The sealed part of an ssh credential. */
export const sshSecretSchema = z.union([
  z.strictObject({ privateKey: z.string(), passphrase: z.string().exactOptional() }),
  z.strictObject({ password: z.string() }),
]);
export type SshSecret = z.infer<typeof sshSecretSchema>;

/** The sealed part of a credential of kind `secret`. */
export const plainSecretSchema = z.strictObject({ secret: z.string() });
export type PlainSecret = z.infer<typeof plainSecretSchema>;

/** Name of the sealed secret of a credential. */
export const credentialSecretName = (id: string): string => `credential.${id}`;
