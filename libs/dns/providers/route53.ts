import { z } from 'zod';
import { CertlineError } from '../../errors.ts';
import { allPages } from '../api-answers.ts';
import { assumedKeys, instanceKeys, type KeySource } from '../aws-credentials.ts';
import { awsErrorOf, readAwsProblem } from '../aws-problems.ts';
import { signAwsRequest } from '../aws-signature.ts';
import { escapeXml, readXml } from '../aws-xml.ts';
import { type DnsProvider, defineProvider, type ProviderDeps, type TxtRecord } from '../dns-provider.ts';
import { createHttpApi } from '../http-api.ts';
import { addValue, type RecordSetApi, removeValue } from '../record-sets.ts';
import { quoted, unquoted } from '../txt-text.ts';
import { plainName, zoneAmbiguous, zoneNotManaged } from '../zone-names.ts';

const title = 'Route 53';
const metadataService = 'http://169.254.169.254/';

const settings = z.strictObject({
  accessKeyId: z
    .string()
    .regex(/^[A-Z0-9]{16,128}$/, 'is not an access key ID')
    .optional()
    .describe('Access key ID of an IAM user; left out, the role of the EC2 instance that the worker runs on is used.'),
  roleArn: z
    .string()
    .regex(/^arn:aws[a-z-]*:iam::\d{12}:role\/.+$/, 'is not the ARN of a role')
    .optional()
    .describe('ARN of a role to assume: for a zone in another account.'),
  externalId: z.string().min(2).optional().describe('External ID that the trust policy of the role asks for.'),
  region: z
    .string()
    .regex(/^[a-z]{2}(-[a-z]+)+-\d$/, 'is not a region')
    .default('us-east-1')
    .describe('Region whose STS gives the role; a region of China or GovCloud chooses that partition.'),
  hostedZoneIds: z
    .record(
      z.string(),
      z.string().regex(/^Z[A-Z0-9]{1,31}$/, 'is not a hosted zone ID: Z and capital letters or digits'),
    )
    .optional()
    .describe(
      'Hosted zone IDs by the name of the zone: where several public zones have one name, or listing is not allowed.',
    ),
});
const secret = z.strictObject({
  secretAccessKey: z.string().min(1).optional().describe('Secret access key; goes with settings.accessKeyId.'),
  sessionToken: z.string().min(1).optional().describe('Session token of temporary keys.'),
});

const zoneSchema = z.object({
  Id: z.string(),
  Name: z.string(),
  Config: z.object({ PrivateZone: z.string().optional() }).optional(),
});
type HostedZone = z.infer<typeof zoneSchema>;
// An empty element is empty text.
const zoneList = z.union([z.object({ HostedZone: z.array(zoneSchema) }), z.literal('')]);
const zonesSchema = z.object({
  ListHostedZonesResponse: z.object({
    HostedZones: zoneList,
    IsTruncated: z.string(),
    NextMarker: z.string().optional(),
  }),
});
const byNameSchema = z.object({
  ListHostedZonesByNameResponse: z.object({
    HostedZones: zoneList,
    IsTruncated: z.string(),
    NextDNSName: z.string().optional(),
    NextHostedZoneId: z.string().optional(),
  }),
});
const recordSetSchema = z.object({
  Name: z.string(),
  Type: z.string(),
  SetIdentifier: z.string().optional(),
  TTL: z.string().optional(),
  ResourceRecords: z.object({ ResourceRecord: z.array(z.object({ Value: z.string() })) }).optional(),
});
const recordSetsSchema = z.object({
  ListResourceRecordSetsResponse: z.object({
    ResourceRecordSets: z.union([z.object({ ResourceRecordSet: z.array(recordSetSchema) }), z.literal('')]),
  }),
});

/** The set as it was read: a change has to name all of it. */
interface OldSet {
  values: readonly string[];
  ttl: number;
}

const isPublic = ({ Config }: HostedZone): boolean => Config?.PrivateZone !== 'true';
const zonesOf = (list: z.infer<typeof zoneList>): HostedZone[] => (list === '' ? [] : list.HostedZone);

/** Addresses of a partition, and the region that its one Route 53 is signed for. https://docs.aws.amazon.com/general/latest/gr/r53.html */
function partitionOf(region: string): { route53: string; signedFor: string; sts: string } {
  if (region.startsWith('cn-'))
    return {
      route53: 'https://route53.amazonaws.com.cn/',
      signedFor: 'cn-northwest-1',
      sts: `https://sts.${region}.amazonaws.com.cn/`,
    };
  const sts = `https://sts.${region}.amazonaws.com/`;
  if (region.startsWith('us-gov-'))
    return { route53: 'https://route53.us-gov.amazonaws.com/', signedFor: 'us-gov-west-1', sts };
  return { route53: 'https://route53.amazonaws.com/', signedFor: 'us-east-1', sts };
}

function changeXml(action: string, name: string, ttl: number, values: readonly string[]): string {
  const records = values.map((value) => `<ResourceRecord><Value>${escapeXml(value)}</Value></ResourceRecord>`).join('');
  const set = `<Name>${escapeXml(name)}.</Name><Type>TXT</Type><TTL>${ttl}</TTL><ResourceRecords>${records}</ResourceRecords>`;
  return `<Change><Action>${action}</Action><ResourceRecordSet>${set}</ResourceRecordSet></Change>`;
}

function batchXml(changes: string): string {
  const batch = `<ChangeBatch><Changes>${changes}</Changes></ChangeBatch>`;
  return `<?xml version="1.0" encoding="UTF-8"?><ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/">${batch}</ChangeResourceRecordSetsRequest>`;
}

function keySource(
  given: z.infer<typeof settings>,
  keys: z.infer<typeof secret>,
  deps: ProviderDeps,
  at: Addresses,
): KeySource {
  const { accessKeyId, roleArn, externalId, region } = given;
  const { secretAccessKey, sessionToken } = keys;
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined))
    throw new CertlineError(
      'dns_credential_refused',
      `${title}: settings.accessKeyId and secret.secretAccessKey go together: give both, or neither for the role of the instance`,
    );
  const own: KeySource =
    accessKeyId === undefined || secretAccessKey === undefined
      ? instanceKeys(deps.clock, at.metadata)
      : async () => ({ accessKeyId, secretAccessKey, sessionToken });
  return roleArn === undefined ? own : assumedKeys(deps.clock, own, { roleArn, externalId, region, baseUrl: at.sts });
}

interface Addresses {
  route53: string;
  sts: string;
  metadata: string;
}

/**
 * A record set is written as a whole. A change deletes exactly the set that was read and creates the new one in one batch, all or nothing: Route 53
 * refuses the batch when the set is not that one any more. Names are absolute, values in quotation marks. Done with our own signature, since the SDK
 * brings retries and timeouts of its own. https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html
 * @param addresses others, for tests
 */
export async function openRoute53(
  given: z.infer<typeof settings>,
  keys: z.infer<typeof secret>,
  deps: ProviderDeps,
  addresses: Partial<Addresses> = {},
): Promise<DnsProvider> {
  const { clock, ttlSeconds } = deps;
  const partition = partitionOf(given.region);
  const at = { metadata: metadataService, ...partition, ...addresses };
  const source = keySource(given, keys, deps, at);
  const hostedZoneIds = given.hostedZoneIds ?? {};
  const api = createHttpApi({
    ...{ title, baseUrl: at.route53, clock, read: readAwsProblem },
    authorize: async ({ method, url, body = '' }, signal) => {
      const scope = { region: partition.signedFor, service: 'route53', now: clock.now() };
      return signAwsRequest({ method, url, body: String(body) }, await source(signal), scope);
    },
  });

  const read = async (path: string, query: Record<string, string | undefined>, signal: AbortSignal) => {
    const given = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== undefined);
    return api.send({ method: 'GET', path: `2013-04-01/${path}?${new URLSearchParams(given)}` }, signal);
  };

  async function listZones(signal: AbortSignal): Promise<string[]> {
    const all = await allPages<HostedZone, string>(title, async (marker) => {
      const answer = await read('hostedzone', { marker, maxitems: '100' }, signal);
      const page = readXml(title, zonesSchema, answer).ListHostedZonesResponse;
      return { items: zonesOf(page.HostedZones), next: page.IsTruncated === 'true' ? page.NextMarker : undefined };
    });
    return [...new Set(all.filter(isPublic).map(({ Name }) => plainName(Name)))];
  }

  /** The list is sorted by name and begins with the one asked for: there may be several of it, private ones too. */
  async function findZone(zone: string, signal: AbortSignal): Promise<string> {
    const known = hostedZoneIds[zone];
    if (known !== undefined) return known;
    const named = await allPages<HostedZone, { name: string; id: string | undefined }>(title, async (from) => {
      const query = { dnsname: from?.name ?? zone, hostedzoneid: from?.id, maxitems: '100' };
      const page = readXml(
        title,
        byNameSchema,
        await read('hostedzonesbyname', query, signal),
      ).ListHostedZonesByNameResponse;
      const all = zonesOf(page.HostedZones);
      const items = all.filter(({ Name }) => plainName(Name) === zone);
      const name = page.NextDNSName;
      const goesOn = page.IsTruncated === 'true' && name !== undefined && plainName(name) === zone;
      return { items, next: goesOn ? { name, id: page.NextHostedZoneId } : undefined };
    });
    const ids = named.filter(isPublic).map(({ Id }) => Id.replace(/^\/hostedzone\//, ''));
    const [id, ...others] = ids;
    if (id === undefined) throw zoneNotManaged(title, zone, await listZones(signal));
    if (others.length > 0) throw zoneAmbiguous(title, zone, ids, 'settings.hostedZoneIds');
    return id;
  }

  async function recordSet({ zone, name }: TxtRecord, signal: AbortSignal): Promise<RecordSetApi<string, OldSet>> {
    const path = `hostedzone/${await findZone(zone, signal)}/rrset`;
    return {
      ...{ what: `${title}: ${name}`, clock, valueOf: unquoted, itemOf: quoted },
      async read() {
        const answer = await read(path, { name: `${name}.`, type: 'TXT', maxitems: '1' }, signal);
        const sets = readXml(title, recordSetsSchema, answer).ListResourceRecordSetsResponse.ResourceRecordSets;
        // the list begins with the set, or with what comes after it
        const set = sets === '' ? undefined : sets.ResourceRecordSet[0];
        if (set === undefined || plainName(set.Name) !== name || set.Type !== 'TXT')
          return { items: [], version: { values: [], ttl: ttlSeconds } };
        if (set.SetIdentifier !== undefined)
          throw new CertlineError(
            'dns_provider_refused',
            `${title}: the TXT records of ${name} have a routing policy (${set.SetIdentifier}): delete them, a challenge needs a simple record set`,
          );
        const values = set.ResourceRecords?.ResourceRecord.map(({ Value }) => Value) ?? [];
        return { items: values, version: { values, ttl: Number(set.TTL) } };
      },
      async write(items, { values, ttl }) {
        const gone = values.length > 0 ? changeXml('DELETE', name, ttl, values) : '';
        const body = batchXml(gone + (items.length > 0 ? changeXml('CREATE', name, ttl, items) : ''));
        const answer = await api.send(
          {
            ...{ method: 'POST', path: `2013-04-01/${path}/`, headers: { 'content-type': 'text/xml' }, body },
            accept: (refusal) => {
              const error = awsErrorOf(refusal);
              // else something is wrong with the change itself
              return error?.code === 'InvalidChangeBatch' && /\bTried to (create|delete)\b/.test(error.message);
            },
          },
          signal,
        );
        return answer.status < 300;
      },
    };
  }

  return {
    present: async (record, signal) => addValue(await recordSet(record, signal), record.value, signal),
    cleanUp: async (record, signal) => removeValue(await recordSet(record, signal), record.value, signal),
    async zones(signal) {
      const named = Object.keys(hostedZoneIds);
      return named.length > 0 ? named : listZones(signal);
    },
  };
}

/** Amazon Route 53 with the keys of a user, the role of an instance, or a role assumed with either. */
export const route53 = defineProvider({
  ...{ name: 'route53', title },
  // https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/specifying-rrset-conditions.html
  rights:
    '`route53:ChangeResourceRecordSets` and `route53:ListResourceRecordSets` for the hosted zones, `route53:ListHostedZonesByName` and `route53:ListHostedZones`; without the last two with `hostedZoneIds`.',
  ...{ settings, secret, open: openRoute53 },
});
