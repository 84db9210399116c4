import { z } from 'zod';

/** Key types a certificate can have; `rsa-2048` is the default because old Windows takes nothing else everywhere. */
export const keyTypes = ['rsa-2048', 'rsa-3072', 'rsa-4096', 'ec-p256', 'ec-p384'] as const;
export type KeyType = (typeof keyTypes)[number];

/** The record of a certificate: what an order produced, with what renewal needs. Times are ms since the epoch. */
export const certificateSchema = z.object({
  id: z.string(),
  order: z.string(),
  account: z.string(),
  names: z.array(z.string()),
  keyType: z.enum(keyTypes),
  /** Upper-case hexadecimal. */
  serial: z.string(),
  /** SHA-1 of the DER, upper-case hexadecimal: the name Windows gives a certificate. */
  thumbprint: z.string(),
  issuer: z.string(),
  notBefore: z.number(),
  notAfter: z.number(),
  /** When it ought to be renewed: two thirds of the lifetime, half below ten days. */
  renewAt: z.number(),
  createdAt: z.number(),
  /** PEM of the leaf. */
  leaf: z.string(),
  /** SHA-256 of the chain (without the leaf), under which it is stored once. */
  chain: z.string(),
  /** Name of the sealed private key. */
  privateKey: z.string(),
  /** The certificate that this one was ordered to replace, and the first one that was to replace this one. */
  replaces: z.string().exactOptional(),
  replacedBy: z.string().exactOptional(),
});
export type Certificate = z.infer<typeof certificateSchema>;

const day = 86_400_000;

/** When a certificate ought to be renewed if the CA does not say: at 2/3 of its lifetime, at half of it below ten days (Let's Encrypt's integration guide). */
export function renewalTime(notBefore: number, notAfter: number): number {
  const lifetime = notAfter - notBefore;
  return Math.round(notBefore + lifetime * (lifetime < 10 * day ? 1 / 2 : 2 / 3));
}
