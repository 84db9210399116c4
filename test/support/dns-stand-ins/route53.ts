/**
 * Stands in for Route 53 (https://docs.aws.amazon.com/Route53/latest/APIReference/API_Operations_Amazon_Route_53.html), for AssumeRole of STS
 * (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html) and for the metadata service of an instance, at one address.
 */
import { XMLParser } from 'fast-xml-parser';
import type { FakeClock } from '../fake-clock.ts';
import { type KnownKeys, signatureProblem } from './signature-check.ts';
import {
  inQuotes,
  type StandIn,
  type StandInAnswer,
  type StandInRequest,
  type StandInZone,
  startStandIn,
  type World,
} from './stand-in.ts';

export const awsKeyId = 'AKIAIOSFODNN7EXAMPLE';
export const awsSecret = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY';
export const roleArn = 'arn:aws:iam::123456789012:role/dns';
/** Far smaller than the real one's. */
const pageSize = 3;
const namespace = 'xmlns="https://route53.amazonaws.com/doc/2013-04-01/"';
const parser = new XMLParser({ parseTagValue: false, isArray: (name) => /^(Change|ResourceRecord)$/.test(name) });

const xml = (status: number, body: string): StandInAnswer => ({
  status,
  body: `<?xml version="1.0" encoding="UTF-8"?>\n${body}`,
  headers: { 'content-type': 'text/xml' },
});
export const awsError = (status: number, code: string, message: string): StandInAnswer =>
  xml(
    status,
    `<ErrorResponse ${namespace}><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error><RequestId>1</RequestId></ErrorResponse>`,
  );
const badBatch = (message: string): StandInAnswer =>
  xml(
    400,
    `<InvalidChangeBatch ${namespace}><Messages><Message>${message}</Message></Messages><RequestId>1</RequestId></InvalidChangeBatch>`,
  );

const zoneXml = ({ id, name, isPrivate }: StandInZone): string =>
  `<HostedZone><Id>/hostedzone/${id}</Id><Name>${name}.</Name><CallerReference>1</CallerReference><Config><PrivateZone>${isPrivate}</PrivateZone></Config><ResourceRecordSetCount>3</ResourceRecordSetCount></HostedZone>`;
/** Sorted by the labels from the last to the first. */
const sortKey = ({ name, id }: StandInZone): string => `${name.split('.').reverse().join(' ')}  ${id}`;

function listByName(url: URL, world: World): StandInAnswer {
  const from = (url.searchParams.get('dnsname') ?? '').replace(/\.$/, '');
  const id = url.searchParams.get('hostedzoneid') ?? '';
  const all = world.zones.toSorted((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
  const start = sortKey({ name: from, id } as StandInZone);
  const rest = all.filter((zone) => sortKey(zone) >= start);
  const next = rest[pageSize];
  const more = next ? `<NextDNSName>${next.name}.</NextDNSName><NextHostedZoneId>${next.id}</NextHostedZoneId>` : '';
  const list = rest.slice(0, pageSize).map(zoneXml).join('');
  return xml(
    200,
    `<ListHostedZonesByNameResponse ${namespace}><HostedZones>${list}</HostedZones><DNSName>${from}</DNSName><IsTruncated>${next !== undefined}</IsTruncated>${more}<MaxItems>100</MaxItems></ListHostedZonesByNameResponse>`,
  );
}

function listZones(url: URL, world: World): StandInAnswer {
  const from = Number(url.searchParams.get('marker') ?? '0');
  const list = world.zones
    .slice(from, from + pageSize)
    .map(zoneXml)
    .join('');
  const more = from + pageSize < world.zones.length;
  const marker = more ? `<NextMarker>${from + pageSize}</NextMarker>` : '';
  return xml(
    200,
    `<ListHostedZonesResponse ${namespace}><HostedZones>${list}</HostedZones><IsTruncated>${more}</IsTruncated>${marker}<MaxItems>100</MaxItems></ListHostedZonesResponse>`,
  );
}

function listSets(url: URL, zone: StandInZone, world: World): StandInAnswer {
  const name = (url.searchParams.get('name') ?? '').replace(/\.$/, '');
  const found = world.seen(zone).filter((one) => one.name === name);
  const values = found
    .map(({ value }) => `<ResourceRecord><Value>&quot;${value}&quot;</Value></ResourceRecord>`)
    .join('');
  // without the set, the list begins with what comes after it
  const after = `<ResourceRecordSet><Name>zz.${zone.name}.</Name><Type>A</Type><TTL>300</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>`;
  const set = `<ResourceRecordSet><Name>${name}.</Name><Type>TXT</Type><TTL>${found[0]?.ttl}</TTL><ResourceRecords>${values}</ResourceRecords></ResourceRecordSet>`;
  return xml(
    200,
    `<ListResourceRecordSetsResponse ${namespace}><ResourceRecordSets>${found.length > 0 ? set : after}</ResourceRecordSets><IsTruncated>false</IsTruncated><MaxItems>1</MaxItems></ListResourceRecordSetsResponse>`,
  );
}

interface Change {
  Action: string;
  ResourceRecordSet: {
    Name: string;
    Type: string;
    TTL: string;
    ResourceRecords: { ResourceRecord: { Value: string }[] };
  };
}

/** All changes or none. */
function change(body: string, zone: StandInZone, world: World): StandInAnswer {
  const read = parser.parse(body) as {
    ChangeResourceRecordSetsRequest: { ChangeBatch: { Changes: { Change: Change[] } } };
  };
  const old = [...zone.records];
  for (const { Action, ResourceRecordSet: set } of read.ChangeResourceRecordSetsRequest.ChangeBatch.Changes.Change) {
    const name = set.Name.replace(/\.$/, '');
    const mine = zone.records.filter((one) => one.name === name);
    const values = set.ResourceRecords.ResourceRecord.map(({ Value }) => inQuotes(Value));
    const refuse = (message: string): StandInAnswer => {
      zone.records = old;
      return badBatch(message);
    };
    const what = `[name='${set.Name}', type='${set.Type}']`;
    if (values.includes(null))
      return refuse('Invalid Resource Record: CharacterStringTooLong or not in quotation marks');
    if (!name.endsWith(zone.name))
      return refuse(`RRSet with DNS name ${set.Name} is not permitted in zone ${zone.name}.`);
    if (Action === 'DELETE') {
      if (mine.length === 0) return refuse(`Tried to delete resource record set ${what} but it was not found`);
      const same =
        mine
          .map(({ value }) => value)
          .sort()
          .join() === [...values].sort().join();
      if (!same || mine[0]?.ttl !== Number(set.TTL))
        return refuse(
          `Tried to delete resource record set ${what} but the values provided do not match the current values`,
        );
      zone.records = zone.records.filter((one) => one.name !== name);
    } else if (mine.length > 0) return refuse(`Tried to create resource record set ${what} but it already exists`);
    else for (const value of values) world.add(zone, name, value ?? '', Number(set.TTL));
  }
  return xml(
    200,
    `<ChangeResourceRecordSetsResponse ${namespace}><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status></ChangeInfo></ChangeResourceRecordSetsResponse>`,
  );
}

export function startRoute53(clock: FakeClock, instanceRole = ''): Promise<StandIn> {
  const keys = new Map<string, KnownKeys>([[awsKeyId, { secretAccessKey: awsSecret }]]);
  let issued = 0;
  const issue = (prefix: string): { id: string; key: Required<KnownKeys>; expiration: string } => {
    issued += 1;
    const id = `ASIA${prefix}${issued}`;
    const key = { secretAccessKey: `secret/of+${id}`, sessionToken: `token/of+${id}==` };
    keys.set(id, key);
    return { id, key, expiration: new Date(clock.now() + 3600_000).toISOString() };
  };

  function metadata({ method, url, headers }: StandInRequest): StandInAnswer {
    const path = url.pathname.replace('/latest/', '');
    if (path === 'api/token')
      return method === 'PUT' && headers['x-aws-ec2-metadata-token-ttl-seconds']
        ? { status: 200, body: 'metadata-token' }
        : { status: 400 };
    if (headers['x-aws-ec2-metadata-token'] !== 'metadata-token') return { status: 401 };
    if (instanceRole === '') return { status: 404, body: '<html>404</html>' };
    if (path === 'meta-data/iam/security-credentials/') return { status: 200, body: instanceRole };
    const { id, key, expiration } = issue('INSTANCE');
    const { secretAccessKey: SecretAccessKey, sessionToken: Token } = key;
    return { status: 200, body: { Code: 'Success', AccessKeyId: id, SecretAccessKey, Token, Expiration: expiration } };
  }

  function assume({ body }: StandInRequest): StandInAnswer {
    const form = new URLSearchParams(body);
    if (form.get('RoleArn') !== roleArn || form.get('ExternalId') !== 'certline-7')
      return awsError(403, 'AccessDenied', 'not authorized to perform: sts:AssumeRole');
    const { id, key, expiration } = issue('ROLE');
    return xml(
      200,
      `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>${id}</AccessKeyId><SecretAccessKey>${key.secretAccessKey}</SecretAccessKey><SessionToken>${key.sessionToken}</SessionToken><Expiration>${expiration}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
    );
  }

  return startStandIn(
    (request, world) => {
      const { method, url, body } = request;
      if (url.pathname.startsWith('/latest/')) return metadata(request);
      const service = url.pathname === '/' ? 'sts' : 'route53';
      const region = service === 'sts' ? 'eu-central-1' : 'us-east-1';
      const problem = signatureProblem(request, keys, { region, service, now: clock.now() });
      if (problem !== null) return awsError(403, problem, 'The request signature does not match.');
      if (service === 'sts') return assume(request);
      if (url.pathname === '/2013-04-01/hostedzonesbyname') return listByName(url, world);
      if (url.pathname === '/2013-04-01/hostedzone') return listZones(url, world);
      const id = /^\/2013-04-01\/hostedzone\/(\w+)\/rrset\/?$/.exec(url.pathname)?.[1];
      const zone = world.zones.find((one) => one.id === id);
      if (zone === undefined) return awsError(404, 'NoSuchHostedZone', `No hosted zone found with ID: ${id}`);
      return method === 'GET' ? listSets(url, zone, world) : change(body, zone, world);
    },
    ({ method, url }) => method === 'POST' && url.pathname !== '/',
  );
}
