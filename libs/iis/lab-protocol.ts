import { z } from 'zod';

/** The bodies of the lab host's control API: JSON in and out, as the scripts of a real host would have it. */

const bindingSchema = z.object({
  protocol: z.string(),
  bindingInformation: z.string(),
  sslFlags: z.number().int().nonnegative(),
  thumbprint: z.string().nullable(),
  store: z.string().nullable(),
});

const siteState = z.enum(['Started', 'Stopped', 'Unknown']);

/** Where a binding is really listened on: `ip` and `port` as IIS has them, `host` and `listeningPort` as a client needs them. */
export const endpointSchema = z.object({
  ip: z.string(),
  port: z.number().int(),
  host: z.string(),
  listeningPort: z.number().int(),
});
export type LabEndpoint = z.infer<typeof endpointSchema>;

/** Answer of `GET /state`. */
export const labStateSchema = z.object({
  iisMajor: z.number().int(),
  osBuild: z.number().int(),
  sites: z.array(
    z.object({
      id: z.number().int(),
      name: z.string(),
      state: siteState,
      bindings: z.array(bindingSchema),
      ftp: z.object({ thumbprint: z.string().nullable(), store: z.string().nullable() }).nullable(),
    }),
  ),
  endpoints: z.array(endpointSchema),
});
export type LabState = z.infer<typeof labStateSchema>;

const thumbprint = z
  .string()
  .regex(/^[0-9A-Fa-f]{40}$/)
  .transform((hex) => hex.toUpperCase());

/** Body of `POST /pfx`. */
export const pfxSchema = z.object({
  pfx: z.base64(),
  password: z.string(),
  thumbprint,
  store: z.string(),
  friendlyName: z.string(),
  exportable: z.boolean().default(false),
  readers: z.array(z.string()).default([]),
});
export type LabPfx = z.infer<typeof pfxSchema>;

/** Body of `POST /certificates/remove`. */
export const removalSchema = z.object({ thumbprint, store: z.string() });

/** Answer of `POST /certificates/remove`: where the certificate is in use, it stays. */
export const removedSchema = z.object({
  result: z.enum(['removed', 'absent', 'in use']),
  usedBy: z.array(z.string()),
});
export type LabRemoved = z.infer<typeof removedSchema>;

/** Body of `POST /commit`. */
export const commitSchema = z.object({
  changes: z.array(
    z.object({
      op: z.enum(['add', 'update', 'remove']),
      siteId: z.number().int(),
      protocol: z.enum(['https', 'ftp']),
      bindingInformation: z.string(),
      sslFlags: z.number().int().nonnegative(),
      thumbprint: thumbprint.nullable(),
      store: z.string().nullable(),
      expect: z.object({ thumbprint: z.string().nullable(), sslFlags: z.number().int() }).nullable(),
    }),
  ),
});

/** Body of `POST /sites`; a site without an id gets the next free one. */
export const newSiteSchema = z.object({
  name: z.string().min(1),
  id: z.number().int().positive().optional(),
  state: z.enum(['Started', 'Stopped']).default('Started'),
  bindings: z.array(
    z.object({
      protocol: z.string(),
      bindingInformation: z.string(),
      sslFlags: z.number().int().nonnegative().default(0),
    }),
  ),
});
export type LabSite = z.infer<typeof newSiteSchema>;

/** Body of `PUT /faults`: what is left out stays as it is. */
export const faultsSchema = z.strictObject({
  /** That many commits fail, as when the configuration changed on disk meanwhile. */
  failCommits: z.number().int().nonnegative().optional(),
  /** Commits are written, but connections get the certificates that were served before. */
  serveOld: z.boolean().optional(),
  /** Connections to the control API are cut, except to the faults. */
  unreachable: z.boolean().optional(),
});

/** Body of every answer that is not a success. */
export const labProblemSchema = z.object({
  precondition: z.boolean(),
  hresult: z.string().nullable(),
  message: z.string(),
});
