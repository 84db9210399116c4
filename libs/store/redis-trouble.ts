import { CertlineError } from '../errors.ts';

/** What keeps Redis from doing a command: it does nothing then, not even a part of a script. */
type TroubleCode = 'store_unavailable' | 'store_full' | 'store_refused';

/** First words of replies that refuse a command for what state Redis is in, or for who asks (redis.io/docs, src/server.c `shared`). */
const replies: Record<string, TroubleCode> = {
  LOADING: 'store_unavailable',
  BUSY: 'store_unavailable',
  // A failover is under way, or the connection leads to what was the master before it.
  READONLY: 'store_unavailable',
  MASTERDOWN: 'store_unavailable',
  NOREPLICAS: 'store_unavailable',
  CLUSTERDOWN: 'store_unavailable',
  TRYAGAIN: 'store_unavailable',
  OOM: 'store_full',
  MISCONF: 'store_full',
  NOAUTH: 'store_refused',
  WRONGPASS: 'store_refused',
  NOPERM: 'store_refused',
};

const lost =
  /Stream isn't writeable|Connection is closed|Command timed out|Cluster isn't ready|Cluster is ended|None of startup nodes|Failed to refresh slots|Too many Cluster redirections/;
const lostCodes = /^(ECONN|EHOST|ENET|EPIPE|ETIMEDOUT|EAI_AGAIN|ENOTFOUND)/;
/** Codes of OpenSSL and Node for a handshake that came to nothing. */
const tlsCodes = /^(ERR_SSL_|ERR_TLS_|CERT_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_|HOSTNAME_MISMATCH|INVALID_CA)/;

const words: Record<TroubleCode, string> = {
  store_unavailable: 'Redis does not answer',
  store_full: 'Redis takes no writes',
  store_refused: 'Redis does not let certline in',
};

function tlsWords(code: string, message: string): string {
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG/.test(code))
    return 'it speaks no TLS at this port: begin REDIS_URL with redis://, or give its TLS port';
  if (/ALTNAME|HOSTNAME/.test(code)) return `its certificate is not for the name in REDIS_URL (${message})`;
  if (/ALERT/.test(code))
    return `it refuses the TLS handshake (${message}): it may want REDIS_CERTIFICATE and REDIS_KEY`;
  return `its certificate is not trusted (${code}): give the CA that it is from as REDIS_CA_FILE`;
}

/** The errors inside an error: the commands of a transaction, the node that a Cluster could not be read from. */
function within(error: Error): unknown[] {
  const { previousErrors, lastNodeError } = error as { previousErrors?: unknown; lastNodeError?: unknown };
  return [...(Array.isArray(previousErrors) ? previousErrors : []), ...(lastNodeError ? [lastNodeError] : [])];
}

/**
 * What stands between certline and Redis when a command failed with `error`, as an error of ours; null when it failed for another reason.
 * Nothing of the command was done, unless the connection was lost: then it may have been.
 */
export function redisTrouble(error: unknown): CertlineError | null {
  if (error instanceof CertlineError) return error.code in words ? error : null;
  if (!(error instanceof Error)) return null;
  for (const one of within(error)) {
    const trouble = redisTrouble(one);
    if (trouble) return trouble;
  }
  const { message, name } = error;
  // Redis 6 wraps what stopped a script.
  const [, reply = ''] = /^(?:ERR .*?-)?([A-Z]+) /.exec(message) ?? [];
  const found = name === 'ReplyError' ? replies[reply] : undefined;
  if (found) {
    const detail = found === 'store_unavailable' ? words[found] : `${words[found]}: ${message}`;
    return new CertlineError(found, detail, { cause: error });
  }
  if (name !== 'MaxRetriesPerRequestError' && !lost.test(message)) return null;
  return new CertlineError('store_unavailable', words.store_unavailable, { cause: error });
}

/** As `redisTrouble`, also for what a connection to Redis itself tells: its codes are those of all connections. */
export function connectionTrouble(error: unknown): CertlineError | null {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const { message = '' } = error instanceof Error ? error : {};
  if (tlsCodes.test(code))
    return new CertlineError('store_refused', `${words.store_refused}: ${tlsWords(code, message)}`, { cause: error });
  if (lostCodes.test(code)) return new CertlineError('store_unavailable', words.store_unavailable, { cause: error });
  return redisTrouble(error);
}

/** Whether what is in the way goes by itself: the command is done when it is asked again often enough. */
export function passes(trouble: CertlineError | null): boolean {
  return trouble !== null && trouble.code !== 'store_refused';
}
