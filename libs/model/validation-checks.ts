import { z } from 'zod';
import { errorCodeSchema } from './order.ts';

/** What is looked at before a CA is asked about a name. */
export const nameCheckKinds = [
  'caa',
  'address',
  'http-01',
  'zone',
  'credential',
  'target',
  'folder',
  'budget',
] as const;

/** One thing that was looked at for a name. */
export const nameCheckSchema = z.object({
  name: z.string(),
  check: z.enum(nameCheckKinds),
  ok: z.boolean(),
  /** What an order would fail or wait with; null when it is fine. */
  code: errorCodeSchema.nullable(),
  detail: z.string(),
});
export type NameCheck = z.infer<typeof nameCheckSchema>;

export const credentialTestSteps = ['credential', 'zones', 'zone', 'write', 'visible', 'remove'] as const;

/** One step of the test of a DNS credential, for a person. */
export const credentialTestStepSchema = z.object({
  step: z.enum(credentialTestSteps),
  ok: z.boolean(),
  detail: z.string(),
});
export type CredentialTestStep = z.infer<typeof credentialTestStepSchema>;

export const credentialTestSchema = z.object({
  /** Zones that the credential can see; null where the provider does not tell. */
  zones: z.array(z.string()).nullable(),
  /** Up to the first that does not work; what was written is removed in any case. */
  steps: z.array(credentialTestStepSchema),
});
export type CredentialTest = z.infer<typeof credentialTestSchema>;
