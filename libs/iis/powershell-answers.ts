import { z } from 'zod';

/** What the scripts of libs/iis/scripts answer, one schema per script; what they are asked is in powershell-host.ts. */

/** Empty text is what Windows gives for an attribute that is not set. */
const absentable = z
  .string()
  .nullable()
  .transform((text) => (text === '' ? null : text));
const thumbprint = absentable.transform((hex) => hex?.toUpperCase() ?? null);
const versionSchema = z.object({ major: z.number().int(), minor: z.number().int() });

export const refusalSchema = z.object({
  ok: z.literal(false),
  error: z.object({
    precondition: z.boolean(),
    type: z.string(),
    hresult: z.string().nullable(),
    message: z.string(),
    line: z.number().nullish(),
  }),
});

/** `inspect` */
export const inspectSchema = z.object({
  iis: versionSchema.extend({ osBuild: z.number().int() }),
  powershell: z.string(),
  sites: z.array(
    z.object({
      id: z.number().int(),
      name: z.string(),
      state: z.enum(['Started', 'Stopped', 'Unknown']),
      physicalPath: z.string().nullable(),
      bindings: z.array(
        z.object({
          protocol: z.string(),
          bindingInformation: z.string(),
          sslFlags: z.number().int().nonnegative(),
          thumbprint,
          store: absentable,
        }),
      ),
      ftp: z.object({ thumbprint, store: absentable }).nullable(),
    }),
  ),
});

/** `import-pfx` */
export const importSchema = z.object({ alreadyPresent: z.boolean(), notes: z.array(z.string()) });

const readBackSchema = z.object({
  sslFlags: z.number().int().nonnegative(),
  thumbprint,
  store: absentable,
});
export type ReadBack = z.infer<typeof readBackSchema>;

/** `apply-changes`: what each change's binding is after the commit; null where there is none. */
export const applySchema = z.object({
  attempts: z.number().int(),
  readBack: z.array(readBackSchema.nullable()),
});

/** `remove-certificate` */
export const removeSchema = z.object({
  result: z.enum(['removed', 'absent', 'in use']),
  usedBy: z.array(z.string()),
});

/** `serve-challenges` when it listens, and at its end */
export const listeningSchema = z.object({ listening: z.literal(true), taken: z.array(z.string()) });
export const serveSchema = z.object({ served: z.number().int() });

/** `write-challenge` */
export const writeChallengeSchema = z.object({ file: z.string(), webConfig: z.enum(['none', 'written', 'kept']) });

/** `remove-challenge` */
export const removeChallengeSchema = z.object({ removed: z.boolean() });

/** `test-host` */
export const testSchema = z.object({
  user: z.string(),
  admin: z.boolean(),
  powershell: z.string(),
  osBuild: z.number().int(),
  iis: versionSchema.nullable(),
  iisError: z.string().nullable(),
  stores: z.array(z.object({ name: z.string(), ok: z.boolean(), detail: z.string() })),
});
