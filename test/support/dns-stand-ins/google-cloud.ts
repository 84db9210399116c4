/**
 * Stands in for Google Cloud DNS (https://cloud.google.com/dns/docs/reference/rest/v1/changes/create) and for the token address of Google
 * (https://developers.google.com/identity/protocols/oauth2/service-account#authorizingrequests).
 */
import { generateKeyPairSync, verify } from 'node:crypto';
import type { FakeClock } from '../fake-clock.ts';
import {
  inQuotes,
  pageOf,
  type StandIn,
  type StandInAnswer,
  type StandInRequest,
  type StandInZone,
  startStandIn,
  type World,
} from './stand-in.ts';

/** Far smaller than the real one's. */
const pageSize = 3;
const pair = (): { publicKey: string; privateKey: string } =>
  generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
const keys = pair();
export const serviceAccount = {
  ...{
    type: 'service_account' as const,
    project_id: 'my-project',
    private_key_id: 'key-1',
    private_key: keys.privateKey,
  },
  ...{ client_email: 'dns@my-project.iam.gserviceaccount.com', client_id: '123' },
  token_uri: 'https://oauth2.googleapis.com/token' as const,
};
export const foreignAccount = { ...serviceAccount, private_key: pair().privateKey };

export const googleError = (status: number, reason: string, message: string): StandInAnswer => ({
  status,
  body: { error: { code: status, message, errors: [{ message, domain: 'global', reason }] } },
});
const nameOf = ({ id }: StandInZone): string => `zone-${id.toLowerCase()}`;

interface RecordSet {
  name: string;
  type: string;
  ttl: number;
  rrdatas: string[];
}

/** All of a change or nothing. */
function change(body: string, zone: StandInZone, world: World): StandInAnswer {
  const { deletions = [], additions = [] } = JSON.parse(body) as { deletions?: RecordSet[]; additions?: RecordSet[] };
  const mineOf = ({ name }: RecordSet): StandInZone['records'] => zone.records.filter((one) => `${one.name}.` === name);
  for (const set of [...deletions, ...additions]) {
    if (set.type !== 'TXT' || !set.name.endsWith(`${zone.name}.`) || set.rrdatas.length === 0)
      return googleError(400, 'invalid', `Invalid value for 'entity.change': ${set.name}`);
    if (set.rrdatas.some((one) => inQuotes(one) === null))
      return googleError(400, 'invalid', 'rrdata must be in quotation marks');
  }
  for (const [at, set] of deletions.entries()) {
    const mine = mineOf(set);
    if (mine.length === 0)
      return googleError(404, 'notFound', `The 'entity.change.deletions[${at}]' resource does not exist.`);
    const same =
      mine
        .map(({ value }) => `"${value}"`)
        .sort()
        .join() === [...set.rrdatas].sort().join();
    if (!same || mine[0]?.ttl !== set.ttl)
      return googleError(412, 'conditionNotMet', `Precondition not met for 'entity.change.deletions[${at}]'`);
  }
  for (const [at, set] of additions.entries())
    if (mineOf(set).length > 0 && !deletions.some(({ name }) => name === set.name))
      return googleError(409, 'alreadyExists', `The resource 'entity.change.additions[${at}]' already exists`);
  for (const set of deletions) zone.records = zone.records.filter((one) => `${one.name}.` !== set.name);
  for (const set of additions)
    for (const one of set.rrdatas) world.add(zone, set.name.slice(0, -1), inQuotes(one) ?? '', set.ttl);
  return { status: 200, body: { kind: 'dns#change', id: '1', status: 'pending' } };
}

export interface GoogleStandIn extends StandIn {
  /** The tokens that were given out are refused from now on. */
  revoke(): void;
}

export async function startGoogleCloud(clock: FakeClock): Promise<GoogleStandIn> {
  let issued = 0;
  let good = new Set<string>();

  function signIn({ body }: StandInRequest): StandInAnswer {
    const form = new URLSearchParams(body);
    const [header = '', claims = '', signature = ''] = (form.get('assertion') ?? '').split('.');
    const read = (part: string): Record<string, unknown> =>
      JSON.parse(Buffer.from(part, 'base64url').toString() || '{}');
    const refuse = (words: string): StandInAnswer => ({
      status: 400,
      body: { error: 'invalid_grant', error_description: words },
    });
    if (form.get('grant_type') !== 'urn:ietf:params:oauth:grant-type:jwt-bearer') return refuse('Bad grant type');
    const { alg, kid } = read(header);
    const holds = verify(
      'sha256',
      Buffer.from(`${header}.${claims}`),
      keys.publicKey,
      Buffer.from(signature, 'base64url'),
    );
    if (alg !== 'RS256' || kid !== 'key-1' || !holds) return refuse('Invalid JWT Signature.');
    const { iss, aud, scope, iat, exp } = read(claims);
    const now = clock.now() / 1000;
    if (iss !== serviceAccount.client_email) return refuse('Invalid grant: account not found');
    if (aud !== serviceAccount.token_uri) return refuse('Invalid JWT: Failed audience check.');
    if (!(Number(iat) <= now + 60 && Number(exp) > now && Number(exp) <= Number(iat) + 3600))
      return refuse('Invalid JWT: Token must be a short-lived token (60 minutes)');
    if (scope !== 'https://www.googleapis.com/auth/ndev.clouddns.readwrite')
      return refuse('Empty or missing scope not allowed.');
    issued += 1;
    good.add(`ya29.${issued}`);
    return { status: 200, body: { access_token: `ya29.${issued}`, expires_in: 3599, token_type: 'Bearer' } };
  }

  function answer(request: StandInRequest, world: World): StandInAnswer {
    const { method, url, headers, body } = request;
    if (url.pathname === '/token') return signIn(request);
    if (!good.has(/^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1] ?? ''))
      return googleError(401, 'authError', 'Request had invalid authentication credentials.');
    const [, project, zoneName, what] =
      /^\/projects\/([^/]+)\/managedZones(?:\/([^/]+)\/(\w+))?$/.exec(url.pathname) ?? [];
    if (project !== 'my-project') return googleError(403, 'forbidden', `Forbidden: no access to project ${project}`);
    if (zoneName === undefined) {
      const wanted = url.searchParams.get('dnsName');
      const all = world.zones.filter(({ name }) => wanted === null || `${name}.` === wanted);
      const page = Number(url.searchParams.get('pageToken') ?? '1');
      const { items, total } = pageOf(all, page, pageSize);
      const shown = items.map((zone) => ({
        ...{ id: zone.id, name: nameOf(zone), dnsName: `${zone.name}.` },
        visibility: zone.isPrivate ? 'private' : 'public',
      }));
      // an empty list is left out
      const list = shown.length === 0 ? {} : { managedZones: shown };
      return { status: 200, body: { ...list, ...(page < total ? { nextPageToken: String(page + 1) } : {}) } };
    }
    const zone = world.zones.find((one) => nameOf(one) === zoneName);
    if (zone === undefined)
      return googleError(404, 'notFound', `The 'parameters.managedZone' resource named '${zoneName}' does not exist.`);
    if (method === 'POST' && what === 'changes') return change(body, zone, world);
    const name = url.searchParams.get('name');
    const found = world.seen(zone).filter((one) => `${one.name}.` === name);
    const set = { name, type: 'TXT', ttl: found[0]?.ttl, rrdatas: found.map(({ value }) => `"${value}"`) };
    return { status: 200, body: { rrsets: found.length > 0 ? [set] : [] } };
  }

  const standIn = await startStandIn(answer, ({ url }) => url.pathname.endsWith('/changes'));
  return {
    ...standIn,
    revoke() {
      good = new Set();
    },
  };
}
