import { z } from 'zod';

export const scopes = ['orders:read', 'orders:write', 'certificates:read', 'certificates:export', 'admin'] as const;
export type Scope = (typeof scopes)[number];

/** The record of an API key. Its id is derived from the SHA-256 of the key, which itself is kept nowhere. */
export const apiKeySchema = z.object({
  id: z.string(),
  name: z.string(),
  scopes: z.array(z.enum(scopes)),
  createdAt: z.number(),
  revokedAt: z.number().nullable(),
});
export type ApiKey = z.infer<typeof apiKeySchema>;

/** Whether a key may do what needs `scope`; `admin` may do everything. */
export function allows(key: ApiKey, scope: Scope): boolean {
  return key.revokedAt === null && (key.scopes.includes(scope) || key.scopes.includes('admin'));
}
