import { z } from 'zod';

/** Settings of the targets that are no IIS hosts. Secrets are not in them: they name the credential that has them. */

export const hasNoControls = (text: string): boolean => !/\p{Cc}/u.test(text);

/** POSIX, a drive of Windows or a UNC share: which of them it must be, only the worker knows that will use it. */
export const absolutePath = z
  .string()
  .max(1000)
  .regex(/^(\/|[A-Za-z]:[\\/]|\\\\[^\\/?.][^\\/]*\\[^\\/]+)/, 'an absolute path: /…, C:\\… or \\\\server\\share\\…')
  .refine(hasNoControls, 'a path without control characters')
  .refine((path) => !path.split(/[\\/]/).includes('..'), 'a path without ..');

/** Which readers a PFX must suit: `3des` for Windows before Server 2019, and for Java before 8u301. */
const pfxForm = z.enum(['aes-256', '3des']).default('aes-256');

const commandSchema = z
  .strictObject({
    file: absolutePath.describe('The program; there is no search in PATH and no shell'),
    arguments: z.array(z.string().max(4096).refine(hasNoControls, 'no control characters')).max(50).default([]),
    timeoutSeconds: z.number().int().min(1).max(600).default(60),
  })
  .describe('Run after the files are there, until it has succeeded once for a certificate');
export type Command = z.infer<typeof commandSchema>;

export const folderSettingsSchema = z.strictObject({
  kind: z.literal('folder'),
  path: absolutePath.describe('A folder that exists; the files come into `<path>/<first name>/`, `_` for `*`'),
  pfx: z
    .strictObject({
      credential: z.string().describe('The credential with the password of the PFX'),
      form: pfxForm,
    })
    .nullable()
    .default(null)
    .describe('Write `certificate.pfx` too'),
  command: commandSchema.nullable().default(null),
});
export type FolderSettings = z.infer<typeof folderSettingsSchema>;

export const centralStoreSettingsSchema = z.strictObject({
  kind: z.literal('ccs'),
  path: absolutePath.describe('The folder or share of the central certificate store, which exists'),
  credential: z.string().describe('The credential with the password of all files, as it was given to IIS'),
  form: pfxForm,
});
export type CentralStoreSettings = z.infer<typeof centralStoreSettingsSchema>;

const loopbackName = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

export const webhookSettingsSchema = z.strictObject({
  kind: z.literal('webhook'),
  url: z
    .url({ protocol: /^https?$/, error: 'an https URL', abort: true })
    .max(2000)
    .refine((url) => {
      const { protocol, hostname } = new URL(url);
      return protocol === 'https:' || loopbackName.test(hostname);
    }, 'https, or http to this machine itself')
    .refine((url) => {
      const { username, password, hash } = new URL(url);
      return username === '' && password === '' && hash === '';
    }, 'a URL without user, password and fragment'),
  credential: z.string().describe('The credential with the secret that signs the deliveries'),
  caBundle: z
    .string()
    .max(100_000)
    .regex(/-----BEGIN CERTIFICATE-----/, 'certificates in PEM')
    .refine((pem) => !pem.includes('PRIVATE KEY'), 'certificates alone, no key')
    .nullable()
    .default(null)
    .describe('CA certificates (PEM) to trust instead of the system’s'),
});
export type WebhookSettings = z.infer<typeof webhookSettingsSchema>;
