import type { Clock } from '../clock.ts';
import { CertlineError } from '../errors.ts';
import { createHttpApi } from './http-api.ts';
import { createTokenKeeper, readToken, readTokenProblem, type TokenKeeper } from './oauth.ts';

/** How long an update of the metadata service takes at the most. */
const metadataUpdateMs = 70_000;

/** Addresses of one of Azure's clouds, each with a final slash. */
export interface AzureCloud {
  signIn: string;
  management: string;
}

/** https://learn.microsoft.com/en-us/entra/identity-platform/authentication-national-cloud */
export const azureClouds = {
  public: { signIn: 'https://login.microsoftonline.com/', management: 'https://management.azure.com/' },
  usGovernment: { signIn: 'https://login.microsoftonline.us/', management: 'https://management.usgovcloudapi.net/' },
  china: { signIn: 'https://login.partner.microsoftonline.cn/', management: 'https://management.chinacloudapi.cn/' },
} as const satisfies Record<string, AzureCloud>;

export interface ServicePrincipal {
  tenantId: string;
  clientId: string;
  clientSecret: string;
}

/**
 * Tokens of a service principal by its secret.
 * https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow
 * @param audience what the token is for: the cloud's management address, which need not be where it is sent
 */
export function principalTokens(
  clock: Clock,
  principal: ServicePrincipal,
  signIn: string,
  audience: string,
): TokenKeeper {
  const title = 'Sign-in to Azure';
  const api = createHttpApi({ title, baseUrl: signIn, clock, read: readTokenProblem });
  return createTokenKeeper(clock, async (signal) => {
    const form = new URLSearchParams({
      ...{ grant_type: 'client_credentials', scope: `${audience}.default` },
      ...{ client_id: principal.clientId, client_secret: principal.clientSecret },
    });
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    const path = `${encodeURIComponent(principal.tenantId)}/oauth2/v2.0/token`;
    return readToken(title, await api.send({ method: 'POST', path, headers, body: String(form) }, signal), clock);
  });
}

/**
 * Tokens of the managed identity of this machine; `clientId` chooses one that was assigned to it by hand.
 * https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
 */
export function identityTokens(
  clock: Clock,
  clientId: string | undefined,
  baseUrl: string,
  audience: string,
): TokenKeeper {
  const title = 'Managed identity of Azure';
  const api = createHttpApi({
    ...{ title, baseUrl, clock },
    read(answer) {
      const words = readTokenProblem(answer)?.words;
      const said = words === undefined ? {} : { words };
      // it is being updated, then both mean "soon"
      if (answer.status === 404 || answer.status === 410)
        return { ...said, code: 'dns_provider_unreachable', notBefore: clock.now() + metadataUpdateMs };
      return answer.status < 429 ? { ...said, code: 'dns_credential_refused' } : said;
    },
  });
  return createTokenKeeper(clock, async (signal) => {
    const query = new URLSearchParams({
      ...{ 'api-version': '2018-02-01', resource: audience },
      ...(clientId === undefined ? {} : { client_id: clientId }),
    });
    const path = `metadata/identity/oauth2/token?${query}`;
    return readToken(title, await api.send({ method: 'GET', path, headers: { metadata: 'true' } }, signal), clock);
  });
}

/** The error for settings that neither name a service principal nor a managed identity. */
export function halfPrincipal(): CertlineError {
  return new CertlineError(
    'dns_credential_refused',
    'Azure DNS: a service principal needs settings.tenantId, settings.clientId and secret.clientSecret; a managed identity has neither a tenant nor a secret',
  );
}
