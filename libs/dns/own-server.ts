import { CertlineError } from '../errors.ts';
import { type AddressRules, findAddresses, NoAddress } from '../outgoing/addresses.ts';
import { sendRequest, wordsOf } from '../outgoing/request.ts';
import { createHttpApi, type HttpApi, type HttpApiOptions, type Transport } from './http-api.ts';

/** A zone of many records, should a server not know how to leave most of it out. */
const longestBody = 8 * 1024 * 1024;

export interface OwnServerOptions extends Omit<HttpApiOptions, 'transport'>, AddressRules {
  /** CA certificates to trust, PEM; null for the system's. */
  caBundle: string | null;
}

/**
 * The API of a server at an address that a person gave. It is looked up once for each request, and connected to as it was then: private addresses
 * only where they are allowed, and without TLS only where `plain` says.
 */
export function createOwnServerApi({ caBundle, allowPrivate, plain, resolve, ...api }: OwnServerOptions): HttpApi {
  const { title } = api;
  const transport: Transport = async (request, signal) => {
    try {
      const addresses = await findAddresses(request.url, { allowPrivate, plain, resolve }, signal);
      const answer = await sendRequest({ ...request, addresses, caBundle, longestBody }, signal);
      if (!answer.whole) throw new Error(`the answer breaks off, or is longer than ${longestBody} bytes`);
      const headers = new Headers();
      for (const [name, value] of Object.entries(answer.headers)) headers.set(name, String(value));
      return { status: answer.status, headers, text: answer.text };
    } catch (thrown) {
      if (thrown instanceof NoAddress && thrown.refused) throw notAllowed(title, thrown);
      throw new Error(wordsOf(thrown)); // its cause may be an error without words
    }
  };
  return createHttpApi({ ...api, transport });
}

function notAllowed(title: string, { message }: NoAddress): CertlineError {
  const advice = message.includes('without TLS')
    ? 'give an https URL'
    : 'set ALLOW_PRIVATE_DNS_SERVERS=true for the validation workers';
  return new CertlineError('dns_provider_refused', `${title}: ${message}; ${advice}`, { evidence: { sent: false } });
}
