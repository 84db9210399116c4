import { z } from 'zod';
import type { Clock } from '../clock.ts';
import { CertlineError } from '../errors.ts';
import { readAnswer } from './api-answers.ts';
import { readAwsProblem } from './aws-problems.ts';
import { type AwsKeys, signAwsRequest } from './aws-signature.ts';
import { readXml } from './aws-xml.ts';
import { createHttpApi } from './http-api.ts';

/** Keys that end are renewed this long before. */
const marginMs = 5 * 60_000;
const sessionSeconds = 3600;

/** Keys, and when they end in ms since the epoch. */
export interface EndingKeys extends AwsKeys {
  expires: number;
}

export type KeySource = (signal: AbortSignal) => Promise<AwsKeys>;

/** Asks `fetchKeys` again only shortly before the end of what it gave. */
export function keptKeys(clock: Clock, fetchKeys: (signal: AbortSignal) => Promise<EndingKeys>): KeySource {
  let kept: EndingKeys | null = null;
  return async (signal) => {
    if (kept === null || clock.now() >= kept.expires - marginMs) kept = await fetchKeys(signal);
    return kept;
  };
}

const instanceSchema = z.object({
  Code: z.literal('Success'),
  AccessKeyId: z.string(),
  SecretAccessKey: z.string(),
  Token: z.string(),
  Expiration: z.string(),
});

/**
 * Keys of the role of this EC2 instance, by version 2 of its metadata service.
 * https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html
 * @param baseUrl address of the metadata service
 */
export function instanceKeys(clock: Clock, baseUrl: string): KeySource {
  const title = 'Metadata service of EC2';
  const api = createHttpApi({ title, baseUrl, clock });
  return keptKeys(clock, async (signal) => {
    const first = { 'x-aws-ec2-metadata-token-ttl-seconds': '60' };
    const { text: token } = await api.send({ method: 'PUT', path: 'latest/api/token', headers: first }, signal);
    const headers = { 'x-aws-ec2-metadata-token': token };
    const path = 'latest/meta-data/iam/security-credentials/';
    const list = await api.send({ method: 'GET', path, headers, accept: [404] }, signal);
    const role = list.text.split('\n', 1)[0]?.trim() ?? '';
    if (list.status === 404 || role === '')
      throw new CertlineError(
        'dns_credential_refused',
        'This machine has no instance role: give it one, or set settings.accessKeyId and secret.secretAccessKey',
      );
    const answer = await api.send({ method: 'GET', path: `${path}${encodeURIComponent(role)}`, headers }, signal);
    const read = readAnswer(title, instanceSchema, answer);
    const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, Token: sessionToken } = read;
    return { accessKeyId, secretAccessKey, sessionToken, expires: Date.parse(read.Expiration) };
  });
}

const assumedSchema = z.object({
  AssumeRoleResponse: z.object({
    AssumeRoleResult: z.object({
      Credentials: z.object({
        AccessKeyId: z.string(),
        SecretAccessKey: z.string(),
        SessionToken: z.string(),
        Expiration: z.string(),
      }),
    }),
  }),
});

export interface AssumedRole {
  roleArn: string;
  externalId?: string | undefined;
  region: string;
  baseUrl: string;
}

/**
 * Keys of a role that the given keys may assume.
 * https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
 */
export function assumedKeys(clock: Clock, own: KeySource, role: AssumedRole): KeySource {
  const { roleArn, externalId, region, baseUrl } = role;
  const title = 'AWS STS';
  const headers = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };
  const api = createHttpApi({
    ...{ title, baseUrl, clock, read: readAwsProblem },
    authorize: async ({ method, url, body }, signal) => {
      const scope = { region, service: 'sts', now: clock.now() };
      return signAwsRequest({ method, url, headers, body: String(body) }, await own(signal), scope);
    },
  });
  return keptKeys(clock, async (signal) => {
    const form = new URLSearchParams({
      ...{ Action: 'AssumeRole', Version: '2011-06-15', RoleArn: roleArn, RoleSessionName: 'certline' },
      ...{ DurationSeconds: String(sessionSeconds), ...(externalId === undefined ? {} : { ExternalId: externalId }) },
    });
    const answer = await api.send({ method: 'POST', path: '/', headers, body: String(form) }, signal);
    const read = readXml(title, assumedSchema, answer).AssumeRoleResponse.AssumeRoleResult.Credentials;
    const { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, SessionToken: sessionToken } = read;
    return { accessKeyId, secretAccessKey, sessionToken, expires: Date.parse(read.Expiration) };
  });
}
