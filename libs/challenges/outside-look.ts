import { z } from 'zod';
import { findAddresses } from '../outgoing/addresses.ts';
import { sendRequest, wordsOf } from '../outgoing/request.ts';
import type { HttpAnswer } from './http-check.ts';

/** What a look from another place of the world found. */
export type OutsideAnswer = z.infer<typeof answerSchema>;

/** Looks for an answer from there. Rejects when nothing can be said, or with the signal's reason. */
export type OutsideLook = (wanted: HttpAnswer, signal: AbortSignal) => Promise<OutsideAnswer>;

export interface OutsideOptions {
  url: string;
  /** Sent as a bearer token. */
  key: string | undefined;
  timeoutMs?: number;
}

const longestReason = 300;
const longestBody = 8_192;
/** A look may follow ten redirects. */
const usualTimeoutMs = 20_000;

const reason = z.string().transform((text) => text.replaceAll(/\s+/g, ' ').slice(0, longestReason));
const answerSchema = z.discriminatedUnion('ok', [
  z.object({ ok: z.literal(true) }),
  /** `status`: that of the HTTP answer, where there was one. */
  z.object({ ok: z.literal(false), reason, status: z.number().int().exactOptional() }),
]);

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * Asks a service that looks at the web from outside: a POST of `name`, `token` and `keyAuthorization`, answered 200 with `{"ok":true}` or
 * `{"ok":false,"reason":"…","status":404}`. Who runs certline names the URL, so it may lead into the private network; without TLS only there.
 */
export function createOutsideLook({ url: given, key, timeoutMs = usualTimeoutMs }: OutsideOptions): OutsideLook {
  const url = new URL(given);
  // The path may be as good as a password there: it is shown nowhere.
  const place = url.origin;
  return async ({ name, token, keyAuthorization }, signal) => {
    const timeout = AbortSignal.timeout(timeoutMs);
    const either = AbortSignal.any([signal, timeout]);
    const headers = {
      ...{ 'content-type': 'application/json', accept: 'application/json', 'user-agent': 'certline' },
      ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
    };
    const body = JSON.stringify({ name, token, keyAuthorization });
    try {
      const addresses = await findAddresses(url, { allowPrivate: true, plain: 'private' }, either);
      const request = { method: 'POST' as const, url, addresses, headers, body, caBundle: null, longestBody };
      const { status, text } = await sendRequest(request, either);
      if (status !== 200) throw new Error(`${place} answers ${status}`);
      const answer = answerSchema.safeParse(parsed(text));
      if (!answer.success) throw new Error(`${place} answers something else than the protocol has`);
      return answer.data;
    } catch (error) {
      signal.throwIfAborted();
      if (timeout.aborted) throw new Error(`no answer from ${place} in ${timeoutMs / 1000} s`);
      throw new Error(wordsOf(error), { cause: error });
    }
  };
}
