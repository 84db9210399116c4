import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import { type Credential, credentialSecretName } from '#libs/model/credential';
import { toAsciiName } from '#libs/model/domain-name';
import { newId } from '#libs/model/ids';
import { type CredentialTest, credentialTestSchema } from '#libs/model/validation-checks';
import { type ResumeDeps, resumeOrders } from '#libs/queues/resume-orders';
import type { ValidationRequests } from '#libs/queues/validation-requests';
import type { RecordStore } from '#libs/store/records';
import type { SecretBox } from '#libs/store/secret-box';
import type { SecretStore } from '#libs/store/store';
import {
  changedCredential,
  credentialBody,
  credentialChange,
  described,
  isSameUser,
  newCredential,
  readSecret,
  type Secret,
  secretBody,
} from './credential-bodies.ts';
import { type CredentialUsersDeps, requireUnused } from './credential-users.ts';
import { invalid } from './field-problems.ts';
import { type Route, route } from './route.ts';
import { credentialView, pageOf, pageQuery, viewCredential } from './views.ts';

export interface CredentialRoutesDeps extends Omit<CredentialUsersDeps, 'orders'> {
  credentials: Omit<RecordStore<Credential>, 'put'>;
  secrets: Pick<SecretStore, 'get' | 'putting' | 'removing'>;
  /** Null in a process without a master key: it can list credentials, not keep secrets. */
  box: SecretBox | null;
  orders: ResumeDeps['orders'] & CredentialUsersDeps['orders'];
  producer: ResumeDeps['producer'];
  validation: Pick<ValidationRequests, 'testCredential'>;
  clock: Clock;
}

const deleteQuery = z.strictObject({
  leaveRecords: z.enum(['true', 'false']).optional().describe('`true`: TXT records that it has written may stay'),
});

const testBody = z
  .strictObject({
    zone: z
      .string()
      .max(300)
      .refine((text) => toAsciiName(text)?.startsWith('*') === false, 'a zone, or a name in it')
      .optional()
      .describe('Where to write; the first zone that the credential can see when it is left out'),
  })
  .optional();
const testView = credentialTestSchema.extend({
  ok: z.boolean().describe('Whether all steps are'),
  zones: credentialTestSchema.shape.zones.describe(
    'Zones that the credential can see; null where the provider does not tell',
  ),
});

/** Whether a test shows that the provider takes the credential. */
const isTaken = ({ steps }: CredentialTest): boolean =>
  (['write', 'remove'] as const).every((needed) => steps.some(({ step, ok }) => ok && step === needed));

/** What of a credential can never be changed. */
const whatOf = (one: Credential): string => (one.kind === 'dns' ? `for ${one.provider}` : `of kind ${one.kind}`);

/** Thrown when a credential is not what it was when its change was checked. */
class Overtaken extends Error {}

export function credentialRoutes(deps: CredentialRoutesDeps): Route[] {
  const { credentials, secrets, box, orders, producer, validation, clock } = deps;
  const tag = 'Credentials';

  async function find(id: string | undefined): Promise<Credential> {
    const credential = await credentials.get(id ?? '');
    if (credential === null) throw new CertlineError('not_found', `there is no credential ${id}`);
    return credential;
  }
  function openBox(): SecretBox {
    if (!box) throw new CertlineError('master_key_missing', 'without a master key no secret can be sealed');
    return box;
  }
  const seal = (id: string, secret: Secret): string => openBox().seal(credentialSecretName(id), JSON.stringify(secret));

  async function openSecret(id: string): Promise<string | null> {
    const name = credentialSecretName(id);
    const sealed = await secrets.get(name);
    return sealed === null ? null : openBox().open(name, sealed).toString();
  }
  const nameTaken = (detail: string): CertlineError => invalid('name', 'name_taken', detail);

  /** A credential with some fields changed; on top of what others change at the same time. */
  async function change(id: string | undefined, body: z.output<typeof credentialChange>): Promise<Credential> {
    for (;;) {
      const before = await find(id);
      const { wanted, secret } = await changedCredential(before, body, async () =>
        JSON.parse((await openSecret(before.id)) ?? 'null'),
      );
      const also = secret === null ? [] : [secrets.putting(credentialSecretName(before.id), seal(before.id, secret))];
      const unchanged = (current: Credential): Credential => {
        if (!isDeepStrictEqual(current, before)) throw new Overtaken();
        return wanted;
      };
      try {
        const changed = await credentials.update(before.id, unchanged, also);
        if (changed !== null) return changed;
      } catch (error) {
        if (error instanceof CertlineError && error.code === 'name_taken') throw nameTaken(error.message);
        if (!(error instanceof Overtaken)) throw error;
      }
    }
  }

  /** Lets the orders of a credential go on that was `parked` when it was tested, unless it was refused anew. */
  async function release({ id }: Credential, parked: unknown): Promise<void> {
    const now = await credentials.update(id, (current) =>
      current.kind === 'dns' && isDeepStrictEqual(current.parked, parked) ? { ...current, parked: null } : current,
    );
    if (now?.kind === 'dns' && now.parked === null) await resumeOrders(id, { orders, producer, clock });
  }

  return [
    route({
      method: 'post',
      path: '/v1/credentials',
      scope: 'admin',
      tag,
      summary: 'Keep a login for hosts, a secret of other targets, or what writes TXT records at a DNS provider',
      description: 'The secret is sealed, and never shown again.',
      body: credentialBody,
      answers: {
        201: { description: 'The new credential', schema: credentialView },
        200: { description: 'The same credential was there', schema: credentialView },
      },
      errors: ['name_taken', 'master_key_missing'],
      async handle({ body }) {
        openBox();
        const now = clock.now();
        const id = newId('credential', now);
        const { wanted, secret } = await newCredential(id, body, now);
        const { record, created } = await credentials.create(wanted, [
          secrets.putting(credentialSecretName(id), seal(id, secret)),
        ]);
        const isSame = isSameUser(record, wanted);
        if (!created && !(isSame && (await openSecret(record.id)) === JSON.stringify(secret))) {
          const { id: other } = record;
          const how = isSame
            ? `has another secret, which PUT /v1/credentials/${other}/secret replaces`
            : whatOf(record) !== whatOf(wanted)
              ? `is ${whatOf(record)}: take another name`
              : `is not the same: PATCH /v1/credentials/${other} changes settings or username, PUT /v1/credentials/${other}/secret the secret; or take another name`;
          throw nameTaken(`${other} has the name ${body.name} and ${how}`);
        }
        return {
          status: created ? 201 : 200,
          json: viewCredential(record),
          headers: { location: `/v1/credentials/${record.id}` },
        };
      },
    }),
    route({
      method: 'get',
      path: '/v1/credentials',
      scope: 'admin',
      tag,
      summary: 'List credentials',
      query: pageQuery,
      answers: { 200: { description: 'A page of credentials', schema: pageOf(credentialView) } },
      async handle({ query }) {
        const { records, cursor } = await credentials.list(query);
        return { status: 200, json: { items: records.map(viewCredential), cursor } };
      },
    }),
    route({
      method: 'get',
      path: '/v1/credentials/:id',
      scope: 'admin',
      tag,
      summary: 'Read a credential, without its secret',
      answers: { 200: { description: 'The credential', schema: credentialView } },
      errors: ['not_found'],
      handle: async ({ params }) => ({ status: 200, json: viewCredential(await find(params.id)) }),
    }),
    route({
      method: 'put',
      path: '/v1/credentials/:id/secret',
      scope: 'admin',
      tag,
      summary: 'Replace the secret of a credential',
      description:
        'By one of the same kind. The targets that use the credential use the new secret from their next deployment on. Orders that were held for it go on; doing it again with the same secret mends one that is parked, too.',
      body: secretBody,
      answers: { 200: { description: 'The credential', schema: credentialView } },
      errors: ['not_found', 'master_key_missing'],
      async handle({ params, body }) {
        const credential = await find(params.id);
        const { id } = credential;
        openBox();
        const secret = await readSecret(credential, body);
        const replaced = await credentials.update(id, (current) => described(current, secret), [
          secrets.putting(credentialSecretName(id), seal(id, secret)),
        ]);
        await resumeOrders(id, { orders, producer, clock });
        return { status: 200, json: viewCredential(replaced ?? (await find(id))) };
      },
    }),
    route({
      method: 'patch',
      path: '/v1/credentials/:id',
      scope: 'admin',
      tag,
      summary: 'Change a credential',
      description:
        'What is left out stays; kind and provider do in any case. With `settings` or `secret`, also the same again, orders that were held for it go on. Its targets use another `username` from their next deployment on.',
      body: credentialChange,
      answers: { 200: { description: 'The changed credential', schema: credentialView } },
      errors: ['not_found', 'name_taken', 'master_key_missing'],
      async handle({ params, body }) {
        const changed = await change(params.id, body);
        if (body.settings || body.secret) await resumeOrders(changed.id, { orders, producer, clock });
        return { status: 200, json: viewCredential(changed) };
      },
    }),
    route({
      method: 'post',
      path: '/v1/credentials/:id/test',
      scope: 'admin',
      tag,
      summary: 'Try a credential for DNS',
      description:
        'Writes a TXT record at `_acme-challenge.certline-test-….<zone>`, looks for it at every name server of the zone, and takes it away; step by step, up to the first that fails. When the provider takes a credential that was parked, its orders go on. A login for hosts is tried with `POST /v1/targets/:id/test`.',
      body: testBody,
      answers: { 200: { description: 'What works', schema: testView } },
      errors: ['not_found', 'validation_unserved'],
      async handle({ params, body, signal }) {
        const credential = await find(params.id);
        const { id, kind } = credential;
        if (credential.kind !== 'dns') {
          const how = kind === 'ssh' ? ': POST /v1/targets/:id/test tries it with a target' : '';
          throw invalid(
            'id',
            'request_invalid',
            `${id} is of kind ${kind}, only those of kind dns can be tested${how}`,
          );
        }
        const zone = body?.zone === undefined ? null : toAsciiName(body.zone);
        const test = await validation.testCredential(id, zone, signal);
        if (isTaken(test)) await release(credential, credential.parked);
        return { status: 200, json: { ok: test.steps.every(({ ok }) => ok), ...test } };
      },
    }),
    route({
      method: 'delete',
      path: '/v1/credentials/:id',
      scope: 'admin',
      tag,
      summary: 'Delete a credential that nothing uses',
      description:
        'Refused while a target uses it, an unfinished order needs it for a challenge, or TXT records are to be taken away with it.',
      query: deleteQuery,
      answers: { 200: { description: 'The credential as it was', schema: credentialView } },
      errors: ['not_found', 'record_in_use'],
      async handle({ params, query }) {
        const credential = await find(params.id);
        await requireUnused(credential.id, query.leaveRecords === 'true', deps);
        await credentials.remove(credential.id, [secrets.removing(credentialSecretName(credential.id))]);
        return { status: 200, json: viewCredential(credential) };
      },
    }),
  ];
}
