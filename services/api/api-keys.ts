import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import { type ApiKey, scopes } from '#libs/model/api-key';
import type { RecordStore } from '#libs/store/records';
import { apiKeyId, newApiKey } from './authenticate.ts';
import { type Route, route } from './route.ts';
import { pageOf, pageQuery } from './views.ts';

const keyBody = z.strictObject({ name: z.string().min(1).max(100), scopes: z.array(z.enum(scopes)).min(1) });
const keyView = z.object({
  id: z.string(),
  name: z.string(),
  scopes: z.array(z.enum(scopes)),
  createdAt: z.iso.datetime(),
  revokedAt: z.iso.datetime().nullable(),
});

function view({ createdAt, revokedAt, ...key }: ApiKey): z.input<typeof keyView> {
  return {
    ...key,
    createdAt: new Date(createdAt).toISOString(),
    revokedAt: revokedAt === null ? null : new Date(revokedAt).toISOString(),
  };
}

export function apiKeyRoutes(keys: RecordStore<ApiKey>, clock: Clock): Route[] {
  const tag = 'API keys';
  return [
    route({
      method: 'post',
      path: '/v1/api-keys',
      scope: 'admin',
      tag,
      summary: 'Make an API key',
      description: 'The key itself is in this answer and nowhere else: only its hash is kept.',
      body: keyBody,
      answers: { 201: { description: 'The key', schema: keyView.extend({ key: z.string() }) } },
      async handle({ body }) {
        const key = newApiKey();
        const record = { id: apiKeyId(key), ...body, createdAt: clock.now(), revokedAt: null };
        await keys.create(record);
        return { status: 201, json: { ...view(record), key } };
      },
    }),
    route({
      method: 'get',
      path: '/v1/api-keys',
      scope: 'admin',
      tag,
      summary: 'List API keys',
      query: pageQuery,
      answers: { 200: { description: 'A page of keys', schema: pageOf(keyView) } },
      async handle({ query }) {
        const { records, cursor } = await keys.list(query);
        return { status: 200, json: { items: records.map(view), cursor } };
      },
    }),
    route({
      method: 'delete',
      path: '/v1/api-keys/:id',
      scope: 'admin',
      tag,
      summary: 'Revoke an API key',
      answers: { 200: { description: 'The revoked key', schema: keyView } },
      errors: ['not_found'],
      async handle({ params, key: asking }) {
        const key = await keys.get(params.id ?? '');
        if (key === null) throw new CertlineError('not_found', 'there is no such API key');
        if (key.id === asking?.id) {
          const detail =
            'a key cannot revoke itself, so that one that may do it is always left: use another key with the scope admin';
          throw new CertlineError('request_invalid', detail, {
            problems: [{ path: 'id', code: 'request_invalid', detail }],
          });
        }
        const revoked = { ...key, revokedAt: key.revokedAt ?? clock.now() };
        await keys.put(revoked);
        return { status: 200, json: view(revoked) };
      },
    }),
  ];
}
