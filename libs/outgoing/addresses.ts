import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { isLoopbackAddress, isPublicAddress } from './public-address.ts';
import { wordsOf } from './request.ts';

/** Why there is no address to connect to. */
export class NoAddress extends Error {
  override readonly name = 'NoAddress';
  /** Whether there is one, and it may not be used. */
  readonly refused: boolean;
  constructor(message: string, refused: boolean, cause?: unknown) {
    super(message, cause === undefined ? {} : { cause });
    this.refused = refused;
  }
}

export type Resolve = (host: string) => Promise<readonly string[]>;

export interface AddressRules {
  /** Whether addresses that are not of the public internet may be used. */
  allowPrivate: boolean;
  /** Which addresses a URL without TLS may lead to: this machine's own, or those of the private network. */
  plain: 'loopback' | 'private';
  /** The addresses of a host name; as the system says unless given. */
  resolve?: Resolve | undefined;
}

const systemResolve: Resolve = async (host) => (await lookup(host, { all: true })).map(({ address }) => address);

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

/**
 * The addresses to connect to for a URL that a person gave, each of them allowed: one that is not would be enough for whoever runs the DNS of
 * the name. Throws `NoAddress`, whose words name the URL's origin and no more of it, or the signal's reason.
 */
export async function findAddresses(url: URL, rules: AddressRules, signal: AbortSignal): Promise<readonly string[]> {
  const { allowPrivate, plain, resolve = systemResolve } = rules;
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  let addresses: readonly string[];
  try {
    addresses = isIP(host) === 0 ? await unlessAborted(resolve(host), signal) : [host];
  } catch (cause) {
    signal.throwIfAborted();
    throw new NoAddress(`${host} does not resolve: ${wordsOf(cause)}`, false, cause);
  }
  if (addresses.length === 0) throw new NoAddress(`${host} has no address`, false);
  const refuse = (why: string): NoAddress => new NoAddress(`${url.origin} ${why}: nothing was sent`, true);
  const inner = addresses.find((address) => !isPublicAddress(address));
  if (inner !== undefined && !allowPrivate)
    throw refuse(`leads to ${inner}, which is not an address of the public internet`);
  const outer = addresses.find((address) =>
    plain === 'loopback' ? !isLoopbackAddress(address) : isPublicAddress(address),
  );
  if (url.protocol === 'http:' && outer !== undefined)
    throw refuse(
      `leads to ${outer} without TLS, which is for ${plain === 'loopback' ? 'this machine' : 'the private network'} alone`,
    );
  return addresses;
}
