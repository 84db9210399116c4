import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { signAwsRequest } from '#libs/dns/aws-signature';
import { openRoute53, route53 } from '#libs/dns/providers/route53';
import {
  depsOf,
  describeProvider,
  errorOf,
  name,
  record,
  signal,
  value,
  zone,
} from '../support/dns-stand-ins/behaviours.ts';
import { awsError, awsKeyId, awsSecret, roleArn, startRoute53 } from '../support/dns-stand-ins/route53.ts';
import type { StandIn } from '../support/dns-stand-ins/stand-in.ts';
import { type FakeClock, fakeClock } from '../support/fake-clock.ts';

const settings = { accessKeyId: awsKeyId, region: 'eu-central-1' };
const secret = { secretAccessKey: awsSecret };
const at = ({ baseUrl }: StandIn) => ({ route53: baseUrl, sts: baseUrl, metadata: baseUrl });

describeProvider({
  name: 'route53',
  start: (clock) => startRoute53(clock),
  open: (standIn, deps) => openRoute53(settings, secret, deps, at(standIn)),
  openWrong: (standIn, deps) => openRoute53(settings, { secretAccessKey: 'wrong-secret' }, deps, at(standIn)),
  secrets: [awsSecret],
  busy: () => [
    { answer: awsError(400, 'Throttling', 'Rate exceeded'), waitMs: 0 },
    { answer: awsError(400, 'PriorRequestNotComplete', 'The request was rejected'), waitMs: 0 },
    { answer: { ...awsError(429, 'TooMany', 'Slow down'), headers: { 'retry-after': '7' } }, waitMs: 7000 },
  ],
  forbidden: [
    awsError(403, 'AccessDenied', 'User is not authorized to perform: route53:ChangeResourceRecordSets'),
    awsError(400, 'ExpiredToken', 'The security token included in the request is expired'),
  ],
  guardsRemoval: true,
  hasPrivateZones: true,
  shortestTtl: null,
});

describe('The signature of AWS', () => {
  it('is the one of its documentation', () => {
    const keys = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: awsSecret };
    const url = new URL('https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08');
    const headers = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };
    const scope = { region: 'us-east-1', service: 'iam', now: Date.UTC(2015, 7, 30, 12, 36, 0) };
    expect(signAwsRequest({ method: 'GET', url, headers }, keys, scope).authorization).toContain(
      'SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7',
    );
  });
});

describe('Route 53', () => {
  let clock: FakeClock;
  let standIn: StandIn;
  beforeEach(async () => {
    clock = fakeClock();
    standIn = await startRoute53(clock, 'certline-worker');
  });
  afterEach(() => standIn.close());

  it('keeps the TTL of a record set that others made', async () => {
    const home = standIn.addZone(zone);
    standIn.add(home, name, 'theirs', 3600);
    const provider = await openRoute53(settings, secret, depsOf(clock), at(standIn));
    await provider.present(record, signal);
    expect(home.records.map(({ ttl }) => ttl)).toEqual([3600, 3600]);
  });

  it('assumes a role with the keys of the user, and asks for a new session only near its end', async () => {
    const home = standIn.addZone(zone);
    const role = { ...settings, roleArn, externalId: 'certline-7' };
    const provider = await openRoute53(role, secret, depsOf(clock), at(standIn));
    const sessions = (): number => standIn.requests.filter(({ url }) => url.pathname === '/').length;
    await provider.present(record, signal);
    await provider.cleanUp(record, signal);
    expect([sessions(), home.records]).toEqual([1, []]);
    clock.advance(3_500_000);
    await provider.present(record, signal);
    expect([sessions(), standIn.values(home, name)]).toEqual([2, [value]]);
    const other = await openRoute53({ ...role, externalId: 'no' }, secret, depsOf(clock), at(standIn));
    const error = await errorOf(other.present(record, signal));
    expect([error.code, error.message]).toEqual(['dns_credential_refused', expect.stringContaining('sts:AssumeRole')]);
  });

  it('uses the role of the instance without keys, also to assume another', async () => {
    const home = standIn.addZone(zone);
    const region = { region: 'eu-central-1' };
    const provider = await openRoute53(region, {}, depsOf(clock), at(standIn));
    await provider.present(record, signal);
    expect(standIn.values(home, name)).toEqual([value]);
    const role = { ...region, roleArn, externalId: 'certline-7' };
    await (await openRoute53(role, {}, depsOf(clock), at(standIn))).cleanUp(record, signal);
    expect(home.records).toEqual([]);
  });

  it('says what to do on a machine without a role, and with half a key', async () => {
    const bare = await startRoute53(clock);
    const provider = await openRoute53({ region: 'eu-central-1' }, {}, depsOf(clock), at(bare));
    const error = await errorOf(provider.present(record, signal));
    await bare.close();
    expect([error.code, error.message]).toEqual([
      'dns_credential_refused',
      expect.stringContaining('settings.accessKeyId'),
    ]);
    const half = await errorOf(openRoute53(settings, {}, depsOf(clock), at(standIn)));
    expect([half.code, half.message]).toEqual([
      'dns_credential_refused',
      expect.stringContaining('secret.secretAccessKey'),
    ]);
  });

  it('asks which of two public zones of one name it is', async () => {
    standIn.addZone(zone);
    const home = standIn.addZone(zone);
    const provider = await openRoute53(settings, secret, depsOf(clock), at(standIn));
    const error = await errorOf(provider.present(record, signal));
    expect([error.code, error.message]).toEqual([
      'dns_zone_not_managed',
      expect.stringContaining('settings.hostedZoneIds'),
    ]);
    const hostedZoneIds = { [zone]: home.id };
    const sure = await openRoute53({ ...settings, hostedZoneIds }, secret, depsOf(clock), at(standIn));
    await sure.present(record, signal);
    expect(standIn.values(home, name)).toEqual([value]);
  });

  it('finds the public zone behind many private ones of its name', async () => {
    for (let at = 0; at < 5; at += 1) standIn.addZone(zone, { isPrivate: true });
    const home = standIn.addZone(zone);
    const provider = await openRoute53(settings, secret, depsOf(clock), at(standIn));
    await provider.present(record, signal);
    expect(standIn.values(home, name)).toEqual([value]);
  });

  it('gives up for now when the record set is changed each time', async () => {
    const home = standIn.addZone(zone);
    const provider = await openRoute53(settings, secret, depsOf(clock), at(standIn));
    let count = 0;
    const again = (): void => {
      count += 1;
      standIn.add(home, name, `other-${count}`);
      standIn.beforeWrite(again);
    };
    standIn.beforeWrite(again);
    const error = await errorOf(provider.present(record, signal));
    expect([error.code, count]).toEqual(['dns_provider_busy', 5]);
    expect(standIn.values(home, name)).not.toContain(value);
  });

  it('does not repeat a change that is wrong in itself', async () => {
    standIn.addZone(zone);
    const provider = await openRoute53(settings, secret, depsOf(clock), at(standIn));
    const words =
      'RRSet of type TXT is not permitted as a conflicting RRSet of type CNAME with the same DNS name already exists';
    standIn.fail({ answer: awsError(400, 'InvalidChangeBatch', words) });
    const error = await errorOf(provider.present(record, signal));
    expect([error.code, error.message]).toEqual(['dns_provider_refused', expect.stringContaining(words)]);
    expect(standIn.requests.filter(({ method }) => method === 'POST')).toHaveLength(1);
  });

  it('has the region and the partition checked', () => {
    expect(route53.settings.safeParse({ accessKeyId: awsKeyId }).data?.region).toBe('us-east-1');
    expect(route53.settings.safeParse({ region: 'https://evil.example/' }).success).toBe(false);
    expect(route53.settings.safeParse({ hostedZoneIds: { [zone]: '../x' } }).success).toBe(false);
  });
});
