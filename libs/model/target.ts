import { z } from 'zod';
import { driftPolicies } from './drift.ts';
import { maintenanceWindowSchema } from './maintenance-window.ts';
import { centralStoreSettingsSchema, folderSettingsSchema, webhookSettingsSchema } from './target-kinds.ts';

/** An SSH host key as OpenSSH shows it: `SHA256:` and the digest in base64 without padding. */
export const hostKeyPattern = /^SHA256:[A-Za-z0-9+/]{43}$/;

/** How a worker reaches an IIS host. `lab` is the simulated host of services/lab. */
export const transportSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('lab'),
    url: z
      .url({
        protocol: /^http$/,
        hostname: /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/,
        error: 'the URL of a simulated host on this machine (http, loopback)',
      })
      .describe('Control address of the simulated host'),
  }),
  z
    .strictObject({ kind: z.literal('local') })
    .describe('The deployment worker of the target’s pool runs on the IIS host itself'),
  z
    .strictObject({
      kind: z.literal('ssh'),
      host: z
        .string()
        .regex(/^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$/, 'a host name or an address')
        .max(253)
        .describe('Name or address of the host'),
      port: z.number().int().min(1).max(65_535).default(22),
      credential: z.string().describe('The credential to log in with'),
      hostKey: z
        .string()
        .regex(hostKeyPattern, 'a fingerprint such as `ssh-keygen -lf` prints: SHA256:…')
        .nullable()
        .default(null)
        .describe('Fingerprint of the host’s key; pinned at the first connection when it is not given'),
    })
    .describe('Windows OpenSSH'),
]);
export type Transport = z.infer<typeof transportSchema>;

/** Name of a group of deployment workers. */
export const poolSchema = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/, 'lower-case letters, digits and -');
export const defaultPool = 'default';

const iisSettingsSchema = z.strictObject({ kind: z.literal('iis'), transport: transportSchema });

/** What each kind of target has for itself. */
export const targetSettings = {
  iis: iisSettingsSchema,
  folder: folderSettingsSchema,
  ccs: centralStoreSettingsSchema,
  webhook: webhookSettingsSchema,
};
export type TargetKind = keyof typeof targetSettings;

/** What every target has. */
export const targetCommon = {
  name: z.string().min(1).max(100),
  pool: poolSchema.default(defaultPool).describe('The deployment workers that can reach it (`DEPLOYMENT_POOLS`)'),
  windows: z
    .array(maintenanceWindowSchema)
    .max(50)
    .default([])
    .describe('When it may be changed; always when there are none'),
  drift: z
    .enum(driftPolicies)
    .default('report')
    .describe('What is done when it no longer has what was deployed: `report`, or `repair` by deploying it again'),
};

const record = { id: z.string(), ...targetCommon, createdAt: z.number() };
export const targetSchema = z.discriminatedUnion('kind', [
  z.object({ ...record, ...iisSettingsSchema.shape }),
  z.object({ ...record, ...folderSettingsSchema.shape }),
  z.object({ ...record, ...centralStoreSettingsSchema.shape }),
  z.object({ ...record, ...webhookSettingsSchema.shape }),
]);
/** A place to deploy to. */
export type Target = z.infer<typeof targetSchema>;
export type IisTarget = Extract<Target, { kind: 'iis' }>;
/** A target that takes one certificate at a time, as files or as a message. */
export type DeliveryTarget = Exclude<Target, { kind: 'iis' }>;
