import { randomBytes } from 'node:crypto';
import { answeringSite } from '#libs/challenges/answering-site';
import type { HttpCheck } from '#libs/challenges/http-check';
import type { Webroots } from '#libs/challenges/webroots';
import type { Resolver } from '#libs/dns/resolver';
import { CertlineError } from '#libs/errors';
import type { Site } from '#libs/iis/iis-host';
import type { HttpMethod } from '#libs/model/challenge-method';
import { isPublicAddress } from '#libs/outgoing/public-address';
import type { HostRequests } from '#libs/queues/host-requests';
import type { Store } from '#libs/store/store';
import { requireTarget } from '../answering-hosts.ts';
import type { Looks } from './finding.ts';

export interface HttpLookDeps {
  looks: Looks;
  /** Whether the CA comes from the internet. */
  caIsPublic: Promise<boolean>;
  resolver: Resolver;
  check: HttpCheck;
  /** Port that the CA will ask. */
  port: number;
  store: Pick<Store, 'challengeAnswers' | 'targets'>;
  requests: Pick<HostRequests, 'read'>;
  webroots: Pick<Webroots, 'look'>;
}

/** How long an answer that is there for the look alone stays if nobody takes it away, ms. */
const trialMs = 60_000;

/** What the addresses of a name say; throws when a CA finds none, or one that it cannot get to. */
export function addressWords(name: string, addresses: readonly string[], caIsPublic: boolean): string {
  if (addresses.length === 0)
    throw new CertlineError(
      'ca_dns_problem',
      `${name} has no address (A, AAAA): give it one, or prove it by a challenge in DNS`,
    );
  const inner = addresses.filter((address) => !isPublicAddress(address));
  if (caIsPublic && inner.length > 0)
    throw new CertlineError(
      'ca_connection_problem',
      `${name} has the address ${inner.join(', ')}, which a CA on the internet cannot get to: prove it by a challenge in DNS, or give it public addresses only`,
    );
  return addresses.join(', ');
}

async function addressesOf(resolver: Resolver, name: string, signal: AbortSignal): Promise<string[]> {
  const answers = await Promise.all([resolver.lookup(name, 'A', signal), resolver.lookup(name, 'AAAA', signal)]);
  return answers.flatMap(({ records }) => records);
}

/** Looks whether names can be proved by http-01. */
export function createHttpLook({ looks, caIsPublic, resolver, check, port, store, requests, webroots }: HttpLookDeps) {
  const token = randomBytes(32).toString('base64url');
  const keyAuthorization = `${token}.${randomBytes(32).toString('base64url')}`;
  let trial: Promise<void> | null = null;
  const sites = new Map<string, Promise<readonly Site[]>>();

  async function readBack(name: string, signal: AbortSignal): Promise<string> {
    trial ??= store.challengeAnswers.try(token, keyAuthorization, trialMs);
    await trial;
    await check.look({ name, token, keyAuthorization }, signal);
    return 'an answer was put there and read back by the name';
  }

  /** Whether anything answers at all: what is to answer the challenge is not there before the order. */
  async function answersAnything(name: string, signal: AbortSignal): Promise<string> {
    await check.look({ name, token, keyAuthorization }, signal).catch((thrown: unknown) => {
      if (!(thrown instanceof CertlineError) || thrown.code !== 'http01_wrong_answer') throw thrown;
    });
    return `port ${port} answers; what it answers to the challenge is seen when the order is under way`;
  }

  async function siteWords(name: string, { target: id, site }: Extract<HttpMethod, { via: 'target' }>) {
    const target = await requireTarget(store, id);
    const reading = sites.get(id) ?? requests.read(target, looks.signal).then((state) => state.sites);
    sites.set(id, reading);
    const known = await reading;
    if (site !== null && !known.some((one) => one.id === site))
      throw new CertlineError('site_not_found', `${target.name} has no site ${site}`);
    const found = site ?? answeringSite(known, name, port);
    return found === null
      ? `${target.name} can be reached; none of its sites has the name at port ${port}, so a listener has to answer`
      : `${target.name} can be reached; the folder of site ${found} can take the answer`;
  }

  async function folderWords(folder: string): Promise<string> {
    await webroots.look(folder);
    return `${folder} can be written to`;
  }

  async function lookAtWay(name: string, { via }: HttpMethod): Promise<void> {
    const hasAddress = await looks.look(name, 'address', async (signal) =>
      addressWords(name, await addressesOf(resolver, name, signal), await caIsPublic),
    );
    if (!check.looks) await looks.look(name, 'http-01', () => 'not looked at: HTTP01_SELF_CHECK is false');
    else if (hasAddress)
      await looks.look(name, 'http-01', (signal) =>
        via === 'responder' ? readBack(name, signal) : answersAnything(name, signal),
      );
  }

  return {
    async look(name: string, method: HttpMethod): Promise<void> {
      const atTarget = method.via === 'target' && looks.look(name, 'target', () => siteWords(name, method));
      const atFolder = method.via === 'webroot' && looks.look(name, 'folder', () => folderWords(method.folder));
      await Promise.all([atTarget, atFolder, lookAtWay(name, method)]);
    },
    /** Takes away what was there for the looks; it would end by itself. */
    async end(): Promise<void> {
      if (trial !== null) await store.challengeAnswers.drop(token).catch(() => {});
    },
  };
}
