import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Clock } from '../clock.ts';
import { CertlineError } from '../errors.ts';
import { connectOnce, type RedisTls, redisUrls } from './redis.ts';
import { missingRights } from './redis-rights.ts';
import { connectionTrouble } from './redis-trouble.ts';

export interface FirstContactOptions {
  tls: RedisTls;
  /** The hash tag of all keys. */
  tag: string;
  clock: Clock;
  /** Told why Redis cannot be reached for now, each time. */
  onError: (error: Error) => void;
}

const againMs = 1_000;
const otherMs = 2_000;

const refused = (detail: string): CertlineError =>
  new CertlineError('store_refused', `Redis does not let certline in: ${detail}`);

/** Whether the server at a URL speaks the other of TLS and plain TCP: it hangs up on the wrong one, or waits for more of it. */
function speaksOther(url: string): Promise<boolean> {
  const { hostname, port, protocol } = new URL(url);
  const to = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 6379) };
  return new Promise((resolve) => {
    const isPlain = protocol === 'redis:';
    const socket = isPlain ? connectTls({ ...to, rejectUnauthorized: false }) : connect(to);
    const end = (speaks: boolean): void => {
      socket.destroy();
      resolve(speaks);
    };
    socket.setTimeout(otherMs, () => end(false));
    socket.once('secureConnect', () => end(true));
    if (!isPlain) {
      socket.write('PING\r\n');
      socket.once('data', (reply: Buffer) => end(/^[+-]/.test(String(reply))));
    }
    // An alert, as for a client certificate that is missing, is a word of TLS, too.
    socket.once('error', (error: NodeJS.ErrnoException) => end(/^ERR_SSL_.*ALERT/.test(error.code ?? '')));
    socket.once('close', () => end(false));
  });
}

/** One look at one Redis. Throws `store_refused`; whatever else stands in the way is told, and answered with false. */
async function reach(url: string, isCluster: boolean, { tls, tag, onError }: FirstContactOptions): Promise<boolean> {
  const redis = connectOnce(url, tls);
  let why: Error | null = null;
  redis.on('error', (error) => {
    why ??= error;
  });
  try {
    await redis.connect();
    const missing = await missingRights(redis, tag);
    if (missing.length > 0)
      throw refused(`the user of REDIS_URL may not give ${missing.join(', ')} on keys that begin with ${tag}:`);
    const isNode = /^redis_mode:cluster/m.test(await redis.info('server'));
    if (isNode && !isCluster)
      throw refused('REDIS_URL names a node of a Redis Cluster: name several of them, separated by commas');
    if (!isNode && isCluster) throw refused('REDIS_URL names several Redis, and they are no Redis Cluster: name one');
    return true;
  } catch (error) {
    const met = why ?? (error as Error);
    const trouble = connectionTrouble(met);
    if (trouble?.code === 'store_refused') throw trouble;
    if (/ECONNRESET|ETIMEDOUT|Connection is closed/.test(met.message) && (await speaksOther(url)))
      throw refused(
        url.startsWith('redis:')
          ? 'it speaks TLS at this port: begin REDIS_URL with rediss://'
          : 'it speaks no TLS at this port: begin REDIS_URL with redis://, or give its TLS port',
      );
    onError(met);
    return false;
  } finally {
    redis.disconnect();
  }
}

/**
 * Waits until a Redis of `REDIS_URL` answers, and lets certline do all that it must. Throws `store_refused` for what waiting does not mend:
 * a wrong password, certificates, rights that are missing, one node of a Cluster.
 */
export async function firstContact(text: string, options: FirstContactOptions): Promise<void> {
  const urls = redisUrls(text);
  for (;;) {
    for (const url of urls) if (await reach(url, urls.length > 1, options)) return;
    await options.clock.sleep(againMs);
  }
}
