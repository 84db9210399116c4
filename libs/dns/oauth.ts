import { z } from 'zod';
import type { Clock } from '../clock.ts';
import { CertlineError } from '../errors.ts';
import { readAnswer } from './api-answers.ts';
import type { ApiAnswer, ApiProblem, HttpApi } from './http-api.ts';

/** A token is not used in its last minutes, since a request takes a while and clocks differ. */
const marginMs = 5 * 60_000;

export interface AccessToken {
  token: string;
  /** ms since the epoch */
  expires: number;
}

/** Keeps an access token until shortly before its end. */
export interface TokenKeeper {
  token(signal: AbortSignal): Promise<string>;
  /** Whether a token is at hand that looks good. */
  holds(): boolean;
  forget(): void;
}

export function createTokenKeeper(
  clock: Clock,
  fetchToken: (signal: AbortSignal) => Promise<AccessToken>,
): TokenKeeper {
  let kept: AccessToken | null = null;
  const good = (): AccessToken | null => (kept !== null && clock.now() < kept.expires - marginMs ? kept : null);
  return {
    async token(signal) {
      const held = good();
      if (held !== null) return held.token;
      kept = await fetchToken(signal);
      return kept.token;
    },
    holds: () => good() !== null,
    forget() {
      kept = null;
    },
  };
}

/** Sends a request once more with a new token when a kept one is refused: it may have been revoked, or lost by a change of keys. */
export function withFreshToken(api: HttpApi, keeper: TokenKeeper): HttpApi {
  return {
    async send(request, signal) {
      const held = keeper.holds();
      try {
        return await api.send(request, signal);
      } catch (thrown) {
        if (!held || !(thrown instanceof CertlineError) || thrown.evidence?.status !== 401) throw thrown;
        keeper.forget();
        return api.send(request, signal);
      }
    },
  };
}

// The metadata service of Azure has numbers as text.
const tokenSchema = z.object({ access_token: z.string().min(1), expires_in: z.coerce.number().positive() });

/** The token of an answer (RFC 6749 §5.1). */
export function readToken(title: string, answer: ApiAnswer, clock: Clock): AccessToken {
  const { access_token: token, expires_in: seconds } = readAnswer(title, tokenSchema, answer);
  return { token, expires: clock.now() + seconds * 1000 };
}

const errorSchema = z.object({ error: z.string(), error_description: z.string().optional() });

/** Errors of a token endpoint (RFC 6749 §5.2): most have status 400 and mean the credential. */
export function readTokenProblem({ json, status }: ApiAnswer): ApiProblem | undefined {
  const read = errorSchema.safeParse(json);
  if (!read.success) return undefined;
  const { error, error_description: description } = read.data;
  const words = description === undefined ? error : `${error}: ${description.split(/\r?\n/, 1)[0]}`;
  const passing = status === 429 || status >= 500 || /^(temporarily_unavailable|server_error|slow_down)$/.test(error);
  const code = status === 429 || error === 'slow_down' ? 'dns_provider_busy' : 'dns_provider_unreachable';
  return { words, code: passing ? code : 'dns_credential_refused' };
}
