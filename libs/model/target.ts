import { z } from 'zod';

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
]);
export type Transport = z.infer<typeof transportSchema>;

export const targetSchema = z.object({
  id: z.string(),
  name: z.string(),
  kind: z.literal('iis'),
  transport: transportSchema,
  createdAt: z.number(),
});
export type Target = z.infer<typeof targetSchema>;
