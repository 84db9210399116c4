import { createPrivateKey, sign } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '../clock.ts';
import { createHttpApi } from './http-api.ts';
import { createTokenKeeper, readToken, readTokenProblem, type TokenKeeper } from './oauth.ts';

const scope = 'https://www.googleapis.com/auth/ndev.clouddns.readwrite';
const lifeSeconds = 3600;

function isPrivateKey(pem: string): boolean {
  try {
    return createPrivateKey(pem).asymmetricKeyType === 'rsa';
  } catch {
    return false;
  }
}

/** The file that Google gives out for a service account. */
export const serviceAccountSchema = z.looseObject({
  type: z.literal('service_account', 'is not service_account: this is no key file of a service account'),
  project_id: z.string().min(1),
  private_key_id: z.string().optional(),
  private_key: z.string().refine(isPrivateKey, 'is not an RSA private key in PEM form'),
  client_email: z.string().min(3),
  // a file from anywhere must not send the worker to an address of its choice
  token_uri: z.enum(
    ['https://oauth2.googleapis.com/token', 'https://accounts.google.com/o/oauth2/token'],
    'is not the token address of Google',
  ),
});
export type ServiceAccount = z.infer<typeof serviceAccountSchema>;

const base64url = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/**
 * Tokens of a service account for a statement signed with its key.
 * https://developers.google.com/identity/protocols/oauth2/service-account#authorizingrequests
 * @param tokenUrl another address, for tests
 */
export function serviceAccountTokens(
  clock: Clock,
  account: ServiceAccount,
  tokenUrl = account.token_uri as string,
): TokenKeeper {
  const title = 'Sign-in to Google';
  const api = createHttpApi({ title, baseUrl: tokenUrl, clock, read: readTokenProblem });
  return createTokenKeeper(clock, async (signal) => {
    const now = Math.floor(clock.now() / 1000);
    const kid = account.private_key_id === undefined ? {} : { kid: account.private_key_id };
    const claims = { iss: account.client_email, scope, aud: account.token_uri, iat: now, exp: now + lifeSeconds };
    const text = `${base64url({ alg: 'RS256', typ: 'JWT', ...kid })}.${base64url(claims)}`;
    const signature = sign('sha256', Buffer.from(text), account.private_key).toString('base64url');
    const form = new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
      assertion: `${text}.${signature}`,
    });
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    const answer = await api.send({ method: 'POST', path: tokenUrl, headers, body: String(form) }, signal);
    return readToken(title, answer, clock);
  });
}
