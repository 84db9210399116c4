import { createHmac, randomUUID } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { Clock } from '../clock.ts';
import { CertlineError, type Plan } from '../errors.ts';
import type { WebhookSettings } from '../model/target-kinds.ts';
import { readRetryAfter } from '../retry-after.ts';
import { type CertificateTarget, type PublicCertificate, runSteps } from './certificate-target.ts';
import { pemParts } from './pem-parts.ts';
import { isLoopbackAddress, isPublicAddress } from './public-address.ts';
import { type PostAnswer, post } from './webhook-request.ts';

const usualTimeoutMs = 10_000;
/** A receiver that asks for more than a day is asked after a day. */
const longestWaitMs = 86_400_000;

export interface WebhookDeps {
  clock: Clock;
  /** Signs the deliveries; the receiver has it too. */
  secret: string;
  /** Whether the URL may lead to addresses that are not of the public internet. */
  allowPrivate: boolean;
  /** The addresses of a host name; as the system says unless given. */
  resolve?: (host: string) => Promise<readonly string[]>;
  timeoutMs?: number;
}

const systemResolve = async (host: string): Promise<string[]> =>
  (await lookup(host, { all: true })).map(({ address }) => address);

/** Rejects with the signal's reason when it is aborted: a look-up cannot be stopped, only left alone. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** Node tells of several addresses that were tried by an error without words. */
function wordsOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return wordsOf(error.errors[0]);
  return error instanceof Error ? error.message : String(error);
}

/**
 * Tells a URL of each certificate by a signed POST; the private key never goes along. `certline-signature: t=<s>,v1=<hex>` is the HMAC-SHA256 of
 * `<t>.<body>`, t the time of sending in seconds since the epoch. Body and `certline-delivery` are the same in all attempts of a delivery, so that the
 * receiver can tell a repetition, which a lost answer makes.
 */
export function createWebhook(settings: WebhookSettings, deps: WebhookDeps): CertificateTarget {
  const { clock, secret, allowPrivate, resolve = systemResolve, timeoutMs = usualTimeoutMs } = deps;
  const url = new URL(settings.url);
  // The path may be as good as a password to the receiver: it is shown nowhere.
  const place = url.origin;

  /** The addresses to connect to, each of them allowed: one that is not would be enough for whoever runs the DNS of the name. */
  async function findAddresses(signal: AbortSignal): Promise<readonly string[]> {
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
    let addresses: readonly string[];
    try {
      addresses = isIP(host) === 0 ? await unlessAborted(resolve(host), signal) : [host];
    } catch (cause) {
      signal.throwIfAborted();
      throw new CertlineError('target_unreachable', `${host} does not resolve: ${wordsOf(cause)}`, { cause });
    }
    if (addresses.length === 0) throw new CertlineError('target_unreachable', `${host} has no address`);
    const refuse = (why: string): CertlineError =>
      new CertlineError('target_refused', `${place} ${why}: nothing was sent`, { plan: { kind: 'permanent' } });
    const inner = addresses.find((address) => !isPublicAddress(address));
    if (inner !== undefined && !allowPrivate)
      throw refuse(`leads to ${inner}, which is not an address of the public internet`);
    const outer = addresses.find((address) => !isLoopbackAddress(address));
    if (url.protocol === 'http:' && outer !== undefined)
      throw refuse(`leads to ${outer} without TLS, which is for this machine alone`);
    return addresses;
  }

  function sign(body: string): string {
    const t = Math.floor(clock.now() / 1000);
    return `t=${t},v1=${createHmac('sha256', secret).update(`${t}.${body}`).digest('hex')}`;
  }

  /** When to ask again; undefined leaves the usual plan of the code. */
  function planAfter({ status, headers }: PostAnswer): Plan | undefined {
    if (status === 410) return { kind: 'permanent' };
    if (status !== 429 && status !== 503) return undefined;
    const now = clock.now();
    const notBefore = readRetryAfter(headers, now);
    return notBefore === null ? undefined : { kind: 'retryable', notBefore: Math.min(notBefore, now + longestWaitMs) };
  }

  function refusal(answer: PostAnswer): CertlineError {
    const { status, headers, text } = answer;
    const plan = planAfter(answer);
    const { location } = headers;
    const words =
      status === 410
        ? 'answers 410: it wants no more deliveries'
        : status >= 300 && status < 400
          ? `answers ${status}: redirects are not followed, give the URL that it leads to${location === undefined ? '' : ` (${location.slice(0, 200)})`}`
          : `answers ${status}`;
    return new CertlineError('target_refused', `${place} ${words}`, {
      ...(plan === undefined ? {} : { plan }),
      evidence: { status, answer: text },
    });
  }

  async function deliver(event: string, delivery: string, content: object, signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    const timeout = AbortSignal.timeout(timeoutMs);
    const either = AbortSignal.any([signal, timeout]);
    const body = JSON.stringify({ event, delivery, ...content });
    const headers = {
      ...{ 'content-type': 'application/json', 'user-agent': 'certline', 'certline-event': event },
      ...{ 'certline-delivery': delivery, 'certline-signature': sign(body) },
    };
    let answer: PostAnswer;
    try {
      const addresses = await findAddresses(either);
      answer = await post({ url, addresses, headers, body, caBundle: settings.caBundle }, either);
    } catch (cause) {
      signal.throwIfAborted();
      if (timeout.aborted)
        throw new CertlineError('target_timeout', `no answer from ${place} in ${timeoutMs} ms`, { cause });
      if (cause instanceof CertlineError) throw cause;
      throw new CertlineError('target_unreachable', `cannot deliver to ${place}: ${wordsOf(cause)}`, { cause });
    }
    if (answer.status < 200 || answer.status > 299) throw refusal(answer);
    return `${place} answers ${answer.status}`;
  }

  return {
    async deploy(certificate: PublicCertificate, { signal, deployment }) {
      const { id, names, thumbprint, serial, notAfter } = certificate;
      const chainPem = pemParts(certificate).fullchain;
      const shown = { id, names, thumbprint, serial, notAfter: new Date(notAfter).toISOString(), chainPem };
      const content = { certificate: shown };
      return { changed: true, detail: await deliver('certificate.deployed', deployment, content, signal) };
    },

    check: async () => ({ state: 'unknown', differences: [] }),

    test: (signal) =>
      runSteps(signal, [
        { step: 'address', run: async () => `${place} is at ${(await findAddresses(signal)).join(', ')}` },
        { step: 'delivery', run: () => deliver('target.test', `test_${randomUUID()}`, {}, signal) },
      ]),
  };
}
