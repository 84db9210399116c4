/** Checks AWS Signature Version 4 as https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html says, on its own. */
import { createHash, createHmac } from 'node:crypto';
import type { StandInRequest } from './stand-in.ts';

export interface KnownKeys {
  secretAccessKey: string;
  sessionToken?: string;
}

const hash = (text: string): string => createHash('sha256').update(text, 'utf8').digest('hex');
const escapeRfc3986 = (text: string): string =>
  Buffer.from(text)
    .toString('latin1')
    .replace(/[^A-Za-z0-9\-._~]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);

/** The code of the error that AWS answers; null when the signature holds. @param now ms since the epoch */
export function signatureProblem(
  { method, url, headers, body }: StandInRequest,
  keys: ReadonlyMap<string, KnownKeys>,
  { region, service, now }: { region: string; service: string; now: number },
): string | null {
  const pattern =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/;
  const [, id = '', day = '', where, what, names = '', given] = pattern.exec(headers.authorization ?? '') ?? [];
  if (given === undefined) return 'MissingAuthenticationToken';
  const key = keys.get(id);
  if (key === undefined || headers['x-amz-security-token'] !== key.sessionToken) return 'InvalidClientTokenId';
  const date = String(headers['x-amz-date']);
  const [, year, month, dayOfMonth, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date) ?? [];
  const sent = Date.UTC(
    Number(year),
    Number(month) - 1,
    Number(dayOfMonth),
    Number(hour),
    Number(minute),
    Number(second),
  );
  if (!(Math.abs(now - sent) < 900_000) || !date.startsWith(day)) return 'SignatureDoesNotMatch';
  if (where !== region || what !== service) return 'SignatureDoesNotMatch';
  const signed = names.split(';');
  const mustBe = Object.keys(headers).filter((name) => name === 'host' || name.startsWith('x-amz-'));
  if (!mustBe.every((name) => signed.includes(name))) return 'SignatureDoesNotMatch';
  const query = url.search
    .slice(1)
    .split('&')
    .filter((part) => part !== '')
    .map((part) => part.split('=', 2).map((one) => escapeRfc3986(decodeURIComponent(one.replace(/\+/g, ' ')))))
    .map(([name, value = '']) => `${name}=${value}`)
    .sort();
  const lines = [
    ...[method, url.pathname.split('/').map(escapeRfc3986).join('/'), query.join('&')],
    ...[...signed].sort().map((name) => `${name}:${String(headers[name]).trim()}`),
    ...['', names, hash(body)],
  ];
  const scope = `${day}/${region}/${service}/aws4_request`;
  const text = `AWS4-HMAC-SHA256\n${date}\n${scope}\n${hash(lines.join('\n'))}`;
  let signing: string | Buffer = `AWS4${key.secretAccessKey}`;
  for (const part of [day, region, service, 'aws4_request'])
    signing = createHmac('sha256', signing).update(part).digest();
  return createHmac('sha256', signing).update(text).digest('hex') === given ? null : 'SignatureDoesNotMatch';
}
