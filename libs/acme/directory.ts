import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { orAborted } from '#libs/or-aborted';

/** A directory (RFC 8555 §7.1.1). */
export const directorySchema = z.object({
  newNonce: z.url(),
  newAccount: z.url(),
  newOrder: z.url(),
  revokeCert: z.url().optional(),
  keyChange: z.url().optional(),
  /** RFC 9773 §4.1; absent where the CA has no ARI. */
  renewalInfo: z.url().optional(),
  meta: z
    .object({
      /** URL of the terms. */
      termsOfService: z.string().optional().catch(undefined),
      website: z.string().optional().catch(undefined),
      caaIdentities: z.array(z.string()).catch([]),
      externalAccountRequired: z.boolean().catch(false),
      /** Name → description (draft-ietf-acme-profiles); empty where the CA has none. */
      profiles: z.record(z.string(), z.string()).catch({}),
    })
    .prefault(() => ({ caaIdentities: [], externalAccountRequired: false, profiles: {} })),
});
export type AcmeDirectory = z.output<typeof directorySchema>;

/** The directory of one CA, fetched at most once an hour and once at a time. */
export interface DirectoryCache {
  /** @throws what fetching throws; the signal's reason when it is aborted (the others go on waiting) */
  get(signal?: AbortSignal): Promise<AcmeDirectory>;
  /** Fetches it anew at the next need: one of its URLs led nowhere. */
  forget(): void;
}

const maxAgeMs = 3_600_000;

/** @param fetchDirectory one request for it; without a signal, for it serves everyone who waits */
export function createDirectoryCache(clock: Clock, fetchDirectory: () => Promise<AcmeDirectory>): DirectoryCache {
  let cached: { directory: AcmeDirectory; at: number } | null = null;
  let flight: Promise<AcmeDirectory> | null = null;
  async function refresh(): Promise<AcmeDirectory> {
    try {
      const directory = await fetchDirectory();
      cached = { directory, at: clock.now() };
      return directory;
    } finally {
      flight = null;
    }
  }
  return {
    async get(signal) {
      signal?.throwIfAborted();
      if (cached && clock.now() - cached.at < maxAgeMs) return cached.directory;
      flight ??= refresh();
      return signal ? await orAborted(flight, signal) : await flight;
    },
    forget() {
      cached = null;
    },
  };
}
