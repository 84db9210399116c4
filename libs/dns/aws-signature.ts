import { createHash, createHmac } from 'node:crypto';

/** Keys of a user, or of a session when there is a token. */
export interface AwsKeys {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string | undefined;
}

export interface AwsRequest {
  method: string;
  url: URL;
  headers?: Record<string, string>;
  body?: string;
}

export interface AwsScope {
  region: string;
  /** `route53`, `sts` */
  service: string;
  /** ms since the epoch */
  now: number;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();

/** RFC 3986; encodeURIComponent leaves five characters that are reserved. */
function encoded(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`);
}

function canonicalQuery(url: URL): string {
  return [...url.searchParams]
    .map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
    .sort()
    .join('&');
}

/**
 * The headers that sign a request to AWS (Signature Version 4); the request's own headers are signed along.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 */
export function signAwsRequest(
  request: AwsRequest,
  keys: AwsKeys,
  { region, service, now }: AwsScope,
): Record<string, string> {
  const { method, url, headers = {}, body = '' } = request;
  const date = new Date(now).toISOString().replace(/[-:]|\.\d{3}/g, '');
  const own: Record<string, string> = {
    'x-amz-date': date,
    ...(keys.sessionToken === undefined ? {} : { 'x-amz-security-token': keys.sessionToken }),
  };
  const signed = Object.entries({ ...headers, ...own, host: url.host })
    .map(([name, value]): [string, string] => [name.toLowerCase(), value.trim().replace(/\s+/g, ' ')])
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const names = signed.map(([name]) => name).join(';');
  // every segment is encoded once more than it is sent
  const path = url.pathname.split('/').map(encoded).join('/');
  const lines = signed.map(([name, value]) => `${name}:${value}\n`).join('');
  const canonical = [method, path, canonicalQuery(url), lines, names, sha256(body)].join('\n');
  const scope = `${date.slice(0, 8)}/${region}/${service}/aws4_request`;
  const text = ['AWS4-HMAC-SHA256', date, scope, sha256(canonical)].join('\n');
  const key = [region, service, 'aws4_request'].reduce(
    (last, part) => hmac(last, part),
    hmac(`AWS4${keys.secretAccessKey}`, date.slice(0, 8)),
  );
  const signature = hmac(key, text).toString('hex');
  const credential = `${keys.accessKeyId}/${scope}`;
  return {
    ...own,
    authorization: `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${names}, Signature=${signature}`,
  };
}
