import { randomUUID } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { CertlineError, type Plan } from '../errors.ts';
import type { WebhookSettings } from '../model/target-kinds.ts';
import { findAddresses, NoAddress, type Resolve } from '../outgoing/addresses.ts';
import { type OutgoingAnswer, sendRequest, wordsOf } from '../outgoing/request.ts';
import { signatureOf } from '../outgoing/signature.ts';
import { readRetryAfter } from '../retry-after.ts';
import { type CertificateTarget, type PublicCertificate, runSteps } from './certificate-target.ts';
import { pemParts } from './pem-parts.ts';

const usualTimeoutMs = 10_000;
/** A receiver that asks for more than a day is asked after a day. */
const longestWaitMs = 86_400_000;
/** How much of an answer is read: enough for a person to see what it is. */
const longestBody = 1_000;

export interface WebhookDeps {
  clock: Clock;
  /** Signs the deliveries; the receiver has it too. */
  secret: string;
  /** Whether the URL may lead to addresses that are not of the public internet. */
  allowPrivate: boolean;
  /** The addresses of a host name; as the system says unless given. */
  resolve?: Resolve;
  timeoutMs?: number;
}

/**
 * Tells a URL of each certificate by a signed POST; the private key never goes along. `certline-signature: t=<s>,v1=<hex>` is the HMAC-SHA256 of
 * `<t>.<body>`, t the time of sending in seconds since the epoch. Body and `certline-delivery` are the same in all attempts of a delivery, so that the
 * receiver can tell a repetition, which a lost answer makes.
 */
export function createWebhook(settings: WebhookSettings, deps: WebhookDeps): CertificateTarget {
  const { clock, secret, allowPrivate, resolve, timeoutMs = usualTimeoutMs } = deps;
  const url = new URL(settings.url);
  // The path may be as good as a password to the receiver: it is shown nowhere.
  const place = url.origin;

  async function whereTo(signal: AbortSignal): Promise<readonly string[]> {
    try {
      return await findAddresses(url, { allowPrivate, plain: 'loopback', resolve }, signal);
    } catch (thrown) {
      if (!(thrown instanceof NoAddress)) throw thrown;
      if (!thrown.refused) throw new CertlineError('target_unreachable', thrown.message, { cause: thrown.cause });
      if (thrown.message.includes('without TLS')) {
        const plan = { kind: 'permanent' } as const;
        throw new CertlineError('target_refused', `${thrown.message}; give an https URL`, { plan });
      }
      // The setting, or what the name leads to, may be another one by the next attempt.
      const advice = 'set ALLOW_PRIVATE_WEBHOOKS=true for the deployment workers of its pool, or give another URL';
      throw new CertlineError('target_refused', `${thrown.message}; ${advice}`);
    }
  }

  /** When to ask again; undefined leaves the usual plan of the code. */
  function planAfter({ status, headers }: OutgoingAnswer): Plan | undefined {
    if (status === 410) return { kind: 'permanent' };
    if (status !== 429 && status !== 503) return undefined;
    const now = clock.now();
    const notBefore = readRetryAfter(headers, now);
    return notBefore === null ? undefined : { kind: 'retryable', notBefore: Math.min(notBefore, now + longestWaitMs) };
  }

  function refusal(answer: OutgoingAnswer): CertlineError {
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
      ...{ 'certline-delivery': delivery, 'certline-signature': signatureOf(secret, body, clock.now()) },
    };
    let answer: OutgoingAnswer;
    try {
      const addresses = await whereTo(either);
      const { caBundle } = settings;
      answer = await sendRequest({ method: 'POST', url, addresses, headers, body, caBundle, longestBody }, either);
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
        { step: 'address', run: async () => `${place} is at ${(await whereTo(signal)).join(', ')}` },
        { step: 'delivery', run: () => deliver('target.test', `test_${randomUUID()}`, {}, signal) },
      ]),
  };
}
