import { z } from 'zod';
import { errorCodeSchema } from './order.ts';

/** Names for the directories of well-known CAs. */
export const knownCas = {
  letsencrypt: 'https://acme-v02.api.letsencrypt.org/directory',
  'letsencrypt-staging': 'https://acme-staging-v02.api.letsencrypt.org/directory',
} as const;

/** The record of an ACME account at one CA. */
export const accountSchema = z.object({
  id: z.string(),
  /** As it was asked for: a name of `knownCas` or a URL. */
  ca: z.string(),
  directory: z.string(),
  email: z.string(),
  /** The CA's name of the account; null until it is registered. */
  url: z.string().nullable(),
  caBundle: z.string().nullable(),
  allowInternalNames: z.boolean(),
  /** Key id of an external account binding; its HMAC key is not kept. */
  eabKid: z.string().nullable(),
  /** Why its orders are held, if they are. */
  parked: z.object({ code: errorCodeSchema, detail: z.string(), at: z.number() }).nullable(),
  createdAt: z.number(),
});
export type Account = z.infer<typeof accountSchema>;

/** Directory URL of a CA given by name or by URL. */
export function directoryOf(ca: string): string {
  return ca in knownCas ? knownCas[ca as keyof typeof knownCas] : ca;
}

/** The CA as a metrics label: the known name, or `custom`. */
export function caLabel(directory: string): string {
  return Object.entries(knownCas).find(([, url]) => url === directory)?.[0] ?? 'custom';
}
